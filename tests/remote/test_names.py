"""Names from the network: whatever they are, what is written stays inside its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msicube.errors import RemoteError
from msicube.remote import RemoteFile, is_url, place_inside, safe_name, shown
from msicube.remote.names import MAX_NAME, file_url, place_all
from msicube.remote.pairs import sort_files

HOSTILE = [
    "..",
    ".",
    "",
    "...",
    "../../etc/passwd",
    "/etc/passwd",
    "\\\\host\\share",
    "C:\\Windows\\win.ini",
    "a\0b",
    "a\nb",
    "con",
    "NUL.imzML",
    "COM1",
    " leading",
    "trailing. ",
    ".hidden",
    "_pipelines",
    "x" * 5000 + ".imzML",
    "é" * 200,
    "a/../../b",
    "\ud800",
    "zarr.json:stream",
]


def check(name: str) -> None:
    safe = safe_name(name)
    assert safe
    assert safe == safe_name(name)
    assert safe == safe_name(safe), "a safe name stays as it is"
    assert not set(safe) & set('/\\\0\n<>:"|?*')
    assert safe[0] not in "._ "
    assert safe[-1] not in ". "
    assert len(safe.encode()) <= MAX_NAME
    assert safe.split(".")[0].lower() not in {"con", "prn", "aux", "nul", "com1", "lpt9"}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_become_plain_ones(name: str) -> None:
    check(name)


@given(st.text())
def test_any_text_becomes_a_plain_name(name: str) -> None:
    check(name)


@given(st.lists(st.text(), min_size=1, max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_no_path_leaves_its_folder(tmp_path: Path, parts: list[str]) -> None:
    place = place_inside(tmp_path, *parts)
    assert place.resolve().is_relative_to(tmp_path.resolve())
    assert place != tmp_path


def test_ordinary_names_stay_as_they_are() -> None:
    for name in ("HR2MSImouseurinarybladderS096.imzML", "crc 12 (tumour) #3.ibd", "Größe_5%.imzML", "a..b"):
        assert safe_name(name) == name


def test_long_names_keep_their_ending_and_stay_apart() -> None:
    first, second = safe_name("x" * 400 + "1.imzML"), safe_name("x" * 400 + "2.imzML")
    assert first != second
    assert first.endswith(".imzML")


def test_names_that_become_the_same_are_kept_apart(tmp_path: Path) -> None:
    places = place_all(tmp_path, ["a?.raw", "a*.raw", "A_.raw", "b/a?.raw"])
    assert [str(p.relative_to(tmp_path)) for p in places] == ["a_.raw", "a__2.raw", "A__3.raw", "b/a_.raw"]


def test_a_link_on_the_way_is_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "sub").symlink_to(outside)
    with pytest.raises(RemoteError, match="symbolic link"):
        place_inside(folder, "sub", "file")


def test_addresses_are_shown_without_their_secrets() -> None:
    url = "https://user:secret@host.org:8443/a/b.imzML?X-Amz-Signature=secret#part"
    assert shown(url) == "https://host.org:8443/a/b.imzML"
    assert "secret" not in repr(RemoteFile(url, "b.imzML"))


def test_paths_are_escaped_once() -> None:
    assert file_url("https://h", "/a b/c#1?.ibd") == "https://h/a%20b/c%231%3F.ibd"
    assert file_url("https://h/", "/a%20b/100%.ibd") == "https://h/a%20b/100%25.ibd"


def test_what_is_an_address() -> None:
    assert is_url("https://h/x")
    assert is_url("s3://bucket/x")
    assert not is_url("/a/b")
    assert not is_url(Path("a"))
    assert not is_url("C:/x")


def remote(*paths: str) -> list[RemoteFile]:
    return [RemoteFile(f"https://h/{path}", path) for path in paths]


def names(*paths: str) -> dict[str, tuple[str, str]]:
    return {p.slide: (p.imzml.path, p.ibd.path) for p in sort_files(remote(*paths)).pairs}


def test_pairs_are_found_by_name_in_any_case_and_order() -> None:
    assert names("b.ibd", "a.imzML", "A.txt", "a.IBD", "b.IMZML") == {
        "a": ("a.imzML", "a.IBD"),
        "b": ("b.IMZML", "b.ibd"),
    }
    assert names("Slide.imzML", "slide.ibd") == {"Slide": ("Slide.imzML", "slide.ibd")}


def test_names_that_differ_in_case_only_stay_apart() -> None:
    found = names("a.imzML", "a.ibd", "A.imzML", "A.ibd")
    assert len({name.casefold() for name in found}) == 2
    assert sorted(found.values()) == [("A.imzML", "A.ibd"), ("a.imzML", "a.ibd")]


def test_twins_of_different_folders_are_called_by_their_folders() -> None:
    found = sort_files(
        remote("left/s.imzML", "left/s.ibd", "right/s.imzML", "right/s.ibd", "t.imzML", "t.ibd")
    )
    assert [pair.slide for pair in found.pairs] == ["left_s", "right_s", "t"]
    assert any("2 pairs are called s" in remark for remark in found.odd)


def test_a_partner_in_another_folder_is_none() -> None:
    found = sort_files(remote("a/s.imzML", "b/s.ibd", "alone.imzML", "other.ibd"))
    assert found.pairs == ()
    assert sorted(found.odd) == [
        "a/s.imzML has no .ibd beside it",
        "alone.imzML has no .ibd beside it",
        "b/s.ibd has no .imzML beside it",
        "other.ibd has no .imzML beside it",
    ]


def test_unsafe_names_become_slides_with_a_remark(tmp_path: Path) -> None:
    found = sort_files(remote("../../_evil.imzML", "../../_evil.ibd", "nul.imzML", "nul.ibd"))
    assert [pair.slide for pair in found.pairs] == ["x_evil", "x_nul"]
    assert len(found.odd) == 2
    for pair in found.pairs:
        for _, place in pair.places(tmp_path):
            assert place.parent == tmp_path
