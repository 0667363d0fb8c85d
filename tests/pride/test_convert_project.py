"""A project into one study: the same as from the files themselves, whatever happened on the way."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import xarray as xr
import yaml
import zarr
from archive_server import ACCESSION, ROOT, Answer, Archive, ask, is_file, serve, troubles

import msicube as mc
from msicube.axis import AxisLaw
from msicube.bytesize import parse_bytes
from msicube.errors import AxisMismatch, UsageError
from msicube.pride import convert_project, verify_study
from msicube.pride.verify import catalog_problems
from msicube.simulate import SimulationReport

LAW = "ppm:300"


def hashes(folder: Path, *, only_slides: bool = False) -> dict[str, str]:
    """Return the hash of every file of a study but the root's metadata, which holds the time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and name != "zarr.json" and not (only_slides and "/" not in name):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def without_origin(folder: Path) -> dict[str, str]:
    """Return the hashes of the slides, with what tells where they came from left out."""
    found = hashes(folder, only_slides=True)
    for name in list(found):
        if name.count("/") == 1 and name.endswith("/zarr.json"):
            document = json.loads((folder / name).read_text())
            document["attributes"].pop("origin", None)
            found[name] = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    return found


@contextmanager
def watched(folder: Path) -> Iterator[list[int]]:
    """Measure the bytes of the files in a folder again and again; the largest is kept."""
    most, stop = [0], threading.Event()

    def look() -> None:
        while not stop.is_set():
            total = 0
            with suppress(OSError):  # a file, or the folder, may come and go while it is looked at
                for path in folder.rglob("*"):
                    with suppress(OSError):
                        if path.suffix in (".part", ".ibd", ".imzML"):
                            total += path.stat().st_size
            most[0] = max(most[0], total)
            time.sleep(0.001)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        stop.set()
        thread.join()


def test_it_is_what_converting_the_files_gives(
    archive: Archive, tiny: SimulationReport, tmp_path: Path
) -> None:
    report = convert_project(ACCESSION, tmp_path / "a.zarr", archive=ask(archive), samples=tiny.samples)
    assert {row.status for row in report.rows} == {"converted"}
    assert [row.label for row in report.rows] == [slide.label for slide in tiny.slides]
    assert report.unlabelled == ()
    mc.convert(tiny.folder, tmp_path / "b.zarr", samples=tiny.samples)
    assert without_origin(tmp_path / "a.zarr") == without_origin(tmp_path / "b.zarr")
    study = mc.open_study(tmp_path / "a.zarr")
    assert mc.validate(study, sources=[tiny.folder]) == []
    origin = study.slide_attrs["slide_002"]["origin"]
    assert (origin["archive"], origin["accession"], origin["planes"]) == ("PRIDE", ACCESSION, 1)
    assert origin["files"] == [
        {
            "path": name,
            "url": f"{archive.url}{ROOT}/{name}",
            "size": len(archive.files[name]),
            "md5": hashlib.md5(archive.files[name]).hexdigest(),
            "md5_met": True,
        }
        for name in ("slide_002.ibd", "slide_002.imzML")
    ]


def test_the_same_again_does_only_what_is_left(archive: Archive, tmp_path: Path) -> None:
    convert_project(ACCESSION, tmp_path / "s.zarr", archive=ask(archive), limit=5)
    first = hashes(tmp_path / "s.zarr", only_slides=True)
    shutil.rmtree(tmp_path / "s.zarr.downloads")
    archive.asked.clear()
    report = convert_project(ACCESSION, tmp_path / "s.zarr", archive=ask(archive))
    assert [row.status for row in report.rows] == ["present"] * 5 + ["converted"] * 7
    assert report.rows[0].spectra > 0
    assert not any("slide_001" in path for path, _ in archive.asked)
    assert first.items() <= hashes(tmp_path / "s.zarr", only_slides=True).items()
    done = hashes(tmp_path / "s.zarr")
    archive.asked.clear()
    convert_project(ACCESSION, tmp_path / "s.zarr", archive=ask(archive))
    assert hashes(tmp_path / "s.zarr") == done
    assert not any(is_file(path) for path, _ in archive.asked)


