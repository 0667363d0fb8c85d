"""Small infrared files of every format, written by plain struct, NumPy, scipy and h5py, with what is in them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray

AXIS = 900 + 2.0 * np.arange(9)


def cube(dtype: str = "f4", shape: tuple[int, int, int] = (4, 3, 9), seed: int = 0) -> NDArray[Any]:
    """Return numbers that are all different; of floats one spectrum is blank and one lacks its first value."""
    rng = np.random.default_rng(seed)
    values = rng.permutation(np.arange(np.prod(shape))).reshape(shape).astype(dtype)
    if values.dtype.kind == "f":
        values /= 7
        values[1, 2] = np.nan
        values[2, 0, 0] = np.nan
    return values


def fsm(
    values: NDArray[Any],
    *,
    step: tuple[float, float] = (6.25, -5.0),
    z: tuple[float, float] | None = None,
    points: tuple[int, int, int] | None = None,
    labels: tuple[str, ...] = ("X - micrometers", "Y - micrometers", "cm-1", "A"),
    first: bytes = b"PEPE",
) -> bytes:
    """Return a PerkinElmer image of spectra in the order of the file, on AXIS turned round unless ``z`` is given."""
    ny, nx, nz = values.shape
    start, delta = z or (AXIS[-1], -2.0)
    end = start + delta * (nz - 1)
    grid = struct.pack("<h5s", 5, b"Image")
    grid += struct.pack(
        "<10d3i", *step, delta, start, end, 0, 0, 10.0, 20.0, start, *(points or (nx, ny, nz))
    )
    grid += b"".join(struct.pack("<h", len(text)) + text.encode() for text in labels)
    blocks = [(5100, grid), (5104, b"#u\x04\x00text" * 5)]
    blocks += [(5105, spectrum.astype("<f4").tobytes()) for spectrum in values.reshape(-1, nz)]
    head = first + b"DataSet - 4DConst3DInterval".ljust(40, b"\0")
    return head + b"".join(struct.pack("<Hi", number, len(content)) + content for number, content in blocks)


ENVI_TYPES = {"u1": 1, "i2": 2, "i4": 3, "f4": 4, "f8": 5, "u2": 12, "u4": 13, "i8": 14, "u8": 15}
INTERLEAVES = {"bsq": (2, 0, 1), "bil": (0, 2, 1), "bip": (0, 1, 2)}


def envi(
    folder: Path,
    values: NDArray[Any],
    *,
    axis: NDArray[np.float64] = AXIS,
    interleave: str = "bip",
    endian: str = "<",
    offset: int = 0,
    units: str = "Wavenumber",
    ending: str = ".img",
    extra: str = "",
    name: str = "image",
) -> Path:
    """Write an ENVI image and return its header; empty ``units`` leave out the line."""
    ny, nx, nz = values.shape
    lines = [
        "ENVI",
        "description = {\n  a test,\n  over lines}",
        f"samples = {nx}",
        f"Lines   = {ny}",
        f"bands = {nz}",
        f"header offset = {offset}",
        "file type = ENVI Standard",
        f"data type = {ENVI_TYPES[values.dtype.str[1:]]}",
        f"interleave = {interleave}",
        f"byte order = {int(endian == '>')}",
        *([f"wavelength units = {units}"] if units else []),
        "wavelength = {\n " + ",\n ".join(map(repr, axis.tolist())) + "}",
        extra,
    ]
    header = folder / f"{name}.hdr"
    header.write_text("\n".join(lines) + "\n")
    stored = np.ascontiguousarray(values.transpose(INTERLEAVES[interleave])).astype(
        values.dtype.newbyteorder(endian)
    )
    (folder / f"{name}{ending}").write_bytes(b"\xff" * offset + stored.tobytes())
    return header


def cytospec(
    path: Path, blocks: NDArray[Any], *, info: dict[str, Any] | None = None, packed: bool = False
) -> Path:
    """Write ``(x, y, channel, block)`` as CytoSpec does."""
    nx, ny, nz = blocks.shape[:3]
    declared = {"LWN": AXIS[0], "VWN": AXIS[-1], "NOD": nz, "XDI": nx, "YDI": ny, **(info or {})}
    lines = [text for key, value in declared.items() for text in (str(value).ljust(20), f" {key}".ljust(20))]
    scipy.io.savemat(path, {"C": blocks, "Info": {"File": lines, "Org": "none"}}, do_compression=packed)
    return path


def mat5_big_endian(path: Path, values: NDArray[Any], axis: NDArray[Any]) -> Path:
    """Write doubles as 16-bit integers, as MATLAB does where they are whole, on a machine of the other byte order."""

    def part(kind: int, content: bytes) -> bytes:
        if len(content) <= 4:
            return struct.pack(">2H", len(content), kind) + content.ljust(4, b"\0")
        return struct.pack(">2I", kind, len(content)) + content + b"\0" * (-len(content) % 8)

    def variable(name: str, numbers: NDArray[Any]) -> bytes:
        shape = struct.pack(f">{numbers.ndim}i", *numbers.shape)
        flags = struct.pack(">2I", 6, 0)
        content = part(6, flags) + part(5, shape) + part(1, name.encode())
        return part(14, content + part(3, numbers.astype(">i2").tobytes("F")))

    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI"
    path.write_bytes(header + variable("wn", axis[np.newaxis]) + variable("cube", values))
    return path


def mat73(path: Path, values: NDArray[Any], axis: NDArray[Any]) -> Path:
    """Write a cube (y, x, channel) as MATLAB 7.3 does: HDF5 after 512 bytes, the axes in reverse order."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file["cube"] = values.T
        file["wavenumber"] = axis[:, np.newaxis]
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    return path


