"""Reading one cell: its spectra, through the pipeline, in any thread."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import CorruptStore, MSICubeError, StoreError
from msicube.preprocess.chain import BLOCK_BYTES, Chain
from msicube.stream.options import OnError
from msicube.stream.order import Integers
from msicube.stream.selection import Cell, Selection

#: Copies of the values of a block, in float64, that a pipeline is allowed for.
TRANSFORM_COPIES = 4


class CellReader:
    """Reads the selected spectra of cells.

    Every sample passes the pipeline in the same block whatever the rest of the stream does, because the last bit of
    a matrix product may depend on the number of rows.

    Parameters
    ----------
    selection
        What to read.
    on_error
        Whether spectra that cannot be read are an error, or are left 0 and counted.

    Attributes
    ----------
    skipped : Counter
        Samples that could not be read, by the name of their cell.
    """

    def __init__(self, selection: Selection, *, on_error: OnError = "raise") -> None:
        self.selection, self.on_error = selection, on_error
        self.skipped: Counter[str] = Counter()
        self._local = threading.local()

    @staticmethod
    def bytes_per_thread(selection: Selection) -> int:
        """Return the memory that one reading thread takes: the cell as stored, decoded, selected and transformed."""
        stored, cube = selection.stored_cell_bytes, selection.cubes[0]
        if not selection.chains:
            # What was read, compressed, and one chunk of channels twice: decoded and selected.
            return stored + 2 * int(np.prod(cube.layout.chunk)) * cube.dtype.itemsize
        chain, spectra = selection.chains[0], int(selection.counts.max(initial=1))
        columns = cube.shape[2] if chain.columns is None else len(chain.columns)
        at_a_time = min(BLOCK_BYTES // 8, spectra * columns)
        return 3 * stored + 4 * spectra * chain.n_out + TRANSFORM_COPIES * 8 * at_a_time

    def read(self, cell: Cell, samples: Integers, out: NDArray[np.float32], rows: Integers) -> bool:
        """Read chosen ones of a cell's selected spectra.

        Parameters
        ----------
        cell
            What to read.
        samples
            Positions among the cell's selected pixels.
        out
            ``(m, n_channels)``: spectrum ``i`` goes to ``out[rows[i]]``.
        rows
            As many as there are samples.

        Returns
        -------
        bool
            False where the cell could not be read; its rows are then 0.
        """
        try:
            self._read(cell, samples, out, rows)
        except (StoreError, OSError) as error:
            if self.on_error == "skip":
                self.skipped[str(cell)] += len(rows)
                out[rows] = 0
                return False
            kind = CorruptStore if isinstance(error, CorruptStore) else StoreError
            raise kind(f"cannot read {cell}: {error}") from error
        return True

    def places(self, cell: Cell, samples: Integers) -> Integers:
        """Return slide, y and x of chosen ones of a cell's selected spectra, ``(n, 3)``."""
        pixels, window, origin = cell.pixels[samples], cell.window, self.selection.origin
        if origin is not None:
            return origin.read(window).reshape(-1, 3)[pixels].astype(np.int64)
        found = np.empty((len(pixels), 3), np.int64)
        found[:, 0] = cell.place
        np.divmod(pixels, window.shape[1], out=(found[:, 1], found[:, 2]))
        found[:, 1:] += (window.y0, window.x0)
        return found

    def image(self, number: int) -> NDArray[np.float32]:
        """Return a cell as ``(y, x, n_channels)`` float32, 0 where not selected."""
        cell = self.selection.cell(number)
        flat = np.zeros((cell.window.n_pixels, self.selection.n_channels), np.float32)
        self.read(cell, np.arange(len(cell.pixels)), flat, cell.pixels)
        return flat.reshape(*cell.window.shape, -1)

    def _read(self, cell: Cell, samples: Integers, out: NDArray[np.float32], rows: Integers) -> None:
        selection, pixels = self.selection, cell.pixels
        if not selection.chains:
            cell.cube.read_cell(cell.window, pixels[samples], out, rows)
            return
        chain = selection.chains[cell.place]
        block = self._block(cell, chain)[pixels]
        if selection.origin is None:
            out[rows] = _map(cell, chain, block)[samples]
            return
        # Spectra of a pool come from many slides, each of which may have numbers of its own.
        slides = self.places(cell, np.arange(len(pixels)))[:, 0]
        features = np.empty((len(pixels), chain.n_out), np.float32)
        for slide in np.unique(slides).tolist():
            features[slides == slide] = _map(cell, selection.chains[slide], block[slides == slide])
        out[rows] = features[samples]

    def _block(self, cell: Cell, chain: Chain) -> NDArray[Any]:
        """Decode the channels of a cell that a chain takes, as ``(n_pixels, columns)`` of this thread's own buffer."""
        cube, window = cell.cube, cell.window
        n_columns = cube.shape[2] if chain.columns is None else len(chain.columns)
        n_values = window.n_pixels * n_columns
        buffer = getattr(self._local, "buffer", None)
        if buffer is None or buffer.dtype != cube.dtype or len(buffer) < n_values:
            buffer = self._local.buffer = np.empty(n_values, cube.dtype)
        out = buffer[:n_values].reshape(*window.shape, n_columns)
        cube.read(window, channels=chain.columns, out=out)
        return out.reshape(window.n_pixels, n_columns)


def _map(cell: Cell, chain: Chain, block: NDArray[Any]) -> NDArray[Any]:
    try:
        return chain.map(block)
    except Exception as error:
        raise MSICubeError(f"the pipeline failed on {cell}: {error}") from error
