"""What a conversion did, slide by slide."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

Status = Literal["converted", "present", "failed"]


@dataclass(frozen=True)
class SlideReport:
    """One slide.

    Attributes
    ----------
    slide
        Name.
    source
        Path of the source file.
    status
        ``converted`` now; ``present`` in the study already, from the same source; ``failed``.
    spectra, masked, empty, nonfinite
        Spectra read; those that are wrong and were left out, each named in ``remarks``; those without any intensity;
        those with a NaN or an infinity.
    peaks, out_of_range
        Peaks of a ragged source, and those of them that no channel takes.
    relative_tic_error
        Share of the source's total ion current that is not in the store.
    channels
        Length of the spectral axis.
    seconds
        Wall time.
    source_bytes, stored_bytes
        Size of the source and of the stored shards.
    remarks
        Oddities that were met, and how they were taken.
    error
        Why it failed.
    """

    slide: str
    source: str
    status: Status
    spectra: int = 0
    masked: int = 0
    empty: int = 0
    nonfinite: int = 0
    peaks: int = 0
    out_of_range: int = 0
    relative_tic_error: float = 0.0
    channels: int = 0
    seconds: float = 0.0
    source_bytes: int = 0
    stored_bytes: int = 0
    remarks: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class ConversionReport:
    """All slides of one ``convert``.

    Attributes
    ----------
    study
        Path or URL.
    slides
        In the order of the sources.
    remarks
        About the command as a whole, such as slides without a row in the samples table.
    """

    study: str
    slides: tuple[SlideReport, ...]
    remarks: tuple[str, ...] = field(default=())

    @property
    def failed(self) -> tuple[SlideReport, ...]:
        """The slides that are not in the study."""
        return tuple(row for row in self.slides if row.status == "failed")

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return asdict(self)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per slide."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.slides]).set_index("slide")
