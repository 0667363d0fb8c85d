"""The imzML reader against pyimzML and against the real files of other projects."""

from __future__ import annotations

import hashlib
import re
import shutil
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pyimzml.ImzMLParser import ImzMLParser

from msicube.axis import OBSERVED, AxisLaw, SpectralBins
from msicube.errors import AxisRequired, CorruptSource, UnknownFormat, UsageError
from msicube.readers import CubeReader, find_sources, open_source, open_sources
from msicube.readers.imzml import ImzMLReader
from msicube.simulate import simulate_msi
from msicube.testing import CubeReaderContract
from msicube.tiling import Window

REAL = [
    "galaxy/Combat_40pixel.imzML",
    "galaxy/spatial_DGMM_input.imzML",
    "pyimzml/Example_Continuous.imzML",
    "pyimzml/Example_Processed.imzML",
]


def on_its_axis(path: Path) -> CubeReader:
    """Open a file whose spectra all share one m/z array."""
    reader = open_source(path)
    survey = reader.survey()
    if survey is None:
        return reader
    assert survey.common_axis is not None
    return reader.with_axis(SpectralBins.observed(survey.common_axis), OBSERVED)


def with_pyimzml(path: Path) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Read a file's axis and cube through pyimzML."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parser = ImzMLParser(str(path))
    xs, ys, _ = np.array(parser.coordinates).T
    axis, first = parser.getspectrum(0)
    cube = np.zeros((np.ptp(ys) + 1, np.ptp(xs) + 1, len(axis)), first.dtype)
    for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
        cube[y - ys.min(), x - xs.min()] = parser.getspectrum(i)[1]
    parser.m.close()
    return axis.astype(np.float64), cube


class RealFile(CubeReaderContract):
    """The contract on one of the shared files."""

    name: str

    @pytest.fixture(autouse=True)
    def _data(self, shared_data: Path) -> None:
        self.path = shared_data / "imzml" / self.name

    def make_reader(self) -> CubeReader:
        return on_its_axis(self.path)

    def expected(self) -> tuple[NDArray[np.float64], NDArray[Any]]:
        return with_pyimzml(self.path)


class TestCombat(RealFile):
    name = REAL[0]


class TestSpatialDGMM(RealFile):
    name = REAL[1]


class TestExampleContinuous(RealFile):
    name = REAL[2]


class TestExampleProcessed(RealFile):
    name = REAL[3]


