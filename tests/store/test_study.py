"""A study as its users meet it: through msicube, and through plain xarray and zarr."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import msicube as mc
from msicube.errors import FormatVersionError, NotAStudy, UnknownSlide
from msicube.readers import open_source
from msicube.simulate import SimulationReport
from msicube.store import Study
from msicube.tiling import Window


def test_slides_and_samples(study: Study, simulation: SimulationReport) -> None:
    assert study.slides == sorted(slide.name for slide in simulation.slides)
    assert list(study) == study.slides
    assert len(study) == 6
    for slide in simulation.slides:
        row = study.samples.loc[slide.name]
        assert (row["label"], row["patient"], row["split"]) == (slide.label, slide.patient, slide.split)
    assert study.modality == "msi"


def test_a_slide_is_lazy_and_indexed_by_mz(study: Study, simulation: SimulationReport) -> None:
    name = study.slides[0]
    dataset = study[name]
    assert dataset.intensity.chunks is not None
    assert dataset.intensity.data.chunksize[:2] == study.cube(name).tile
    mz = float(dataset.mz[40])
    image = dataset.sel(mz=mz + 1e-4, method="nearest").intensity.compute()
    source = open_source(simulation.slides[0].path)
    cube = source.read_tile(Window(0, source.info.shape[0], 0, source.info.shape[1])).values
    np.testing.assert_array_equal(image, cube[:, :, 40])
    np.testing.assert_array_equal(dataset.intensity[3:9, 4:30, 10:20].compute(), cube[3:9, 4:30, 10:20])
    assert dataset.y.attrs["units"] == "micrometer"
    np.testing.assert_allclose(dataset.y[:2], [25.0, 75.0])


def test_by_products_come_from_the_acquired_spectra(study: Study) -> None:
    dataset = study[study.slides[0]].compute()
    spectra = dataset.intensity.values[dataset.acquired.values].astype(np.float64)
    np.testing.assert_allclose(dataset.mean_spectrum, spectra.mean(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(dataset.max_spectrum, spectra.max(axis=0))
    np.testing.assert_allclose(
        dataset.total_ion_current.values[dataset.acquired.values], spectra.sum(axis=1), rtol=1e-12
    )
    assert not dataset.intensity.values[~dataset.acquired.values].any()


def test_plain_xarray_opens_it_in_a_process_without_msicube(study: Study, tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["msicube"] = None  # any import of it fails
import warnings
warnings.simplefilter("error")
import numpy as np, xarray as xr
ds = xr.open_zarr({study.path!r}, group={study.slides[0]!r}, consolidated=False)
assert ds.intensity.dims == ("y", "x", "channel") and "mz" in ds.coords
ds = ds.set_xindex("mz")
np.save({str(tmp_path / "image.npy")!r}, ds.sel(mz=float(ds.mz[7]), method="nearest").intensity.values)
tree = xr.open_datatree({study.path!r}, engine="zarr", consolidated=False)
print(*sorted(tree.children))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == study.slides
    expected = study.cube(study.slides[0])[:, :, 7]
    np.testing.assert_array_equal(np.load(tmp_path / "image.npy"), expected)


def test_plain_zarr_reads_the_same_numbers(study: Study) -> None:
    array = zarr.open_group(study.path, mode="r")[f"{study.slides[1]}/intensity"]
    ny, nx, _ = study.cube(study.slides[1]).shape
    np.testing.assert_array_equal(array[...], study.cube(study.slides[1]).read(Window(0, ny, 0, nx)))
    assert array.shards is not None


def test_reading_a_part_touches_only_its_tile(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    name = study.slides[0]
    lazy = study[name].intensity
    assert len(study.cube(name).tiles()) > 1
    read: list[str] = []
    from msicube.store import location

    original = location.LocalBytes.read

    def count(self: location.LocalBytes, start: int, length: int) -> bytes:
        read.append(self.path.parts[-3] + "/" + self.path.parts[-2])
        return original(self, start, length)

    monkeypatch.setattr(location.LocalBytes, "read", count)
    lazy[0:4, 0:4, :].compute()
    assert set(read) == {"0/0"}


def test_a_study_and_its_cubes_pickle_small(study: Study) -> None:
    cube = study.cube(study.slides[0])
    window = Window(0, 5, 0, 5)
    expected = cube.read(window)
    assert len(pickle.dumps(study)) < 2000
    assert len(pickle.dumps(cube)) < 2000
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cube)).read(window), expected)
    assert pickle.loads(pickle.dumps(study)).slides == study.slides


def test_what_is_not_there_is_said(study: Study, tmp_path: Path) -> None:
    with pytest.raises(UnknownSlide, match=r"no slide 'nine'; it has 6: slide_001"):
        study["nine"]
    with pytest.raises(NotAStudy, match="nothing of this name"):
        mc.open_study(tmp_path / "none.zarr")
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(NotAStudy):
        mc.open_study(tmp_path / "other.zarr")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    zarr.create_group(
        tmp_path / "new.zarr", attributes={"msicube": {"format_version": 99, "modality": "msi"}}
    )
    with pytest.raises(FormatVersionError, match="upgrade"):
        mc.open_study(tmp_path / "new.zarr")


def test_a_study_in_an_object_store(simulation: SimulationReport) -> None:
    url = "memory://bucket/study.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mc.convert([simulation.slides[0].path], url, shard_size="256 KiB")
        remote = mc.open_study(url)
        name = simulation.slides[0].name
        assert remote.slides == [name]
        source = open_source(simulation.slides[0].path)
        ny, nx = source.info.shape
        np.testing.assert_array_equal(
            remote[name].intensity.compute(), source.read_tile(Window(0, ny, 0, nx)).values
        )
        assert mc.validate(remote, sources=[simulation.slides[0].path]) == []


def test_opening_a_slide_leaves_xarray_as_it_was(study: Study) -> None:
    before = dict(xr.get_options())
    study[study.slides[0]]
    assert dict(xr.get_options()) == before
