"""A stored slide's peaks as a reader: what was converted once can be read again without its file."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from msicube.axis import SpectralBins
from msicube.errors import AxisRequired, CorruptStore, UsageError
from msicube.readers.base import AxisSurvey, CubeInfo, PixelSize, Tile
from msicube.readers.dense import cropped
from msicube.readers.ragged import RaggedTile, binned_dtype, survey
from msicube.store.peaks import StoredPeaks
from msicube.store.study import Study
from msicube.tiling import Window


@dataclass(frozen=True)
class StoredReader:
    """The peaks of one slide of a study; see :class:`msicube.readers.CubeReader` for the methods.

    Attributes
    ----------
    info
        What the source said when it was converted; no axis before ``with_axis``.
    all_peaks
        In the order of the source.
    checksums
        Of the source, as far as they were verified.
    """

    info: CubeInfo
    all_peaks: StoredPeaks
    checksums: dict[str, str]

    @classmethod
    def open(cls, study: Study, slide: str) -> StoredReader:
        """Open the peaks of a slide.

        Raises
        ------
        UsageError
            The slide has none.
        """
        peaks = study.peaks(slide)
        if peaks is None:
            raise UsageError(
                f"slide {slide} of {study.path} has no peaks: only processed sources that were converted with "
                f"peaks kept have them; convert its source again"
            )
        attrs = study.slide_attrs[slide]
        size = attrs["pixel_size"]
        source = {key: value for key, value in attrs["source"].items() if key != "verified"}
        info = CubeInfo(
            name=slide,
            modality=study.modality,
            axis=None,
            dtype=peaks.intensity_dtype,
            acquired=study.acquired(slide),
            spectrum_index=study.small(slide, "spectrum_index"),
            pixel_size=PixelSize(**size) if size else None,
            source=source,
            remarks=tuple(attrs["conversion"]["remarks"]),
            masked=attrs["conversion"].get("masked", 0),
        )
        return cls(info, peaks, dict(attrs["source"].get("verified", {})))

    def tile(self, window: Window) -> RaggedTile:
        """Return one tile, ready to be read anywhere."""
        info = self.info
        if info.axis is None or info.bins is None:
            raise AxisRequired(f"the peaks of {info.name} are on no axis yet: give one with with_axis")
        if not (0 <= window.y0 < window.y1 <= info.shape[0] and 0 <= window.x0 < window.x1 <= info.shape[1]):
            raise UsageError(f"{window} is empty or leaves slide {info.name} of {info.shape} pixels")
        numbers = info.spectrum_index[window.slices].ravel()
        pixels = np.flatnonzero(numbers >= 0)
        pixels = pixels[np.argsort(numbers[pixels], kind="stable")]
        return RaggedTile(
            self.all_peaks.take(numbers[pixels]),
            pixels,
            (*window.shape, len(info.axis)),
            info.dtype,
            info.bins,
        )

    def read_tile(self, window: Window) -> Tile:
        """Read one tile."""
        return self.tile(window).read()

    def survey(self) -> AxisSurvey:
        """Look through the m/z values."""
        return survey(self.all_peaks)

    def with_axis(self, bins: SpectralBins, law: str) -> StoredReader:
        """Return the same peaks on a given axis."""
        dtype = binned_dtype(self.all_peaks.intensity_dtype)
        return replace(self, info=replace(self.info, axis=bins.centres, axis_law=law, bins=bins, dtype=dtype))

    def crop(self, lower: float, upper: float) -> StoredReader:
        """Return a reader of the channels from ``lower`` to ``upper``, both included."""
        if self.info.bins is None:
            raise AxisRequired(f"the peaks of {self.info.name} are on no axis yet: give one before cropping")
        info, chosen = cropped(self.info, lower, upper)
        return replace(self, info=replace(info, bins=self.info.bins.crop(chosen)))

    def verify(self) -> dict[str, str]:
        """Return what was verified when the source was converted; the file itself is not looked at."""
        return self.checksums

    def peaks(self) -> StoredPeaks:
        """Return every peak by the number of its spectrum in the source."""
        return self.all_peaks


def stored_bins(study: Study, slide: str) -> SpectralBins:
    """Return the channels that a slide was binned into.

    Raises
    ------
    CorruptStore
        They are not there, or not one for each channel.
    """
    centres = study.axis(slide)
    lower, upper = study.small(slide, "channel_lower"), study.small(slide, "channel_upper")
    if not centres.shape == lower.shape == upper.shape:
        raise CorruptStore(
            f"slide {slide} of {study.path} has {len(centres)} channels, {len(lower)} and {len(upper)} edges"
        )
    return SpectralBins(centres, lower, upper)
