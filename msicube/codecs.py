"""Compression of the spectra, by name.

The default is ``zstd``: it is lossless, in every Zarr 3 implementation, and ``docs/codecs.md`` has the measurement. The
others are offered for data that they suit better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import CorruptStore, MissingDependency, UsageError
from msicube.zstd import SparseFrames

DEFAULT_CODEC = "zstd"

#: name -> (Zarr codec name, configuration). ``typesize`` of blosc is filled in from the data type.
CODECS: dict[str, tuple[str, dict[str, Any]]] = {
    "zstd": ("zstd", {"level": 1, "checksum": False}),
    "blosc-zstd": ("blosc", {"cname": "zstd", "clevel": 1, "shuffle": "shuffle", "blocksize": 0}),
    "blosc-bitshuffle": ("blosc", {"cname": "zstd", "clevel": 1, "shuffle": "bitshuffle", "blocksize": 0}),
    "lz4": ("blosc", {"cname": "lz4", "clevel": 1, "shuffle": "noshuffle", "blocksize": 0}),
    "pcodec": ("numcodecs.pcodec", {"level": 4, "mode_spec": "auto"}),
    "none": ("bytes", {}),
}


@dataclass(frozen=True)
class ChunkCodec:
    """What turns one inner chunk into bytes and back: a Zarr codec chain of at most one compressor.

    Attributes
    ----------
    name
        The Zarr name of the compressor: ``zstd``, ``blosc``, ``numcodecs.pcodec`` or ``bytes`` for none.
    configuration
        Its configuration, as in the array's metadata.
    dtype
        Of the values.
    """

    name: str
    configuration: tuple[tuple[str, Any], ...]
    dtype: np.dtype[Any]

    @classmethod
    def named(cls, name: str, dtype: np.dtype[Any]) -> ChunkCodec:
        """Return one of :data:`CODECS`.

        Raises
        ------
        UsageError
            Unknown name.
        """
        if name not in CODECS:
            raise UsageError(f'unknown codec "{name}": choose one of {", ".join(CODECS)}')
        zarr_name, configuration = CODECS[name]
        if zarr_name == "blosc":
            configuration = {**configuration, "typesize": dtype.itemsize}
        return cls(zarr_name, tuple(configuration.items()), dtype)

    @classmethod
    def from_metadata(cls, chain: Sequence[Mapping[str, Any]], dtype: np.dtype[Any]) -> ChunkCodec:
        """Return the codec that a chain in ``zarr.json`` stands for.

        Raises
        ------
        CorruptStore
            A chain that msicube never writes.
        """
        names = [str(codec["name"]) for codec in chain]
        endian = next(
            (c.get("configuration", {}).get("endian", "little") for c in chain if c["name"] == "bytes"),
            "little",
        )
        if endian == "little" and names == ["bytes"]:
            return cls("bytes", (), dtype)
        last = chain[-1]
        if (endian == "little" and names in (["bytes", "zstd"], ["bytes", "blosc"])) or names == [
            "numcodecs.pcodec"
        ]:
            return cls(str(last["name"]), tuple(last.get("configuration", {}).items()), dtype)
        raise CorruptStore(
            f"the codec chain {names} is not one that msicube reads: it takes little-endian bytes followed by zstd or "
            f"blosc, or numcodecs.pcodec; rewrite the array with one of these"
        )

    def zarr_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of ``zarr.create_array`` that name this codec."""
        configuration = dict(self.configuration)
        if self.name == "numcodecs.pcodec":
            return {"serializer": {"name": self.name, "configuration": configuration}, "compressors": None}
        return {
            "compressors": [{"name": self.name, "configuration": configuration}]
            if self.name != "bytes"
            else None
        }

    def sparse_frames(self, length: int) -> SparseFrames | None:
        """Return what makes chunks of so many values from those that are not 0; only zstd has such a thing."""
        if self.name != "zstd" or dict(self.configuration).get("checksum", False):
            return None
        return _sparse_frames(length, self.dtype.itemsize)

    def encode(self, chunk: NDArray[Any]) -> bytes:
        """Encode one C-contiguous chunk of the codec's type."""
        if self._codec is None:
            return chunk.tobytes()
        return bytes(self._codec.encode(chunk))

    def decode(self, data: bytes | memoryview, out: NDArray[Any]) -> None:
        """Decode one chunk into ``out``, a C-contiguous array of exactly its size.

        Raises
        ------
        CorruptStore
            The bytes are damaged or hold another number of values.
        """
        try:
            if self._codec is None:
                out.reshape(-1)[:] = np.frombuffer(data, self.dtype)
            else:
                self._codec.decode(data, out=out)
        except (ValueError, RuntimeError, TypeError) as error:
            raise CorruptStore(
                f"a chunk of {len(data)} bytes does not decode ({self.name}: {error}): convert the slide again"
            ) from error

    @cached_property
    def _codec(self) -> Any:
        configuration = dict(self.configuration)
        if self.name == "bytes":
            return None
        if self.name == "zstd":
            return _zstd(configuration["level"], configuration.get("checksum", False))
        if self.name == "blosc":
            from numcodecs.blosc import Blosc

            shuffle = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}[configuration["shuffle"]]
            return Blosc(
                configuration["cname"], configuration["clevel"], shuffle, configuration.get("blocksize", 0)
            )
        try:
            from numcodecs.pcodec import PCodec
        except ImportError as error:
            raise MissingDependency(
                "the codec pcodec needs its package: pip install 'msicube[pcodec]'"
            ) from error
        return PCodec(**configuration)

    def __getstate__(self) -> dict[str, Any]:
        # The numcodecs object is cheap to make again; some of them do not pickle.
        return {"name": self.name, "configuration": self.configuration, "dtype": self.dtype}


@cache
def _zstd(level: int, checksum: bool = False) -> Any:
    from numcodecs.zstd import Zstd

    return Zstd(level=level, checksum=checksum)


@cache
def _sparse_frames(length: int, itemsize: int) -> SparseFrames | None:
    return SparseFrames.of(length, itemsize)
