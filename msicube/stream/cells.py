"""Reading one cell: its spectra, through the pipeline, in any thread."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import CorruptStore, MSICubeError, StoreError
from msicube.stream.order import Integers
from msicube.stream.selection import Selection

#: Values of one call of ``transform_block``, and the copies of them in float64 that it is allowed for.
TRANSFORM_VALUES = 2**18
TRANSFORM_COPIES = 4


class CellReader:
    """Reads the selected spectra of cells.

    Every sample passes the pipeline in the same block whatever the rest of the stream does, because the last bit of
    a matrix product may depend on the number of rows.
    """

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self._local = threading.local()

    @staticmethod
    def bytes_per_thread(selection: Selection) -> int:
        """Return the memory that one reading thread takes: the cell decoded, selected and transformed."""
        stored = selection.stored_cell_bytes
        if selection.pipeline is None:
            return 3 * stored
        spectra, channels = int(selection.counts.max(initial=1)), selection.cubes[0].shape[2]
        at_a_time = min(TRANSFORM_VALUES, spectra * channels)
        return 3 * stored + 4 * spectra * selection.n_channels + TRANSFORM_COPIES * 8 * at_a_time

    def spectra(self, cell: int, samples: Integers | slice = slice(None)) -> NDArray[Any]:
        """Return chosen ones of a cell's selected spectra.

        Parameters
        ----------
        cell
            Number of the cell.
        samples
            Ascending positions among the cell's selected pixels.

        Returns
        -------
        (n, n_channels)
            Valid until this thread reads the next cell.
        """
        block = self._read(cell)
        pixels = self.selection.pixels(cell)
        if self.selection.pipeline is not None:
            return self._transform(cell, block[pixels])[samples]
        chosen = pixels[samples]
        return block if len(chosen) == len(block) else block[chosen]

    def image(self, cell: int) -> NDArray[np.float32]:
        """Return a cell as ``(y, x, n_channels)`` float32, 0 where not selected."""
        window, pixels = self.selection.window(cell), self.selection.pixels(cell)
        spectra = self.spectra(cell)
        if len(pixels) == window.n_pixels:
            flat = np.array(spectra, np.float32)
        else:
            flat = np.zeros((window.n_pixels, self.selection.n_channels), np.float32)
            flat[pixels] = spectra
        return flat.reshape(*window.shape, -1)

    def _read(self, cell: int) -> NDArray[Any]:
        """Decode a cell into this thread's own buffer and return it as ``(n_pixels, channels)``."""
        cube, window = self.selection.cubes[self.selection.slide_of(cell)], self.selection.window(cell)
        n_values = window.n_pixels * cube.shape[2]
        buffer = getattr(self._local, "buffer", None)
        if buffer is None or buffer.dtype != cube.dtype or len(buffer) < n_values:
            buffer = self._local.buffer = np.empty(n_values, cube.dtype)
        out = buffer[:n_values].reshape(*window.shape, cube.shape[2])
        try:
            cube.read(window, out=out)
        except (MSICubeError, OSError) as error:
            kind = CorruptStore if isinstance(error, CorruptStore) else StoreError
            raise kind(f"cannot read {self._name(cell)}: {error}") from error
        return out.reshape(window.n_pixels, cube.shape[2])

    def _transform(self, cell: int, block: NDArray[Any]) -> NDArray[np.float32]:
        pipeline = self.selection.pipeline
        assert pipeline is not None
        out = np.empty((len(block), self.selection.n_channels), np.float32)
        rows = max(1, TRANSFORM_VALUES // block.shape[1])
        slide = self.selection.slides[self.selection.slide_of(cell)]
        try:
            for start in range(0, len(block), rows):
                out[start : start + rows] = pipeline.transform_block(block[start : start + rows], slide=slide)
        except Exception as error:
            raise MSICubeError(f"the pipeline failed on {self._name(cell)}: {error}") from error
        return out

    def _name(self, cell: int) -> str:
        slide, (y0, y1, x0, x1) = self.selection.slide_of(cell), self.selection.window(cell)
        return f"slide {self.selection.slides[slide]}, rows {y0} to {y1}, columns {x0} to {x1}"
