"""By-products of a tile, from all of its values or from those that are not 0."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from msicube.conversion.tiles import TileSummary
from msicube.readers import BinningTally, SparseTile


@given(
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 30)),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
)
def test_a_sparse_tile_is_summarised_as_the_dense_one(
    shape: tuple[int, int, int], density: float, coverage: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    acquired = rng.random(shape[:2]) < coverage
    filled = (rng.random(shape) < density) & acquired[..., None]
    pixel, channel = (part.astype(np.int32) for part in np.divmod(np.flatnonzero(filled), shape[2]))
    values = rng.choice([0.0, 1.5, -2.25, 7e5, np.nan, np.inf, -np.inf], len(pixel)).astype(np.float32)
    tile = SparseTile(shape, pixel, channel, values, BinningTally())
    with np.errstate(invalid="ignore"):
        dense = TileSummary.of(tile.dense().values, acquired)
        sparse = TileSummary.of_sparse(tile, acquired)
    np.testing.assert_allclose(sparse.total, dense.total, rtol=1e-12)
    np.testing.assert_allclose(sparse.sums, dense.sums, rtol=1e-12)
    np.testing.assert_array_equal(sparse.largest, dense.largest)
    counts = [(s.spectra, s.empty, s.nonfinite) for s in (sparse, dense)]
    assert counts[0] == counts[1]
