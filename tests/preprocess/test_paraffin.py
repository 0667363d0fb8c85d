"""The paraffin model, end to end: simulated mosaics, masks, EMSC fitted inside one and corrected by another."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import msicube as mc
from msicube.errors import UsageError
from msicube.store import Study

RECIPE = """
[pipeline]
name = "dewaxed"
where = "tissue & ~dead"
steps = [{ step = "EMSC", interferents = "paraffin", n_interferents = 2, excluded = [[1700, 1720]] }]
"""
EXCLUDED = [(1700, 1720)]


@pytest.fixture(scope="module")
def mosaics(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Three cores with masks of tissue, paraffin and dead pixels that were found in the spectra."""
    folder = tmp_path_factory.mktemp("paraffin")
    mc.simulate_ftir(folder / "in", slides=3, shape=(32, 32), wavenumbers=(1350, 1750), dead_pixels=0.01)
    mc.convert(
        folder / "in", folder / "study.zarr", samples=folder / "in" / "samples.csv", scheduler="synchronous"
    )
    study = mc.open_study(folder / "study.zarr")
    mc.make_mask(study, mc.TissueMask(), name="tissue")
    mc.make_mask(study, mc.ParaffinMask(), name="paraffin", where="~tissue")
    mc.make_mask(study, mc.DeadPixelMask(limits=(-0.4, 2.5)), name="dead")
    return mc.open_study(study.path)


def spectra(study: Study, where: str, slides: list[str]) -> NDArray[np.float64]:
    found = [study[name]["intensity"].values[study.mask(name, where)] for name in slides]
    return np.concatenate(found).astype(np.float64)


def emsc(**options: Any) -> mc.EMSC:
    return mc.EMSC(**{"interferents": "paraffin", "n_interferents": 2, "excluded": EXCLUDED, **options})


def test_an_interferent_model_is_fitted_inside_a_mask(mosaics: Study) -> None:
    slides = mosaics.slides[:2]  # the third is for testing
    model = mc.InterferentModel(2).fit(mosaics, where="paraffin")
    X = spectra(mosaics, "paraffin", slides)
    assert model.n_spectra_ == len(X) > 200
    np.testing.assert_allclose(model.spectra_[0], X.mean(axis=0), atol=1e-6)
    _, _, directions = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(np.sum(model.spectra_[1:] * directions[:2], axis=1)), 1, atol=1e-6)


def test_a_mask_by_name_is_the_model_of_that_mask(mosaics: Study) -> None:
    slides = mosaics.slides[:2]
    model = mc.InterferentModel(2).fit(mosaics, where="paraffin")
    given = emsc(interferents=model.spectra_).fit(mosaics, where="tissue")
    named = emsc().fit(mosaics, where="tissue")
    assert named.term_names_ == given.term_names_
    np.testing.assert_allclose(named.model_, given.model_, atol=1e-9)
    assert named.n_spectra_ == given.n_spectra_ == len(spectra(mosaics, "tissue", slides))
    pipeline = mc.Pipeline([emsc(reference="good"), mc.PCA(2)]).fit(mosaics, where="tissue")
    assert [one.gathered for one in pipeline.passes_] == [
        "moments",
        "covariance inside paraffin",
        "sums by EMSC residual",
        "covariance",
    ]
    assert pipeline.where_ == "tissue"
    reference = spectra(mosaics, "tissue", slides)[0]
    alone = mc.Pipeline([emsc(reference=reference)]).fit(mosaics, where="tissue")
    assert [one.gathered for one in alone.passes_] == ["covariance inside paraffin"]


def test_paraffin_more_or_less_makes_little_difference(mosaics: Study) -> None:
    truth = json.loads((Path(mosaics.path).parent / "in" / "truth.json").read_text())
    name = mosaics.slides[2]
    X = spectra(mosaics, "tissue & ~dead", [name])
    paraffin = 0.1 * np.array(truth["pure_spectra"]["paraffin"])

    def change(step: mc.EMSC) -> Any:
        step.fit(mosaics, where="tissue & ~dead")
        before, after = step.transform_block(X), step.transform_block(X + paraffin)
        return np.median(np.linalg.norm(after - before, axis=1))

    assert change(emsc()) < 0.3 * change(emsc(interferents=None))


def test_one_recipe_does_it_from_the_command_line(mosaics: Study, tmp_path: Path) -> None:
    (tmp_path / "dewaxed.toml").write_text(RECIPE)
    arguments = ["fit", str(tmp_path / "dewaxed.toml"), mosaics.path, "--overwrite"]
    done = subprocess.run(
        [sys.executable, "-m", "msicube.cli", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    saved = mc.Pipeline.load(mosaics, name="dewaxed")
    expected = mc.Pipeline([emsc()]).fit(mosaics, where="tissue & ~dead")
    np.testing.assert_array_equal(saved.steps_[0].model_, expected.steps_[0].model_)  # type: ignore[attr-defined]
    assert saved.where_ == "tissue & ~dead"
    mc.apply(mosaics, name="dewaxed", where="tissue", scheduler="synchronous")
    stored = mc.open_study(mosaics.path)[mosaics.slides[0]]["dewaxed"]
    assert np.isfinite(stored.values).all()
    assert stored.shape[2] == len(mosaics.axis(mosaics.slides[0]))


def test_a_dataset_has_masks_and_an_array_has_none(mosaics: Study) -> None:
    name = mosaics.slides[0]
    dataset: xr.Dataset = mosaics[name]
    found = emsc().fit(dataset, where="tissue")
    expected = emsc().fit(mosaics, slides=[name], where="tissue")
    np.testing.assert_allclose(found.model_, expected.model_, atol=1e-9)
    with pytest.raises(UsageError, match="asks for the spectra of the mask 'paraffin', and X is an array"):
        emsc(excluded=None, degree=None).fit(spectra(mosaics, "tissue", [name]))
    with pytest.raises(UsageError, match="wax"):
        emsc(interferents="wax").fit(mosaics)
    with pytest.raises(UsageError, match=r"n_interferents=999\): 0 or more, and fewer than 20"):
        emsc(n_interferents=999).fit(mosaics)
