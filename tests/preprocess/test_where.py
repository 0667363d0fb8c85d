"""Fitting and transforming chosen spectra: as if there were no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from numpy.typing import NDArray

import msicube as mc
from msicube import errors
from msicube.preprocess import Pipeline, Standardize
from msicube.store import Study


def write_mask(study: Study, slide: str, name: str, mask: NDArray[np.bool_]) -> None:
    """Store a boolean variable in a slide."""
    stored = zarr.create_array(
        f"{study.path}/{slide}/{name}",
        shape=mask.shape,
        chunks=mask.shape,
        dtype=bool,
        dimension_names=("y", "x"),
        zarr_format=3,
        overwrite=True,
    )
    stored[...] = mask


@pytest.fixture
def masked(own_study: Study) -> Study:
    """The study with a mask ``tissue`` in every slide, half of it outside of what is acquired."""
    rng = np.random.default_rng(2)
    for slide in own_study.slides:
        write_mask(own_study, slide, "tissue", rng.random(own_study.acquired(slide).shape) < 0.5)
    return mc.open_study(own_study.path)


def inside(study: Study, slide: str) -> NDArray[np.bool_]:
    return study.acquired(slide) & study.small(slide, "tissue").astype(bool)


def test_a_study_is_fitted_inside_its_mask(masked: Study, chain: Any, oracle: Any) -> None:
    pipeline = chain(30).fit(masked, where="tissue")
    spectra = {s: masked[s]["intensity"].values[inside(masked, s)] for s in pipeline.slides_}
    labels = [np.full(len(X), masked.samples["label"][slide]) for slide, X in spectra.items()]
    X = np.concatenate(list(spectra.values()))
    expected = oracle(X, np.concatenate(labels), 30)
    np.testing.assert_array_equal(pipeline.steps_[3].indices_, expected.indices)
    np.testing.assert_allclose(pipeline.steps_[2].mean_, expected.scaler.mean_, rtol=1e-6)
    assert (pipeline.n_spectra_, pipeline.where_) == (len(X), "tissue")
    pipeline.save(masked, name="tissue_only")
    assert Pipeline.load(masked, name="tissue_only").where_ == "tissue"


def test_every_kind_of_data_gives_the_same_numbers(masked: Study) -> None:
    name = "slide_003"
    mask = inside(masked, name)
    dataset = xr.open_zarr(masked.path, group=name, consolidated=False, chunks={})
    acquired = masked.acquired(name)
    expected = Standardize().fit(masked[name]["intensity"].values[mask])
    for scaler in (
        Standardize().fit(masked, slides=name, where="tissue"),
        Standardize().fit(dataset, where="tissue"),
        Standardize().fit(dataset, where=mask),
        Standardize().fit(masked[name]["intensity"].values[acquired], where=mask[acquired]),
    ):
        assert scaler.n_spectra_ == mask.sum()
        np.testing.assert_allclose(scaler.mean_, expected.mean_, rtol=1e-12)
        np.testing.assert_allclose(scaler.scale_, expected.scale_, rtol=1e-10)


def test_classes_are_those_inside(slide: Any) -> None:
    only = slide.y == "tumour"
    with pytest.raises(errors.UsageError, match="all spectra are of one, 'tumour'"):
        mc.SelectChannels(3).fit(slide.X, slide.y, where=only)


def test_features_outside_are_zero(masked: Study) -> None:
    name, scaler = "slide_003", Standardize().fit(masked)
    mask, acquired = inside(masked, name), masked.acquired(name)
    everywhere = scaler.transform(masked)[name]["features"].values
    X = masked[name]["intensity"].values
    from_study = scaler.transform(masked, where="tissue")[name]
    from_dataset = scaler.transform(
        xr.open_zarr(masked.path, group=name, consolidated=False, chunks={}), where="tissue"
    )
    for features in (from_study, from_dataset):
        np.testing.assert_array_equal(features["features"].values[mask], everywhere[mask])
        assert not features["features"].values[~mask].any()
        np.testing.assert_array_equal(features["inside"], mask)
        np.testing.assert_array_equal(features["acquired"], acquired)
        assert features["inside"].attrs["where"] == "tissue"
    from_array = scaler.transform(X[acquired], where=mask[acquired])
    np.testing.assert_array_equal(from_array[mask[acquired]], everywhere[mask])
    assert not from_array[~mask[acquired]].any()
    assert "inside" not in scaler.transform(masked)[name]


def test_stored_features_know_their_pixels(masked: Study) -> None:
    name = "slide_001"
    Pipeline([Standardize()]).fit(masked).save(masked, name="scaled")
    assert mc.apply(masked, name="scaled", slides=[name], where="tissue") == [name]
    stored = mc.open_study(masked.path)[name]["scaled"]
    mask = inside(masked, name)
    assert stored.values[mask].any(axis=1).all()
    assert not stored.values[~mask].any()
    assert stored.attrs["where"] == "tissue"
    assert mc.apply(masked, name="scaled", slides=[name], where="tissue") == []
    with pytest.raises(errors.UsageError, match="slide slide_001 has a variable 'scaled' of other pixels"):
        mc.apply(masked, name="scaled", slides=[name])
    write_mask(masked, name, "tissue", ~mask)
    with pytest.raises(errors.UsageError, match="of other pixels"):
        mc.apply(masked, name="scaled", slides=[name], where="tissue")
    assert mc.apply(masked, name="scaled", slides=[name], where="tissue", overwrite=True) == [name]
    assert not mc.open_study(masked.path)[name]["scaled"].values[mask].any()


@pytest.mark.parametrize(
    ("where", "message"),
    [("nothing", "no boolean variable 'nothing'.*it has acquired"), (np.ones(3, bool), "shape")],
    ids=["name", "shape"],
)
def test_what_a_dataset_does_not_have(slide: Any, where: Any, message: str) -> None:
    scaler = Standardize().fit(slide.X)
    for call in (scaler.transform, Standardize().fit):
        with pytest.raises(errors.UsageError, match=message):
            call(slide.dataset(), where=where)


def test_what_no_mask_can_be(masked: Study, slide: Any) -> None:
    with pytest.raises(errors.UsageError, match="mask"):
        Standardize().fit(masked, where="nothing")
    with pytest.raises(errors.UsageError, match="where= of type ndarray came with a study"):
        Standardize().fit(masked, where=np.ones(3, bool))
    for where in ("tissue", np.ones(len(slide.X)), np.ones(3, bool)):
        with pytest.raises(errors.UsageError, match="expected one boolean for each spectrum"):
            Standardize().fit(slide.X, where=where)
    with pytest.raises(errors.UsageError, match=r"no pixel is acquired and inside where= \(a given array\)"):
        Standardize().fit(slide.X, where=np.zeros(len(slide.X), bool))


def test_a_task_looks_at_its_own_slide_only(masked: Study, monkeypatch: Any) -> None:
    looked: list[str] = []
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: looked.append(str(path)) or read(path))
    mc.open_study(masked.path).mask("slide_002", "tissue")
    assert not [path for path in looked if "slide_00" in path and "slide_002" not in path]
