"""A study in an S3-compatible object store: a real server on loopback, reached over HTTP."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import msicube as mc
from msicube.errors import NotAStudy
from msicube.readers import open_source
from msicube.simulate import SimulationReport
from msicube.tiling import Window

# s3fs and moto bring deprecations of their own, which are not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")
BUCKET = "s3://spectra"


@pytest.fixture(scope="module")
def storage_options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """An empty bucket on a server of its own, and how to reach it."""
    log = tmp_path_factory.mktemp("s3") / "log"
    code = "from moto.server import main; main(['-H', '127.0.0.1', '-p', '0'])"
    # Into a file: a pipe that nobody reads fills up, and then the server stands still.
    with log.open("w") as stream:
        server = subprocess.Popen([sys.executable, "-u", "-c", code], stderr=stream, stdout=stream)
    deadline = time.monotonic() + 60
    while (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())) is None:
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    options = {
        "key": "k",
        "secret": "s",
        "client_kwargs": {"endpoint_url": found[0], "region_name": "us-east-1"},
    }
    urllib.request.urlopen(urllib.request.Request(f"{found[0]}/spectra", method="PUT")).close()
    yield options
    server.terminate()
    server.wait()


def test_a_study_is_made_and_read_over_http(
    simulation: SimulationReport, storage_options: dict[str, Any]
) -> None:
    url = f"{BUCKET}/study.zarr"
    with pytest.raises(NotAStudy):
        mc.open_study(url, storage_options=storage_options)
    sources = [slide.path for slide in simulation.slides[:2]]
    mc.convert(
        sources, url, shard_size="256 KiB", samples=simulation.samples, storage_options=storage_options
    )
    study = mc.open_study(url, storage_options=storage_options)
    assert study.slides == [path.stem for path in sources]
    assert set(study.samples.columns) >= {"label", "patient", "split"}
    source = open_source(sources[0])
    ny, nx = source.info.shape
    expected = source.read_tile(Window(0, ny, 0, nx)).values
    np.testing.assert_array_equal(study[sources[0].stem].intensity.compute(), expected)
    assert mc.validate(study, sources=sources) == []


def test_slides_are_converted_from_a_bucket(
    simulation: SimulationReport, storage_options: dict[str, Any], tmp_path: Path
) -> None:
    import fsspec

    bucket = fsspec.filesystem("s3", **storage_options)
    for path in simulation.folder.glob("slide_00[12].*"):
        bucket.pipe_file(f"spectra/raw/{path.name}", path.read_bytes())
    report = mc.convert("s3://spectra/raw", tmp_path / "s.zarr", storage_options=storage_options)
    assert [row.slide for row in report.slides] == ["slide_001", "slide_002"]
    study = mc.open_study(tmp_path / "s.zarr")
    assert mc.validate(study, sources=[slide.path for slide in simulation.slides[:2]]) == []
    assert study.slide_attrs["slide_001"]["origin"]["files"][0]["url"] == "s3://spectra/raw/slide_001.ibd"


def test_a_pipeline_is_fitted_saved_and_applied_over_http(
    simulation: SimulationReport, storage_options: dict[str, Any]
) -> None:
    url = f"{BUCKET}/fitted.zarr"
    sources = [slide.path for slide in simulation.slides]
    mc.convert(sources, url, samples=simulation.samples, storage_options=storage_options)
    study = mc.open_study(url, storage_options=storage_options)
    pipe = mc.Pipeline([mc.Log1p(), mc.Standardize(), mc.SelectChannels(k=10), mc.PCA(2)]).fit(study)
    pipe.save(study, name="paper")
    assert mc.apply(study, name="paper") == study.slides
    slide = study.slides[0]
    spectra = study.cube(slide).read(Window(0, 8, 0, 8))[study.acquired(slide)[:8, :8]]
    features = study.cube(slide, "paper").read(Window(0, 8, 0, 8))[study.acquired(slide)[:8, :8]]
    np.testing.assert_allclose(features, pipe.transform_block(spectra), rtol=1e-5, atol=1e-5)


def test_a_killed_conversion_is_finished_and_nothing_half_written_is_visible(
    simulation: SimulationReport, storage_options: dict[str, Any], tmp_path: Path
) -> None:
    url, source = f"{BUCKET}/killed.zarr", simulation.slides[0].path
    script = tmp_path / "convert.py"
    script.write_text(
        "import sys, msicube as mc\n"
        f"mc.convert({str(source)!r}, {url!r}, shard_size='32 KiB', storage_options={storage_options!r},\n"
        "           scheduler='synchronous', progress=lambda slide, done, total: print(done, flush=True))\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    deadline = time.monotonic() + 60
    for line in process.stdout:
        assert time.monotonic() < deadline
        if int(line) >= 5:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert mc.open_study(url, storage_options=storage_options).slides == []
    done: list[int] = []
    mc.convert(
        source,
        url,
        shard_size="32 KiB",
        storage_options=storage_options,
        progress=lambda _, finished, __: done.append(finished),
    )
    assert done[0] >= 4, "finished tiles were redone"
    study = mc.open_study(url, storage_options=storage_options)
    assert study.slides == [source.stem]
    assert mc.validate(study, sources=[source]) == []
