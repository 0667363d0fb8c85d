"""Adding a computed variable, ``(y, x, feature)`` or ``(y, x)``, to a slide that is in the study already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from msicube.codecs import DEFAULT_CODEC, ChunkCodec
from msicube.shards import ShardLayout
from msicube.store.cube import CubeArray, CubeWriter
from msicube.store.draft import Draft, array_metadata
from msicube.store.study import Study
from msicube.tiling import CELL_MULTIPLE, CHUNK_ELEMENTS


@contextmanager
def new_variable(
    study: Study,
    slide: str,
    name: str,
    *,
    like: CubeArray,
    n_features: int | None,
    dtype: np.dtype[Any],
    attrs: Mapping[str, Any],
    codec: str = DEFAULT_CODEC,
) -> Iterator[CubeWriter]:
    """Write a variable of dims ``(y, x, <name>_feature)``, or ``(y, x)``, with the tiles of another.

    The block writes every tile of ``like`` through the writer; the variable appears when it ends without an error, and
    nothing of it is left when it does not.

    Parameters
    ----------
    study, slide, name
        Where it goes; a variable of this name is replaced.
    like
        The cube whose tiles it takes.
    n_features
        Length of the last dimension; None for an image, ``(y, x)``, whose blocks are ``(y, x, 1)``.
    dtype
        Of the values.
    attrs
        Attributes; ``long_name`` is one to give.
    codec
        One of :data:`msicube.codecs.CODECS`.
    """
    image, n_features = n_features is None, n_features or 1
    shape = (*like.shape[:2], n_features)
    cell = _cell(like, n_features)
    channel_chunk = min(n_features, max(1, CHUNK_ELEMENTS // (cell[0] * cell[1])))
    chunk = (*cell, channel_chunk)
    shard = (*like.tile, -(-n_features // channel_chunk) * channel_chunk)
    layout = ShardLayout(shard, chunk, ChunkCodec.named(codec, dtype))
    draft = Draft.of(study.location, f"{slide}/{name}")
    draft.discard()
    n_dims = 2 if image else 3
    dims: tuple[str, ...] = ("y", "x", f"{name}_feature")
    metadata = array_metadata(
        shape[:n_dims],
        dtype,
        chunks=chunk[:n_dims],
        shards=shard[:n_dims],
        dims=dims[:n_dims],
        attrs=attrs,
        codec=layout.codec.zarr_arguments(),
    )
    try:
        yield CubeWriter(draft.work, layout, image)
    except BaseException:
        draft.discard()
        raise
    draft.commit(metadata)


def _cell(like: CubeArray, n_features: int) -> tuple[int, int]:
    """Return the cell of a variable: with few features a larger one, which still holds no more than a chunk should."""
    for factor in (CELL_MULTIPLE, CELL_MULTIPLE // 2):
        cell = (like.cell[0] * factor, like.cell[1] * factor)
        whole = all(tile % edge == 0 for tile, edge in zip(like.tile, cell, strict=True))
        if whole and cell[0] * cell[1] * n_features <= CHUNK_ELEMENTS:
            return cell
    return like.cell
