"""Sources that are addresses: files, folders that a web server lists, lists of URLs, prefixes of an object store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from archive_server import ROOT, Archive, serve

import msicube as mc
from msicube.errors import DownloadError, RemoteError, UsageError
from msicube.simulate import SimulationReport


@pytest.fixture
def server(simulation: SimulationReport) -> Iterator[Archive]:
    archive = Archive.of(simulation.folder)
    few = {name: body for name, body in archive.files.items() if name[:9] in ("slide_001", "slide_002")}
    with serve(Archive({f"left/{name}": body for name, body in few.items()})) as found:
        yield found


def slides(study: Path) -> dict[str, str]:
    """Return the hash of the stored shards of each slide."""
    return {
        str(path.relative_to(study)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(study.rglob("c/*/*/*"))
        if path.is_file()
    }


def test_a_folder_that_a_web_server_lists(
    server: Archive, simulation: SimulationReport, tmp_path: Path
) -> None:
    url = f"{server.url}{ROOT}/"
    report = mc.convert(url, tmp_path / "a.zarr", shard_size="256 KiB")
    assert [row.slide for row in report.slides] == ["slide_001", "slide_002"]
    mc.convert([s.path for s in simulation.slides[:2]], tmp_path / "b.zarr", shard_size="256 KiB")
    assert slides(tmp_path / "a.zarr") == slides(tmp_path / "b.zarr")
    origin = mc.open_study(tmp_path / "a.zarr").slide_attrs["slide_001"]["origin"]
    assert [file["path"] for file in origin["files"]] == ["slide_001.ibd", "slide_001.imzML"]
    server.asked.clear()
    report = mc.convert(url, tmp_path / "a.zarr", shard_size="256 KiB")
    assert {row.status for row in report.slides} == {"present"}
    assert not any(path.endswith(".ibd") for path, _ in server.asked), "what is here is not downloaded again"


def test_one_file_brings_its_partner(server: Archive, tmp_path: Path) -> None:
    url = f"{server.url}{ROOT}/left/slide_002.imzML"
    report = mc.convert(url, tmp_path / "a.zarr", downloads=tmp_path / "files")
    assert [row.slide for row in report.slides] == ["slide_002"]
    assert sorted(p.name for p in (tmp_path / "files").glob("slide*")) == ["slide_002.ibd", "slide_002.imzML"]


def test_a_list_with_checksums(server: Archive, simulation: SimulationReport, tmp_path: Path) -> None:
    lines = ["# a study", ""]
    for name, body in server.files.items():
        lines.append(f"{server.url}{ROOT}/{name} {hashlib.md5(body).hexdigest()}")
    (tmp_path / "urls.txt").write_text("\n".join(lines))
    local = simulation.slides[3].path
    report = mc.convert([tmp_path / "urls.txt", local], tmp_path / "a.zarr")
    assert sorted(row.slide for row in report.slides) == ["slide_001", "slide_002", local.stem]
    study = mc.open_study(tmp_path / "a.zarr")
    assert all(file["md5_met"] for file in study.slide_attrs["slide_001"]["origin"]["files"])
    assert "origin" not in study.slide_attrs[local.stem]


def test_a_file_that_cannot_be_had_does_not_stop_the_others(server: Archive, tmp_path: Path) -> None:
    del server.files["left/slide_001.ibd"]
    (tmp_path / "urls.txt").write_text(
        "".join(f"{server.url}{ROOT}/left/slide_00{i}.imzML\n" for i in (1, 2))
    )
    report = mc.convert(tmp_path / "urls.txt", tmp_path / "a.zarr", on_error="continue")
    assert [row.slide for row in report.failed] == ["slide_001"]
    assert "404" in str(report.failed[0].error)
    assert mc.open_study(tmp_path / "a.zarr").slides == ["slide_002"]
    with pytest.raises(DownloadError, match="404"):
        mc.convert(tmp_path / "urls.txt", tmp_path / "b.zarr")


def test_a_prefix_of_an_object_store(simulation: SimulationReport, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for path in simulation.folder.glob("slide_00[12].*"):
        memory.pipe_file(f"/lab/run/{path.name}", path.read_bytes())
    memory.pipe_file("/lab/run/notes.doc", b"x")
    memory.pipe_file("/lab/run/scan.raw", b"x")  # ENVI images may end so, this is none
    report = mc.convert("memory://lab/run", tmp_path / "a.zarr", shard_size="256 KiB")
    assert [row.slide for row in report.slides] == ["slide_001", "slide_002"]
    assert any("scan.raw is no source" in remark for remark in report.remarks)
    mc.convert([s.path for s in simulation.slides[:2]], tmp_path / "b.zarr", shard_size="256 KiB")
    assert slides(tmp_path / "a.zarr") == slides(tmp_path / "b.zarr")
    memory.rm("/lab", recursive=True)


def test_what_is_no_source(server: Archive, tmp_path: Path) -> None:
    server.files = {"a.doc": b"x"}
    with pytest.raises(RemoteError, match="none of the files there ends in"):
        mc.convert(f"{server.url}{ROOT}/", tmp_path / "a.zarr")
    (tmp_path / "urls.txt").write_text("https://h/a.imzML not-a-sum\n")
    with pytest.raises(UsageError, match="line 1: expected a URL"):
        mc.convert(tmp_path / "urls.txt", tmp_path / "a.zarr")
    with pytest.raises(UsageError, match="a plan needs the files"):
        mc.plan("https://h/a.imzML", tmp_path / "a.zarr")
    with pytest.raises(UsageError, match="name a folder for the downloads"):
        mc.convert("https://h/a.imzML", "memory://study.zarr")
    assert not (tmp_path / "a.zarr").exists()


def test_twins_of_two_folders_become_two_slides(server: Archive, tmp_path: Path) -> None:
    server.files |= {
        name.replace("left", "right"): body for name, body in server.files.items() if "001" in name
    }
    report = mc.convert(f"{server.url}{ROOT}/", tmp_path / "a.zarr")
    assert sorted(row.slide for row in report.slides) == ["left_slide_001", "right_slide_001", "slide_002"]
    assert any("named with their folders" in remark for remark in report.remarks)
    assert json.dumps(report.to_dict())
