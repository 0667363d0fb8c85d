"""Writes small imzML pairs in which everything can be odd; knows nothing of msicube."""

from __future__ import annotations

import hashlib
import lzma
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

UUID = "00112233445566778899aabbccddeeff"
TYPE_TERMS = {"<i4": "MS:1000519", "<f4": "MS:1000521", "<i8": "MS:1000522", "<f8": "MS:1000523"}
TYPE_NAMES = {"<i4": "32-bit integer", "<f4": "32-bit float", "<i8": "64-bit integer", "<f8": "64-bit float"}
PACKED_TERMS = {
    "none": "MS:1000576", "zlib": "MS:1000574", "xz": "IMS:1005001", "lz4": "IMS:1005002", "zstd": "IMS:1005003",
    "lz4_frame": "IMS:1005002",
}  # fmt: skip


def pack(data: bytes, how: str) -> bytes:
    from lz4 import frame as lz4_frame
    from numcodecs import lz4, zstd

    packers: dict[str, Callable[[bytes], bytes]] = {
        "none": bytes,
        "zlib": zlib.compress,
        "xz": lzma.compress,
        "lz4": lambda plain: lz4.compress(plain)[4:],
        "lz4_frame": lz4_frame.compress,
        "zstd": lambda plain: zstd.compress(plain, 3),
    }
    return packers[how](data)


def cv(accession: str, name: str, value: object = None, unit: str = "") -> str:
    said = "" if value is None else f' value="{value}"'
    units = f' unitCvRef="UO" unitAccession="{unit}" unitName="x"' if unit else ""
    return f'<cvParam cvRef="{accession.split(":")[0]}" accession="{accession}" name="{name}"{said}{units}/>'


@dataclass(frozen=True)
class Spec:
    """One spectrum: where it is, what it holds, and lines that are put into its elements."""

    x: int
    y: int
    mz: NDArray[Any]
    intensity: NDArray[Any]
    z: int | None = None
    lines: tuple[str, ...] = ()
    scan_lines: tuple[str, ...] = ()
    third: NDArray[Any] | None = None
    mz_type: str | None = None
    intensity_type: str | None = None


