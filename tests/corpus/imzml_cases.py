"""Every case of the imzML checklist as a real pair of files, with what must come out of it.

``docs/imzml.md`` has the same cases as a table; ``python tests/corpus/imzml_cases.py`` prints it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from imzml_files import UUID, Pair, Spec, continuous, cv, nth, processed, swap

X, Y, Z = "IMS:1000050", "IMS:1000051", "IMS:1000052"
OFFSET, LENGTH, ENCODED = "IMS:1000102", "IMS:1000103", "IMS:1000104"


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes
    ----------
    name
        Of the file.
    point
        Of the checklist.
    what, outcome
        For the table in the documentation.
    pair
        The files and the truth.
    error
        What the one clear error says; None where the file is read.
    masked
        Numbers of the spectra that ``--on-error report`` masks; None where that is an error too.
    aside
        Numbers of the spectra that are never read.
    remarks
        Patterns that the report must match (with ``--on-error report`` where there is an error).
    empty
        Numbers of the spectra that are stored as zeros.
    after
        Done to the pair after it was written.
    pixel_size
        ``(y, x)`` in micrometre.
    pyimzml
        Whether pyimzML reads it right.
    """

    name: str
    point: int
    what: str
    outcome: str
    pair: Pair
    error: str | None = None
    masked: frozenset[int] | None = None
    aside: frozenset[int] = frozenset()
    empty: frozenset[int] = frozenset()
    remarks: tuple[str, ...] = ()
    after: Callable[[Path], None] = lambda path: None
    pixel_size: tuple[float, float] | None = (50, 50)
    pyimzml: bool = True

    def write(self, folder: Path) -> Path:
        """Write the pair; return the path of the XML."""
        path = self.pair.write(folder, self.name)
        self.after(path)
        return path


def at(pair: Pair, number: int, **changes: Any) -> Pair:
    """Change one spectrum."""
    specs = list(pair.specs)
    specs[number] = replace(specs[number], **changes)
    return pair.but(specs=specs)


def each(pair: Pair, change: Callable[[int, Spec], Spec]) -> Pair:
    """Change every spectrum."""
    return pair.but(specs=[change(i, spec) for i, spec in enumerate(pair.specs)])


