"""What became of a project, slide by slide."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["converted", "present", "downloaded", "failed"]


@dataclass(frozen=True)
class ProjectRow:
    """One slide of a project.

    Attributes
    ----------
    slide
        Name.
    status
        ``converted`` now; ``present`` in the study already, from the same files; ``downloaded`` and no more;
        ``failed``.
    label
        From the samples table, the rule or the SDRF file; empty where unknown.
    spectra, masked, channels
        As in the conversion report.
    source_bytes, stored_bytes
        Of the pair, and of the stored shards.
    download_seconds, convert_seconds
        Wall time of each.
    remarks
        Oddities that were met.
    error
        Why it is not there.
    """

    slide: str
    status: Status
    label: str = ""
    spectra: int = 0
    masked: int = 0
    channels: int = 0
    source_bytes: int = 0
    stored_bytes: int = 0
    download_seconds: float = 0.0
    convert_seconds: float = 0.0
    remarks: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class ProjectReport:
    """A project on its way into a study or a folder.

    Attributes
    ----------
    accession
        Of the project.
    target
        The study or the folder.
    rows
        In order of slide.
    unlabelled
        Slides without a label; None where labels are not asked for.
    remarks
        About the project as a whole.
    """

    accession: str
    target: str
    rows: tuple[ProjectRow, ...]
    unlabelled: tuple[str, ...] | None = None
    remarks: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[ProjectRow, ...]:
        """The slides that are missing."""
        return tuple(row for row in self.rows if row.status == "failed")

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return asdict(self)
