"""Which pixels a stream draws from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import msicube as mc
from msicube.errors import AxisMismatch, UnknownSlide, UsageError
from msicube.schema import MASK
from msicube.simulate import simulate_msi
from msicube.store import Study
from msicube.store.masks import write_image
from msicube.store.packed import PackedMask
from msicube.stream.lookup import select
from msicube.stream.options import Source
from msicube.stream.selection import Selection
from msicube.tiling import Window


def everything(study: Study, **arguments: object) -> Selection:
    return select(study, Source(**arguments))  # type: ignore[arg-type]


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)), st.data())
def test_a_packed_mask_reads_like_the_mask(mask: np.ndarray, data: st.DataObject) -> None:
    y0, x0 = (data.draw(st.integers(0, n - 1)) for n in mask.shape)
    y1, x1 = data.draw(st.integers(y0 + 1, mask.shape[0])), data.draw(st.integers(x0 + 1, mask.shape[1]))
    window = Window(y0, y1, x0, x1)
    assert np.array_equal(PackedMask.of(mask).read(window), mask[window.slices])


def test_cells_are_those_of_the_cubes(study: Study) -> None:
    selection = everything(study)
    windows = [(slide, window) for slide, cube in enumerate(selection.cubes) for window in cube.cells()]
    assert len(windows) == len(selection.counts) == selection.first_cells[-1]
    for cell, (slide, window) in enumerate(windows):
        assert (selection.slide_of(cell), selection.window(cell)) == (slide, window)
        acquired = study.acquired(study.slides[slide])[window.slices]
        assert selection.counts[cell] == acquired.sum()
        assert np.array_equal(selection.pixels(cell), np.flatnonzero(acquired))
        assert selection.cells_of(slide, window) == [cell]
    ny, nx = selection.cubes[0].cell
    assert selection.cells_of(0, Window(ny - 1, ny + 1, nx - 1, nx)) == [
        0,
        selection.cells_of(0, windows[0][1])[0] + len([w for s, w in windows if s == 0 and w.y0 == 0]),
    ]


def test_labels_and_classes_are_those_of_the_study(study: Study) -> None:
    selection = everything(study, slides=study.slides[:1])
    assert selection.classes == ("normal", "tumour")
    assert selection.classes[selection.labels[0]] == study.samples["label"][study.slides[0]]
    assert everything(study, labels=None).labels.tolist() == [-1] * len(study.slides)


def test_the_digest_knows_what_decides_the_samples(study: Study) -> None:
    digests = [
        everything(study).digest,
        everything(study, slides=study.slides[:2]).digest,
        everything(study, slides=study.slides[1::-1]).digest,
        everything(study, labels=None).digest,
        everything(study, labels="split").digest,
    ]
    assert len(set(digests)) == len(digests)
    assert everything(study).digest == digests[0]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"slides": ["nowhere"]}, UnknownSlide, "no slide 'nowhere'"),
        ({"slides": ["slide_001", "slide_001"]}, UsageError, "only once"),
        ({"slides": []}, UsageError, "at least one"),
        ({"labels": "grade"}, UsageError, "no column 'grade', only label"),
        ({"where": "tumour"}, UsageError, "has no mask 'tumour'"),
    ],
)
def test_what_is_not_there_is_refused(
    study: Study, arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        everything(study, **arguments)


def test_where_selects_among_the_acquired(own_study: Study) -> None:
    for slide in own_study.slides:
        left = np.zeros_like(own_study.acquired(slide))
        left[:, : left.shape[1] // 2] = True
        write_image(own_study.location, slide, "left", left, spec=MASK, attrs={})
    acquired = own_study.acquired(own_study.slides[-1])
    for where, expected in (
        ("left", acquired & left),
        ("~left", acquired & ~left),
        ("left & ~left", left & False),
    ):
        selection = everything(own_study, where=where)
        assert np.array_equal(selection.masks[-1].whole(), expected)
        assert selection.counts.sum() == sum(mask.whole().sum() for mask in selection.masks)


@pytest.fixture(scope="module")
def unlike(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Three slides without labels, each on another axis."""
    folder = tmp_path_factory.mktemp("unlike")
    for name, channels, last in (("a", 64, 900.0), ("b", 80, 900.0), ("c", 64, 950.0)):
        report = simulate_msi(
            folder / name, slides=1, shape=(16, 16), channels=channels, mz_range=(600.0, last)
        )
        for file in report.folder.glob("slide_*"):
            file.rename(folder / f"{name}{file.suffix}")
    mc.convert(sorted(folder.glob("*.imzML")), folder / "study.zarr")
    return mc.open_study(folder / "study.zarr")


@pytest.mark.parametrize(
    ("slides", "message"),
    [
        (["a", "b"], "slide b has 80 channels and a has 64"),
        (["a", "c"], "slides a and c lie on different spectral axes"),
    ],
)
def test_slides_on_different_axes_are_refused(unlike: Study, slides: list[str], message: str) -> None:
    with pytest.raises(AxisMismatch, match=message):
        everything(unlike, slides=slides, labels=None)
    assert everything(unlike, slides=slides[:1], labels=None).n_channels == 64


def test_slides_without_labels_are_refused(unlike: Study) -> None:
    with pytest.raises(UsageError, match="no column 'label', only none: choose one of them, or None"):
        everything(unlike, slides=["a"])