def stack(planes: tuple[int | None, ...], pair: Pair | None = None) -> Pair:
    """Return one 2 x 3 image above another."""
    pair = pair or continuous((2 * len(planes), 3))
    return each(pair, lambda i, s: replace(s, y=(i % 6) // 3 + 1, x=i % 3 + 1, z=planes[i // 6]))


def settings(*lines: str) -> dict[str, Any]:
    return {"settings": (lines,)}


def sparse(path: Path) -> None:
    """Move everything after the axis of a continuous .ibd behind 2 GiB, without writing what lies between."""
    ibd = path.with_suffix(".ibd")
    data = ibd.read_bytes()
    with ibd.open("r+b") as file:
        file.truncate(56)
        file.seek(56 + 2**31)
        file.write(data[56:])
    text = path.read_text()
    for number in range(6):
        text = nth(OFFSET, 2 * number + 1, 56 + 20 * number + 2**31 - 2**32)(text)
    path.write_text(text)


def windows_uuid(path: Path) -> None:
    ibd = path.with_suffix(".ibd")
    data = ibd.read_bytes()
    ibd.write_bytes(data[3::-1] + data[5:3:-1] + data[7:5:-1] + data[8:])


def corrupt(position: int) -> Callable[[bytes], bytes]:
    """Return an edit that flips the bits of one byte."""
    return lambda data: data[:position] + bytes([data[position] ^ 255]) + data[position + 1 :]


ALL = frozenset(range(6))
#: A file without checksums, so that what is changed in the .ibd is met by the reader itself.
BARE: dict[str, Any] = {"checksums": ()}


def mode_cases() -> Iterator[Case]:
    yield Case("continuous", 1, "continuous", "read, the axis bit for bit", continuous())
    yield Case(
        "processed",
        11,
        "processed, another length in every spectrum",
        "binned on the chosen axis",
        processed(),
    )
    yield Case(
        "continuous_centroid", 1, "continuous and centroid", "read: mode and representation are independent",
        continuous(file_content=(cv("MS:1000127", "centroid spectrum"),)),
    )  # fmt: skip
    yield Case(
        "says_continuous", 1, "declares continuous, offsets are processed (Waters)", "read as processed, reported",
        processed(mode="continuous"), remarks=("declares continuous.*read as processed",), pyimzml=False,
    )  # fmt: skip
    yield Case(
        "says_processed", 1, "declares processed, offsets are continuous", "read as continuous, reported",
        continuous(mode="processed"), remarks=("declares processed.*read as continuous",),
    )  # fmt: skip
    yield Case(
        "says_both", 1, "declares both modes, or none", "the offsets decide, reported",
        continuous(mode="both"), remarks=("declares continuous and processed",),
    )  # fmt: skip
    yield Case(
        "no_representation", 1, "no representation anywhere", "read", continuous(file_content=()),
    )  # fmt: skip
    yield Case(
        "representation_in_spectra", 1, "representation in each spectrum", "read",
        each(continuous(file_content=()), lambda i, s: replace(s, lines=(cv("MS:1000128", "profile spectrum"),))),
    )  # fmt: skip
    yield Case(
        "contradictory_name", 2, "accession and name contradict each other", "the accession decides, reported",
        continuous(file_content=(cv("MS:1000127", "profile spectrum"),)),
        remarks=("MS:1000127 .centroid spectrum. is named 'profile spectrum'",),
    )  # fmt: skip


def type_cases() -> Iterator[Case]:
    for dtype in ("<i4", "<i8", "<f8"):
        yield Case(
            f"intensities_{dtype[1:]}", 3, f"intensities of type {np.dtype(dtype).name}", "read, the type kept",
            continuous(dtype=dtype),
        )  # fmt: skip
    yield Case(
        "obsolete_type", 3, "obsolete type terms IMS:1000141/142", "read",
        continuous(dtype="<i4").edited(swap("MS:1000519", "IMS:1000141", 9)), pyimzml=False,
    )  # fmt: skip
    yield Case(
        "mz_f4", 3, "m/z as 32-bit floats", "read, kept as the same numbers in 64 bits", continuous(mz_type="<f4"),
    )  # fmt: skip
    yield Case(
        "no_precision", 3, "no precision term", "error that names the array",
        continuous().edited(swap(cv("MS:1000521", "32-bit float"), "")),
        error="the intensity array must have one data-type term.*found none",
    )  # fmt: skip
    yield Case(
        "two_precisions", 3, "two precision terms on one array", "error that names the array",
        continuous().edited(
            swap(cv("MS:1000521", "32-bit float"), cv("MS:1000521", "a") + cv("MS:1000523", "b"))
        ),
        error="the intensity array must have one data-type term.*found <f4 and <f8",
    )  # fmt: skip
    yield Case(
        "own_type", 3, "the array's own type differs from its group's", "the own one decides",
        each(continuous(), lambda i, s: replace(s, intensity_type="<f8")), pyimzml=False,
    )  # fmt: skip
    yield Case(
        "types_change", 3, "another type in some spectra", "read as the type that holds both, reported",
        at(at(continuous(), 2, intensity_type="<f8"), 4, intensity_type="<i4"),
        remarks=("intensity arrays are of several types .*float64",), pyimzml=False,
    )  # fmt: skip


def packing_cases() -> Iterator[Case]:
    for how in ("zlib", "xz", "zstd", "lz4", "lz4_frame"):
        yield Case(
            f"packed_{how}", 4, f"{how.replace('_', ' in a ')} arrays", "read", processed(packed=how), pyimzml=False,
        )  # fmt: skip
    yield Case("packed_continuous", 4, "zlib, continuous", "read", continuous(packed="zlib"), pyimzml=False)
    packed = continuous(packed="zlib", **BARE)
    yield Case(
        "packed_damaged", 4, "a zlib array that does not unpack", "error; masked",
        packed.but(ibd_edits=(lambda data: data[:-3] + b"xyz",)),
        error="zlib array does not unpack", masked=frozenset({5}), remarks=("1 spectrum .number 5. masked",),
        pyimzml=False,
    )  # fmt: skip
    yield Case(
        "packed_no_size", 4, "zlib without an encoded length", "error; masked",
        continuous(packed="zlib").edited(swap(f'accession="{ENCODED}"', 'accession="IMS:9"', 2)),
        error="no external encoded length", masked=frozenset({0}), pyimzml=False,
    )  # fmt: skip


def offset_cases() -> Iterator[Case]:
    yield Case(
        "wrapped", 4, "offsets that ran over 32 bits (negative)",
        "read at the offset plus a multiple of 2^32, reported",
        continuous(**BARE), after=sparse, remarks=("6 spectra have negative offsets",), pyimzml=False,
    )  # fmt: skip
    yield Case(
        "negative", 4, "a negative offset that leads nowhere", "error; masked",
        continuous().edited(nth(OFFSET, 3, -77)), error="negative offset", masked=frozenset({1}), pyimzml=False,
    )  # fmt: skip
    yield Case(
        "scientific", 4, "offsets in scientific notation", "read",
        continuous().edited(nth(OFFSET, 3, "7.6e+01"), nth(OFFSET, 5, "9.6e1")), pyimzml=False,
    )  # fmt: skip
    yield Case(
        "rounded", 4, "an offset with too few digits, such as 1.156e+09",
        "error unless another array ends there; masked",
        continuous(**BARE, ibd_edits=(lambda data: data + bytes(20),)).edited(nth(OFFSET, 11, "1.6e2")),
        error="too few digits", masked=frozenset({5}), pyimzml=False,
    )  # fmt: skip
    six = each(
        continuous(), lambda i, s: replace(s, mz=np.arange(1, 7.0), intensity=np.arange(6, dtype="<f4") + i)
    )
    yield Case(
        "rounded_right", 4, "the same where another array ends just there", "read, reported",
        six.edited(nth(OFFSET, 9, "1.6e2")), remarks=("1 spectra have offsets in scientific notation: exact",),
        pyimzml=False,
    )  # fmt: skip
    yield Case(
        "past_the_end", 4, "arrays past the end of the .ibd", "error; masked",
        processed().edited(nth(OFFSET, 4, 100_000)), error="past the", masked=frozenset({2}), pyimzml=False,
    )  # fmt: skip
    yield Case(
        "truncated", 4, "a truncated .ibd", "error; what it lacks is masked",
        continuous(**BARE, ibd_edits=(lambda data: data[:-21],)),
        error="truncated", masked=frozenset({4, 5}), pyimzml=False,
    )  # fmt: skip
    yield Case(
        "overlap", 4, "arrays that overlap", "error; both masked",
        continuous().edited(nth(OFFSET, 5, 80)), error="overlap", masked=frozenset({1, 2}), pyimzml=False,
    )  # fmt: skip
    yield Case(
        "overlap_axis", 4, "intensities that overlap the shared m/z axis", "error; that spectrum is masked",
        continuous().edited(nth(OFFSET, 11, 20)), error="overlap", masked=frozenset({5}), pyimzml=False,
    )  # fmt: skip
    yield Case(
        "in_the_uuid", 4, "an array inside the UUID", "error; masked",
        continuous().edited(nth(OFFSET, 11, 8)), error="inside the UUID|overlap", masked=frozenset({5}), pyimzml=False,
    )  # fmt: skip
    yield Case(
        "lengths_differ", 4, "m/z length unequal to intensity length", "error; masked",
        processed().edited(nth(LENGTH, 3, 3)), error="differ in length", masked=frozenset({1}), pyimzml=False,
    )  # fmt: skip
    yield Case(
        "wrong_encoded_length", 4, "uncompressed, the encoded length is wrong",
        "the number of values decides, reported",
        continuous().edited(nth(ENCODED, 3, 7)), remarks=("encoded length that is not",),
    )  # fmt: skip


def structure_cases() -> Iterator[Case]:
    yield Case(
        "no_groups", 5, "no param groups: every term in the array", "read", continuous(group_terms=False),
        pyimzml=False,
    )  # fmt: skip
    position = cv(X, "position x", 1) + cv(Y, "position y", 1)
    yield Case(
        "nested_group", 5, "the position in a param group of the scan", "read",
        continuous((1, 1)).edited(
            swap(f'{cv(X, "position x", 1)}\n{cv(Y, "position y", 1)}', ""),
            swap(cv("MS:1000093", "increasing m/z scan"), position),
        ), pyimzml=False,
    )  # fmt: skip
    yield Case(
        "group_missing", 5, "a reference to a group that is not defined", "error",
        continuous().edited(swap('Group id="intensities"', 'Group id="other"')), error="not defined",
    )  # fmt: skip
    two = (
        (cv("IMS:1000046", "a", 50), cv("IMS:1000047", "b", 50)),
        (cv("IMS:1000046", "a", 25), cv("IMS:1000047", "b", 9)),
    )
    yield Case(
        "two_settings", 5, "two scanSettings with different pixel sizes", "the first is taken, reported",
        continuous(settings=two), remarks=("several scanSettings",),
    )  # fmt: skip
    yield Case(
        "settings_ref", 5, "two scanSettings, the instrument refers to one", "that one is taken",
        continuous(settings=two).edited(
            swap('<instrumentConfiguration id="IC1"', '<instrumentConfiguration id="IC1" scanSettingsRef="settings1"')
        ),
        pixel_size=(9, 25), remarks=("several scanSettings",),
    )  # fmt: skip


def position_cases() -> Iterator[Case]:
    yield Case(
        "zero_based", 6, "positions from 0", "read",
        each(continuous(), lambda i, s: replace(s, x=s.x - 1, y=s.y - 1)),
    )  # fmt: skip
    yield Case(
        "offset_positions", 6, "positions that begin at 60", "read; the grid begins at the first pixel",
        each(continuous(), lambda i, s: replace(s, x=s.x + 59, y=s.y + 7)),
    )  # fmt: skip
    yield Case(
        "sparse", 6, "positions with gaps", "read; what lies between is not acquired",
        each(continuous(), lambda i, s: replace(s, x=s.x * 3, y=s.y + i)),
    )  # fmt: skip
    yield Case(
        "duplicate", 6, "two spectra at one position", "error; both masked",
        at(continuous(), 4, x=1), error="more than one spectrum", masked=frozenset({3, 4}),
    )  # fmt: skip
    yield Case(
        "no_position", 6, "a spectrum without a position", "error; masked",
        continuous().edited(swap(cv(X, "position x", 2), "")), error="position x", masked=frozenset({1}), pyimzml=False,
    )  # fmt: skip
    yield Case(
        "damaged_position", 6, "a position impossibly far away", "error; masked",
        continuous().edited(nth(X, 5, 2_000_000_000)), error="impossibly far", masked=frozenset({5}),
    )  # fmt: skip
    yield Case(
        "some_z", 6, "z in some spectra only", "the others lie in the same plane, reported",
        at(continuous(), 2, z=7), remarks=("5 spectra have no position z: taken for z = 7",), pyimzml=False,
    )  # fmt: skip
    yield Case(
        "stack", 6, "a 3D stack", "one slide for each z, named `<file>_z<k>`", stack((1, 4)),
    )  # fmt: skip
    yield Case(
        "stack_some_z", 6, "a 3D stack, z in some spectra only", "no z is z = 1, reported", stack((None, 2, 3)),
        remarks=("6 spectra have no position z: taken for z = 1",),
    )  # fmt: skip
    yield Case(
        "stack_processed", 6, "a 3D stack, processed", "one slide for each z", stack((1, 2), processed((4, 3))),
    )  # fmt: skip
    yield Case(
        "position_3d", 6, "3DPosition beside the position", "the position decides, reported",
        each(continuous(), lambda i, s: replace(s, scan_lines=(cv("IMS:1000053", "3DPositionX", 3.5),))),
        remarks=("3DPosition too",),
    )  # fmt: skip
    yield Case(
        "subimage", 6, "subimage positions beside the position", "the position decides, reported",
        each(continuous(), lambda i, s: replace(s, scan_lines=(cv("IMS:1000055", "subimage position x", 1),))),
        remarks=("subimage position too",),
    )  # fmt: skip
    yield Case(
        "max_count", 6, "max counts disagree with the positions", "positions decide, reported",
        continuous(settings=((cv("IMS:1000042", "max count of pixels x", 30), cv("IMS:1000043", "y", 2)),)),
        remarks=("max count of pixels x is 30, positions extend over 3",), pixel_size=None,
    )  # fmt: skip


def size_cases() -> Iterator[Case]:
    def sized(
        name: str, what: str, outcome: str, size: tuple[float, float] | None, *lines: str, **rest: Any
    ) -> Case:
        return Case(name, 7, what, outcome, continuous(**settings(*lines)), pixel_size=size, **rest)

    x, y = "IMS:1000046", "IMS:1000047"
    yield sized(
        "size_old",
        "the old 'pixel size', x only",
        "y as wide as x",
        (30, 30),
        cv(x, "pixel size", 30, "UO:0000017"),
    )
    yield sized(
        "size_mm",
        "in mm",
        "converted",
        (40, 20),
        cv(x, "a", 0.02, "UO:0000016"),
        cv(y, "b", 0.04, "UO:0000016"),
    )
    yield sized(
        "size_nm",
        "in nm",
        "converted",
        (5, 5),
        cv(x, "a", 5000, "UO:0000018"),
        cv(y, "b", 5000, "UO:0000018"),
    )
    yield sized(
        "size_no_unit",
        "without a unit",
        "micrometre, said so in the provenance",
        (7, 6),
        cv(x, "a", 6),
        cv(y, "b", 7),
    )
    yield sized(
        "size_unit_name", "the unit by name only", "converted", (2, 2),
        cv(x, "a", 0.002).replace("/>", ' unitName="millimeter"/>'),
    )  # fmt: skip
    yield sized(
        "size_none", "no pixel size", "y and x are pixel numbers, reported", None, remarks=("no pixel size",)
    )
    yield sized(
        "size_zero",
        "0 or no number",
        "left out, reported",
        None,
        cv(x, "a", "0"),
        remarks=("no positive length",),
    )


def checksum_cases() -> Iterator[Case]:
    def wrong(algorithm: str) -> Callable[[str], str]:
        accession = {"sha1": "IMS:1000091", "md5": "IMS:1000090", "sha256": "IMS:1000092"}[algorithm]
        return nth(accession, 0, "0" * 40)

    for algorithm in ("sha1", "md5", "sha256"):
        yield Case(
            f"{algorithm}_right", 8, f"a right {algorithm}", "verified", continuous(checksums=(algorithm,)),
        )  # fmt: skip
        yield Case(
            f"{algorithm}_wrong", 8, f"a wrong {algorithm}", "error; read and reported",
            continuous(checksums=(algorithm,)).edited(wrong(algorithm)),
            error=f"has the {algorithm}", masked=frozenset(), remarks=(f"has the {algorithm}",),
        )  # fmt: skip
    yield Case(
        "weaker_wrong", 8, "a wrong MD5 beside a right SHA-1", "read, reported",
        continuous(checksums=("md5", "sha1")).edited(wrong("md5")), remarks=("the declared md5 is wrong",),
    )  # fmt: skip
    yield Case(
        "stronger_wrong", 8, "a wrong SHA-256 beside a right MD5", "error; read and reported",
        continuous(checksums=("md5", "sha256")).edited(wrong("sha256")),
        error="has the sha256", masked=frozenset(), remarks=("has the sha256",),
    )  # fmt: skip
    yield Case("no_checksum", 8, "no checksum", "read", continuous(**BARE))
    braces = "{00112233-4455-6677-8899-AABBCCDDEEFF}"
    yield Case("uuid_braces", 8, "a UUID with braces, dashes, capitals", "read", continuous(uuid=braces))
    yield Case("uuid_none", 8, "no UUID", "read, reported", continuous(uuid=""), remarks=("no UUID",))
    yield Case(
        "uuid_windows", 8, "the UUID in the byte order of Windows", "read, reported",
        continuous(**BARE), after=windows_uuid, remarks=("byte order of Windows",),
    )  # fmt: skip
    yield Case(
        "uuid_other", 8, "an .ibd of another UUID", "error; read and reported",
        continuous(uuid=UUID[::-1]), error="not a pair", masked=frozenset(), remarks=("not a pair",),
    )  # fmt: skip


def xml_cases() -> Iterator[Case]:
    yield Case(
        "latin1", 9, "ISO-8859-1 with letters beyond ASCII", "read",
        continuous(encoding="ISO-8859-1").edited(swap('<run id="r"', '<run id="Gießen"')),
    )  # fmt: skip
    yield Case("utf16", 9, "UTF-16", "read", continuous(encoding="UTF-16"))
    yield Case("crlf", 9, "CRLF line ends", "read", continuous().edited(swap("\n", "\r\n", -1)))
    yield Case("one_line", 9, "no line ends at all", "read", continuous().edited(swap("\n", "", -1)))
    yield Case("no_version", 9, "no version", "read", continuous().edited(swap(' version="1.1.0"', "")))
    yield Case(
        "no_namespace", 9, "no namespace", "read",
        continuous().edited(swap(' xmlns="http://psi.hupo.org/ms/mzml"', "")), pyimzml=False,
    )  # fmt: skip
    yield Case(
        "single_quotes", 9, "attributes in single quotes", "read",
        continuous().edited(lambda text: text[:40] + text[40:].replace('"', "'")),
    )  # fmt: skip
    yield Case(
        "comments", 9, "comments between and inside spectra", "read",
        continuous().edited(swap("<scanList", "<!-- </spectrum> --><scanList", -1)),
    )  # fmt: skip
    yield Case(
        "misspelled", 9, "misspelled names", "read: accessions count",
        continuous().edited(swap("position x", "positon x", -1), swap("external offset", "extrenal ofset", -1)),
        pyimzml=False,
    )  # fmt: skip
    yield Case(
        "dtd", 9, "a document type definition, entities", "error",
        continuous().edited(swap("<mzML", '<!DOCTYPE mzML [<!ENTITY a "1">]><mzML')), error="document type definition",
    )  # fmt: skip
    yield Case(
        "external_entity", 9, "an external entity", "error; nothing is fetched",
        continuous().edited(swap("<mzML", '<!DOCTYPE mzML SYSTEM "http://127.0.0.1:9/x.dtd"><mzML')),
        error="document type definition",
    )  # fmt: skip
    yield Case(
        "cut", 9, "XML that ends too early", "error",
        continuous().edited(lambda text: text[:-300]), error="not well-formed",
    )  # fmt: skip
    yield Case(
        "count", 9, "the list announces another number of spectra", "all are read, reported",
        continuous().edited(swap('spectrumList count="6"', 'spectrumList count="9"')),
        remarks=("announces 9 spectra and holds 6",),
    )  # fmt: skip
    for name, suffixes in (
        ("lower", (".imzml", ".ibd")),
        ("upper", (".IMZML", ".IBD")),
        ("mixed", (".imzML", ".Ibd")),
    ):
        yield Case(
            f"suffix_{name}", 9, f"`{suffixes[0]}` and `{suffixes[1]}`", "read", continuous(suffixes=suffixes),
            pyimzml=False,
        )  # fmt: skip
    yield Case(
        "no_ibd", 9, "no .ibd", "error", continuous(suffixes=(".imzML", "")), error=r"no \.ibd beside it",
    )  # fmt: skip


def content_cases() -> Iterator[Case]:
    mobility = "MS:1003006 mean inverse reduced ion mobility array"
    yield Case(
        "mobility", 10, "a third array in each spectrum (ion mobility)",
        "m/z and intensity are read, peaks of one m/z summed over it; the third array is not stored; reported",
        each(processed(), lambda i, s: replace(s, third=np.linspace(0.6, 1.2, len(s.mz)))),
        remarks=(f"6 spectra have further arrays .{mobility}",), pyimzml=False,
    )  # fmt: skip
    level = cv("MS:1000511", "ms level", 1)
    mixed = each(
        processed(), lambda i, s: replace(s, lines=(level.replace('"1"', '"2"') if i in (1, 4) else level,))
    )
    yield Case(
        "ms2_mixed", 10, "MS^n spectra mixed in", "set aside, reported", mixed,
        aside=frozenset({1, 4}), remarks=("2 spectra .number 1, 4. set aside: an MS level above 1",),
    )  # fmt: skip
    yield Case(
        "ms2_at_one_place", 10, "an MS2 spectrum at the position of an MS1 spectrum", "the MS1 spectrum is read",
        at(mixed, 1, x=1), aside=frozenset({1, 4}),
    )  # fmt: skip
    yield Case(
        "ms2_only", 10, "all spectra are MS2", "read",
        each(processed(), lambda i, s: replace(s, lines=(level.replace('"1"', '"2"'),))),
    )  # fmt: skip
    yield Case(
        "unsorted", 10, "unsorted m/z, processed", "read",
        each(processed(), lambda i, s: replace(s, mz=s.mz[::-1])),
    )  # fmt: skip
    yield Case(
        "unsorted_axis", 10, "unsorted m/z, continuous", "error",
        each(continuous(), lambda i, s: replace(s, mz=s.mz[::-1])), error="not strictly ascending",
    )  # fmt: skip
    bad = at(processed(), 3, intensity=np.array([1, np.nan, np.inf], "<f4"))
    yield Case("nan", 10, "NaN and infinite intensities", "stored as they are, counted as non-finite", bad)
    yield Case(
        "nan_mz", 10, "NaN as m/z", "counted as out of range",
        at(processed(), 3, mz=np.array([100.5, np.nan, 102.5])),
    )  # fmt: skip
    yield Case(
        "huge_mz", 10, "m/z of 1e35", "counted as out of range", at(processed(), 3, mz=np.array([100.5, 101.5, 1e35])),
    )  # fmt: skip
    nothing = np.array([], "<f8")
    yield Case(
        "empty", 10, "empty spectra, processed", "acquired, 0 everywhere, counted as empty",
        at(processed(), 2, mz=nothing, intensity=nothing), empty=frozenset({2}), pyimzml=False,
    )  # fmt: skip
    yield Case(
        "empty_continuous", 10, "an empty intensity array beside m/z values", "an empty spectrum, reported",
        at(continuous(), 2, intensity=nothing), empty=frozenset({2}),
        remarks=("1 spectra have m/z values and no intensities",), pyimzml=False,
    )  # fmt: skip


def cases() -> list[Case]:
    """Return every case, in the order of the checklist."""
    makers = (
        mode_cases, type_cases, packing_cases, offset_cases, structure_cases, position_cases, size_cases,
        checksum_cases, xml_cases, content_cases,
    )  # fmt: skip
    return sorted((case for maker in makers for case in maker()), key=lambda case: case.point)


def table() -> str:
    """Return the cases as the table of the documentation."""
    rows = [f"| {c.point} | {c.what} | {c.outcome} | `{c.name}` |" for c in cases()]
    return "\n".join(["| point | case | what happens | file |", "|---|---|---|---|", *rows])


if __name__ == "__main__":
    os.write(1, (table() + "\n").encode())
