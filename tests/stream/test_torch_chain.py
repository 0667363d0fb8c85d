"""A pipeline as a torch module: the numbers of the kernels, on every device there is."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.typing import NDArray
from public_steps import public_steps
from sklearn.base import clone

import msicube as mc
from msicube import errors
from msicube.preprocess import PCA, Log1p, Pipeline, SelectChannels, Standardize, Step, TICNormalize
from msicube.store import Study
from msicube.stream.torch_chain import FORMS, WITHOUT, to_torch, torch_form

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(name="X", scope="module")
def some_spectra() -> NDArray[np.float32]:
    """300 spectra of 40 channels with a high mean, an empty spectrum, a negative one, a NaN and an infinity."""
    rng = np.random.default_rng(3)
    spectra = rng.gamma(1.5, 2.0, (300, 40)).astype(np.float32) + 100 * rng.random(40, np.float32)
    spectra[5] = 0
    spectra[6] = -1
    spectra[7, 3] = np.nan
    spectra[8, 4] = np.inf
    return spectra


def assert_close(found: torch.Tensor, expected: NDArray[Any], tolerance: float = 1e-5) -> None:
    largest = np.abs(expected[np.isfinite(expected)]).max()
    assert str(found.dtype) == f"torch.{expected.dtype}"
    np.testing.assert_allclose(found.cpu().numpy(), expected, rtol=0, atol=tolerance * largest)


def assert_same_numbers(step: Step, spectra: NDArray[Any]) -> None:
    """Compare module and kernel on spectra, among them odd ones; with the odd ones the largest may be large."""
    for part in (spectra, spectra[20:]):
        found, expected = step.to_torch()(torch.from_numpy(part)), step.transform_block(part)
        np.testing.assert_array_equal(np.isnan(found.numpy()), np.isnan(expected), str(step))
        assert_close(found, expected, 1e-5 if spectra.dtype == np.float32 else 1e-11)


PIPELINES = {
    "the paper's": [TICNormalize(), Log1p(), Standardize(), SelectChannels(12), PCA(3)],
    "early columns": [Log1p(), SelectChannels(12), PCA(3, whiten=True)],
    "late columns": [TICNormalize(target=2.5), SelectChannels(12)],
    "one map": [Standardize(with_std=False), PCA(20), Standardize(with_mean=False)],
    "no map": [TICNormalize(), Log1p()],
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("steps", PIPELINES.values(), ids=PIPELINES.keys())
def test_it_gives_the_numbers_of_the_pipeline(
    steps: list[Step], dtype: Any, device: str, X: NDArray[Any]
) -> None:
    pipeline = Pipeline(steps).fit(X, np.arange(len(X)) % 3)
    spectra = X.astype(dtype)
    module = pipeline.to_torch().to(device)
    given = torch.from_numpy(spectra.copy()).to(device)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    assert_close(module(given), pipeline.transform_block(spectra), tolerance)
    np.testing.assert_array_equal(given.cpu().numpy(), spectra)  # not written to


def test_patches_keep_their_form(X: NDArray[np.float32]) -> None:
    pipeline = Pipeline([TICNormalize(), Standardize(), PCA(3)]).fit(X)
    patches = X[:256].reshape(4, 8, 8, 40)
    found = to_torch(pipeline)(torch.from_numpy(patches).permute(0, 3, 1, 2))
    assert found.shape == (4, 3, 8, 8)
    expected = pipeline.transform_block(X[:256]).reshape(4, 8, 8, 3)
    assert_close(found.permute(0, 2, 3, 1), expected)


def test_every_public_step_has_a_form_or_a_reason(X: NDArray[np.float32]) -> None:
    for step in public_steps(X.shape[1]):
        if type(step) in WITHOUT:
            assert type(step) not in FORMS
            assert len(WITHOUT[type(step)]) > 20, f"{type(step).__name__}: a reason is a sentence"
            continue
        step.fit(X[20:], np.arange(len(X) - 20) % 2)
        assert_same_numbers(step, X)
        if type(step) in FORMS:
            assert step.as_affine() is None


N = 40
OTHER_FORMS = [
    mc.ReferenceNormalize(ranges=[(3, 5)], target=2.0),
    mc.RMSNormalize(target=3.0),
    mc.EMSC(wavenumbers=np.arange(N), degree=2, excluded=[(3, 5)], dtype="float64"),
    mc.EMSC(
        wavenumbers=np.arange(N),
        degree=1,
        constituents=np.eye(N)[20:21],
        interferents=np.eye(N)[7:9],
        excluded=[(0, 4)],
    ),
    mc.InterferentModel(3),
    mc.SavitzkyGolay(window=9, degree=3),
    mc.SavitzkyGolay(window=N - 1, degree=3),
    mc.Resample([0.0, 2.5, 2.75, 38.0, 39.0]),
    mc.Resample(np.linspace(0, 39, 111), kind="cubic"),
    mc.SNIPBaseline(half_window=12),
    mc.SNIPBaseline(half_window=7, lls=True, decreasing=False),
    mc.TopHatBaseline(half_window=19),
    mc.PolynomialBaseline(degree=3),
    mc.PolynomialBaseline(degree=3, max_iter=0),
    mc.PeakPick(half_window=2, noise_window=9, snr=0.5),
    mc.PeakPick(half_window=2, noise_window=9, snr=0.5, measure="area"),
    mc.PeakPick(half_window=2, noise_window=9, snr=0.5, measure="max"),
    mc.PeakAlign(half_window=1, noise_window=9, snr=0.1, tolerance=3.0, reference=np.arange(1.2, 39, 2.1)),
]


@pytest.mark.parametrize("step", OTHER_FORMS, ids=lambda step: str(step).split("(")[0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parameters_reach_the_forms(step: Step, dtype: Any, X: NDArray[np.float32]) -> None:
    assert_same_numbers(clone(step).fit(X[20:]), X.astype(dtype))


def test_a_spline_over_a_falling_and_uneven_axis_is_a_band() -> None:
    rng = np.random.default_rng(0)
    axis = 4000 - np.cumsum(rng.uniform(0.2, 5.0, 700))
    spectra = rng.normal(size=(5, 700)).cumsum(axis=1)
    dataset = xr.Dataset(
        {"intensity": (("y", "x", "channel"), spectra[None])}, {"wavenumber": ("channel", axis)}
    )
    step = mc.Resample(rng.uniform(axis[-1], axis[0], 300), kind="cubic").fit(dataset)
    assert step.band()[0].shape[1] < 200
    assert_close(step.to_torch()(torch.from_numpy(spectra)), step.transform_block(spectra), 1e-10)


def test_slides_are_looked_up_by_the_numbers_of_a_batch(study: Study) -> None:
    names = study.slides[:3]
    pipeline = Pipeline([Log1p(), Standardize(by="slide"), PCA(4)]).fit(study, slides=names, allow_test=True)
    X = np.concatenate([study[name]["intensity"].values[study.acquired(name)][:50] for name in names])
    expected = np.concatenate(
        [pipeline.transform_block(X[50 * i : 50 * i + 50], slide=name) for i, name in enumerate(names)]
    )
    numbers = torch.tensor([2, 0, 1]).repeat_interleave(50)
    module = pipeline.to_torch(slides=[names[1], names[2], names[0]])
    assert_close(module(torch.from_numpy(X), numbers), expected)
    patches = torch.from_numpy(X.reshape(6, 5, 5, -1)).movedim(-1, 1)
    found = module(patches, numbers[::25]).movedim(1, -1).reshape(150, -1)
    assert_close(found, expected)
    one = pipeline.to_torch(slides=names[:1])
    assert_close(one(torch.from_numpy(X[:50])), expected[:50])
    with pytest.raises(errors.UsageError, match=r"to_torch\(slides=stream.slides\)"):
        pipeline.to_torch()
    with pytest.raises(errors.UsageError, match=r"knows 3: .*batch\[.slide.\]"):
        module(torch.from_numpy(X))
    with pytest.raises(errors.UsageError, match="not nowhere"):
        pipeline.to_torch(slides=["nowhere"])


def test_float64_is_mapped_in_float64_on_any_order_of_calls(X: NDArray[np.float32]) -> None:
    pipeline = Pipeline([Standardize(), PCA(3)]).fit(X)
    module, spectra = pipeline.to_torch(), X[20:].astype(np.float64)
    module(torch.from_numpy(X))
    assert_close(module(torch.from_numpy(spectra)), pipeline.transform_block(spectra), 1e-13)


def test_it_is_saved_like_any_module(X: NDArray[np.float32]) -> None:
    pipeline = Pipeline([Log1p(), SelectChannels(12), PCA(3)]).fit(X, np.arange(len(X)) % 2)
    other = Pipeline([Log1p(), SelectChannels(12), PCA(3)]).fit(X[::2] ** 2, np.arange(150) % 2)
    module, loaded = pipeline.to_torch(), other.to_torch()
    loaded.load_state_dict(module.state_dict())
    copied = pickle.loads(pickle.dumps(module))
    spectra = torch.from_numpy(X[20:])
    assert torch.equal(loaded(spectra), module(spectra))
    assert torch.equal(copied(spectra), module(spectra))
    assert list(module.parameters()) == []


class Halve(Step):
    """A step of another package."""

    def kernel(self, block: Any, out: Any = None, tally: Any = None) -> Any:
        return np.multiply(block, 0.5, out=out)


def test_a_step_without_a_form_is_named_and_may_bring_one(
    X: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline([Log1p(), Halve()]).fit(X)
    with pytest.raises(errors.UsageError, match=r"the step Halve has no form in torch .*register one"):
        pipeline.to_torch()
    monkeypatch.setitem(WITHOUT, Halve, "halving needs the whole slide")
    with pytest.raises(errors.UsageError, match="halving needs the whole slide"):
        pipeline.to_torch()

    class Module(torch.nn.Module):
        def forward(self, block: torch.Tensor) -> torch.Tensor:
            return block / 2

    monkeypatch.setitem(FORMS, Halve, None)
    torch_form(Halve)(lambda step: Module())
    assert_close(pipeline.to_torch()(torch.from_numpy(X)), pipeline.transform_block(X))


def test_what_no_module_can_take(X: NDArray[np.float32]) -> None:
    with pytest.raises(errors.NotFittedError):
        Pipeline([Log1p()]).to_torch()
    module = Standardize().fit(X).to_torch()
    for tensor in (torch.zeros(3, 39), torch.zeros(40), torch.zeros((3, 40), dtype=torch.int32)):
        with pytest.raises(errors.UsageError, match=r"expected \(n, 40, \.\.\.\)"):
            module(tensor)


def test_rounding_follows_a_change_of_the_numbers(X: NDArray[np.float32]) -> None:
    scaler = Standardize().fit(X)
    module = scaler.to_torch()
    spectra = torch.from_numpy(X[20:])
    first = module(spectra)
    module.load_state_dict(Standardize().fit(X[20:] * 2).to_torch().state_dict())
    assert not torch.equal(module(spectra), first)


def test_preprocessing_does_not_import_torch() -> None:
    code = "import sys, msicube.preprocess as p; p.Log1p().fit([[1.0]]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_torch_the_package_to_install_is_named(
    X: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msicube.preprocess.transformer.find_spec", lambda name: None)
    with pytest.raises(errors.MissingDependency, match=r"pip install 'msicube\[torch\]'"):
        Log1p().fit(X).to_torch()
