"""Contract tests that ship with msicube: a new reader subclasses one and is done when it passes."""

from __future__ import annotations

import json
import pickle
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.readers import CubeReader
from msicube.readers.dense import geometry
from msicube.tiling import Window, windows


class CubeReaderContract(ABC):
    """What every :class:`~msicube.readers.CubeReader` promises.

    Subclass it in a test module, name the subclass ``Test...``, and give it a reader on its axis and the same cube from
    somewhere else. ::

        class TestMyReader(CubeReaderContract):
            def make_reader(self):
                return open_source("example.my")

            def expected(self):
                return axis, cube  # (channel,), (y, x, channel) with the fill where not acquired
    """

    @abstractmethod
    def make_reader(self) -> CubeReader:
        """Return a new reader of a small cube, on its axis."""

    @abstractmethod
    def expected(self) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """Return the axis and the whole cube, got without msicube."""

    def test_it_follows_the_protocol(self) -> None:
        """The reader has the methods of the protocol."""
        assert isinstance(self.make_reader(), CubeReader)

    def test_info_agrees_with_itself(self) -> None:
        """Axis, mask and numbering are what CubeInfo documents."""
        info = self.make_reader().info
        assert info.name
        assert info.modality in ("msi", "ftir")
        assert info.axis is not None
        assert info.axis_law
        assert info.axis.dtype == np.float64
        assert np.isfinite(info.axis).all()
        assert (np.diff(info.axis) > 0).all()
        assert info.acquired.dtype == bool
        assert info.spectrum_index.shape == info.acquired.shape
        np.testing.assert_array_equal(info.acquired, info.spectrum_index >= 0)
        numbers = info.spectrum_index[info.acquired]
        assert len(np.unique(numbers)) == len(numbers) == info.n_spectra
        assert json.loads(json.dumps(info.source, allow_nan=False)) == info.source
        assert info.source_bytes > 0

    def test_what_was_turned_is_written_down(self) -> None:
        """An infrared source says how its pixels lie, and what was flipped to get there."""
        info = self.make_reader().info
        if info.modality == "ftir":
            written = info.source["geometry"]
            assert written == geometry(flips=written["flips"])
            assert all(isinstance(flip, str) for flip in written["flips"])

    def test_the_axis_is_the_sources(self) -> None:
        """No channel is added, lost or moved."""
        axis = self.make_reader().info.axis
        assert axis is not None
        np.testing.assert_array_equal(axis, self.expected()[0])

    def test_the_whole_cube_is_the_sources_bit_for_bit(self) -> None:
        """Every value, also NaN and negative zero."""
        reader = self.make_reader()
        ny, nx = reader.info.shape
        values = reader.read_tile(Window(0, ny, 0, nx)).values
        cube = self.expected()[1]
        assert values.dtype == reader.info.dtype
        assert values.shape == cube.shape
        assert values.tobytes() == cube.astype(values.dtype).tobytes()

    def test_any_tiling_reads_the_same_numbers(self) -> None:
        """Pixels, rows, columns and odd windows."""
        reader = self.make_reader()
        cube = self.expected()[1].astype(reader.info.dtype)
        ny, nx = reader.info.shape
        for step in ((1, 1), (1, nx), (ny, 1), (2, 3)):
            for window in windows((ny, nx), step):
                np.testing.assert_array_equal(reader.read_tile(window).values, cube[window.slices])

    def test_unmeasured_pixels_are_fill(self) -> None:
        """What was not acquired is 0 or NaN, as the schema has it for the modality and the type, never garbage."""
        reader = self.make_reader()
        ny, nx = reader.info.shape
        unmeasured = reader.read_tile(Window(0, ny, 0, nx)).values[~reader.info.acquired]
        np.testing.assert_array_equal(unmeasured, np.full_like(unmeasured, reader.info.fill))

    def test_a_crop_is_a_part_of_the_whole(self) -> None:
        """Both ends are included, a crop can be cropped again, and a range without a channel is refused."""
        reader, (axis, cube) = self.make_reader(), self.expected()
        ny, nx = reader.info.shape
        start, stop = len(axis) // 3, len(axis) // 3 + max(1, len(axis) // 2)
        crops = [
            (start, reader.crop(axis[start], axis[stop - 1])),
            (
                stop - 1,
                reader.crop(axis[start], axis[-1]).crop(axis[stop - 1], np.inf).crop(0, axis[stop - 1]),
            ),
        ]
        for first, cropped in crops:
            channels = slice(first, stop)
            assert cropped.info.axis is not None
            np.testing.assert_array_equal(cropped.info.axis, axis[channels])
            assert cropped.info.axis_origin["crop"] == [axis[first], axis[stop - 1]]
            expected = cube[..., channels].astype(cropped.info.dtype)
            for window in (Window(0, ny, 0, nx), Window(ny - 1, ny, nx // 2, nx)):
                values = pickle.loads(pickle.dumps(cropped.tile(window))).read().values
                np.testing.assert_array_equal(values, expected[window.slices])
        try:
            reader.crop(axis[-1] + 1, axis[-1] + 2)
        except UsageError:
            return
        raise AssertionError("a range without a channel was taken")

    def test_tiles_are_read_after_pickling(self) -> None:
        """The reader and each of its tiles can be sent to a worker."""
        reader = self.make_reader()
        window = Window(0, 1, 0, reader.info.shape[1])
        expected = reader.read_tile(window).values
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)).read_tile(window).values, expected)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader.tile(window))).read().values, expected)

    def test_many_threads_read_at_once(self) -> None:
        """No state is shared between reads."""
        reader = self.make_reader()
        cube = self.expected()[1].astype(reader.info.dtype)
        places = windows(reader.info.shape, (1, 2)) * 8
        with ThreadPoolExecutor(8) as pool:
            for window, tile in zip(places, pool.map(reader.read_tile, places), strict=True):
                np.testing.assert_array_equal(tile.values, cube[window.slices])

    def test_a_window_outside_is_refused(self) -> None:
        """An empty window, or one that leaves the cube, is a UsageError."""
        reader = self.make_reader()
        ny, nx = reader.info.shape
        for window in (Window(0, ny + 1, 0, nx), Window(-1, ny, 0, nx), Window(0, 0, 0, nx)):
            try:
                reader.read_tile(window)
            except UsageError:
                continue
            raise AssertionError(f"{window} of a cube of {ny} x {nx} pixels was read")
