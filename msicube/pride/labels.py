"""What is known of each slide besides its spectra: from a table, from file names by a rule, from the project's SDRF."""

from __future__ import annotations

import io
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from msicube.errors import UsageError
from msicube.remote import HttpClient, is_url, shown
from msicube.remote.pairs import RemotePair
from msicube.samples import KEY, read_samples

#: Which columns of an SDRF file become the ones that msicube itself looks at.
SDRF_COLUMNS = {
    "characteristics[disease]": "label",
    "characteristics[individual]": "patient",
    "characteristics[split]": "split",
    "comment[split]": "split",
}
#: Where a row of an SDRF file names the file that it is about, the first that is there.
SDRF_FILES = ("comment[data file]", "comment[file uri]", "source name")
#: Words by which an SDRF file says that there is no value.
NOTHING = frozenset({"", "not available", "not applicable", "anonymized", "pooled"})
_CHARACTERISTIC = re.compile(r"(?:characteristics|factor value)\s*\[(.+)\]")


@dataclass(frozen=True)
class Labels:
    """The samples table of a project.

    Attributes
    ----------
    rows
        By slide; a slide of which nothing is known has none.
    source
        Where the rows are from, in words; empty where nothing was given.
    remarks
        What was odd.
    """

    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: str = ""
    remarks: tuple[str, ...] = ()

    def of(self, slide: str) -> dict[str, Any]:
        """Return the row of a slide; empty where there is none."""
        return dict(self.rows.get(slide, {}))

    def unlabelled(self, slides: Sequence[str]) -> list[str]:
        """Return the slides that have no label."""
        return [slide for slide in slides if not self.rows.get(slide, {}).get("label")]


def read_labels(
    pairs: Sequence[RemotePair],
    *,
    sdrf: Mapping[str, str] | None = None,
    label_from: str | None = None,
    samples: str | os.PathLike[str] | Mapping[str, Mapping[str, Any]] | None = None,
    client: HttpClient | None = None,
) -> Labels:
    r"""Gather what is known of slides.

    Where sources name the same column, a table counts more than the rule, the rule more than the SDRF file. Nothing is
    guessed.

    Parameters
    ----------
    pairs
        Of the slides.
    sdrf
        The text of the project's SDRF files, by name.
    label_from
        A regular expression with named groups, such as ``(?P<label>tumour|normal)_(?P<patient>P\d+)``; it is searched
        for in the path of the ``.imzML`` below the project, without its ending, and each group becomes a column.
    samples
        A samples table: a CSV file or its URL, with a column ``slide``; or slide name to a mapping.
    client
        For a table behind a URL.

    Raises
    ------
    UsageError
        A table or rule that is none.
    """
    rows: dict[str, dict[str, Any]] = defaultdict(dict)
    used: list[str] = []
    remarks: list[str] = []
    for name, text in (sdrf or {}).items():
        for slide, row in _from_sdrf(text, name, pairs, remarks).items():
            rows[slide] |= row
        used.append(f"the SDRF file {name}")
    if label_from is not None:
        for slide, row in _from_names(label_from, pairs, remarks).items():
            rows[slide] |= row
        used.append(f"the file names, by the rule {label_from}")
    if samples is not None:
        table = samples if isinstance(samples, Mapping) else _read_table(samples, client)
        for slide, given in table.items():
            rows[slide] |= given
        unknown = sorted(set(table) - {pair.slide for pair in pairs})
        if unknown:
            remarks.append(f"the samples table has rows of no slide here: {', '.join(unknown)}")
        used.append("a table" if isinstance(samples, Mapping) else f"the table {_shown(samples)}")
    return Labels(dict(rows), "; ".join(used), tuple(remarks))


def _shown(path: str | os.PathLike[str]) -> str:
    return shown(str(path)) if is_url(path) else os.path.basename(path)  # noqa: PTH119 - may be no local path


