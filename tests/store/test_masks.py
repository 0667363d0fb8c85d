"""Masks by name and by expression, and how they appear in a study."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import msicube as mc
from msicube import errors, schema
from msicube.store import Location, Study, parse_where
from msicube.store.masks import check_mask_name, read_mask, write_image

GRID = np.arange(6 * 5).reshape(6, 5)
MASKS = {"acquired": GRID % 7 > 0, "tissue": GRID > 8, "dead": GRID % 4 == 0, "edge": GRID % 5 == 0}

expressions = st.recursive(
    st.sampled_from(sorted(MASKS)),
    lambda inner: st.one_of(
        inner.map(lambda one: f"~{one}" if one.isidentifier() else f"~({one})"),
        st.tuples(inner, st.sampled_from("&|"), inner).map(
            lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"
        ),
    ),
    max_leaves=12,
)


@given(expressions)
def test_an_expression_is_what_numpy_makes_of_it(where: str) -> None:
    expected = eval(where, {"__builtins__": {}}, dict(MASKS))
    np.testing.assert_array_equal(parse_where(where)(MASKS.__getitem__), expected)


@pytest.mark.parametrize(
    "where",
    [
        "",
        "tissue and dead",
        "tissue & 1",
        "tissue ^ dead",
        "not tissue",
        "-tissue",
        "tissue.any()",
        "__import__('os')",
        "tissue &",
        "tissue[0]",
        "lambda: tissue",
        "(" * 400 + "tissue" + ")" * 400,
        "~" * 2000 + "tissue",
        "a\0b",
    ],
)
def test_nothing_but_masks_and_three_operators(where: str) -> None:
    with pytest.raises(
        errors.UsageError, match=r"is no expression of masks: write names joined by & \(and\)"
    ):
        parse_where(where)


@pytest.fixture
def own_study(study: Study, tmp_path: Path) -> Study:
    shutil.copytree(study.path, tmp_path / "study.zarr")
    return mc.open_study(tmp_path / "study.zarr")


@pytest.fixture
def masked(own_study: Study) -> Study:
    for slide in own_study.slides[:2]:
        acquired = own_study.acquired(slide)
        made = {"tissue": acquired.cumsum(axis=1) % 3 > 0, "dead": acquired.cumsum(axis=0) % 5 == 0}
        for name, values in made.items():
            write_image(own_study.location, slide, name, values & acquired, spec=schema.MASK, attrs={})
    return own_study


def test_masks_of_a_slide(masked: Study) -> None:
    slide, bare = masked.slides[0], masked.slides[2]
    assert masked.masks(slide) == ["acquired", "dead", "tissue"]
    assert masked.masks(bare) == ["acquired"]
    tissue, dead = (masked[slide][name].values for name in ("tissue", "dead"))
    acquired = masked.acquired(slide)
    np.testing.assert_array_equal(masked.mask(slide, "tissue"), tissue)
    np.testing.assert_array_equal(masked.mask(slide, "tissue & ~dead"), tissue & ~dead)
    np.testing.assert_array_equal(masked.mask(slide), acquired)
    np.testing.assert_array_equal(masked.mask(slide, "~acquired"), np.zeros_like(acquired))
    np.testing.assert_array_equal(masked.mask(slide, " ~tissue | dead "), (~tissue | dead) & acquired)
    np.testing.assert_array_equal(read_mask(masked.location, slide, "~tissue"), ~tissue & acquired)
    plain = xr.open_zarr(masked.path, group=slide, consolidated=False)
    assert plain["tissue"].dims == ("y", "x")
    assert plain["tissue"].dtype == bool


def test_a_mask_that_is_not_there(masked: Study) -> None:
    with pytest.raises(
        errors.UsageError, match="has no mask 'bone', it has acquired, dead, tissue: make it with"
    ):
        masked.mask(masked.slides[0], "tissue & ~bone")
    with pytest.raises(errors.UsageError, match="has no mask 'total_ion_current', it has acquired: "):
        masked.mask(masked.slides[2], "total_ion_current")
    with pytest.raises(errors.UnknownSlide):
        masked.mask("nowhere", "tissue")


def test_a_mask_appears_whole_or_not_at_all(masked: Study, monkeypatch: Any) -> None:
    slide = masked.slides[0]
    before = masked.mask(slide, "tissue")

    def full(location: Location, data: bytes) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Location, "put", full)
        for name in ("tissue", "new"):
            with pytest.raises(OSError, match="no space"):
                write_image(masked.location, slide, name, before, spec=schema.MASK, attrs={})
    assert masked.masks(slide) == ["acquired", "dead", "tissue"]
    np.testing.assert_array_equal(masked.mask(slide, "tissue"), before)
    write_image(masked.location, slide, "tissue", ~before, spec=schema.MASK, attrs={"msicube_mask": {}})
    np.testing.assert_array_equal(masked.mask(slide, "tissue"), ~before & masked.acquired(slide))


def test_masks_of_a_remote_study(masked: Study) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(masked.path, "/masked.zarr", recursive=True)
    try:
        remote, slide = mc.open_study("memory://masked.zarr"), masked.slides[0]
        np.testing.assert_array_equal(
            remote.mask(slide, "tissue & dead"), masked.mask(slide, "tissue & dead")
        )
        write_image(remote.location, slide, "more", masked.mask(slide, "~dead"), spec=schema.MASK, attrs={})
        np.testing.assert_array_equal(remote.mask(slide, "more"), masked.mask(slide, "~dead"))
    finally:
        memory.rm("/masked.zarr", recursive=True)


@pytest.mark.parametrize(
    "name", ["acquired", "intensity", "x", "channel", "peaks", "2nd", "a b", "", "_pipelines"]
)
def test_names_that_a_mask_may_not_have(name: str) -> None:
    with pytest.raises(errors.UsageError, match=r"choose another for the mask|begin with a letter"):
        check_mask_name(name)
