"""Cubes in a compressed stream: MATLAB variables and members of an .npz.

A stream cannot be entered in the middle, so a read inflates it from its beginning up to the last value that is wanted,
one slab (an image or a row of spectra) at a time: memory does not grow with the file, time does.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import CorruptSource
from msicube.readers.dense import DenseReader
from msicube.readers.strided import Layout
from msicube.tiling import Window

BLOCK_BYTES = 2**20
#: Compressed bytes that are handed to zlib at a time; it gives back a copy of what it has not used.
PACKED_BYTES = 2**16
#: Deflate packs a run of zeros by 1032 to 1 at the very most: what claims more is damaged.
MAX_RATIO = 1032


@dataclass(frozen=True)
class Member:
    """A run of bytes of a file, perhaps compressed.

    Attributes
    ----------
    path
        The file.
    at, length
        Where it lies, in bytes.
    wbits
        How zlib has to read it: 15 for a zlib stream, -15 for bare deflate; None where it is not compressed.
    crc
        The CRC-32 of its content, where the file declares one.
    """

    path: Path
    at: int
    length: int
    wbits: int | None
    crc: int | None = None

    def verify(self) -> dict[str, str]:
        """Read it through to the end and return the checksums that were met.

        Raises
        ------
        CorruptSource
            The stream is damaged, or the checksum is another one.
        """
        found, adler = 0, 1
        with Stream(self) as stream:
            while block := stream.some():
                found, adler = zlib.crc32(block, found), zlib.adler32(block, adler)
        if self.crc is None:
            # A zlib stream ends with its Adler-32, and zlib has refused it where that is not met.
            return {"adler32": f"{adler:08x}"} if self.wbits == 15 else {}
        if found != self.crc:
            raise CorruptSource(
                f"{self.path.name} declares the CRC-32 {self.crc:08x}, its content has {found:08x}: the file is "
                f"damaged or was changed, copy it again"
            )
        return {"crc32": f"{found:08x}"}


class Stream:
    """The content of a member, forward only; a context manager."""

    def __init__(self, member: Member) -> None:
        self.member = member
        try:
            self._file = member.path.open("rb")
        except OSError as error:
            raise CorruptSource(f"cannot open {member.path}: {error.strerror}") from error
        self._file.seek(member.at)
        self._left = member.length
        self._packed = b""
        self._inflate = None if member.wbits is None else zlib.decompressobj(member.wbits)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def some(self, limit: int = BLOCK_BYTES) -> bytes:
        """Return the next bytes, at most ``limit``; none at the end.

        Raises
        ------
        CorruptSource
            The stream is damaged or ends too early.
        """
        if self._inflate is None:
            return self._raw(limit)
        while not self._inflate.eof:
            self._packed = self._packed or self._raw(PACKED_BYTES)
            at_end = not self._packed
            try:
                out = self._inflate.decompress(self._packed, limit)
            except zlib.error as error:
                raise CorruptSource(f"{self.member.path.name} does not unpack: {error}") from error
            self._packed = self._inflate.unconsumed_tail
            if out:
                return out
            if at_end and not self._inflate.eof:
                raise CorruptSource(
                    f"{self.member.path.name} ends inside a compressed array: it is truncated"
                )
        return b""

    def read(self, count: int) -> bytearray:
        """Return exactly ``count`` bytes."""
        out = bytearray()
        while len(out) < count:
            block = self.some(min(count - len(out), BLOCK_BYTES))
            if not block:
                raise CorruptSource(
                    f"{self.member.path.name}: an array ends {count - len(out)} bytes before the end that its header "
                    f"promises: the file is damaged, copy it again"
                )
            out += block
        return out

    def read_up_to(self, limit: int) -> bytearray:
        """Return what is left, at most ``limit`` bytes."""
        out = bytearray()
        while len(out) < limit and (block := self.some(min(limit - len(out), BLOCK_BYTES))):
            out += block
        return out

    def skip(self, count: int) -> None:
        """Pass over ``count`` bytes."""
        while count > 0:
            count -= len(self.read(min(count, BLOCK_BYTES)))

    def _raw(self, limit: int) -> bytes:
        try:
            block = self._file.read(min(limit, self._left))
        except OSError as error:
            raise CorruptSource(f"cannot read {self.member.path}: {error.strerror}") from error
        self._left -= len(block)
        return block


@dataclass(frozen=True)
class PackedCube:
    """A cube in a compressed stream; a :class:`msicube.readers.dense.SpectraSource`.

    Attributes
    ----------
    member
        The stream.
    layout
        Where the values are in its content: strides of a whole array, in any order, axes flipped or not.
    """

    member: Member
    layout: Layout

    def read(self, window: Window, channels: slice) -> NDArray[Any]:
        """Read a part of the cube."""
        layout = self.layout
        for axis in range(3):
            if layout.strides[axis] < 0:
                layout = layout.flipped(axis)
        backward = [stride < 0 for stride in self.layout.strides]
        wanted = [
            range(n - s.stop, n - s.start) if turned else range(s.start, s.stop)
            for s, n, turned in zip((*window.slices, channels), layout.shape, backward, strict=True)
        ]
        out = self._forward(layout, wanted)
        return out[tuple(slice(None, None, -1 if turned else 1) for turned in backward)]

    def _forward(self, layout: Layout, wanted: list[range]) -> NDArray[Any]:
        """Read ranges of the three axes, none of which is flipped."""
        slow = max(range(3), key=lambda axis: (layout.strides[axis], layout.shape[axis]))
        others = [axis for axis in range(3) if axis != slow]
        part = tuple(slice(wanted[axis].start, wanted[axis].stop) for axis in others)
        out = np.empty([len(r) for r in wanted], layout.dtype.newbyteorder("="))
        slabs = np.moveaxis(out, slow, 0)
        with Stream(self.member) as stream:
            stream.skip(layout.offset + wanted[slow].start * layout.strides[slow])
            for row in range(len(wanted[slow])):
                slab = stream.read(layout.strides[slow])
                shape = [layout.shape[axis] for axis in others]
                strides = [layout.strides[axis] for axis in others]
                slabs[row] = np.ndarray(shape, layout.dtype, slab, 0, strides)[part]
        return out


@dataclass(frozen=True)
class MemberReader(DenseReader):
    """A dense reader whose values lie in a member that can be checked.

    Attributes
    ----------
    member
        The run of bytes.
    """

    member: Member | None = None

    def verify(self) -> dict[str, str]:
        """Check the member against its checksum."""
        return self.member.verify() if self.member else {}
