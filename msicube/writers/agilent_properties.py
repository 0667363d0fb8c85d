"""The property text of Agilent's ``.dmt`` and ``.bsp`` files, as Resolutions Pro writes it.

The format is not published; what is here was read off real files. Everything is little-endian. A *field* is
its length as int32 and its bytes; a *text* is two fields, its length and itself; a *property* is a name, the
word ``PropType`` with a code, and versioned fields. Of the real files' many settings only those are written
that have a meaning here.
"""

from __future__ import annotations

import struct
from calendar import timegm
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from msicube.writers.compound import Stream, compound_file

#: Codes of ``PropType``.
_DOUBLE, _TEXT, _TIME, _METHOD, _IDENTITY, _PLACE = 0, 1, 2, 11, 16, 21
#: Codes in ``Parms`` of an absorbance spectrum over wavenumbers.
_AXIS, _SIGNAL, _CODES = b"LO\0\0", b"XO\0\0", (0x4FB2, 0x5016, 0x507A)
#: A parameter of a step is so many fields.
_FIELDS_OF_A_PARAMETER = 8


@dataclass(frozen=True)
class Properties:
    """What the master file says of a measurement.

    Attributes
    ----------
    step, start, n_channels
        The axis is ``step * (start + i)`` in cm^-1.
    spectrum
        ``(channel,)`` of the pixel in the bottom left corner: a program shows it before it opens the tiles.
    extent
        ``(y, x)`` of the whole image in micrometre.
    pixel_size
        Of one element of the detector, before aggregation, in micrometre.
    identity
        Unique, of the form ``00072561-5A4BE6E3``.
    time
        Of the measurement; without a time zone it is taken as UTC.
    parameters
        Of the scan, name to text.
    """

    step: float
    start: int
    n_channels: int
    spectrum: NDArray[np.float64]
    extent: tuple[float, float]
    pixel_size: float
    identity: str
    time: datetime
    parameters: dict[str, str]


def master_file(properties: Properties) -> bytes:
    """Return the bytes of a ``.dmt`` or ``.bsp`` file."""
    text = _property_text(properties)
    index = struct.pack("<i", 1) + _field(properties.identity)
    view = struct.pack("<5i", 4, 1, 1, 0, 0)
    return compound_file(
        [
            Stream(("Version",), struct.pack("<i", 6)),
            Stream(("Spectra", "IndexTable"), index),
            # Real files have the axis at the offsets 2216, 2228 and 2236 by accident: the program first keeps
            # the start of the text in the third mini sector and then leaves it there, behind these 20 bytes.
            # Readers rely on it.
            Stream(("StingrayViewParms", "1.0"), view, slack=text[len(view) : 64]),
            Stream(("Spectra", properties.identity), text),
        ]
    )


def _property_text(properties: Properties) -> bytes:
    axis = struct.pack("<id", 8, properties.step) + _ints(properties.start, properties.n_channels)
    spectrum = np.ascontiguousarray(properties.spectrum, dtype="<f8").tobytes()
    data = _leaf("Data", _versioned(4, axis + _field(spectrum)))
    parms = _field(_AXIS) + _field(_SIGNAL) + _text("Wavenumber") + _text("Absorbance") + _ints(*_CODES)
    height, width = properties.extent
    seconds = timegm(properties.time.utctimetuple())
    listed = [
        _property("SpectName", _TEXT, _versioned(2, _text("Row = 1 Col = 1"))),
        _property("Created", _METHOD, _method(properties)),
        _double("Visible Pixel Size", 0.0),
        _double("Image Size Y", height),
        _double("Image Size X", width),
        _double("FPA Pixel Size", properties.pixel_size),
        _property("Time", _TIME, _versioned(1, struct.pack("<iq", 8, seconds))),
        _property("Unique ID", _IDENTITY, _versioned(2, _text(properties.identity))),
        _property("FPA Coordinates", _PLACE, _versioned(2, _ints(1, 1))),
    ]
    head = _field("Properties") + struct.pack("<ii", 0, len(listed))
    return struct.pack("<i", 3) + data + _leaf("Parms", _versioned(9, parms)) + head + b"".join(listed)


def _method(properties: Properties) -> bytes:
    """Return how the spectra were taken: one step with its parameters."""
    parameters = {"Time Stamp": f"{properties.time:%A, %B %d, %Y %H:%M:%S}", **properties.parameters}
    head = _ints(1, -1, 0, 1) + _text("STEP0") + _ints(0, 1) + _text("Rapid Stingray")
    fields = head + _ints(0, len(parameters)) + b"".join(_parameter(*item) for item in parameters.items())
    return _leaf("Method", _versioned(12 + _FIELDS_OF_A_PARAMETER * len(parameters), fields, version="2.00"))


def _parameter(name: str, value: str) -> bytes:
    return _text(name) + _ints(1, 2, 4, len(value)) + _text(value)


def _double(name: str, value: float) -> bytes:
    return _property(name, _DOUBLE, _versioned(1, struct.pack("<id", 8, value)))


def _property(name: str, kind: int, value: bytes) -> bytes:
    proptype = _field("PropType") + struct.pack("<ii", 1, 1) + _ints(kind)
    return _field(name) + struct.pack("<ii", 0, 2) + proptype + value


def _leaf(name: str, value: bytes) -> bytes:
    return _field(name) + struct.pack("<ii", 0, 1) + value


def _versioned(n_fields: int, fields: bytes, version: str = "1.00") -> bytes:
    return _field(version) + struct.pack("<ii", 1, n_fields) + fields


def _text(value: str) -> bytes:
    return _ints(len(value)) + _field(value)


def _ints(*values: int) -> bytes:
    return b"".join(struct.pack("<ii", 4, value) for value in values)


def _field(value: str | bytes) -> bytes:
    data = value.encode("latin-1") if isinstance(value, str) else value
    return struct.pack("<i", len(data)) + data