def test_one_failing_slide_does_not_stop_the_rest(archive: Archive, tmp_path: Path) -> None:
    archive.checksums = {"slide_003.ibd": ("slide_003.ibd", "0" * 32, len(archive.files["slide_003.ibd"]))}
    broken = archive.files["slide_005.imzML"]
    archive.files["slide_005.imzML"] = broken[:2000]
    report = convert_project(ACCESSION, tmp_path / "s.zarr", archive=ask(archive))
    assert [row.slide for row in report.failed] == ["slide_003", "slide_005"]
    assert "its MD5 is" in str(report.failed[0].error)
    study = mc.open_study(tmp_path / "s.zarr")
    assert len(study) == 10
    catalog = json.loads((tmp_path / "s.zarr" / "catalog.json").read_text())
    assert set(catalog["missing"]) == {"slide_003", "slide_005"}
    assert "## Missing" in (tmp_path / "s.zarr" / "README.md").read_text()
    archive.checksums, archive.files["slide_005.imzML"] = {}, broken
    report = convert_project(ACCESSION, tmp_path / "s.zarr", archive=ask(archive))
    assert not report.failed
    assert len(mc.open_study(tmp_path / "s.zarr")) == 12


@pytest.mark.parametrize(("seed", "stream"), [(0, False), (1, True), (2, True)])
def test_a_bad_network_changes_nothing(
    archive: Archive, tiny: SimulationReport, tmp_path: Path, seed: int, stream: bool
) -> None:
    archive.fault = troubles(seed)
    report = convert_project(
        ACCESSION, tmp_path / "a.zarr", archive=ask(archive), limit=6, stream=stream, connections=3
    )
    assert not report.failed
    archive.fault = None
    convert_project(ACCESSION, tmp_path / "b.zarr", archive=ask(archive), limit=6)
    assert hashes(tmp_path / "a.zarr") == hashes(tmp_path / "b.zarr")


def test_streaming_stays_within_the_limit_and_leaves_nothing(
    archive: Archive, tiny: SimulationReport, tmp_path: Path
) -> None:
    def fault(path: str, number: int, headers: Mapping[str, str], answer: Answer) -> Answer:
        answer.delay = 0.004
        return answer

    archive.fault = fault
    largest = max(slide.n_bytes for slide in tiny.slides)
    limit, folder = int(2.2 * largest), tmp_path / "files"
    folder.mkdir()
    with watched(folder) as most:
        report = convert_project(
            ACCESSION, tmp_path / "a.zarr", archive=ask(archive), folder=folder, stream=True, disk_limit=limit
        )
    assert not report.failed
    assert largest < most[0] <= limit
    assert not folder.exists()
    assert archive.most_connections >= 2
    mc.convert(tiny.folder, tmp_path / "b.zarr")
    assert without_origin(tmp_path / "a.zarr") == without_origin(tmp_path / "b.zarr")


def test_a_slide_larger_than_the_limit_is_one_failure(
    archive: Archive, tiny: SimulationReport, tmp_path: Path
) -> None:
    sizes = sorted(slide.n_bytes for slide in tiny.slides)
    report = convert_project(
        ACCESSION, tmp_path / "a.zarr", archive=ask(archive), stream=True, disk_limit=sizes[-1] - 1
    )
    assert 1 <= len(report.failed) < 12
    assert "--disk-limit" in str(report.failed[0].error)


