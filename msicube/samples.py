"""The samples table: what is known of each slide besides its spectra (label, patient, split, ...)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

from msicube.errors import UsageError

if TYPE_CHECKING:  # conversion takes a quarter of a second and 20 MB less without it
    import pandas as pd

KEY = "slide"


def read_samples(
    path: str | os.PathLike[str] | IO[bytes], *, name: str | None = None
) -> dict[str, dict[str, Any]]:
    """Read a samples table from CSV.

    Parameters
    ----------
    path
        A CSV file with a header; the column ``slide`` names the slides, every other column is kept as it is. ``label``,
        ``patient`` and ``split`` (``train`` / ``test``) are the ones that msicube itself looks at.
    name
        What errors call it; its path by default.

    Returns
    -------
    dict
        Slide name to its row, without the empty cells.

    Raises
    ------
    UsageError
        No such file, no column ``slide``, or a slide twice.
    """
    import pandas as pd

    name = name or str(path)
    try:
        table = pd.read_csv(path, dtype={KEY: str, "label": str, "patient": str, "split": str})
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the samples table {name}: {error}") from error
    if KEY not in table.columns:
        raise UsageError(
            f"{name} has the columns {', '.join(map(str, table.columns))}: one named '{KEY}' is needed"
        )
    repeated = table[KEY][table[KEY].duplicated()]
    if len(repeated):
        raise UsageError(f"{name} names the slide {repeated.iloc[0]!r} twice: give each slide one row")
    rows: dict[str, dict[str, Any]] = {}
    for record in table.to_dict("records"):
        slide = str(record.pop(KEY))
        rows[slide] = {str(k): _plain(v) for k, v in record.items() if not pd.isna(v)}
    return rows


def samples_frame(rows: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows by slide as a table whose index is named ``slide``."""
    import pandas as pd

    frame = pd.DataFrame.from_dict({name: dict(row) for name, row in rows.items()}, orient="index")
    frame = frame.reindex(list(rows))
    frame.index.name = KEY
    return frame


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as the Python value that JSON can hold."""
    return value.item() if hasattr(value, "item") else value
