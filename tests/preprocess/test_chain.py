"""Folding: affine steps become one map, and channels are chosen as early as possible."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.preprocess import PCA, Log1p, Pipeline, SelectChannels, Standardize, TICNormalize
from msicube.preprocess.affine import Affine
from msicube.preprocess.chain import working_dtype


@pytest.fixture(name="X")
def _spectra() -> NDArray[Any]:
    """Channels whose means exceed their spread a hundred times."""
    rng = np.random.default_rng(0)
    return rng.uniform(50, 100, 30) + rng.normal(size=(300, 30))


@pytest.fixture(name="y")
def _classes() -> NDArray[Any]:
    return np.arange(300) % 2


def stepwise(pipeline: Pipeline, block: NDArray[Any]) -> NDArray[Any]:
    for step in pipeline.steps_:
        block = step.transform_block(block)
    return block


CHAINS = {
    "the paper's": [TICNormalize(), Log1p(), Standardize(), SelectChannels(8), PCA(3)],
    "affine only": [Standardize(), SelectChannels(8), PCA(3, whiten=True), Standardize()],
    "choice before a logarithm": [TICNormalize(), Standardize(), SelectChannels(8), Log1p(), PCA(2)],
    "two choices": [SelectChannels(12), Log1p(), SelectChannels(5), Log1p()],
    "PCA of PCA": [PCA(6), PCA(2), Standardize()],
    "choice of a choice": [SelectChannels(9), SelectChannels(4), Standardize(with_mean=False)],
}


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-6)])
def test_folded_is_stepwise(
    name: str, dtype: Any, tolerance: float, X: NDArray[Any], y: NDArray[Any]
) -> None:
    pipeline = Pipeline(CHAINS[name]).fit(X, y)
    block = X[:50].astype(dtype)
    before = block.tobytes()
    folded, expected = pipeline.transform_block(block), stepwise(pipeline, block)
    assert folded.dtype == expected.dtype == dtype
    np.testing.assert_allclose(folded, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    assert block.tobytes() == before


def test_folding_in_float32_loses_no_more_than_the_steps_do(X: NDArray[Any]) -> None:
    pipeline = Pipeline([Standardize(), PCA(5)]).fit(X)
    block = X.astype(np.float32)
    exact = pipeline.transform_block(block.astype(np.float64))
    (affine,) = pipeline.chain.stages
    assert isinstance(affine, Affine)
    one_offset = (affine.offset - affine.centre @ affine.weight).astype(np.float32)
    naive = block @ affine.weight.astype(np.float32) + one_offset
    assert np.abs(pipeline.transform_block(block) - exact).max() < np.abs(naive - exact).max() / 3


def test_linear_steps_become_one_map(X: NDArray[Any], y: NDArray[Any]) -> None:
    chain = Pipeline([Standardize(), SelectChannels(8), PCA(3), Standardize()]).fit(X, y).chain
    assert [type(stage) for stage in chain.stages] == [Affine]
    assert chain.stages[0].weight.shape == (8, 3)  # type: ignore[attr-defined]
    assert chain.columns is not None
    assert len(chain.columns) == 8


def test_only_chosen_channels_go_through_elementwise_steps(X: NDArray[Any], y: NDArray[Any]) -> None:
    pipeline = Pipeline([Log1p(), Standardize(), SelectChannels(8), PCA(3)]).fit(X, y)
    chosen = pipeline.steps_[2].indices_  # type: ignore[attr-defined]
    np.testing.assert_array_equal(pipeline.chain.columns, chosen)
    block = X[:5].copy()
    expected = pipeline.transform_block(block)
    block[:, np.setdiff1d(np.arange(30), chosen)] = np.nan
    np.testing.assert_array_equal(pipeline.transform_block(block), expected)


def test_a_normalisation_sees_all_channels(X: NDArray[Any], y: NDArray[Any]) -> None:
    chain = Pipeline([TICNormalize(), Log1p(), Standardize(), SelectChannels(8), PCA(3)]).fit(X, y).chain
    assert chain.columns is None
    assert [type(stage).__name__ for stage in chain.stages] == ["TICNormalize", "Affine", "Log1p", "Affine"]


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.lists(st.sampled_from(["shift", "choose", "mix"]), min_size=1, max_size=5)
)
def test_affine_maps_compose(seed: int, kinds: list[str]) -> None:
    rng = np.random.default_rng(seed)
    X = expected = rng.normal(size=(7, 5))
    composed: Affine | None = None
    for kind in kinds:
        n = expected.shape[1]
        if kind == "choose":
            affine = Affine.selection(rng.permutation(n)[: rng.integers(1, n + 1)])
        else:
            k = int(rng.integers(1, 6))
            weight = rng.normal(size=n) if kind == "shift" else rng.normal(size=(n, k))
            affine = Affine(rng.normal(size=n), weight, rng.normal(size=weight.shape[-1]))
        expected = affine.kernel(expected.copy())
        composed = affine if composed is None else composed.then(affine)
    assert composed is not None
    np.testing.assert_allclose(composed.kernel(X), expected, rtol=1e-9, atol=1e-9)


def test_a_map_that_changes_nothing_still_copies() -> None:
    X = np.random.default_rng(5).normal(size=(4, 3))
    same = Standardize(with_mean=False, with_std=False).fit(X)
    Y = same.transform_block(X)
    np.testing.assert_array_equal(Y, X)
    assert not np.shares_memory(X, Y)
    before = X.tobytes()
    Pipeline([Standardize(with_mean=False, with_std=False), Log1p()]).fit(X).transform(X)
    assert X.tobytes() == before


def test_long_blocks_are_mapped_in_parts_with_the_same_result(X: NDArray[Any], y: NDArray[Any]) -> None:
    pipeline = Pipeline([TICNormalize(), Log1p(), PCA(3)]).fit(X)
    long = np.tile(X, (80, 1))
    np.testing.assert_allclose(pipeline.transform(long)[-300:], pipeline.transform(X), rtol=1e-12, atol=1e-12)


def test_strided_blocks_and_other_types(X: NDArray[Any], y: NDArray[Any]) -> None:
    pipeline = Pipeline([TICNormalize(), Log1p(), Standardize(), PCA(3)]).fit(X)
    expected = pipeline.transform_block(X[::3])
    wide = np.zeros((300, 60))
    wide[:, ::2] = X
    np.testing.assert_array_equal(pipeline.transform_block(wide[::3, ::2]), expected)
    counts = X.round().astype(np.uint16)
    assert pipeline.transform_block(counts).dtype == np.float32
    np.testing.assert_array_equal(
        pipeline.transform_block(counts.astype(">i4")), pipeline.transform_block(counts.astype(np.float64))
    )


def test_working_types_hold_every_value() -> None:
    for name in ("float16", "float32", ">f4", "int8", "uint16", "bool"):
        assert working_dtype(np.dtype(name)) == np.float32
    for name in ("float64", ">f8", "int32", "uint32", "int64"):
        assert working_dtype(np.dtype(name)) == np.float64
    with pytest.raises(UsageError, match="complex"):
        working_dtype(np.dtype(complex))


def test_empty_blocks_and_wrong_shapes(X: NDArray[Any], y: NDArray[Any]) -> None:
    pipeline = Pipeline([Standardize(), PCA(3)]).fit(X)
    assert pipeline.transform_block(X[:0]).shape == (0, 3)
    for block in (X[:, :29], X[0]):
        with pytest.raises(UsageError, match="expected"):
            pipeline.transform_block(block)


def test_a_pickled_pipeline_maps_to_the_same_bits(X: NDArray[Any], y: NDArray[Any]) -> None:
    pipeline = Pipeline(CHAINS["the paper's"]).fit(X, y)
    copy = pickle.loads(pickle.dumps(pipeline))
    assert copy.transform_block(X).tobytes() == pipeline.transform_block(X).tobytes()
