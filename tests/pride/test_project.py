"""What the archive says of a project, in the shapes that its interface has and in those that it should not have."""

from __future__ import annotations

from pathlib import Path

import pytest
from archive_server import ACCESSION, API, ROOT, Answer, Archive, ask, listed, serve
from hypothesis import example, given
from hypothesis import strategies as st

from msicube.errors import RemoteError, UsageError
from msicube.pride import Archive as Client
from msicube.pride import convert_project, fetch_project, list_project
from msicube.pride.archive import FILES, PRIVATE, PUBLIC, TOKEN_VARIABLE
from msicube.pride.labels import read_labels
from msicube.pride.project import _files

KEYS = [
    "fileName",
    "fileSizeBytes",
    "fileCategory",
    "publicFileLocations",
    "value",
    "name",
    "_links",
    "download",
    "href",
]
IMZML, IBD = b"<mzML/>", bytes(64)


def files(*names: str) -> dict[str, bytes]:
    return {name: (IMZML if name.lower().endswith("imzml") else IBD) + name.encode() for name in names}


def test_a_project_is_listed(archive: Archive) -> None:
    archive.files |= files("notes/readme.txt", "alone.ibd", f"{ACCESSION}.sdrf.tsv")
    project = listed(archive)
    assert (project.accession, project.doi) == (ACCESSION, "10.6019/PXD019653")
    assert project.licence.endswith("(CC0)")
    assert [pair.slide for pair in project.pairs] == [f"slide_{i:03d}" for i in range(1, 13)]
    for pair in project.pairs:
        assert pair.ibd.exact
        assert len(pair.ibd.md5) == 1
        assert pair.ibd.url == f"{archive.url}{ROOT}/{pair.slide}.ibd"
    assert [(k.ending, k.category, k.files) for k in project.kinds] == [
        ("ibd", "OTHER", 12),
        ("ibd", "RAW", 1),
        ("imzml", "RAW", 12),
        ("tsv", "RAW", 1),
        ("txt", "RAW", 1),
    ]
    assert project.odd == ("alone.ibd has no .imzML beside it",)
    assert [file.path for file in project.sdrf] == [f"{ACCESSION}.sdrf.tsv"]
    document = project.to_dict()
    assert document["bytes"] == sum(len(b) for n, b in archive.files.items() if n.startswith("slide"))
    assert len(document["pairs"]) == 12


def test_small_letters_are_an_accession_too(archive: Archive) -> None:
    archive.fault = lambda path, number, headers, answer: archive.answer(
        path.replace(ACCESSION.lower(), ACCESSION), headers
    )
    with ask(archive) as client:
        assert list_project(ACCESSION.lower(), client).accession == ACCESSION


@pytest.mark.parametrize("accession", ["", "PXD", "../PXD019653", "PXD019653/files", "MTBLS1", "pxd 1"])
def test_what_is_no_accession_is_not_asked_for(archive: Archive, accession: str) -> None:
    with ask(archive) as client, pytest.raises(UsageError, match="no accession of PRIDE"):
        list_project(accession, client)
    assert archive.asked == []


def test_a_project_that_is_not_there(archive: Archive) -> None:
    message = r"no project PXD000001 .*404.*MSICUBE_PRIDE_TOKEN"
    with ask(archive) as client, pytest.raises(RemoteError, match=message):
        list_project("PXD000001", client)


def test_sizes_of_file_records_count_less_than_the_checksum_list(archive: Archive, tmp_path: Path) -> None:
    archive.sizes = dict.fromkeys(archive.files, 999_999)
    report = fetch_project(ACCESSION, tmp_path, archive=ask(archive), limit=1)
    assert not report.failed
    assert (tmp_path / "slide_001.ibd").read_bytes() == archive.files["slide_001.ibd"]


def test_files_that_only_the_checksum_list_has_are_found(archive: Archive) -> None:
    archive.unlisted = {"slide_003.ibd", "slide_004.imzML"}
    project = listed(archive)
    assert len(project.pairs) == 12
    assert any("2 files are in the checksum list only" in remark for remark in project.odd)


def test_a_list_that_is_shorter_than_the_count_is_read_page_by_page(archive: Archive) -> None:
    archive.files |= files(*(f"more_{i:03d}.txt" for i in range(230)))

    def fault(path: str, number: int, headers: object, answer: Answer) -> Answer:
        if path == f"{API}/projects/{ACCESSION}/files/all":
            answer.body = b"[]"
        return answer

    archive.fault = fault
    project = listed(archive)
    assert len(project.pairs) == 12
    assert len(project.others) == 230
    assert sum("pageSize" in path for path, _ in archive.asked) == 3


