"""The store format as code: one spec per variable creates it, documents it and validates it.

``docs/store-format.md`` is printed from these specs by :func:`describe`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Modality = Literal["msi", "ftir"]

#: Raised by one when a store of the new version cannot be read by the old code.
FORMAT_VERSION = 1

#: The spectral coordinate of each modality.
AXIS_NAME: dict[str, str] = {"msi": "mz", "ftir": "wavenumber"}


def intensity_fill(modality: str, dtype: np.dtype[Any]) -> float:
    """Return what the intensities are where nothing was acquired.

    No peak is an intensity of 0, so 0 it is in a mass-spectrometry image. An absorbance of 0 is a measurement like any
    other: where there is none in an infrared image there is NaN, or 0 in the integers, which have no NaN. In both
    ``acquired`` decides.
    """
    return np.nan if modality == "ftir" and dtype.kind == "f" else 0


@dataclass(frozen=True)
class VariableSpec:
    """One variable of a slide.

    Attributes
    ----------
    name
        Of the Zarr array.
    dims
        Its dimension names.
    dtype
        NumPy name of the stored type; None where the source's own type is kept.
    description
        What the numbers are.
    attrs
        Attributes that it always has.
    fill_value
        Of the Zarr array: what unwritten places read as; None where :func:`intensity_fill` has it.
    required
        Whether a slide without it is invalid.
    modality
        Of the slides that have it; None for both.
    """

    name: str
    dims: tuple[str, ...]
    dtype: str | None
    description: str
    attrs: Mapping[str, Any] = field(default_factory=dict)
    fill_value: Any = 0
    required: bool = True
    modality: Modality | None = None

    def attributes(self) -> dict[str, Any]:
        """Return the attributes to write: its own and its description."""
        return {"long_name": self.description, **self.attrs}

    def problems(self, *, dims: tuple[str, ...], dtype: np.dtype[Any]) -> Iterator[str]:
        """Yield what is wrong with a stored variable of these dimensions and this type."""
        if dims != self.dims:
            yield f"{self.name} has dims {dims}, expected {self.dims}"
        if self.dtype is not None and dtype != np.dtype(self.dtype):
            yield f"{self.name} has dtype {dtype}, expected {self.dtype}"
        if self.dtype is None and dtype.kind not in "fiu":
            yield f"{self.name} has dtype {dtype}, expected a real number type"


_PIXEL = {"units": "micrometer"}

SPECS: tuple[VariableSpec, ...] = (
    VariableSpec(
        "intensity",
        ("y", "x", "channel"),
        None,
        "intensity as measured; where not acquired 0 (msi), NaN (ftir)",
        fill_value=None,
    ),
    VariableSpec(
        "acquired",
        ("y", "x"),
        "bool",
        "whether the pixel holds a measured spectrum",
        fill_value=False,
    ),
    VariableSpec(
        "spectrum_index",
        ("y", "x"),
        "int64",
        "number of the spectrum in the source file, from 0; -1 where none",
        fill_value=-1,
    ),
    VariableSpec("y", ("y",), "float64", "pixel centre, from the top", attrs=_PIXEL),
    VariableSpec("x", ("x",), "float64", "pixel centre, from the left", attrs=_PIXEL),
    VariableSpec(
        "mz",
        ("channel",),
        "float64",
        "mass-to-charge ratio, ascending",
        attrs={"units": "1", "standard_name": "mass_to_charge_ratio"},
        modality="msi",
    ),
    VariableSpec(
        "channel_lower",
        ("channel",),
        "float64",
        "lowest m/z that the channel collects",
        attrs={"units": "1"},
        required=False,
        modality="msi",
    ),
    VariableSpec(
        "channel_upper",
        ("channel",),
        "float64",
        "the m/z below which the channel collects",
        attrs={"units": "1"},
        required=False,
        modality="msi",
    ),
    VariableSpec(
        "wavenumber",
        ("channel",),
        "float64",
        "wavenumber, ascending",
        attrs={"units": "cm^-1"},
        modality="ftir",
    ),
    VariableSpec(
        "total_ion_current",
        ("y", "x"),
        "float64",
        "sum of the intensities of the pixel's spectrum",
    ),
    VariableSpec(
        "mean_spectrum",
        ("channel",),
        "float64",
        "mean intensity over the acquired pixels; non-finite values left out",
    ),
    VariableSpec(
        "max_spectrum",
        ("channel",),
        "float64",
        "largest intensity over the acquired pixels; non-finite values left out",
    ),
)

#: The group ``peaks`` of a slide whose source is ragged.
PEAK_SPECS: tuple[VariableSpec, ...] = (
    VariableSpec("mz", ("peak",), None, "m/z of every peak, as in the source", modality="msi"),
    VariableSpec("intensity", ("peak",), None, "intensity of every peak, as in the source", modality="msi"),
    VariableSpec(
        "offset",
        ("spectrum_edge",),
        "int64",
        "the peaks of spectrum i of the source are offset[i] to offset[i + 1]; none where the slide lacks it",
        modality="msi",
    ),
)

#: A mask that was made of a slide; its name is the user's.
MASK = VariableSpec(
    "<mask>",
    ("y", "x"),
    "bool",
    "pixels that a mask holds; False where not acquired",
    fill_value=False,
    required=False,
)

#: A number for each pixel that a mask was decided on; its name is the mask's and that of the number.
MASK_IMAGE = VariableSpec(
    "<mask>_<image>",
    ("y", "x"),
    "float32",
    "what a mask was decided on; NaN where not acquired",
    fill_value=float("nan"),
    required=False,
)

BY_NAME: dict[str, VariableSpec] = {spec.name: spec for spec in SPECS}

#: Attributes of a slide's group and what each holds.
SLIDE_ATTRS: dict[str, str] = {
    "msicube": "`slide` (its name), `modality`, `format_version`",
    "sample": "the slide's row of the samples table: `label`, `patient`, `split`, ...",
    "source": "file names, sizes, checksums, UUID, mode, representation, instrument, polarity, software; `geometry`: "
    "what was flipped",
    "pixel_size": "`y` and `x` in micrometre, and `provenance`: where they come from",
    "axis": "`law` of the spectral axis; `crop`; `interpolation` and `source_axis` where spectra were interpolated",
    "conversion": "the conversion report: spectra read, empty, masked, out of range, relative TIC error, remarks",
}


#: Attributes that a slide's group has only where they apply.
OPTIONAL_SLIDE_ATTRS: dict[str, str] = {
    "origin": "where the source was downloaded from: archive, accession, and path, URL, size and MD5 of each file",
}


def specs_for(modality: str) -> tuple[VariableSpec, ...]:
    """Return the specs of a modality's slides."""
    return tuple(spec for spec in SPECS if spec.modality in (None, modality))


def describe(specs: tuple[VariableSpec, ...] = SPECS) -> str:
    """Return specs as a Markdown table for the documentation."""
    rows = [
        "| variable | dims | dtype | fill | units | what it holds |",
        "|---|---|---|---|---|---|",
    ]
    for spec in specs:
        fill = "0 or NaN" if spec.fill_value is None else spec.fill_value
        only = f" ({spec.modality} only)" if spec.modality else ""
        rows.append(
            f"| `{spec.name}` | `({', '.join(spec.dims)})` | {spec.dtype or 'as in the source'} "
            f"| {fill} | {spec.attrs.get('units', '')} | {spec.description}{only} |"
        )
    return "\n".join(rows)
