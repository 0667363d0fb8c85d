"""Drafts: what was not written to its end never becomes a part of a study."""

from __future__ import annotations

from pathlib import Path

from msicube.store import Draft, Location, group_metadata


def test_half_an_object_is_not_committed(tmp_path: Path) -> None:
    draft = Draft.of(Location.of(tmp_path / "study.zarr"), "slide")
    (draft.work / "intensity/c/0/0/0").put(b"whole")
    half = Path(
        draft.work.url, "intensity", "c", "0", "1.4711.tmp"
    )  # its writer was killed, another wrote it again
    half.write_bytes(b"ha")
    (draft.work / "intensity/c/0/1").put(b"half")
    draft.commit(group_metadata({}))
    assert sorted(draft.final.sizes()) == ["intensity/c/0/0/0", "intensity/c/0/1", "zarr.json"]
    assert not Path(draft.work.url).exists()
