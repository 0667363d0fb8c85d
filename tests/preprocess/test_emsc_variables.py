"""Coefficients and residuals of a pipeline's EMSC: lazy beside the features, and stored beside them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from distributed import Client

import msicube as mc
from msicube.cli.main import cli
from msicube.errors import UsageError
from msicube.preprocess import EMSC, PCA, Pipeline, VectorNormalize
from msicube.store import CubeWriter, Study

TERMS = ["reference", "constant", "v", "interferent 1"]
VARIABLES = ["emsc", "emsc_coefficients", "emsc_residual_rms", "emsc_residuals"]


@pytest.fixture
def fitted(own_study: Study) -> Pipeline:
    """Normalise, correct, project: what EMSC sees is neither what comes in nor what goes out."""
    n_channels = len(own_study.axis("slide_001"))
    interferent = np.random.default_rng(3).random(n_channels)
    pipeline = Pipeline([VectorNormalize(), EMSC(degree=1, interferents=[interferent]), PCA(2)])
    pipeline.fit(own_study).save(own_study, name="emsc")
    return pipeline


def lstsq(pipeline: Pipeline, X: Any) -> tuple[Any, Any]:
    """Return the coefficients and residuals of spectra that NumPy finds in the model of the pipeline's EMSC."""
    X = X.astype(np.float64) / np.linalg.norm(X, axis=1, keepdims=True)
    model = pipeline.steps_[1].model_  # type: ignore[attr-defined]
    coefficients = np.linalg.lstsq(model, X.T, rcond=None)[0]
    return coefficients.T, X - (model @ coefficients).T


