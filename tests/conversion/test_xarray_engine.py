"""imzML through xarray with no conversion: the same dataset as the converted slide."""

from __future__ import annotations

import pickle
import tomllib
import tracemalloc
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from processed_helpers import write_processed

import msicube as mc
from msicube.conversion import lazy_source
from msicube.conversion.xarray_engine import ImzMLBackend
from msicube.errors import AxisRequired
from msicube.readers.imzml.reader import ImzMLReader
from msicube.simulate import SimulationReport, simulate_msi
from msicube.store import Study

ROOT = Path(__file__).resolve().parents[2]


def assert_same(lazy: xr.Dataset, slide: xr.Dataset) -> None:
    """Variables, coordinates, indexes, dims, types, attributes and every bit."""
    assert set(lazy.variables) == set(slide.variables)
    assert set(lazy.coords) == set(slide.coords)
    assert set(lazy.xindexes) == set(slide.xindexes)
    for name in slide.variables:
        have, want = lazy[name], slide[name]
        assert (have.dims, have.dtype, have.attrs) == (want.dims, want.dtype, want.attrs), name
        if str(name) in ("mean_spectrum", "total_ion_current"):
            np.testing.assert_allclose(have.values, want.values, rtol=1e-12)
        else:
            np.testing.assert_array_equal(have.values, want.values)


def test_a_continuous_file_is_the_slide_it_would_become(study: Study, simulation: SimulationReport) -> None:
    slide = simulation.slides[0]
    with xr.open_dataset(slide.path, engine=ImzMLBackend) as lazy:
        assert_same(lazy, study[slide.name])
        assert lazy.attrs["axis"] == study[slide.name].attrs["axis"]
        mz = float(lazy.mz[40])
        np.testing.assert_array_equal(
            lazy.intensity.sel(mz=mz + 1e-4, method="nearest"), study.cube(slide.name)[:, :, 40]
        )


@pytest.mark.parametrize("law", ["da:2", "union:100"])
def test_a_processed_file_with_an_axis(tmp_path: Path, law: str) -> None:
    write_processed(tmp_path / "one.imzML")
    mc.convert(tmp_path / "one.imzML", tmp_path / "s.zarr", mz_axis=law)
    with pytest.raises(AxisRequired, match="suggests"):
        xr.open_dataset(tmp_path / "one.imzML", engine=ImzMLBackend)
    lazy = xr.open_dataset(tmp_path / "one.imzML", engine=ImzMLBackend, mz_axis=law)
    assert_same(lazy, mc.open_study(tmp_path / "s.zarr")["one"])


@pytest.mark.parametrize(
    "key",
    [
        (3, 4, 5),
        (slice(2, 9), slice(4, 30), slice(10, 20)),
        (slice(None, None, 3), slice(20, 4, -2), slice(None, None, -1)),
        ([1, 5, 2], slice(None), [3, 0]),
        (slice(3, 3), slice(None), 1),
        (-1, slice(None), slice(-5, None)),
    ],
)
def test_any_index(
    study: Study, simulation: SimulationReport, key: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lazy_source, "READ_BYTES", 7000)
    slide = simulation.slides[0]
    whole = study.cube(slide.name)[...]
    lazy = xr.open_dataset(slide.path, engine=ImzMLBackend)
    indexers = dict(zip(("y", "x", "channel"), key, strict=True))
    expected = xr.DataArray(whole, dims=("y", "x", "channel")).isel(indexers)
    np.testing.assert_array_equal(lazy.intensity.isel(indexers), expected)


def test_nothing_is_read_before_it_is_asked_for(
    simulation: SimulationReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    original = ImzMLReader.tile
    monkeypatch.setattr(
        ImzMLReader, "tile", lambda self, window: read.append(window) or original(self, window)
    )
    lazy = xr.open_dataset(simulation.slides[0].path, engine=ImzMLBackend)
    part = lazy.isel(y=slice(3, 5), x=slice(2, 9))
    assert read == []
    part.intensity.load()
    assert [window.shape for window in read] == [(2, 7)]


def test_dask_chunks_are_the_tiles(study: Study, simulation: SimulationReport) -> None:
    slide = simulation.slides[0]
    lazy = xr.open_dataset(slide.path, engine=ImzMLBackend, chunks={})
    assert lazy.intensity.chunks is not None
    small = xr.open_dataset(slide.path, engine=ImzMLBackend).chunk({"y": 7, "x": 9})
    assert small.intensity.data.chunksize == (7, 9, 160)
    total = pickle.loads(pickle.dumps(small)).intensity.sum("channel", dtype="float64")
    np.testing.assert_allclose(total.compute(scheduler="threads"), study[slide.name].total_ion_current)
    np.testing.assert_allclose(small.mean_spectrum, study[slide.name].mean_spectrum, rtol=1e-12)


def test_an_ion_image_is_read_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slide = simulate_msi(tmp_path / "in", slides=1, shape=(70, 70), channels=500).slides[0]
    monkeypatch.setattr(lazy_source, "READ_BYTES", 2**18)
    lazy = xr.open_dataset(slide.path, engine=ImzMLBackend)
    tracemalloc.start()
    lazy.intensity[:, :, 7].load()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert slide.n_bytes > 20 * 2**18
    assert peak < 6 * 2**18


def test_variables_can_be_left_out(simulation: SimulationReport) -> None:
    lazy = xr.open_dataset(simulation.slides[0].path, engine=ImzMLBackend, drop_variables=["acquired", "mz"])
    assert "acquired" not in lazy
    assert "mz" not in lazy.coords


def test_it_is_registered_under_its_name(simulation: SimulationReport) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, name = project["entry-points"]["xarray.backends"]["imzml"].split(":")
    assert getattr(import_module(module), name) is ImzMLBackend
    assert ImzMLBackend().guess_can_open(simulation.slides[0].path)
    assert ImzMLBackend().guess_can_open("x.IMZML")
    assert not ImzMLBackend().guess_can_open("x.zarr")
    assert not ImzMLBackend().guess_can_open(3)