def test_what_is_stored_is_compared_before_the_files_go(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from msicube.conversion import SlideWriter

    kept = SlideWriter.check

    def check(self: SlideWriter, path: Path, slides: list[str]) -> list[str]:
        if path.stem == "slide_002":  # a disk that returns something else than was written
            shard = tmp_path / "s.zarr" / "slide_002" / "intensity" / "c" / "0" / "0" / "0"
            shard.write_bytes(bytes(len(shard.read_bytes())))
        return kept(self, path, slides)

    monkeypatch.setattr(SlideWriter, "check", check)
    report = convert_project(ACCESSION, tmp_path / "s.zarr", archive=ask(archive), stream=True, limit=3)
    assert [row.slide for row in report.failed] == ["slide_002"]
    assert mc.open_study(tmp_path / "s.zarr").slides == ["slide_001", "slide_003"]


def test_processed_slides_share_one_axis(
    ragged_archive: Archive, ragged: SimulationReport, tmp_path: Path
) -> None:
    convert_project(ACCESSION, tmp_path / "a.zarr", archive=ask(ragged_archive), mz_axis=LAW)
    mc.convert(ragged.folder, tmp_path / "b.zarr", mz_axis=LAW)
    assert without_origin(tmp_path / "a.zarr") == without_origin(tmp_path / "b.zarr")
    convert_project(
        ACCESSION, tmp_path / "c.zarr", archive=ask(ragged_archive), mz_axis=LAW, stream=True, two_passes=True
    )
    assert without_origin(tmp_path / "c.zarr") == without_origin(tmp_path / "b.zarr")
    for slide in ragged.slides:
        assert len(ragged_archive.requests_of(f"{slide.name}.ibd")) == 3, "once for a, twice for c"


def test_the_union_of_all_values_needs_all_files(
    ragged_archive: Archive, ragged: SimulationReport, tmp_path: Path
) -> None:
    convert_project(ACCESSION, tmp_path / "a.zarr", archive=ask(ragged_archive), mz_axis="union:200")
    mc.convert(ragged.folder, tmp_path / "b.zarr", mz_axis="union:200")
    assert without_origin(tmp_path / "a.zarr") == without_origin(tmp_path / "b.zarr")
    with pytest.raises(UsageError, match="not here at once with --stream"):
        convert_project(
            ACCESSION, tmp_path / "c.zarr", archive=ask(ragged_archive), mz_axis="union:200", stream=True
        )


def test_a_stream_needs_a_range_or_two_passes(
    ragged_archive: Archive, ragged: SimulationReport, tmp_path: Path
) -> None:
    client = ask(ragged_archive)
    with pytest.raises(UsageError, match=r"--mz-range LOW HIGH, .* --two-passes"):
        convert_project(ACCESSION, tmp_path / "a.zarr", archive=client, mz_axis=LAW, stream=True)
    assert not (tmp_path / "a.zarr").exists()
    options = {"mz_axis": LAW, "mz_range": (700.0, 900.0)}
    report = convert_project(ACCESSION, tmp_path / "a.zarr", archive=client, stream=True, limit=3, **options)
    assert not report.failed
    mc.convert(ragged.folder, tmp_path / "b.zarr", **options)  # type: ignore[arg-type]
    study = mc.open_study(tmp_path / "a.zarr")
    expected = AxisLaw.parse(LAW).bins(700, 900)
    for slide in study:
        assert (study.axis(slide) == expected.centres).all()
    # The study has an axis now: what is left joins it, with or without the range, but not with another.
    assert not convert_project(
        ACCESSION, tmp_path / "a.zarr", archive=client, mz_axis=LAW, stream=True
    ).failed
    assert without_origin(tmp_path / "a.zarr") == without_origin(tmp_path / "b.zarr")
    with pytest.raises(AxisMismatch, match="leave the range out"):
        convert_project(ACCESSION, tmp_path / "a.zarr", archive=client, mz_axis=LAW, mz_range=(600, 900))


def test_processed_slides_without_a_law_fail_with_a_suggestion(
    ragged_archive: Archive, tmp_path: Path
) -> None:
    report = convert_project(ACCESSION, tmp_path / "a.zarr", archive=ask(ragged_archive), limit=2)
    assert len(report.failed) == 2
    assert "The observed spacing suggests" in str(report.failed[0].error)
    assert not (tmp_path / "a.zarr").exists()


def test_labels_come_from_the_sdrf_file_and_can_change_later(archive: Archive, tmp_path: Path) -> None:
    rows = "".join(f"s{i}\tnormal\tP{i}\tslide_{i:03d}.raw\n" for i in range(1, 12))
    head = "source name\tcharacteristics[disease]\tcharacteristics[individual]\tcomment[data file]\n"
    archive.files[f"{ACCESSION}.sdrf.tsv"] = (head + rows).encode()
    client = ask(archive)
    report = convert_project(ACCESSION, tmp_path / "s.zarr", archive=client)
    assert report.unlabelled == ("slide_012",)
    card = (tmp_path / "s.zarr" / "README.md").read_text()
    assert "the SDRF file" in card
    table = {"slide_001": {"label": "tumour"}, "slide_012": {"label": "tumour"}}
    report = convert_project(ACCESSION, tmp_path / "s.zarr", archive=client, samples=table)
    assert report.unlabelled == ()
    samples = mc.open_study(tmp_path / "s.zarr").samples
    assert samples.loc["slide_001"].to_dict() == {"label": "tumour", "patient": "P1"}
    assert list(samples.label).count("tumour") == 2


def test_a_table_can_be_an_address(archive: Archive, tiny: SimulationReport, tmp_path: Path) -> None:
    archive.files["samples.csv"] = tiny.samples.read_bytes()
    report = convert_project(
        ACCESSION,
        tmp_path / "s.zarr",
        archive=ask(archive),
        limit=2,
        samples=f"{archive.url}{ROOT}/samples.csv",
    )
    assert [row.label for row in report.rows] == [slide.label for slide in tiny.slides[:2]]


def test_the_card_and_the_catalogue(archive: Archive, tiny: SimulationReport, tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    convert_project(ACCESSION, path, archive=ask(archive), samples=tiny.samples)
    text = (path / "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    labels = [slide.label for slide in tiny.slides]
    assert head["accession"] == ACCESSION
    assert head["license"] == "cc0-1.0"
    assert (head["slides"], head["slides_missing"]) == (12, 0)
    assert head["patients"] == len({slide.patient for slide in tiny.slides})
    assert head["spectra"] == tiny.n_spectra
    assert head["labels"] == {label: labels.count(label) for label in sorted(set(labels))}
    assert head["checksums"] == {"algorithm": "MD5", "files": 24, "met": 24, "list": "catalog.json"}
    assert head["source_bytes"] == tiny.n_bytes
    assert "tumour \\| normal" not in text.split("---\n")[1], "the head is YAML, not a table"
    catalog = json.loads((path / "catalog.json").read_text())
    for slide in tiny.slides:
        entry = catalog["slides"][slide.name]
        assert entry["spectra"] == slide.n_spectra
        assert {f["path"] for f in entry["files"]} == {f"{slide.name}.imzML", f"{slide.name}.ibd"}
        assert entry["sample"]["label"] == slide.label
    # Nobody who opens the study stumbles over them: zarr-python says that it leaves them out, and does.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Object at (README.md|catalog.json) is not recognized")
        assert set(xr.open_datatree(path, engine="zarr", consolidated=False).children) == set(
            catalog["slides"]
        )
        assert {name for name, _ in zarr.open_group(path, mode="r").groups()} == set(catalog["slides"])
    assert xr.open_zarr(path, group="slide_001", consolidated=False).intensity.ndim == 3
    assert mc.validate(mc.open_study(path)) == []


def test_years_later(archive: Archive, tiny: SimulationReport, tmp_path: Path) -> None:
    path, client = tmp_path / "s.zarr", ask(archive)
    convert_project(ACCESSION, path, archive=client, limit=4)
    assert {state.state for state in verify_study(path, archive=client)} == {"same"}
    assert catalog_problems(mc.open_study(path)) == []
    assert {state.state for state in verify_study(path, files=tiny.folder)} == {"same"}
    archive.files["slide_001.ibd"] = archive.files["slide_001.ibd"] + b"new"
    del archive.files["slide_002.imzML"]
    archive.checksums["slide_003.ibd"] = None
    states = {state.path: state for state in verify_study(path, archive=client)}
    assert states["slide_001.ibd"].state == "changed"
    assert states["slide_002.imzML"].state == "gone"
    assert states["slide_003.ibd"].state == "listed"
    assert states["slide_004.ibd"].state == "same"
    report = convert_project(ACCESSION, path, archive=client, match="slide_00[134]")
    assert [row.slide for row in report.failed] == ["slide_001"]
    assert "is not the one that the slide was made of" in str(report.failed[0].error)
    assert "slide_002" in mc.open_study(path)
    shutil.rmtree(path / "slide_003")
    mc.convert(tiny.slides[2].path, path)
    assert {s.state for s in verify_study(path, archive=client) if s.slide == "slide_003"} == {"unknown"}
    assert catalog_problems(mc.open_study(path)) == []


def test_where_a_slide_came_from_survives_another_axis(ragged_archive: Archive, tmp_path: Path) -> None:
    path, client = tmp_path / "s.zarr", ask(ragged_archive)
    convert_project(ACCESSION, path, archive=client, mz_axis=LAW, limit=2)
    mc.rebin(path, mz_axis="ppm:500")
    assert {state.state for state in verify_study(path, archive=client)} == {"same"}
    assert {r.status for r in convert_project(ACCESSION, path, archive=client, limit=2).rows} == {"present"}


def test_a_limit_needs_a_stream(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs --stream"):
        convert_project(ACCESSION, tmp_path / "s.zarr", archive=ask(archive), disk_limit="1 GiB")
    with pytest.raises(UsageError, match="none of its 12 slides matches 'x'"):
        convert_project(ACCESSION, tmp_path / "s.zarr", archive=ask(archive), match="x")
    assert parse_bytes("1 GiB") == 2**30


def test_a_project_without_pairs(tmp_path: Path) -> None:
    with serve(Archive({"a.raw": b"x"})) as archive, pytest.raises(UsageError, match="it has no imzML pair"):
        convert_project(ACCESSION, tmp_path / "s.zarr", archive=ask(archive))


def test_what_failed_makes_room_for_what_comes(
    archive: Archive, tiny: SimulationReport, tmp_path: Path
) -> None:
    """Parts of files that cannot be had stay for the next run, but only within the limit."""

    def fault(path: str, number: int, headers: Mapping[str, str], answer: Answer) -> Answer:
        if path.endswith(("1.imzML", "2.imzML", "3.imzML", "4.imzML")):
            return Answer(503) if number > 1 else Answer(headers=answer.headers, body=answer.body, cut=40_000)
        answer.delay = 0.004
        return answer

    archive.fault = fault
    limit = int(2.2 * max(slide.n_bytes for slide in tiny.slides))
    folder = tmp_path / "files"
    folder.mkdir()
    with watched(folder) as most:
        report = convert_project(
            ACCESSION, tmp_path / "a.zarr", archive=ask(archive), folder=folder, stream=True, disk_limit=limit
        )
    assert len(report.failed) == 6
    assert most[0] <= limit
    archive.fault = None
    client = ask(archive)
    assert not convert_project(
        ACCESSION, tmp_path / "a.zarr", archive=client, folder=folder, stream=True, disk_limit=limit
    ).failed
    assert not folder.exists()


def test_slides_that_were_made_by_hand_are_taken_over(
    archive: Archive, tiny: SimulationReport, tmp_path: Path
) -> None:
    mc.convert([s.path for s in tiny.slides[:2]], tmp_path / "s.zarr", samples=tiny.samples)
    report = convert_project(ACCESSION, tmp_path / "s.zarr", archive=ask(archive), limit=3, stream=True)
    assert [row.status for row in report.rows] == ["present", "present", "converted"]
    samples = mc.open_study(tmp_path / "s.zarr").samples
    assert list(samples.label[:2]) == [slide.label for slide in tiny.slides[:2]], "labels stay"
    assert {state.state for state in verify_study(tmp_path / "s.zarr", archive=ask(archive))} == {"same"}
    archive.asked.clear()
    convert_project(ACCESSION, tmp_path / "s.zarr", archive=ask(archive), limit=3, stream=True)
    assert not any(is_file(path) for path, _ in archive.asked)