def close(found: Any, expected: Any, tolerance: float = 1e-4) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_they_are_lazy_variables_beside_the_features(
    own_study: Study, fitted: Pipeline, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask, X = own_study.acquired("slide_002"), load(own_study, ["slide_002"]).X
    with monkeypatch.context() as patch:
        patch.setattr("msicube.store.cube.CubeArray.read", None)
        lazy = fitted.transform(own_study, coefficients=True)["slide_002"]
    assert set(lazy.data_vars) == {"features", "coefficients", "residual_rms", "acquired"}
    assert lazy.coefficients.dims == ("y", "x", "term")
    assert list(lazy.term.values) == TERMS
    coefficients, residuals = lstsq(fitted, X)
    close(lazy.coefficients.values[mask], coefficients)
    close(lazy.residual_rms.values[mask], np.sqrt(np.mean(residuals**2, axis=1)))
    assert not lazy.coefficients.values[~mask].any()
    plain = fitted.transform(own_study)["slide_002"]
    assert lazy.features.values.tobytes() == plain.features.values.tobytes()
    assert lazy.features.attrs == plain.features.attrs


def test_a_patch_of_them_reads_its_cells_once(
    own_study: Study, fitted: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows: list[Any] = []
    cube = type(own_study.cube("slide_001"))
    read = cube.read
    monkeypatch.setattr(
        cube, "read", lambda self, window, **rest: windows.append(window) or read(self, window, **rest)
    )
    lazy = fitted.transform(own_study, coefficients=True)["slide_001"]
    lazy[["features", "coefficients", "residual_rms"]].isel(y=slice(0, 3), x=slice(0, 3)).compute()
    assert len(windows) == len(set(windows)) >= 1
    assert sum(window.n_pixels for window in windows) < own_study.acquired("slide_001").size


def test_datasets_and_arrays_have_them_too(own_study: Study, fitted: Pipeline, load: Any) -> None:
    X, mask = load(own_study, ["slide_003"]).X, own_study.acquired("slide_003")
    dataset = own_study["slide_003"]
    found = fitted.details(X)
    coefficients, residuals = lstsq(fitted, X)
    assert found.terms == tuple(TERMS)
    close(found.coefficients, coefficients)
    close(found.residual_rms, np.sqrt(np.mean(residuals**2, axis=1)))
    where = np.zeros(mask.shape, bool)
    where[:7] = True
    made = fitted.transform(dataset, where=where, coefficients=True)
    close(made.coefficients.values[where & mask], found.coefficients[where[mask]])
    assert not made.coefficients.values[~where].any()
    np.testing.assert_array_equal(made.inside.values, where & mask)
    only = fitted.details(own_study)["slide_003"]
    assert set(only.data_vars) == {"coefficients", "residual_rms", "acquired"}
    close(only.residual_rms.values[mask], found.residual_rms)


def test_apply_stores_them_beside_the_features(own_study: Study, fitted: Pipeline, load: Any) -> None:
    options = {"slides": ["slide_001"], "where": "acquired"}
    mc.apply(own_study, name="emsc", coefficients=True, residuals=True, **options)
    mask, X = own_study.acquired("slide_001"), load(own_study, ["slide_001"]).X
    plain = xr.open_zarr(own_study.path, group="slide_001", consolidated=False)
    ours = mc.open_study(own_study.path)["slide_001"]
    coefficients, residuals = lstsq(fitted, X)
    expected = {
        "emsc": fitted.transform(X),
        "emsc_coefficients": coefficients,
        "emsc_residual_rms": np.sqrt(np.mean(residuals**2, axis=1)),
        "emsc_residuals": residuals,
    }
    for name, values in expected.items():
        close(plain[name].values[mask], values)
        assert not plain[name].values[~mask].any()
        np.testing.assert_array_equal(plain[name].values, ours[name].values)
        assert ours[name].attrs["pipeline_fingerprint"] == fitted.fingerprint()
        assert ours[name].attrs["where"] == "acquired"
    assert plain.emsc_residual_rms.dims == ("y", "x")
    assert ours.emsc_coefficients.dims == ("y", "x", "emsc_coefficients_feature")
    assert list(ours.emsc_coefficients_feature.values) == TERMS
    close(ours.emsc_coefficients.sel(emsc_coefficients_feature="reference").values[mask], coefficients[:, 0])
    assert list(ours.emsc_residuals_feature.values) == list(fitted.channels_in.names())
    assert mc.validate(mc.open_study(own_study.path)) == []
    assert not Path(own_study.path + ".partial").exists()


def test_only_what_is_missing_is_written(
    own_study: Study, fitted: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = Path(own_study.path, "slide_001")
    options: dict[str, Any] = {"name": "emsc", "slides": ["slide_001"]}
    mc.apply(own_study, coefficients=True, **options)
    whole = {name: contents(slide / name) for name in VARIABLES[:3]}
    for name in VARIABLES[1:3]:
        shutil.rmtree(slide / name)
    written: list[str] = []
    write = CubeWriter.write
    monkeypatch.setattr(
        CubeWriter,
        "write",
        lambda self, *args: written.append(self.location.url.split("/")[-1]) or write(self, *args),
    )
    assert mc.apply(own_study, **options) == []
    assert mc.apply(own_study, coefficients=True, **options) == ["slide_001"]
    assert set(written) == set(VARIABLES[1:3])
    assert {name: contents(slide / name) for name in VARIABLES[:3]} == whole
    assert mc.apply(own_study, coefficients=True, **options) == []


def test_any_scheduler_stores_the_same_bytes(own_study: Study, fitted: Pipeline, client: Client) -> None:
    found = []
    for scheduler in ("synchronous", client):
        options = {"coefficients": True, "residuals": True, "scheduler": scheduler}
        mc.apply(own_study.path, name="emsc", slides=["slide_002"], **options)
        slide = Path(own_study.path, "slide_002")
        found.append({name: contents(slide / name) for name in VARIABLES})
        for name in VARIABLES:
            shutil.rmtree(slide / name)
    assert found[0] == found[1]
    assert len(found[0]["emsc_residual_rms"]) > 4


def test_what_is_refused(own_study: Study, fitted: Pipeline) -> None:
    with pytest.raises(UsageError, match="of an array, details"):
        fitted.transform(np.ones((2, fitted.n_features_in_)), coefficients=True)
    none = Pipeline([VectorNormalize(), PCA(2)]).fit(own_study)
    none.save(own_study, name="none")
    with pytest.raises(UsageError, match=r"0 of the steps are one \(VectorNormalize -> PCA\)"):
        none.details(own_study)
    with pytest.raises(UsageError, match="those of one EMSC"):
        mc.apply(own_study, name="none", coefficients=True)
    twice = Pipeline([EMSC(degree=0), EMSC(degree=0)]).fit(own_study)
    with pytest.raises(UsageError, match="2 of the steps are one"):
        twice.transform(own_study, coefficients=True)
    mc.apply(own_study, name="emsc", slides=["slide_001"], coefficients=True)
    fitted.save(own_study, name="emsc_coefficients")
    with pytest.raises(UsageError, match="'emsc_coefficients' that another pipeline made"):
        mc.apply(own_study, name="emsc_coefficients", slides=["slide_001"])


def test_the_command_writes_them(own_study: Study, fitted: Pipeline) -> None:
    arguments = ["apply", own_study.path, "--name", "emsc", "--slide", "slide_004", "--coefficients"]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert set(VARIABLES[:3]) < set(mc.open_study(own_study.path)["slide_004"].data_vars)
    assert "emsc_residuals" not in mc.open_study(own_study.path)["slide_004"]