def test_a_count_that_is_never_reached_is_odd(archive: Archive) -> None:
    def fault(path: str, number: int, headers: object, answer: Answer) -> Answer:
        if path.endswith("/files/count"):
            answer.body = b"77"
        return answer

    archive.fault = fault
    assert "the archive counts 77 files and lists 24" in listed(archive).odd


def test_files_without_a_checksum_are_named(archive: Archive) -> None:
    archive.checksums = {"slide_002.ibd": None, "slide_003.ibd": ("slide_003.ibd", "not-a-md5", 5)}
    project = listed(archive)
    assert any(remark.startswith("2 files have no checksum") for remark in project.odd)


def test_names_that_the_checksum_list_has_twice(tmp_path: Path) -> None:
    names = ("left/s.imzML", "left/s.ibd", "right/s.imzML", "right/s.ibd")
    with serve(Archive(files(*names))) as archive:
        project = listed(archive)
        assert [pair.slide for pair in project.pairs] == ["left_s", "right_s"]
        left = project.pairs[0]
        assert len(left.ibd.md5) == 1, "told apart by their sizes"
        assert not fetch_project(ACCESSION, tmp_path, archive=ask(archive)).failed
        for pair in project.pairs:
            assert (tmp_path / f"{pair.slide}.ibd").read_bytes() == archive.files[pair.ibd.path]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (f"{API}/projects/{ACCESSION}", b"<html>Sign in</html>", "JSON was expected"),
        (f"{API}/projects/{ACCESSION}", b"[]", "something else than the project"),
        (f"{API}/projects/{ACCESSION}", b'{"accession": "PXD000002"}', "something else than the project"),
        (f"{API}/projects/{ACCESSION}/files/all", b'{"error": 1}', "something else than a list of files"),
        (f"{API}/projects/{ACCESSION}/files/all", b"[1, 2]", "something else than a list of files"),
        (f"{API}/files/checksum/{ACCESSION}", b"<html>Sign in</html>", "a table with the columns"),
    ],
)
def test_answers_that_break_the_interface_are_one_clear_error(
    archive: Archive, path: str, body: bytes, message: str
) -> None:
    def fault(asked: str, number: int, headers: object, answer: Answer) -> Answer:
        return Answer(headers={"content-type": "text/html"}, body=body) if asked == path else answer

    archive.fault = fault
    with pytest.raises(RemoteError, match=message):
        listed(archive)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["http://[", "ftp://x/a.ibd"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.sampled_from(KEYS), ANYTHING), max_size=4))
@example([{"fileName": "a.ibd", "_links": {"download": {"href": "ftp://x/a.ibd"}}}])
def test_records_of_any_shape_are_files_or_odd(records: list[dict[str, object]]) -> None:
    odd: list[str] = []
    files, _ = _files(ACCESSION, Client(), records, {}, odd)
    assert len(files) + len(odd) <= len(records)
    for file in files:
        assert file.url.startswith("http")


def test_a_table_of_samples_that_cannot_be_had_is_named(archive: Archive, tmp_path: Path) -> None:
    archive.files[f"{ACCESSION}.sdrf.tsv"] = b"source name\n"
    archive.checksums[f"{ACCESSION}.sdrf.tsv"] = (f"{ACCESSION}.sdrf.tsv", "0" * 32, 12)
    report = convert_project(ACCESSION, tmp_path / "s.zarr", archive=ask(archive), limit=1)
    assert not report.failed
    assert any("the table of samples could not be read" in remark for remark in report.remarks)


def test_an_empty_checksum_list_is_no_error(archive: Archive) -> None:
    def fault(path: str, number: int, headers: object, answer: Answer) -> Answer:
        return Answer(body=b"") if "/checksum/" in path else answer

    archive.fault = fault
    project = listed(archive)
    assert len(project.pairs) == 12
    assert any("24 files have no checksum" in remark for remark in project.odd)


def test_hostile_names_stay_inside_the_folder(tmp_path: Path) -> None:
    names = ("../../evil.imzML", "../../evil.ibd", "nul.imzML", "nul.ibd", "a b/é#1?.imzML", "a b/é#1?.ibd")
    with serve(Archive(files(*names, "../../../etc/cron.d/x.txt"))) as archive:
        report = fetch_project(ACCESSION, tmp_path / "in", archive=ask(archive), everything=True)
    found = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert all(path.startswith("in/") for path in found)
    assert {"in/x_nul.imzML", "in/é#1_.ibd"} <= set(found)
    assert any("its own name is not safe" in remark for remark in report.remarks)