class TestSimulated(CubeReaderContract):
    """The contract on a sparse slide, which needs no shared data."""

    @pytest.fixture(autouse=True)
    def _data(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        folder = tmp_path_factory.mktemp("simulated")
        self.path = simulate_msi(folder / "s", slides=1, shape=(12, 17), channels=60).slides[0].path

    def make_reader(self) -> CubeReader:
        return open_source(self.path)

    def expected(self) -> tuple[NDArray[np.float64], NDArray[Any]]:
        return with_pyimzml(self.path)


def test_processed_spectra_are_binned_and_conserve_intensity(tmp_path: Path) -> None:
    path = simulate_msi(
        tmp_path / "s", slides=1, shape=(10, 12), channels=300, mode="processed", representation="centroid"
    ).slides[0].path  # fmt: skip
    reader = open_source(path)
    survey = reader.survey()
    assert survey is not None
    assert survey.common_axis is None
    law = AxisLaw.parse("ppm:200")
    bins = law.bins(survey.lowest, survey.highest)
    tile = reader.with_axis(bins, str(law)).read_tile(
        Window(0, reader.info.shape[0], 0, reader.info.shape[1])
    )
    parser = ImzMLParser(str(path))
    peaks, total = 0, 0.0
    for number in range(len(parser.coordinates)):
        mz, intensity = parser.getspectrum(number)
        peaks, total = peaks + len(mz), total + float(intensity.sum(dtype=np.float64))
        expected = np.zeros(len(bins))
        for m, value in zip(mz, intensity, strict=True):
            expected[np.flatnonzero((bins.lower <= m) & (m < bins.upper))[0]] += value
        y, x = np.argwhere(reader.info.spectrum_index == number)[0]
        np.testing.assert_array_equal(tile.values[y, x], expected.astype(np.float32))
    parser.m.close()
    assert tile.binning is not None
    assert (tile.binning.peaks, tile.binning.out_of_range) == (peaks, 0)
    assert tile.binning.tic_source == pytest.approx(total, rel=1e-12)


def test_processed_without_an_axis_reads_no_tile(tmp_path: Path) -> None:
    path = (
        simulate_msi(tmp_path / "s", slides=1, shape=(10, 12), channels=60, mode="processed").slides[0].path
    )
    reader = open_source(path)
    assert reader.info.axis is None
    with pytest.raises(AxisRequired):
        reader.read_tile(Window(0, 1, 0, 1))


def test_a_continuous_file_keeps_its_axis(tmp_path: Path) -> None:
    reader = open_source(simulate_msi(tmp_path / "s", slides=1, shape=(8, 8), channels=20).slides[0].path)
    with pytest.raises(UsageError, match="its own axis"):
        reader.with_axis(AxisLaw.parse("da:1").bins(1, 2), "da:1")


def test_hard_cases_of_others(shared_data: Path) -> None:
    thyra = shared_data / "imzml" / "thyra"
    sparse = open_source(thyra / "iontof_sparse.imzML").info
    assert (sparse.shape, sparse.n_spectra) == ((4, 4), 6)
    nanometre = open_source(thyra / "unit_nanometre.imzML").info.pixel_size
    assert nanometre is not None
    assert (nanometre.y, nanometre.x) == (4.40625, 4.40625)
    with pytest.raises(CorruptSource, match="one data-type term"):
        open_source(thyra / "two_precision_terms.imzML")
    # Declares a right SHA-1 and a wrong MD5: the strongest decides.
    assert list(open_source(shared_data / "imzml/galaxy/Combat_40pixel.imzML").verify()) == ["sha1"]


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    return simulate_msi(tmp_path / "s", slides=1, shape=(8, 9), channels=30).slides[0].path


def edit(old: str, new: str) -> Callable[[Path], None]:
    """Return a change to the XML that must find what it replaces."""

    def change(path: Path) -> None:
        text = path.read_text(encoding="ISO-8859-1")
        assert old in text, old
        path.write_text(text.replace(old, new, 1), encoding="ISO-8859-1")

    return change


def cut_ibd(path: Path) -> None:
    ibd = path.with_suffix(".ibd")
    ibd.write_bytes(ibd.read_bytes()[:-100])


def other_uuid(path: Path) -> None:
    ibd = path.with_suffix(".ibd")
    ibd.write_bytes(bytes(16) + ibd.read_bytes()[16:])


BROKEN = {
    "no .ibd": (lambda p: p.with_suffix(".ibd").unlink(), "no .ibd beside it"),
    "truncated .ibd": (cut_ibd, "truncated"),
    "other UUID": (other_uuid, "not a pair"),
    "cut XML": (lambda p: p.write_bytes(p.read_bytes()[:-500]), "not well-formed"),
    "no position": (edit("IMS:1000050", "IMS:9000050"), "position x"),
    "damaged offset": (edit('"external offset" value="', '"external offset" value="-'), "no multiple of"),
    "entities": (edit("<mzML", '<!DOCTYPE mzML [<!ENTITY a "b">]><mzML'), "document type definition"),
    "group missing": (
        edit('referenceableParamGroup id="', 'referenceableParamGroup id="other'),
        "not defined",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_damaged_pair_is_one_clear_error(pair: Path, case: str) -> None:
    damage, message = BROKEN[case]
    damage(pair)
    with pytest.raises(CorruptSource, match=message):
        open_source(pair)


def test_two_spectra_at_one_position(pair: Path) -> None:
    text = pair.read_text(encoding="ISO-8859-1")
    xs = re.findall(r'IMS:1000050"[^>]*value="(\d+)"', text)
    ys = re.findall(r'IMS:1000051"[^>]*value="(\d+)"', text)
    row = next(i for i in range(1, len(xs)) if ys[i] == ys[i - 1])
    where = [m.span(1) for m in re.finditer(r'IMS:1000050"[^>]*value="(\d+)"', text)][row]
    pair.write_text(text[: where[0]] + xs[row - 1] + text[where[1] :], encoding="ISO-8859-1")
    with pytest.raises(CorruptSource, match="more than one spectrum"):
        open_source(pair)


def test_a_wrong_checksum_is_found_by_verify_only(pair: Path) -> None:
    ibd = pair.with_suffix(".ibd")
    data = bytearray(ibd.read_bytes())
    data[-1] ^= 1
    ibd.write_bytes(data)
    reader = open_source(pair)
    with pytest.raises(CorruptSource, match=hashlib.sha1(data).hexdigest()):
        reader.verify()


def test_the_mode_is_what_the_offsets_say(pair: Path) -> None:
    edit("IMS:1000030", "IMS:1000031")(pair)
    info = open_source(pair).info
    assert info.axis is not None
    assert any("declares processed" in remark for remark in info.remarks)


@pytest.mark.parametrize("suffix", [".IBD", ".Ibd"])
def test_the_ending_of_the_ibd_may_be_in_any_case(pair: Path, suffix: str) -> None:
    pair.with_suffix(".ibd").rename(pair.with_suffix(suffix))
    assert open_source(pair).info.n_spectra > 0


def test_sources_are_found_in_folders(pair: Path, tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    for suffix, target in ((".imzML", ".IMZML"), (".ibd", ".ibd")):
        shutil.copy(pair.with_suffix(suffix), inner / f"twin{target}")
    assert find_sources([tmp_path / "a", pair, pair]) == [inner / "twin.IMZML", pair]
    with pytest.raises(UnknownFormat, match="does not exist"):
        find_sources([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnknownFormat, match="no source file"):
        find_sources([tmp_path / "empty"])
    assert find_sources([pair.with_suffix(".ibd")]) == [pair]
    orphan = pair.with_name("orphan.ibd")
    shutil.copy(pair.with_suffix(".ibd"), orphan)
    with pytest.raises(UnknownFormat, match="no reader takes"):
        open_source(orphan)


def test_the_index_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """Seven times the spectra: the columns grow by their bytes, neither text nor XML tree piles up."""

    def peak(edge: int) -> tuple[int, int]:
        path = simulate_msi(tmp_path / str(edge), slides=1, shape=(edge, edge), channels=4).slides[0].path
        tracemalloc.start()
        spectra = open_source(path).info.n_spectra
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return spectra, size

    small, large = peak(60), peak(160)
    assert large[0] > 6 * small[0]
    assert (large[1] - small[1]) / (large[0] - small[0]) < 400  # bytes a spectrum; its XML alone is 1,900


@pytest.mark.parametrize(
    "name", [*REAL, "galaxy/picked.imzml", "thyra/iontof_sparse.imzML", "thyra/two_scansettings.imzML"]
)
def test_every_real_file_agrees_with_pyimzml_spectrum_by_spectrum(shared_data: Path, name: str) -> None:
    path = shared_data / "imzml" / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parser = ImzMLParser(str(path))
    reader = open_source(path)
    assert isinstance(reader, ImzMLReader)
    origin = reader.info.source["origin"]
    with reader.open_ibd() as ibd:
        for number, (x, y, _) in enumerate(parser.coordinates):
            assert reader.info.spectrum_index[y - origin["y"], x - origin["x"]] == number
            mz, intensity = parser.getspectrum(number)
            np.testing.assert_array_equal(ibd.array(reader.index.mz, number), mz)
            np.testing.assert_array_equal(ibd.array(reader.index.intensity, number), intensity)
    assert reader.info.n_spectra == len(parser.coordinates)
    parser.m.close()


def test_a_stack_has_one_reader_for_each_plane(pair: Path) -> None:
    text = pair.read_text(encoding="ISO-8859-1")
    z = '<cvParam cvRef="IMS" accession="IMS:1000052" name="position z" value="{}"/></scan>'
    half = text.count("</scan>") // 2
    text = text.replace("</scan>", z.format(2), half).replace("\n</scan>", "\n" + z.format(5))
    pair.write_text(text, encoding="ISO-8859-1")
    with pytest.raises(UsageError, match="holds 2 cubes"):
        open_source(pair)
    readers = open_sources(pair)
    assert [reader.info.name for reader in readers] == [f"{pair.stem}_z2", f"{pair.stem}_z5"]
    assert [reader.info.source["origin"]["z"] for reader in readers] == [2, 5]
    assert readers[0].info.shape == readers[1].info.shape
    assert not (readers[0].info.acquired & readers[1].info.acquired).all()
