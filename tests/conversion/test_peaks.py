"""The peaks of processed imzML in the store: every pair, bit for bit, whatever happened on the way."""

from __future__ import annotations

import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from numpy.typing import NDArray
from processed_helpers import Spectra, hashes, write_processed
from pyimzml.ImzMLParser import ImzMLParser

import msicube as mc
from msicube.axis import AxisLaw
from msicube.errors import AxisRequired, CorruptStore, UsageError
from msicube.store import Study
from msicube.store.peaks import PeakLayout
from msicube.store.stored_reader import StoredReader
from msicube.testing import CubeReaderContract
from msicube.tiling import Window

AXIS = "da:2"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Spectra]:
    path = tmp_path_factory.mktemp("in") / "one.imzML"
    return path, write_processed(path)


@pytest.fixture(scope="module")
def _kept(source: tuple[Path, Spectra], tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = tmp_path_factory.mktemp("study") / "s.zarr"
    mc.convert(source[0], study, mz_axis=AXIS, shard_size="16 KiB")
    return study


@pytest.fixture
def converted(_kept: Path) -> Study:
    return mc.open_study(_kept)


@pytest.fixture
def copy(_kept: Path, tmp_path: Path) -> Study:
    shutil.copytree(_kept, tmp_path / "copy.zarr")
    return mc.open_study(tmp_path / "copy.zarr")


def test_every_pair_is_kept_bit_for_bit(source: tuple[Path, Spectra], converted: Study) -> None:
    path, spectra = source
    peaks = converted.peaks("one")
    assert peaks is not None
    assert len(peaks.mz.layout.grid) == 3
    assert peaks.mz.length > 2 * peaks.mz.layout.shape[2], "several shards"
    parser = ImzMLParser(str(path))
    assert len(peaks.lengths) == len(parser.coordinates) == len(spectra)
    for number, (mz, intensity) in enumerate(spectra):
        stored = pickle.loads(pickle.dumps(peaks)).read(number, number + 1)
        assert stored.mz.tobytes() == mz.tobytes() == parser.getspectrum(number)[0].tobytes()
        assert stored.intensity.tobytes() == intensity.tobytes() == parser.getspectrum(number)[1].tobytes()
    whole = peaks.read(0, len(spectra))
    np.testing.assert_array_equal(whole.mz, np.concatenate([mz for mz, _ in spectra]))
    rows = np.random.default_rng(1).permutation(len(spectra))
    np.testing.assert_array_equal(
        peaks.take(rows).read_mz(0, len(rows)), np.concatenate([spectra[row][0] for row in rows])
    )
    parser.m.close()


@pytest.mark.parametrize("mz_dtype", ["float32", "float64"])
@pytest.mark.parametrize("intensity_dtype", ["float64", "int32"])
@pytest.mark.parametrize("codec", ["zstd", "lz4", "none"])
def test_types_and_codecs(tmp_path: Path, mz_dtype: str, intensity_dtype: str, codec: str) -> None:
    path = tmp_path / "in" / "one.imzML"
    spectra = write_processed(
        path, shape=(4, 5), mz_dtype=mz_dtype, intensity_dtype=intensity_dtype, order="random"
    )
    mc.convert(path, tmp_path / "s.zarr", mz_axis=AXIS, codec=codec)
    study = mc.open_study(tmp_path / "s.zarr")
    peaks = study.peaks("one")
    assert peaks is not None
    assert (peaks.mz_dtype, peaks.intensity_dtype) == (np.dtype(mz_dtype), np.dtype(intensity_dtype))
    np.testing.assert_array_equal(
        peaks.read(0, len(spectra)).intensity, np.concatenate([i for _, i in spectra])
    )
    assert mc.validate(study, sources=[path]) == []


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_the_order_of_work_does_not_change_the_bytes(
    source: tuple[Path, Spectra], converted: Study, tmp_path: Path, scheduler: str
) -> None:
    mc.convert(
        source[0], tmp_path / "s.zarr", mz_axis=AXIS, shard_size="16 KiB", scheduler=scheduler, workers=3
    )
    assert hashes(tmp_path / "s.zarr") == hashes(Path(converted.path))


def test_an_interrupted_run_goes_on_and_redoes_no_finished_shard(
    source: tuple[Path, Spectra], converted: Study, tmp_path: Path
) -> None:
    study = tmp_path / "s.zarr"
    options: dict[str, Any] = {"mz_axis": AXIS, "shard_size": "16 KiB", "scheduler": "synchronous"}

    def stop(_: str, done: int, total: int) -> None:
        if done == total - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mc.convert(source[0], study, progress=stop, **options)
    assert not (study / "one").exists()
    partial = tmp_path / "s.zarr.partial" / "one" / "peaks"
    damaged, kept = (partial / kind / "c" / "0" for kind in ("mz", "intensity"))
    damaged.write_bytes(b"short")
    other = partial / "intensity" / "c" / "1"
    stamps = {path.name: path.stat().st_mtime_ns for path in (kept, other)}
    seen: list[tuple[int, int]] = []
    mc.convert(source[0], study, progress=lambda _, done, total: seen.append((done, total)), **options)
    assert seen[0] == (seen[0][1] - 2, seen[0][1]), "more was redone than the damaged and the missing"
    assert (study / "one/peaks/intensity/c/1").stat().st_mtime_ns == stamps["1"]
    assert hashes(study) == hashes(Path(converted.path))


def test_peaks_can_be_left_out(source: tuple[Path, Spectra], converted: Study, tmp_path: Path) -> None:
    mc.convert(source[0], tmp_path / "s.zarr", mz_axis=AXIS, keep_peaks=False)
    study = mc.open_study(tmp_path / "s.zarr")
    assert study.peaks("one") is None
    assert not Path(study.path, "one", "peaks").exists()
    assert mc.validate(study, sources=[source[0]]) == []
    np.testing.assert_array_equal(study.cube("one")[...], converted.cube("one")[...])
    with pytest.raises(UsageError, match="has no peaks"):
        StoredReader.open(study, "one")


def test_a_continuous_file_and_a_shared_axis_have_none(study: Study) -> None:
    assert study.peaks(study.slides[0]) is None


def test_plain_xarray_and_zarr_read_them(source: tuple[Path, Spectra], converted: Study) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = xr.open_datatree(converted.path, engine="zarr", consolidated=False)
        peaks = tree["one/peaks"].to_dataset(inherit=False)
    assert peaks.mz.dims == ("peak",)
    start, stop = peaks.offset.values[4:6]
    np.testing.assert_array_equal(peaks.mz[start:stop], source[1][4][0])
    np.testing.assert_array_equal(
        zarr.open_array(f"{converted.path}/one/peaks/intensity", mode="r")[...],
        np.concatenate([intensity for _, intensity in source[1]]),
    )
    assert "peak" not in converted["one"].dims


class TestStoredReader(CubeReaderContract):
    """The contract on a stored slide's peaks: the cube that was binned from the file."""

    @pytest.fixture(autouse=True)
    def _data(self, converted: Study) -> None:
        self.study = converted

    def make_reader(self) -> StoredReader:
        axis = self.study.axis("one")
        bins = AxisLaw.parse(AXIS).bins(float(axis[0]), float(axis[-1]))
        return StoredReader.open(self.study, "one").with_axis(bins, AXIS)

    def expected(self) -> tuple[NDArray[np.float64], NDArray[Any]]:
        return self.study.axis("one"), self.study.cube("one")[...]

    def test_without_an_axis_no_tile_is_read(self) -> None:
        with pytest.raises(AxisRequired):
            StoredReader.open(self.study, "one").read_tile(Window(0, 1, 0, 1))


def overwrite(study: Study, variable: str, index: int, value: float) -> None:
    zarr.open_array(f"{study.path}/one/{variable}", mode="r+")[index] = value


def messages(study: Study, source: Path | None = None) -> str:
    return "\n".join(map(str, mc.validate(study, sources=[source] if source else None)))


def test_a_changed_peak_is_found(copy: Study, source: tuple[Path, Spectra]) -> None:
    overwrite(copy, "peaks/mz", 70, 123.456)
    assert "differ from the slide's peaks" in messages(copy)
    assert "m/z of the peaks 0 to" in messages(copy, source[0])


def test_a_damaged_or_missing_shard_is_found(copy: Study) -> None:
    shard = Path(copy.path, "one/peaks/intensity/c/1")
    shard.write_bytes(shard.read_bytes()[:-3])
    assert "CRC-32C" in messages(copy)
    shard.unlink()
    assert "is missing" in messages(copy)


def test_offsets_that_fall_or_end_elsewhere_are_found(copy: Study) -> None:
    overwrite(copy, "peaks/offset", 5, 0)
    with pytest.raises(CorruptStore, match="never fall"):
        copy.peaks("one")
    assert "never fall" in messages(copy)


def test_missing_parts_are_found(copy: Study) -> None:
    shutil.rmtree(Path(copy.path, "one/peaks/intensity"))
    shutil.rmtree(Path(copy.path, "one/channel_upper"))
    found = messages(copy)
    assert "peaks/intensity is missing" in found
    assert "channel_upper is missing" in found


def test_shards_stay_within_their_bound() -> None:
    layout = PeakLayout.of(10**7, 12, 2**20)
    assert layout.shard * 12 <= 2**20
    assert layout.shard % layout.chunk == 0
    assert [a for a, _ in layout.spans()[1:]] == [b for _, b in layout.spans()[:-1]]
    assert PeakLayout.of(5, 12, 2**20).spans() == [(0, 5)]
    assert PeakLayout.of(0, 12, 2**20).spans() == []


def test_each_plane_of_a_stack_keeps_its_own(tmp_path: Path) -> None:
    path = tmp_path / "one.imzML"
    spectra = write_processed(path)
    text = path.read_text()
    z = '<cvParam cvRef="IMS" accession="IMS:1000052" name="position z" value="{}"/></scan>'
    half = len(spectra) // 2
    text = text.replace("</scan>", z.format(1), half).replace("\n</scan>", "\n" + z.format(2))
    path.write_text(text)
    mc.convert(path, tmp_path / "s.zarr", mz_axis=AXIS)
    study = mc.open_study(tmp_path / "s.zarr")
    assert study.slides == ["one_z1", "one_z2"]
    for name, rows in (("one_z1", range(half)), ("one_z2", range(half, len(spectra)))):
        peaks = study.peaks(name)
        assert peaks is not None
        assert np.flatnonzero(peaks.lengths).tolist() == [row for row in rows if len(spectra[row][0])]
        np.testing.assert_array_equal(
            peaks.read(0, len(spectra)).mz, np.concatenate([spectra[row][0] for row in rows])
        )
    assert mc.validate(study, sources=[path]) == []
    report = mc.export(study, "one_z2", tmp_path / "z2.imzML")
    assert report.spectra == len(spectra) - half
    assert report.remarks == ("one plane of 2: the position z = 2 is left out",)
    mc.rebin(study, mz_axis="da:5")
    assert mc.validate(mc.open_study(study.path), sources=[path]) == []


def test_a_masked_spectrum_has_no_peaks(tmp_path: Path) -> None:
    path = tmp_path / "one.imzML"
    spectra = write_processed(path)
    wrong = 'accession="IMS:1000102" name="external offset" value="'
    text = path.read_text()
    at = text.index(wrong, len(text) // 2) + len(wrong)
    path.write_text(text[:at] + "9" + text[at:])
    row = mc.convert(path, tmp_path / "s.zarr", mz_axis=AXIS, on_error="report").slides[0]
    assert row.masked == 1
    study = mc.open_study(tmp_path / "s.zarr")
    peaks = study.peaks("one")
    assert peaks is not None
    assert len(peaks.lengths) == len(spectra)
    missing = set(range(len(spectra))) - set(study.small("one", "spectrum_index").ravel().tolist())
    assert len(missing) == 1
    assert peaks.lengths[missing.pop()] == 0
    assert mc.validate(study, sources=[path]) == []
    report = mc.export(study, "one", tmp_path / "back.imzML")
    assert report.spectra == len(spectra) - 1
    again = mc.rebin(study, mz_axis="da:5").slides[0]
    assert (again.masked, again.remarks) == (1, row.remarks)
    mc.convert(path, tmp_path / "t.zarr", mz_axis="da:5", on_error="report")
    assert hashes(tmp_path / "t.zarr") == hashes(tmp_path / "s.zarr")
