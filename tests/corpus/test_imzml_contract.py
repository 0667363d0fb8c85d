"""The reader contract on files that are odd: compressed, of several types, sparse, with masked spectra."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imzml_files import Pair, continuous, nth
from numpy.typing import NDArray

from msicube.readers import CubeReader, open_source
from msicube.testing import CubeReaderContract


class OddFile(CubeReaderContract):
    """The contract on a generated pair, whose truth the generator knows."""

    pair: Pair
    dtype = "<f4"
    masked: frozenset[int] = frozenset()

    @pytest.fixture(autouse=True)
    def _data(self, tmp_path: Path) -> None:
        self.path = self.pair.write(tmp_path, "odd")

    def make_reader(self) -> CubeReader:
        return open_source(self.path, on_error="report")

    def expected(self) -> tuple[NDArray[np.float64], NDArray[Any]]:
        specs = self.pair.specs
        cube = np.zeros((max(s.y for s in specs), max(s.x for s in specs), len(specs[0].mz)), self.dtype)
        for number, spec in enumerate(specs):
            if number not in self.masked:
                cube[spec.y - 1, spec.x - 1] = spec.intensity
        return specs[0].mz, cube


class TestPacked(OddFile):
    pair = continuous((3, 4), packed="zlib")


class TestSeveralTypes(OddFile):
    base = continuous((3, 4))
    pair = base.but(
        specs=[replace(s, intensity_type=("<f4", "<f8", "<i4")[i % 3]) for i, s in enumerate(base.specs)]
    )
    dtype = "<f8"


class TestSparse(OddFile):
    base = continuous((3, 4))
    pair = base.but(specs=[s for i, s in enumerate(base.specs) if i % 5 != 2])


class TestMasked(OddFile):
    pair = continuous((3, 4)).edited(nth("IMS:1000102", 7, 10**6))
    masked = frozenset({3})