def test_private_data_are_listed_page_by_page_with_the_token(tmp_path: Path) -> None:
    body = {"a.imzML": b"<mzML/>", "a.ibd": bytes(30)}
    pages = [
        {
            "_embedded": {
                "files": [
                    {"fileName": name, "fileSizeBytes": len(b), "_links": {"download": {"href": f"/dl/{i}"}}}
                ]
            },
            "_links": {"next": {"href": f"?page={i + 1}"}},
        }
        for i, (name, b) in enumerate(body.items())
    ] + [{"_links": {"self": {"href": "?"}}}]

    def fault(path: str, number: int, headers: dict[str, str], answer: Answer) -> Answer:
        import json

        if headers.get("authorization") != "Bearer s3cret":
            return Answer(401)
        if path.startswith("/dl/"):
            return Answer(body=list(body.values())[int(path[-1])])
        if "/v2/projects/" in path and "/files" in path:
            page = int(path.partition("page=")[2] or 0)
            return Answer(headers={"content-type": "application/json"}, body=json.dumps(pages[page]).encode())
        if "/v2/files/checksum" in path:
            return Answer(body=b"")
        return Answer(headers={"content-type": "application/json"}, body=b'{"accession": "PXD019653"}')

    with serve(Archive()) as archive:
        archive.fault = fault  # type: ignore[assignment]
        client = Client.of(api=f"{archive.url}/pride/private/ws/archive/v2", token="s3cret")
        report = fetch_project(ACCESSION, tmp_path, archive=client)
        assert [row.status for row in report.rows] == ["downloaded"]
        assert (tmp_path / "a.ibd").read_bytes() == body["a.ibd"]


def test_addresses_come_from_arguments_and_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (Client.of().api, Client.of().files) == (PUBLIC, FILES)
    monkeypatch.setenv(TOKEN_VARIABLE, "t")
    assert Client.of().api == PRIVATE
    monkeypatch.setenv("MSICUBE_PRIDE_API", "https://mirror.org/api/")
    assert Client.of().api == "https://mirror.org/api"
    with pytest.raises(UsageError, match="no address of a web server"):
        Client.of(api="ftp://x")


SDRF = (
    "source name\tcharacteristics[disease]\tcharacteristics[individual]\tcharacteristics[organism part]\t"
    "comment[data file]\tfactor value[disease]\n"
    "s1\tcolorectal carcinoma\tP1\tcolon\tslide_001.raw\tcolorectal carcinoma\n"
    "s2\tnormal\tP1\tcolon\tSLIDE_002.imzML\tnormal\n"
    "s3\tnot available\tP2\tcolon\tslide_003.d\tnormal\n"
    "s4\tnormal\tP3\tcolon\tslide_004.raw\tnormal\n"
    "s4\tcarcinoma\tP3\tcolon\tslide_004.raw\tnormal\n"
)


def test_labels_of_an_sdrf_file_a_rule_and_a_table(archive: Archive, tmp_path: Path) -> None:
    pairs = listed(archive).pairs
    labels = read_labels(pairs, sdrf={"x.sdrf.tsv": SDRF})
    assert labels.of("slide_001")["label"] == "colorectal carcinoma"
    assert labels.of("slide_002") == {
        "label": "normal",
        "patient": "P1",
        "organism_part": "colon",
        "disease": "normal",
    }
    assert "label" not in labels.of("slide_003"), "not available is no label"
    assert "label" not in labels.of("slide_004"), "rows that contradict each other are no label"
    assert labels.unlabelled([pair.slide for pair in pairs]) == [f"slide_{i:03d}" for i in range(3, 13)]
    assert any("several values for slide_004" in remark for remark in labels.remarks)

    rule = r"(?P<label>slide)_(?P<patient>00\d)"
    labels = read_labels(pairs, sdrf={"x.sdrf.tsv": SDRF}, label_from=rule)
    assert labels.of("slide_001")["label"] == "slide"
    assert labels.of("slide_001")["organism_part"] == "colon"
    assert any("does not fit the names of slide_010, slide_011, slide_012" in r for r in labels.remarks)

    table = tmp_path / "samples.csv"
    table.write_text("slide,label,age\nslide_001,tumour,61\nnobody,x,1\n")
    labels = read_labels(pairs, label_from=rule, samples=table)
    assert labels.of("slide_001") == {"label": "tumour", "patient": "001", "age": 61}
    assert any("nobody" in remark for remark in labels.remarks)
    assert str(tmp_path) not in labels.source


@pytest.mark.parametrize("rule", ["(", "label_(.*)", "(?P<slide>.*)"])
def test_rules_that_are_none(archive: Archive, rule: str) -> None:
    with pytest.raises(UsageError, match="the rule for labels"):
        read_labels(listed(archive).pairs, label_from=rule)
