"""Which files belong together: a master, its tiles, and what lies beside them; the case of names may differ."""

from __future__ import annotations

import re
from pathlib import Path

from msicube.errors import CorruptSource

#: The number of a tile in the name of its file: column, then row.
_TILE_NUMBER = re.compile(r"(.*)_(\d{4,})_(\d{4,})", re.DOTALL)


def main_file(path: Path) -> Path | None:
    """Return the master of an image, ``.dmt`` of a mosaic or ``.bsp`` of a single tile, given any of its files.

    Where the master of a mosaic is missing this is the first of its tiles, so that opening it says what is missing. A
    ``.dat``, ``.hdr``, ``.seq`` or ``.drd`` without a master is of another format, or no image.
    """
    ending = path.suffix.lower()
    number = _TILE_NUMBER.fullmatch(path.stem) if ending in (".dmd", ".drd") else None
    stem = number[1] if number else path.stem
    if ending == ".dmt":
        return path
    mosaic = beside(path, stem, ".dmt")
    if mosaic is not None or ending == ".drd":
        return mosaic
    if ending == ".dmd":
        return min(tiles_of(path.with_name(f"{stem}.dmt")).values(), default=path)
    if ending in (".dms", ".bsp"):
        return path
    return beside(path, stem, ".bsp")


def beside(path: Path, stem: str, ending: str) -> Path | None:
    """Return the file of a stem and an ending in the folder of ``path``; None where there is none.

    Names as they are come before names in another case.
    """
    for name in (f"{stem}{ending}", f"{stem.lower()}{ending}", f"{stem}{ending.upper()}"):
        if (path.parent / name).is_file():
            return path.parent / name
    wanted = f"{stem}{ending}".casefold()
    alike = sorted(p for p in path.parent.iterdir() if p.name.casefold() == wanted)
    return next((p for p in alike if p.is_file()), None)


def tiles_of(master: Path) -> dict[tuple[int, int], Path]:
    """Return the tiles of a mosaic by row and column of the tile, (0, 0) at the top left.

    Raises
    ------
    CorruptSource
        Two files are the same tile: their names differ in case only.
    """
    found: dict[tuple[int, int], Path] = {}
    stem = master.stem.casefold()
    for path in sorted(master.parent.iterdir()):
        number = _TILE_NUMBER.fullmatch(path.stem) if path.suffix.lower() == ".dmd" else None
        if number is None or number[1].casefold() != stem:
            continue
        place = int(number[3]), int(number[2])
        if place in found:
            raise CorruptSource(
                f"{found[place].name} and {path.name} are both the tile of column {place[1]} and row {place[0]} of "
                f"{master.name}: remove one, or put the mosaics into folders of their own"
            )
        found[place] = path
    return found


def masters_in(folder: Path) -> list[Path]:
    """Return the masters of all mosaics of a folder."""
    return [path for path in folder.iterdir() if path.suffix.lower() == ".dmt"]