def _read_table(path: str | os.PathLike[str], client: HttpClient | None) -> Mapping[str, Mapping[str, Any]]:
    if not is_url(path):
        return read_samples(path)
    body, _ = (client or HttpClient()).get(str(path), accept="text/csv, */*")
    return read_samples(io.BytesIO(body), name=shown(str(path)))


def _from_names(rule: str, pairs: Sequence[RemotePair], remarks: list[str]) -> dict[str, dict[str, str]]:
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise UsageError(f"the rule for labels {rule!r} is no regular expression: {error}") from error
    if not pattern.groupindex or KEY in pattern.groupindex:
        raise UsageError(
            f"the rule for labels {rule!r} needs named groups such as (?P<label>tumour|normal), none of them '{KEY}'"
        )
    rows, without = {}, []
    for pair in pairs:
        found = pattern.search(str(PurePosixPath(pair.imzml.path).with_suffix("")))
        if found is None:
            without.append(pair.slide)
        else:
            rows[pair.slide] = {name: value for name, value in found.groupdict().items() if value}
    if without:
        remarks.append(f"the rule for labels does not fit the names of {_listed(without)}")
    return rows


def _from_sdrf(
    text: str, name: str, pairs: Sequence[RemotePair], remarks: list[str]
) -> dict[str, dict[str, str]]:
    """Return the rows of an SDRF file by slide.

    Rows belong to a slide whose files are called like the row's data file, endings left out: the file that was measured
    and the imzML made of it differ in that. Where rows of one slide contradict each other, the column is left out.
    """
    try:
        table = pd.read_csv(io.StringIO(text), sep="\t", dtype=str, keep_default_na=False)
    except ValueError as error:
        remarks.append(f"{name} cannot be read as a table: {error}")
        return {}
    table.columns = [str(column).strip().lower() for column in table.columns]
    key = next((column for column in SDRF_FILES if column in table.columns), None)
    if key is None:
        remarks.append(f"{name} names no files: none of the columns {', '.join(SDRF_FILES)} is there")
        return {}
    values, ambiguous = _gathered(table, key, pairs)
    if ambiguous:
        remarks.append(
            f"{name} does not tell {_listed(sorted(ambiguous))} apart: files of one name in several folders"
        )
    rows = {}
    for slide, columns in values.items():
        rows[slide] = {column: next(iter(found)) for column, found in columns.items() if len(found) == 1}
        several = sorted(column for column, found in columns.items() if len(found) > 1)
        if several:
            remarks.append(f"{name} has several values for {slide}, left out: {', '.join(several)}")
    return rows


def _gathered(
    table: pd.DataFrame, key: str, pairs: Sequence[RemotePair]
) -> tuple[dict[str, dict[str, set[str]]], set[str]]:
    """Return the values of each slide by column, and the slides that the names of files do not tell apart."""
    stems: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        stems[PurePosixPath(pair.imzml.path).stem.casefold()].append(pair.slide)
    values: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    ambiguous: set[str] = set()
    for record in table.to_dict("records"):
        slides = stems.get(_stem(str(record[key])), [])
        if len(slides) > 1:
            ambiguous |= set(slides)
        elif slides:
            for column, value in _sdrf_values(record).items():
                values[slides[0]][column].add(value)
    return values, ambiguous


def _sdrf_values(record: Mapping[Any, Any]) -> dict[str, str]:
    """Return the columns that a row of an SDRF file gives."""
    found: dict[str, str] = {}
    for column, cell in record.items():
        value = str(cell).strip()
        match = _CHARACTERISTIC.fullmatch(str(column))
        target = SDRF_COLUMNS.get(str(column)) or (match[1].strip().replace(" ", "_") if match else None)
        if target and target != KEY and value.lower() not in NOTHING:
            found.setdefault(target, value)
    return found


def _stem(name: str) -> str:
    """Return the name of a file without folders and ending, in small letters."""
    last = re.split(r"[/\\]", name.strip())[-1]
    known = re.sub(r"\.(imzml|ibd|raw|d|zip|gz|mzml|wiff)$", "", last, flags=re.IGNORECASE)
    return known.casefold()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
