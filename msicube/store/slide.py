"""Writing a slide: its small variables, and what makes it appear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube import schema
from msicube.codecs import ChunkCodec
from msicube.shards import ShardLayout
from msicube.store.cube import CubeWriter
from msicube.store.draft import METADATA, Draft, array_metadata, group_metadata
from msicube.store.location import Location
from msicube.store.peaks import PEAKS, PeakLayout, PeakWriter, create_peaks
from msicube.tiling import TilePlan, image_chunks

#: Values in a chunk of the peaks' offsets.
OFFSET_CHUNK = 2**17


@dataclass(frozen=True)
class SlideDraft:
    """A slide under construction in a study.

    Attributes
    ----------
    name
        Of the slide.
    modality
        ``"msi"`` or ``"ftir"``.
    draft
        Where it is built.
    """

    name: str
    modality: str
    draft: Draft = field(repr=False)

    @classmethod
    def of(cls, study: Location, name: str, modality: str) -> SlideDraft:
        """Return the draft of a slide, with what an earlier run left of it."""
        return cls(name, modality, Draft.of(study, name))

    def cube_writer(self, plan: TilePlan, dtype: np.dtype[Any], codec: str) -> CubeWriter:
        """Return the writer of the intensities and store their metadata."""
        writer = CubeWriter(
            self.draft.work / "intensity",
            ShardLayout(plan.shard_shape, plan.chunk_shape, ChunkCodec.named(codec, dtype)),
        )
        spec = schema.BY_NAME["intensity"]
        metadata = array_metadata(
            plan.shape,
            dtype,
            chunks=plan.chunk_shape,
            shards=plan.shard_shape,
            dims=spec.dims,
            attrs={**spec.attributes(), "coordinates": schema.AXIS_NAME[self.modality]},
            codec=writer.layout.codec.zarr_arguments(),
        )
        (writer.location / METADATA).put(metadata)
        return writer

    def peak_writers(
        self, layout: PeakLayout, mz: np.dtype[Any], intensity: np.dtype[Any], codec: str
    ) -> tuple[PeakWriter, PeakWriter]:
        """Return the writers of the peaks' m/z and intensity and store their metadata."""
        return create_peaks(self.draft.work / PEAKS, layout, mz, intensity, codec)

    def write_offset(self, offset: NDArray[np.int64]) -> None:
        """Write where the peaks of each spectrum begin."""
        spec = schema.PEAK_SPECS[2]
        self._write_array(
            f"{PEAKS}/{spec.name}", spec, offset, spec.attributes(), (min(len(offset), OFFSET_CHUNK),)
        )

    def write(self, name: str, values: NDArray[Any], *, attrs: Mapping[str, Any] | None = None) -> None:
        """Write one of the schema's small variables, whole.

        Parameters
        ----------
        name
            One of :data:`msicube.schema.SPECS`.
        values
            Of the spec's dimensions; cast to its type.
        attrs
            On top of the spec's.
        """
        spec = schema.BY_NAME[name]
        values = np.asarray(values, spec.dtype)
        coordinates = {"coordinates": schema.AXIS_NAME[self.modality]} if name.endswith("_spectrum") else {}
        chunks = image_chunks(values.shape) if values.ndim == 2 else values.shape
        self._write_array(name, spec, values, {**spec.attributes(), **coordinates, **(attrs or {})}, chunks)

    def _write_array(
        self,
        path: str,
        spec: schema.VariableSpec,
        values: NDArray[Any],
        attrs: Mapping[str, Any],
        chunks: tuple[int, ...],
    ) -> None:
        import zarr

        location = self.draft.work / path
        metadata = array_metadata(
            values.shape,
            values.dtype,
            chunks=chunks,
            dims=spec.dims,
            attrs=attrs,
            fill_value=spec.fill_value,
        )
        (location / METADATA).put(metadata)
        zarr.open_array(location.zarr_store(), mode="r+", zarr_format=3)[...] = values

    def commit(self, attrs: Mapping[str, Any]) -> None:
        """Let the slide appear in the study."""
        header = {
            "slide": self.name,
            "modality": self.modality,
            "format_version": schema.FORMAT_VERSION,
        }
        self.draft.commit(group_metadata({"msicube": header, **attrs}))

    def discard(self) -> None:
        """Remove what was built so far."""
        self.draft.discard()
