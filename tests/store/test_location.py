"""Places in a store: what others see of an object while it is written."""

from __future__ import annotations

import threading
from pathlib import Path

from msicube.store import Location


def test_what_is_being_written_is_not_listed(tmp_path: Path) -> None:
    folder = Location.of(tmp_path / "entries")
    (folder / "first").put(b"1")
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            (folder / "second").put(b"22")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = [folder.sizes() for _ in range(2000)]
    finally:
        done.set()
        writer.join()
    assert all(sizes["first"] == 1 and set(sizes) <= {"first", "second"} for sizes in seen)