def hdf5(
    path: Path, values: NDArray[Any], axis: NDArray[Any], *, unit: str = "cm-1", packed: bool = True
) -> Path:
    """Write a cube and its axis in a group."""
    with h5py.File(path, "w") as file:
        group = file.create_group("sample")
        group.create_dataset("intensity", data=values, compression="gzip" if packed else None)
        group["wavenumber"] = axis
        # Of fixed length: text of variable length in a damaged file can keep libhdf5 2.0 busy for ever.
        group["wavenumber"].attrs["units"] = np.bytes_(unit)
    return path


def omnic(
    values: NDArray[Any],
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    classic: bool = False,
    ends: tuple[float, float] = (AXIS[-1], AXIS[0]),
    units: int = 1,
    points: int | None = None,
    without: tuple[int, ...] = (),
    series: int = 1,
) -> bytes:
    """Return an OMNIC map of spectra and stage positions in the order of the file, as ftir_map documents the layout.

    ``ends`` are the first and last value of the axis in ``units`` (1 is cm-1), ``points`` the number that the header
    tells, ``without`` the keys of blocks to leave out.
    """
    header = struct.pack("<4I2f", 0, points or values.shape[1], units, 17, ends[1], ends[0]).ljust(140, b"\0")
    spectra = values.astype("<f4")
    heads = [
        struct.pack("<2I8x", 0, 100 * i) + f"Spectrum {i + 1} of {len(x)}".encode().ljust(80, b"\0")
        for i in range(len(x))
    ]
    positions = struct.pack("<3H", len(x), 2, 0) + np.column_stack([x, y]).astype("<f4").tobytes()
    background = np.full(values.shape[1], 7, "<f4").tobytes()
    blocks = [(0x02, 0, header), (0x03, 0, background), (0x02, 1, header), (0x1B, 1, b"history\0")]
    if classic:
        for i, (head, spectrum) in enumerate(zip(heads, spectra, strict=True), 1):
            blocks += [(0x94, i, head), (0x03, i, spectrum.tobytes())]
    else:
        records = [head + bytes(4) + row.tobytes() for head, row in zip(heads, spectra, strict=True)]
        blocks += [(0x12D, 0, header + bytes(56) + b"".join(records))] * series
    blocks.append((0x06, 1, positions))
    blocks = [block for block in blocks if block[0] not in without]
    magic, entry = (b"Spectral Data File", "<HIIIH") if classic else (b"Spectral Exte File", "<HQIII")
    at = 0x130 + struct.calcsize(entry) * len(blocks)
    directory = b""
    for key, index, content in blocks:
        directory += struct.pack(entry, key, at, len(content), index, 0)
        at += len(content)
    first = magic.ljust(0x1E, b"\0") + b"a map"
    first = first.ljust(0x126, b"\0") + struct.pack("<HI", len(blocks), 3_900_000_000)
    return first.ljust(0x130, b"\0") + directory + b"".join(content for _, _, content in blocks)


