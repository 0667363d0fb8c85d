"""Unpacking compressed arrays to a size that is known, whatever the bytes are."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable

import numpy as np

_LZ4_FRAME = b"\x04\x22\x4d\x18"


def unpack(data: bytes, compression: str, size: int) -> bytes:
    """Return the unpacked bytes.

    Parameters
    ----------
    data
        As they are in the file.
    compression
        ``zlib``, ``xz``, ``zstd`` or ``lz4`` (a frame, or one block without a frame: the vocabulary does not say
        which).
    size
        Number of bytes that must come out.

    Raises
    ------
    ValueError
        They do not unpack, or to another size.
    """
    if size == 0:
        return b""
    try:
        plain = _UNPACKERS[compression](data, size)
    except (
        zlib.error,
        lzma.LZMAError,
        RuntimeError,
        ValueError,
        EOFError,
        MemoryError,
        OverflowError,
    ) as error:
        raise ValueError(str(error) or "damaged") from error
    if len(plain) != size:
        raise ValueError(f"it holds another number of bytes than the declared {size}")
    return plain


# One byte more than declared is enough to see that there is too much, and bounds what is unpacked.


def _zlib(data: bytes, size: int) -> bytes:
    unpacker = zlib.decompressobj()
    return _whole(unpacker.decompress(data, size + 1), unpacker.eof)


def _xz(data: bytes, size: int) -> bytes:
    unpacker = lzma.LZMADecompressor()
    return _whole(unpacker.decompress(data, size + 1), unpacker.eof)


def _whole(plain: bytes, ended: bool) -> bytes:
    """Check that the stream has come to its end, where its checksum is."""
    if not ended:
        raise ValueError("its end is missing, or it holds more than is declared")
    return plain


def _zstd(data: bytes, size: int) -> bytes:
    from numcodecs.zstd import decompress

    plain = _into(lambda out: decompress(data, out), size)
    # numcodecs does not say how much it wrote: one byte less must be too little.
    try:
        decompress(data, np.empty(size - 1, np.uint8))
    except (RuntimeError, ValueError):
        return plain
    raise ValueError("it holds less than is declared")


def _lz4(data: bytes, size: int) -> bytes:
    if data.startswith(_LZ4_FRAME):
        from lz4.frame import LZ4FrameDecompressor

        unpacker = LZ4FrameDecompressor()
        return _whole(unpacker.decompress(data, max_length=size + 1), unpacker.eof)
    from numcodecs.lz4 import decompress

    # numcodecs keeps the size in front of the block.
    return _into(lambda out: decompress(size.to_bytes(4, "little") + data, out), size)


def _into(decompress: Callable[[np.ndarray], object], size: int) -> bytes:
    out = np.empty(size, np.uint8)
    decompress(out)
    return out.tobytes()


_UNPACKERS: dict[str, Callable[[bytes, int], bytes]] = {
    "zlib": _zlib, "xz": _xz, "zstd": _zstd, "lz4": _lz4,
}  # fmt: skip
