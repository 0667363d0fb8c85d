"""Balance, replacement, weights, labels of pixels and masks, on a real study."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from stream_helpers import all_same, counted, places

import msicube as mc
from msicube.errors import AxisMismatch, UsageError
from msicube.schema import MASK
from msicube.store import Study
from msicube.store.masks import write_image
from msicube.stream import PatchStream, SpectrumStream


def of(study: Study, **arguments: Any) -> SpectrumStream:
    return SpectrumStream(study, **{"batch_size": 64, "memory": "3 MiB", "seed": 5, **arguments})


@pytest.mark.parametrize("column", ["label", "patient"])
@pytest.mark.parametrize("replacement", [False, True])
def test_balance_by_class_and_by_patient(study: Study, column: str, replacement: bool) -> None:
    slides = study.slides[:3]
    stream = of(study, slides=slides, balance=column, replacement=replacement)
    sizes: Counter[str] = Counter()
    for slide in slides:
        sizes[study.samples[column][slide]] += int(study.acquired(slide).sum())
    assert len(set(sizes.values())) > 1
    seen = counted(stream)
    found = Counter(study.samples[column][stream.slides[slide]] for slide, _, _ in seen)
    assert set(found.values()) == {(max if replacement else min)(sizes.values())}
    times = Counter(seen)
    for name, n in found.items():
        own = [k for (slide, _, _), k in times.items() if study.samples[column][stream.slides[slide]] == name]
        assert max(own) == -(-n // sizes[name])
        assert not replacement or (len(own) == sizes[name] and min(own) == n // sizes[name])
    again = of(study, slides=slides, balance=column, replacement=replacement)
    state = {**again.state_dict(), "step": 20}
    again.load_state_dict(state)
    assert all_same(again, list(stream)[20:])


def test_weights_of_pixels_and_of_slides(own_study: Study) -> None:
    slide = own_study.slides[0]
    image = np.zeros(own_study.acquired(slide).shape)
    image[:20], image[20:] = 1.0, 3.0
    from zarr import open_group

    group = open_group(own_study.path, mode="r+")[slide]
    group.create_array("worth", data=image, dimension_names=("y", "x"))
    stream = of(mc.open_study(own_study.path), slides=[slide], weights="worth")
    assert stream.n_samples == own_study.acquired(slide).sum()
    times = Counter(counted(stream))
    total = image[own_study.acquired(slide)].sum()
    for (_, y, x), n in times.items():
        share = stream.n_samples * image[y, x] / total
        assert np.floor(share) - 1 <= n <= np.ceil(share) + 1
    lower = sum(n for (_, y, _), n in times.items() if y >= 20)
    expected = stream.n_samples * image[20:][own_study.acquired(slide)[20:]].sum() / total
    assert lower == pytest.approx(expected, abs=len(stream._selection.counts))
    again = of(mc.open_study(own_study.path), slides=[slide], weights="worth", threads=1)
    assert all_same(stream, again)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "label", "balance": "label"}, "both say how often a sample comes"),
        ({"replacement": True}, "say which groups with balance="),
        ({"weights": "worth"}, r"no \(y, x\) variable 'worth' for weights="),
        ({"pixel_labels": "region"}, r"no \(y, x\) variable 'region' for pixel_labels="),
        ({"pixel_labels": "total_ion_current"}, "holds float64: pixel_labels= takes a variable of whole"),
        ({"on_error": "ignore"}, "on_error='ignore' is not known"),
        ({"where": "acquired &"}, "is no expression of masks"),
    ],
)
def test_what_contradicts_itself_is_refused(study: Study, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        of(study, **arguments)


def test_an_unknown_argument_is_refused(study: Study) -> None:
    with pytest.raises(TypeError, match="chunks"):
        of(study, chunks=3)


def test_labels_of_pixels_come_with_spectra_and_patches(own_study: Study) -> None:
    for slide in own_study.slides:
        half = np.zeros_like(own_study.acquired(slide))
        half[:, 10:] = True
        write_image(own_study.location, slide, "right", half, spec=MASK, attrs={})
    for batch in of(own_study, pixel_labels="right"):
        assert batch["pixel_label"].tolist() == (batch["x"] >= 10).long().tolist()
    stream = PatchStream(own_study, size=8, stride=8, batch_size=8, memory="8 MiB", pixel_labels="right")
    for batch in stream:
        for label, (slide, y, x) in zip(batch["pixel_label"].numpy(), places(batch), strict=True):
            acquired = own_study.acquired(own_study.slides[slide])[y : y + 8, x : x + 8]
            expected = np.broadcast_to(np.arange(x, x + 8) >= 10, (8, 8))
            assert np.array_equal(label, np.where(acquired, expected, -1))


def test_a_mask_chooses_what_comes(own_study: Study) -> None:
    for slide in own_study.slides:
        top = np.zeros_like(own_study.acquired(slide))
        top[:15] = True
        write_image(own_study.location, slide, "top", top, spec=MASK, attrs={})
    seen = counted(of(own_study, where="~top"))
    assert sorted(seen) == [
        (number, y, x)
        for number, slide in enumerate(own_study.slides)
        for y, x in np.argwhere(own_study.acquired(slide)).tolist()
        if y >= 15
    ]


def test_only_the_channels_of_a_pipeline_are_read(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = mc.Pipeline([mc.Log1p(), mc.Standardize(), mc.SelectChannels(k=7, by="label")]).fit(study)
    chosen = pipeline.chain.columns
    assert chosen is not None
    read: list[Any] = []
    original = mc.store.CubeArray.read

    def record(self: Any, window: Any, **options: Any) -> Any:
        read.append(options["channels"])
        return original(self, window, **options)

    monkeypatch.setattr(mc.store.CubeArray, "read", record)
    batches = list(of(study, pipeline=pipeline))
    monkeypatch.undo()
    assert all(np.array_equal(channels, chosen) for channels in read)
    for batch in batches[:5]:
        raw = np.stack([study.cube(study.slides[s])[y, x] for s, y, x in places(batch)])
        np.testing.assert_allclose(
            batch["spectra"].numpy(), pipeline.transform_block(raw), rtol=1e-5, atol=1e-6
        )


def test_steps_by_slide_take_the_numbers_of_the_slide(study: Study) -> None:
    pipeline = mc.Pipeline([mc.TICNormalize(), mc.Standardize(by="slide"), mc.PCA(2)])
    pipeline.fit(study, slides=study.slides, allow_test=True)
    for stream, key in (
        (of(study, pipeline=pipeline), "spectra"),
        (PatchStream(study, size=1, stride=1, pipeline=pipeline, scale=None, memory="8 MiB"), "patches"),
    ):
        batch = next(iter(stream))
        features = batch[key].numpy().reshape(len(batch["y"]), 2)
        for found, (slide, y, x) in zip(features, places(batch), strict=True):
            name = study.slides[slide]
            raw = study.cube(name)[y, x][None]
            expected = pipeline.transform_block(raw, slide=name)[0]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_pipeline_of_another_axis_is_refused(study: Study) -> None:
    pipeline = mc.Pipeline([mc.PCA(2)]).fit(np.random.default_rng(0).random((50, 12), np.float32))
    with pytest.raises(AxisMismatch, match="has 160 channels, the pipeline was fitted on 12"):
        of(study, pipeline=pipeline)


def test_the_estimated_mixing_is_that_of_the_batches(study: Study) -> None:
    """Against the variance of the batches' means that is measured over some epochs."""
    stream = of(study, memory="3 MiB", labels=None)
    everything, means = [], []
    for epoch in range(12):
        stream.set_epoch(epoch)
        for batch in stream:
            if batch["weight"].all():
                values = batch["spectra"].numpy().astype(np.float64).sum(axis=1)
                everything.append(values)
                means.append(values.mean())
    measured = np.var(means) / (np.concatenate(everything).var() / 64)
    estimate = stream.mixing()
    assert stream.describe()["mixing"] == estimate > 1.2
    assert estimate == pytest.approx(measured, rel=0.35)
    assert f"mixing {estimate:.2f}" in repr(stream)
    assert of(study, memory="64 MiB").mixing() < estimate