@dataclass(frozen=True)
class Pair:
    """A pair of files and what they truly hold."""

    specs: list[Spec]
    continuous: bool = True
    mode: str | None = None
    mz_type: str = "<f8"
    intensity_type: str = "<f4"
    packed: str = "none"
    file_content: tuple[str, ...] = (cv("MS:1000128", "profile spectrum"),)
    uuid: str = UUID
    checksums: tuple[str, ...] = ("sha1",)
    settings: tuple[tuple[str, ...], ...] = (
        (
            cv("IMS:1000046", "pixel size (x)", 50, "UO:0000017"),
            cv("IMS:1000047", "pixel size y", 50, "UO:0000017"),
        ),
    )
    group_terms: bool = True
    scan_group: bool = True
    encoding: str = "UTF-8"
    edits: tuple[Callable[[str], str], ...] = ()
    ibd_edits: tuple[Callable[[bytes], bytes], ...] = ()
    suffixes: tuple[str, str] = (".imzML", ".ibd")

    def but(self, **changes: Any) -> Pair:
        return replace(self, **changes)

    def edited(self, *edits: Callable[[str], str]) -> Pair:
        return replace(self, edits=(*self.edits, *edits))

    def write(self, folder: Path, name: str) -> Path:
        """Write both files; return the path of the XML."""
        ibd, places = self._layout()
        spectra = "\n".join(self._spectrum(i, spec, places[i]) for i, spec in enumerate(self.specs))
        text = self._header(ibd) + spectra + "\n</spectrumList></run></mzML>\n"
        for edit in self.edits:
            changed = edit(text)
            assert changed != text, "an edit found nothing to change"
            text = changed
        for change in self.ibd_edits:
            ibd = change(ibd)
        path = folder / f"{name}{self.suffixes[0]}"
        path.write_bytes(text.encode(self.encoding))
        if self.suffixes[1]:
            (folder / f"{name}{self.suffixes[1]}").write_bytes(ibd)
        return path

    def _layout(self) -> tuple[bytes, list[list[tuple[int, int, int]]]]:
        """Return the .ibd and offset, length and bytes of the arrays of each spectrum."""
        ibd = bytearray(bytes.fromhex(UUID))
        places: list[list[tuple[int, int, int]]] = []

        def put(data: NDArray[Any], dtype: str) -> tuple[int, int, int]:
            packed = pack(data.astype(dtype).tobytes(), self.packed)
            ibd.extend(packed)
            return len(ibd) - len(packed), len(data), len(packed)

        for spec in self.specs:
            shared = self.continuous and places
            place = [places[0][0] if shared else put(spec.mz, spec.mz_type or self.mz_type)]
            place.append(put(spec.intensity, spec.intensity_type or self.intensity_type))
            if spec.third is not None:
                place.append(put(spec.third, "<f8"))
            places.append(place)
        return bytes(ibd), places

    def _spectrum(self, number: int, spec: Spec, places: list[tuple[int, int, int]]) -> str:
        kinds = (("mzArray", spec.mz_type), ("intensities", spec.intensity_type), ("mobility", None))
        arrays = "\n".join(
            self._array_xml(place, group, own) for place, (group, own) in zip(places, kinds, strict=False)
        )
        z = [] if spec.z is None else [cv("IMS:1000052", "position z", spec.z)]
        reference = ['<referenceableParamGroupRef ref="scan1"/>'] if self.scan_group else []
        scan = [
            *reference,
            cv("IMS:1000050", "position x", spec.x),
            cv("IMS:1000051", "position y", spec.y),
            *z,
        ]
        return "\n".join(
            [
                f'<spectrum id="s{number}" index="{number}" defaultArrayLength="0">',
                *spec.lines,
                '<scanList count="1"><scan>',
                *scan,
                *spec.scan_lines,
                f'</scan></scanList><binaryDataArrayList count="{len(places)}">',
                arrays,
                "</binaryDataArrayList></spectrum>",
            ]
        )

    def _array_xml(self, place: tuple[int, int, int], group: str, own: str | None) -> str:
        reference = [f'<referenceableParamGroupRef ref="{group}"/>']
        terms = reference if self.group_terms else self._group(group)
        return "\n".join(
            [
                '<binaryDataArray encodedLength="0">',
                *terms,
                *([cv(TYPE_TERMS[own], TYPE_NAMES[own])] if own else []),
                cv("IMS:1000102", "external offset", place[0]),
                cv("IMS:1000103", "external array length", place[1]),
                cv("IMS:1000104", "external encoded length", place[2]),
                "<binary/></binaryDataArray>",
            ]
        )

    def _group(self, group: str) -> list[str]:
        kind, dtype = {
            "mzArray": (cv("MS:1000514", "m/z array"), self.mz_type),
            "intensities": (cv("MS:1000515", "intensity array"), self.intensity_type),
            "mobility": (cv("MS:1003006", "mean inverse reduced ion mobility array"), "<f8"),
        }[group]
        return [
            cv(PACKED_TERMS[self.packed], "compression"),
            kind,
            cv("IMS:1000101", "external data", "true"),
            cv(TYPE_TERMS[dtype], TYPE_NAMES[dtype]),
        ]

    def _header(self, ibd: bytes) -> str:
        mode = self.mode or ("continuous" if self.continuous else "processed")
        term = {
            "continuous": ["IMS:1000030"],
            "processed": ["IMS:1000031"],
            "both": ["IMS:1000030", "IMS:1000031"],
        }
        checks = {"sha1": "IMS:1000091", "md5": "IMS:1000090", "sha256": "IMS:1000092"}
        content = [
            *self.file_content,
            *(cv(accession, mode) for accession in term.get(mode, [])),
            *([cv("IMS:1000080", "universally unique identifier", self.uuid)] if self.uuid else []),
            *(cv(checks[c], c, hashlib.new(c, ibd).hexdigest().upper()) for c in self.checksums),
        ]
        groups = [
            f'<referenceableParamGroup id="{g}">{"".join(self._group(g))}</referenceableParamGroup>'
            for g in ("mzArray", "intensities", "mobility")
            if g != "mobility" or any(spec.third is not None for spec in self.specs)
        ]
        settings = [
            f'<scanSettings id="settings{i}">{"".join(lines)}</scanSettings>'
            for i, lines in enumerate(self.settings)
        ]
        return "\n".join(
            [
                f'<?xml version="1.0" encoding="{self.encoding}"?>',
                '<mzML xmlns="http://psi.hupo.org/ms/mzml" version="1.1.0"><cvList count="0"/>',
                "<fileDescription><fileContent>",
                *content,
                "</fileContent></fileDescription><referenceableParamGroupList>",
                *groups,
                f'<referenceableParamGroup id="scan1">{cv("MS:1000093", "increasing m/z scan")}'
                "</referenceableParamGroup>",
                "</referenceableParamGroupList><scanSettingsList>",
                *settings,
                '</scanSettingsList><instrumentConfigurationList><instrumentConfiguration id="IC1"/>',
                f'</instrumentConfigurationList><run id="r"><spectrumList count="{len(self.specs)}">\n',
            ]
        )


def values(shape: tuple[int, int], *, channels: int = 5, dtype: str = "<f4") -> NDArray[Any]:
    """Return spectra of which no two numbers are the same."""
    count = shape[0] * shape[1]
    return (np.arange(1, count * channels + 1).reshape(count, channels) * 3 + 1).astype(dtype)


def continuous(shape: tuple[int, int] = (2, 3), *, dtype: str = "<f4", **changes: Any) -> Pair:
    """Return a pair in which all spectra share one axis."""
    mz = np.array([100.5, 101.5, 103.5, 104.5, 110.5])
    specs = [
        Spec(i % shape[1] + 1, i // shape[1] + 1, mz, row) for i, row in enumerate(values(shape, dtype=dtype))
    ]
    return Pair(specs, intensity_type=dtype, **changes)


def processed(shape: tuple[int, int] = (2, 3), **changes: Any) -> Pair:
    """Return a pair in which every spectrum has m/z values of its own, 3 to 5 of them."""
    specs = []
    for i, row in enumerate(values(shape)):
        n = 3 + i % 3
        mz = 100.5 + np.arange(n) * (1 + i % 2) + 0.01 * i
        specs.append(Spec(i % shape[1] + 1, i // shape[1] + 1, mz, row[:n]))
    return Pair(specs, continuous=False, file_content=(cv("MS:1000127", "centroid spectrum"),), **changes)


def nth(accession: str, number: int, value: object) -> Callable[[str], str]:
    """Return an edit that gives the n-th term of an accession another value."""

    def edit(text: str) -> str:
        found = list(re.finditer(rf'accession="{accession}" name="[^"]*" value="([^"]*)"', text))
        start, end = found[number].span(1)
        return f"{text[:start]}{value}{text[end:]}"

    return edit


def swap(old: str, new: str, count: int = 1) -> Callable[[str], str]:
    """Return an edit that replaces text."""
    return lambda text: text.replace(old, new, count)