def omnic_grid(values: NDArray[Any], *, order: str = "", **options: Any) -> bytes:
    """Return a map of a cube from the top left, 10 micrometre from column to column and 25 from row to row.

    ``order`` says how the file goes through it: by rows from the top, or ``"up"``, or in a ``"meander"``.
    """
    ny, nx = values.shape[:2]
    numbers = np.arange(ny * nx).reshape(ny, nx)
    if order == "meander":
        numbers[1::2] = numbers[1::2, ::-1]
    if order == "up":
        numbers = numbers[::-1]
    row, column = np.divmod(numbers.ravel(), nx)
    return omnic(
        values[row, column], 12_345.6 + 10 * column.astype(float), 500 - 25 * row.astype(float), **options
    )


@dataclass(frozen=True)
class Case:
    """A file that can be written, and the cube that is in it.

    Attributes
    ----------
    write
        Into a folder; returns the file to open.
    cube
        ``(y, x, channel)`` on AXIS, from the top left.
    """

    write: Callable[[Path], Path]
    cube: NDArray[Any]


def _written(name: str, content: Callable[[], bytes]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content())
        return path

    return write


def _npz(packed: bool, values: NDArray[Any]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        save = np.savez_compressed if packed else np.savez
        save(folder / "c.npz", cube=values, wavenumber=AXIS[::-1])
        return folder / "c.npz"

    return write


def _npy(values: NDArray[Any]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        np.save(folder / "c.npy", values)
        np.savetxt(folder / "c.wavenumber.txt", AXIS[::-1])
        return folder / "c.npy"

    return write


def _mat(packed: bool, values: NDArray[Any]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        content = {"text": "words", "cube": values, "wavenumber": AXIS}
        scipy.io.savemat(folder / "c.mat", content, do_compression=packed)
        return folder / "c.mat"

    return write


_A, _TURNED = cube(), cube()[..., ::-1]
_WHOLE = cube("i2").astype("f8")
_BLOCK = cube("f8").transpose(1, 0, 2)
CASES: dict[str, Case] = {
    "fsm": Case(_written("c.fsm", lambda: fsm(_TURNED)), _A),
    "fsm turned": Case(_written("c.fsm", lambda: fsm(_TURNED[::-1, ::-1], step=(-6.25, 5.0))), _A),
    "fsm ascending": Case(_written("c.fsm", lambda: fsm(_A, z=(AXIS[0], 2.0))), _A),
    "envi": Case(lambda folder: envi(folder, _TURNED, axis=AXIS[::-1], interleave="bil", offset=3), _A),
    "mat": Case(_mat(False, _A), _A),
    "mat packed": Case(_mat(True, _A), _A),
    "mat big-endian": Case(lambda folder: mat5_big_endian(folder / "c.mat", _WHOLE, AXIS), _WHOLE),
    "mat 7.3": Case(lambda folder: mat73(folder / "c.mat", _TURNED, AXIS[::-1]), _A),
    "cytospec": Case(lambda folder: cytospec(folder / "c.mat", _BLOCK), cube("f8")),
    "cytospec packed": Case(lambda folder: cytospec(folder / "c.mat", _BLOCK, packed=True), cube("f8")),
    "hdf5": Case(lambda folder: hdf5(folder / "c.h5", _TURNED, AXIS[::-1]), _A),
    "hdf5 integers": Case(lambda folder: hdf5(folder / "c.h5", cube(">i2"), AXIS, packed=False), cube("i2")),
    "npz": Case(_npz(False, _TURNED), _A),
    "npz packed": Case(_npz(True, _TURNED), _A),
    "npz fortran": Case(_npz(True, np.asfortranarray(_TURNED)), _A),
    "omnic": Case(_written("c.map", lambda: omnic_grid(_TURNED, order="up")), _A),
    "omnic meander": Case(
        _written("c.map", lambda: omnic_grid(_A, order="meander", ends=(AXIS[0], AXIS[-1]))), _A
    ),
    "omnic classic": Case(_written("c.map", lambda: omnic_grid(_TURNED, classic=True)), _A),
    "npy": Case(_npy(_TURNED.astype(">f4")), _A),
    "npy fortran": Case(_npy(np.asfortranarray(_TURNED)), _A),
}
