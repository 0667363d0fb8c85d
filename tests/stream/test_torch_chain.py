"""A pipeline as a torch module: the numbers of the kernels, on every device there is."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from public_steps import public_steps

from msicube import errors
from msicube.preprocess import PCA, Log1p, Pipeline, SelectChannels, Standardize, Step, TICNormalize
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
    spectra = X[20:]
    for step in public_steps():
        if type(step) in WITHOUT:
            assert type(step) not in FORMS
            assert len(WITHOUT[type(step)]) > 20, f"{type(step).__name__}: a reason is a sentence"
            continue
        step.fit(spectra, np.arange(len(spectra)) % 2)
        assert_close(step.to_torch()(torch.from_numpy(spectra)), step.transform_block(spectra))


def test_forms_are_for_steps_that_are_not_affine(X: NDArray[np.float32]) -> None:
    for kind in FORMS:
        assert kind().fit(X).as_affine() is None


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
    monkeypatch.setattr("msicube.preprocess.base.find_spec", lambda name: None)
    with pytest.raises(errors.MissingDependency, match=r"pip install 'msicube\[torch\]'"):
        Log1p().fit(X).to_torch()
