"""Agilent images by the byte, for tests: masters, tiles and what lies beside them, right or damaged."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MASTER_BYTES = 4096
STEP, START = 15798.0039 / 8192, 467


def axis_of(n_points: int, *, step: float = STEP, start: int = START) -> NDArray[np.float64]:
    return np.array([step * (start + i) for i in range(n_points)])


def master_bytes(
    n_points: int,
    *,
    step: float = STEP,
    start: int = START,
    detector: float | None = 5.5,
    summed: int | None = 1,
    laser: str | None = "15798.0039",
) -> bytes:
    """Return a .dmt or .bsp with what is known of it at its places; the property "Mosaic Tiles" is wrong."""
    data = bytearray(MASTER_BYTES)
    data[:8] = bytes.fromhex("d0cf11e0a1b11ae1")
    struct.pack_into("<d", data, 2216, step)
    struct.pack_into("<3i", data, 2228, start, 4, n_points)
    at = 2500
    texts = {"Mosaic Tiles X": "1", "Mosaic Tiles Y": "1"}
    texts |= {"PixelAggregationSize": str(summed)} if summed is not None else {}
    texts |= {"Effective Laser Wavenumber": laser} if laser is not None else {}
    for name, text in texts.items():
        entry = name.encode() + b"".join(struct.pack("<i", n) for n in (4, 1, 4, 2, 4, 4, 4, len(text), 4))
        entry += struct.pack("<2i", len(text), len(text)) + text.encode() + b"\x04\0\0\0"
        data[at : at + len(entry)] = entry
        at += len(entry) + 8
    if detector is not None:
        entry = b"FPA Pixel Size" + struct.pack("<3i", 0, 2, 8) + b"PropType"
        entry += struct.pack("<5i", 1, 1, 4, 0, 4) + b"1.00" + struct.pack("<3id", 1, 1, 8, detector)
        data[at : at + len(entry)] = entry
    return bytes(data)


def tile_bytes(tile: NDArray[np.float32], *, blank: bool = False) -> bytes:
    """Return a file of spectra of ``(y, x, channel)``, the top row first here and last in the file."""
    ny, nx, n_points = tile.shape
    header = bytearray(1020)
    if not blank:
        header[:4] = b"\0rG\0"
        struct.pack_into("<i", header, 9, n_points)
        struct.pack_into("<2h", header, 24, nx, ny)
    return bytes(header) + tile[::-1].transpose(2, 0, 1).astype("<f4").tobytes()


def write_mosaic(
    folder: Path,
    cube: NDArray[np.float32],
    *,
    edge: int,
    stem: str = "Mosaic",
    grid_file: bool = True,
    blank: bool = False,
    **master: object,
) -> Path:
    """Write a cube as a mosaic of square tiles and return its master, whose name is lower case."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = cube.shape[0] // edge, cube.shape[1] // edge
    for row in range(rows):
        for column in range(columns):
            tile = cube[row * edge : (row + 1) * edge, column * edge : (column + 1) * edge]
            (folder / f"{stem}_{column:04d}_{row:04d}.dmd").write_bytes(tile_bytes(tile, blank=blank))
    if grid_file:
        text = f"\n[GridInfo]\nIrCollectFilesX={columns}\nIrCollectFilesY={rows}\n"
        (folder / "IrMosaicInfo.cfg").write_text(text)
    path = folder / f"{stem.lower()}.dmt"
    path.write_bytes(master_bytes(cube.shape[2], **master))  # type: ignore[arg-type]
    return path


def write_single(
    folder: Path, tile: NDArray[np.float32], *, stem: str = "tile", ending: str = ".dat"
) -> Path:
    """Write a single tile and return its master."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}{ending}").write_bytes(tile_bytes(tile))
    path = folder / f"{stem}.bsp"
    path.write_bytes(master_bytes(tile.shape[2]))
    return path


def random_cube(shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0.4, 0.2, shape).astype(np.float32)
