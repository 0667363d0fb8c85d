"""Which spectral axis each source gets: planned over all of them before the first write."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from msicube.axis import LAWS_HELP, OBSERVED, AxisLaw, Range, SpectralBins, parse_range
from msicube.conversion.union import union_bins
from msicube.conversion.wavenumbers import plan_wavenumbers
from msicube.errors import AxisMismatch, AxisRequired, UsageError
from msicube.readers import AxisSurvey, CubeReader, RaggedReader
from msicube.readers.dense import channel_range
from msicube.readers.resampled import Interpolation, resampled
from msicube.store import Study
from msicube.store.stored_reader import stored_bins


@dataclass(frozen=True)
class AxisWish:
    """What the user asked of the axes; :func:`msicube.convert` says what the words mean."""

    mz_axis: str | None = None
    mz_range: Range | None = None
    crop: Range | None = None
    wavenumber_axis: str | None = None
    interpolation: Interpolation = "linear"

    @classmethod
    def of(
        cls,
        mz_axis: str | None,
        mz_range: Range | None,
        crop: str | Range | None,
        wavenumber_axis: str | os.PathLike[str] | None,
        interpolation: Interpolation,
    ) -> AxisWish:
        """Take the arguments as the user gave them.

        Raises
        ------
        UsageError
            No range, or no such interpolation.
        """
        if interpolation not in get_args(Interpolation):
            known = ", ".join(get_args(Interpolation))
            raise UsageError(f"interpolation={interpolation!r} is not known: choose one of {known}")
        return cls(
            mz_axis,
            mz_range,
            None if crop is None else parse_range(crop),
            None if wavenumber_axis is None else os.fspath(wavenumber_axis),
            interpolation,
        )


@dataclass(frozen=True)
class AxisPlan:
    """The shared axis of the sources of a study.

    Attributes
    ----------
    law
        Of ragged sources. None where none was chosen: then only those whose spectra share one m/z array can be
        converted.
    bins
        The channels of that law over all sources.
    wavenumbers
        What infrared sources are interpolated to; None where they are kept as they are.
    interpolation
        How.
    crop
        What of the axis is kept; ``wavenumbers`` are cropped already.
    """

    law: str | None = None
    bins: SpectralBins | None = None
    wavenumbers: NDArray[np.float64] | None = None
    interpolation: Interpolation = "linear"
    crop: Range | None = None

    def apply(self, reader: CubeReader, survey: AxisSurvey | None) -> CubeReader:
        """Return a reader on its axis.

        Raises
        ------
        AxisRequired
            The source is ragged and no law was chosen; the message suggests one.
        UsageError
            The source has no channel in the range of the crop, or does not reach as far as the stated wavenumbers.
        """
        if self.wavenumbers is not None:
            return resampled(reader, self.wavenumbers, self.interpolation)
        reader = self._on_axis(reader, survey)
        return reader if self.crop is None else reader.crop(*self.crop)

    def _on_axis(self, reader: CubeReader, survey: AxisSurvey | None) -> CubeReader:
        if reader.info.axis is not None:
            return reader
        if self.bins is not None and self.law is not None:
            return reader.with_axis(self.bins, self.law)
        if survey is not None and survey.common_axis is not None:
            return reader.with_axis(SpectralBins.observed(survey.common_axis), OBSERVED)
        hint = "" if survey is None else f". The observed spacing suggests {survey.suggestion}"
        raise AxisRequired(
            f"{reader.info.name} is processed: every spectrum has its own m/z values, and a study needs one axis. "
            f"Choose it with --mz-axis (mz_axis=): {LAWS_HELP}{hint}"
        )


def plan_axes(
    sources: Mapping[str, tuple[Callable[[], CubeReader], AxisSurvey | None]],
    axes: Mapping[str, NDArray[np.float64]],
    modality: str,
    wish: AxisWish,
    study: Study | None,
) -> AxisPlan:
    """Choose the axis of all sources of one modality.

    Parameters
    ----------
    sources
        By slide, how to open it and its survey; no survey for a source that states its axis.
    axes
        Of the sources that state theirs.
    modality
        ``"msi"`` or ``"ftir"``.
    wish
        What the user asked for.
    study
        What is there already.

    Raises
    ------
    AxisMismatch
        Infrared sources on different axes, or a study on another axis than the one asked for.
    UsageError
        An axis that does not belong to the modality, that there is not, or that cannot be made.
    """
    if modality == "ftir":
        if wish.mz_axis is not None or wish.mz_range is not None:
            raise UsageError(
                "--mz-axis and --mz-range (mz_axis=, mz_range=) are for mass spectra: infrared images take "
                "--wavenumber-axis and --crop"
            )
        wavenumbers = plan_wavenumbers(axes, study, asked=wish.wavenumber_axis, crop=wish.crop)
        return AxisPlan(wavenumbers=wavenumbers, interpolation=wish.interpolation, crop=wish.crop)
    if wish.wavenumber_axis is not None:
        raise UsageError(
            "--wavenumber-axis (wavenumber_axis=) is for infrared images: mass spectra take --mz-axis"
        )
    plan = plan_axis(sources, wish.mz_axis, study, wish.mz_range)
    if plan.bins is not None and wish.crop is not None:
        kept = channel_range(plan.bins.centres, *wish.crop, "the m/z axis")
        if len(plan.bins.crop(kept)) < len(plan.bins) and _stored_axis(study, None) is not None:
            raise AxisMismatch(
                f"the study is on {plan.law} from m/z {plan.bins.centres[0]:.6g} to {plan.bins.centres[-1]:.6g}, which "
                f"a crop to {wish.crop[0]:g} to {wish.crop[1]:g} would cut: leave --crop out, or use another study"
            )
    return replace(plan, crop=wish.crop)


def plan_axis(
    sources: Mapping[str, tuple[Callable[[], CubeReader], AxisSurvey | None]],
    mz_axis: str | None,
    study: Study | None,
    mz_range: tuple[float, float] | None = None,
) -> AxisPlan:
    """Choose the axis of the ragged sources.

    Parameters
    ----------
    sources
        By slide, how to open it and its survey; no survey for a source that states its axis.
    mz_axis
        The law that the user asked for.
    study
        What is there already: its axis is taken over as it is stored, so that all slides share one.
    mz_range
        First and last m/z of the axis; those of the sources by default.

    Raises
    ------
    AxisMismatch
        The study is on another law, or another range, than the one asked for.
    UsageError
        No such law, or nothing to build an axis from.
    """
    law = AxisLaw.parse(mz_axis) if mz_axis else None
    ragged = {name: (opened, survey) for name, (opened, survey) in sources.items() if survey is not None}
    if not ragged:
        return AxisPlan()
    known = known_axis(mz_axis, study, mz_range)
    if known is not None:
        return known
    if law is None:
        return AxisPlan()
    if law.kind == "union":
        # One source at a time: the index of each is dropped before the next is opened.
        readers = (opened() for opened, _ in ragged.values())
        peaks = (reader.peaks() for reader in readers if isinstance(reader, RaggedReader))
        return AxisPlan(str(law), union_bins((source for source in peaks if source is not None), law.width))
    lowest = np.nanmin([survey.lowest for _, survey in ragged.values()])
    highest = np.nanmax([survey.highest for _, survey in ragged.values()])
    if not np.isfinite([lowest, highest]).all():
        raise UsageError(f"there is no peak in {', '.join(ragged)}: an axis cannot be made from nothing")
    return AxisPlan(str(law), law.bins(float(lowest), float(highest)))


def known_axis(
    mz_axis: str | None, study: Study | None, mz_range: tuple[float, float] | None = None
) -> AxisPlan | None:
    """Return the axis where it is known before any source is opened: stored, of a given range, or a list of peaks.

    Raises
    ------
    AxisMismatch
        The study is on another law, or another range, than the one asked for.
    UsageError
        No such law, or a range that the law does not take.
    """
    law = AxisLaw.parse(mz_axis) if mz_axis else None
    if mz_range is not None and (law is None or law.kind in ("peaks", "union")):
        raise UsageError(
            f"a range of m/z (--mz-range, mz_range=) makes an axis only together with one of the laws da, ppm, tof, "
            f"orbitrap and fticr (--mz-axis, mz_axis=), not with {law or 'none'}"
        )
    stored = _stored_axis(study, law)
    given = law.bins(*mz_range) if law is not None and mz_range is not None else None
    if stored is not None and stored.bins is not None:
        if given is not None and not np.array_equal(given.centres, stored.bins.centres):
            ends = stored.bins.lower[0], stored.bins.upper[-1]
            raise AxisMismatch(
                f"the study's axis reaches from m/z {ends[0]:.6g} to {ends[1]:.6g}, {given.lower[0]:.6g} to "
                f"{given.upper[-1]:.6g} was asked for: leave the range out, or use another study"
            )
        return stored
    if law is not None and law.kind == "peaks":
        return AxisPlan(str(law), law.bins(0, 0))
    return None if given is None else AxisPlan(str(law), given)


def _stored_axis(study: Study | None, asked: AxisLaw | None) -> AxisPlan | None:
    """Return the axis that slides of the study were binned on; None where there are none.

    Raises
    ------
    AxisMismatch
        It is not the one that was asked for, or there are several and none was.
    """
    if study is None:
        return None
    laws: dict[str, str] = {}
    for name, attrs in study.slide_attrs.items():
        laws.setdefault(attrs["axis"]["law"], name)
    laws.pop(OBSERVED, None)
    if not laws:
        return None
    if asked is None and len(laws) > 1:
        raise AxisMismatch(
            f"the slides of the study are on the axes {', '.join(laws)}: say with --mz-axis (mz_axis=) which one the "
            f"new slides join, or bring all to one with `msicube rebin`"
        )
    law = str(asked) if asked is not None else next(iter(laws))
    if law not in laws:
        raise AxisMismatch(
            f"the study is on the axis {', '.join(laws)}, {law} was asked for: use the same, another study, or change "
            f"the study's axis with `msicube rebin`"
        )
    bins = stored_bins(study, laws[law])
    listed = asked is not None and asked.kind == "peaks" and Path(asked.file or "").is_file()
    if asked is not None and listed and not np.array_equal(asked.bins(0, 0).centres, bins.centres):
        raise AxisMismatch(
            f"{asked.file} lists other peaks than those that the study was made with ({len(bins)} channels): give it "
            f"another name, or change the study's axis with `msicube rebin`"
        )
    return AxisPlan(law, bins)
