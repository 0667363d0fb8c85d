"""What every simulation leaves beside its source files: the report, the samples table and the truth."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from msicube.errors import UsageError

SAMPLES_NAME, TRUTH_NAME = "samples.csv", "truth.json"


@dataclass(frozen=True)
class SlideReport:
    """One slide that was written."""

    name: str
    label: str
    patient: str
    split: str
    path: Path
    n_spectra: int
    n_bytes: int


@dataclass(frozen=True)
class SimulationReport:
    """What a simulation wrote.

    Attributes
    ----------
    folder, samples, truth
        The study's folder, its samples table and its truth.
    slides
        In the order of their names.
    n_channels
        Of a spectrum; in a processed imzML the most that it can hold.
    """

    folder: Path
    samples: Path
    truth: Path
    slides: tuple[SlideReport, ...]
    n_channels: int

    @property
    def n_spectra(self) -> int:
        """Spectra of all slides."""
        return sum(slide.n_spectra for slide in self.slides)

    @property
    def n_bytes(self) -> int:
        """Bytes of all source files."""
        return sum(slide.n_bytes for slide in self.slides)


def prepare_folder(folder: Path, sources: Sequence[Path], *, overwrite: bool) -> None:
    """Make a study's folder; refuse before the first slide what would overwrite anything.

    Parameters
    ----------
    sources
        Files, or folders of files, that the slides will be.

    Raises
    ------
    UsageError
        The folder cannot be made, or something is there and must not be overwritten.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder} for the study: {error.strerror}") from error
    files = [*sources, folder / SAMPLES_NAME, folder / TRUTH_NAME]
    taken = [path.name for path in files if path.exists()]
    if taken and not overwrite:
        raise UsageError(
            f"{folder} holds {len(taken)} of the {len(files)} files already, such as {taken[0]}: choose an empty "
            f"folder or allow overwriting"
        )


def write_samples(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write the samples table."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows(rows)
    write_text(path, text.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write a file that appears complete."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
