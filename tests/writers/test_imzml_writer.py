from __future__ import annotations

import hashlib
import tracemalloc
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from pyimzml.ImzMLParser import ImzMLParser

from msicube.errors import UsageError
from msicube.writers import CVParam, ImzMLWriter, Instrument

NAMESPACE = {"m": "http://psi.hupo.org/ms/mzml"}
IDENTITY = UUID("12345678-1234-4234-8234-123456789abc")
AXIS = np.array([100.0, 100.5, 101.25, 640.0])


def values(accession: str, tree: etree._ElementTree) -> list[str]:
    return [p.get("value") for p in tree.iterfind(f".//m:cvParam[@accession='{accession}']", NAMESPACE)]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
@pytest.mark.parametrize("representation", ["profile", "centroid"])
def test_continuous_is_read_by_pyimzml(tmp_path: Path, dtype: str, representation: str) -> None:
    block = (np.arange(12).reshape(3, 4) * 7.0).astype(dtype)
    path = tmp_path / "a.imzML"
    with ImzMLWriter(
        path,
        shape=(5, 6),
        mz=AXIS,
        representation=representation,
        intensity_dtype=dtype,
        pixel_size=(25, 30.5),
        polarity="negative",
    ) as writer:
        writer.write_block([0, 4], [5, 0], block[:2])
        writer.write(2, 3, block[2])
    with ImzMLParser(str(path)) as parser:
        assert parser.coordinates == [(6, 1, 1), (1, 5, 1), (4, 3, 1)]
        assert (parser.polarity, parser.spectrum_mode) == ("negative", representation)
        assert parser.imzmldict["max count of pixels x"] == 6
        assert parser.imzmldict["max count of pixels y"] == 5
        assert parser.imzmldict["pixel size x"] == 30.5
        assert parser.imzmldict["pixel size y"] == 25
        assert parser.imzmldict["max dimension x"] == 183
        for row, expected in enumerate(block):
            mz, intensity = parser.getspectrum(row)
            assert intensity.dtype == np.dtype(dtype)
            np.testing.assert_array_equal(mz, AXIS)
            np.testing.assert_array_equal(intensity, expected)


SPECTRA = st.lists(
    st.lists(st.tuples(st.floats(1, 1e5), st.floats(width=32)), max_size=6),
    min_size=1,
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(spectra=SPECTRA, cuts=st.sets(st.integers(1, 11)), mz_dtype=st.sampled_from(["float32", "float64"]))
def test_processed_is_read_by_pyimzml_however_it_was_cut(
    tmp_path_factory: pytest.TempPathFactory,
    spectra: list[list[tuple[float, float]]],
    cuts: set[int],
    mz_dtype: str,
) -> None:
    path = tmp_path_factory.mktemp("processed") / "p.imzML"
    edges = [0, *sorted(c for c in cuts if c < len(spectra)), len(spectra)]
    with ImzMLWriter(path, shape=(1, 12), mode="processed", mz_dtype=mz_dtype) as writer:
        for start, end in pairwise(edges):
            part = spectra[start:end]
            peaks = np.array([peak for spectrum in part for peak in spectrum], dtype=np.float64).reshape(
                -1, 2
            )
            lengths = [len(spectrum) for spectrum in part]
            intensity = peaks[:, 1].astype(np.float32)
            if len(part) == 1:
                writer.write(0, start, intensity, mz=peaks[:, 0])
            else:
                writer.write_ragged([0] * len(part), range(start, end), peaks[:, 0], intensity, lengths)
    with ImzMLParser(str(path)) as parser:
        assert parser.coordinates == [(x + 1, 1, 1) for x in range(len(spectra))]
        for index, spectrum in enumerate(spectra):
            mz, intensity = parser.getspectrum(index)
            np.testing.assert_array_equal(mz, np.array([m for m, _ in spectrum], dtype=mz_dtype))
            np.testing.assert_array_equal(intensity, np.array([i for _, i in spectrum], dtype=np.float32))


@settings(max_examples=25, deadline=None)
@given(cuts=st.sets(st.integers(1, 8)), seed=st.integers(0, 1000))
def test_continuous_bytes_do_not_depend_on_the_blocks(
    tmp_path_factory: pytest.TempPathFactory, cuts: set[int], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("blocks")
    block = np.random.default_rng(seed).random((9, 1000)).astype(np.float32)
    contents = []
    for name, edges in (("one", [0, 9]), ("many", [0, *sorted(cuts), 9])):
        path = folder / f"{name}.imzML"
        with ImzMLWriter(path, shape=(1, 9), mz=np.arange(1.0, 1001), uuid=IDENTITY) as writer:
            for start, end in pairwise(edges):
                writer.write_block([0] * (end - start), range(start, end), block[start:end])
        contents.append((path.read_bytes(), path.with_suffix(".ibd").read_bytes()))
    assert contents[0] == contents[1]


def test_the_pair_vouches_for_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.imzML"
    with ImzMLWriter(path, shape=(1, 2), mz=AXIS, uuid=IDENTITY) as writer:
        writer.write_block([0, 0], [0, 1], np.arange(8, dtype=np.float32).reshape(2, 4))
    ibd, tree = path.with_suffix(".ibd").read_bytes(), etree.parse(str(path))
    assert ibd[:16] == IDENTITY.bytes
    assert values("IMS:1000080", tree) == ["{12345678-1234-4234-8234-123456789ABC}"]
    assert values("IMS:1000091", tree) == [hashlib.sha1(ibd).hexdigest().upper()]
    assert values("MS:1000285", tree) == ["6.0", "22.0"]
    assert values("IMS:1000102", tree) == ["16", "48", "16", "64"]
    assert values("IMS:1000103", tree) == ["4"] * 4
    assert values("IMS:1000104", tree) == ["32", "16", "32", "16"]
    assert len(ibd) == 80


def test_the_xml_is_in_the_order_of_the_schema_and_every_reference_resolves(tmp_path: Path) -> None:
    path = tmp_path / "a.imzML"
    instrument = Instrument(
        model=CVParam("MS:1000031", "instrument model", 'a "b" <c> & d'),
        source=CVParam("MS:1000075", "matrix-assisted laser desorption ionization"),
        analyzer=CVParam("MS:1000084", "time-of-flight"),
        detector=CVParam("MS:1000253", "electron multiplier"),
    )
    with ImzMLWriter(path, shape=(1, 2), mz=AXIS, instrument=instrument) as writer:
        writer.write(0, 0, np.zeros(4))
        writer.write(0, 1, np.zeros(4))
    root = etree.parse(str(path)).getroot()
    assert [etree.QName(child).localname for child in root] == [
        "cvList",
        "fileDescription",
        "referenceableParamGroupList",
        "softwareList",
        "scanSettingsList",
        "instrumentConfigurationList",
        "dataProcessingList",
        "run",
    ]
    assert root.find(".//m:instrumentConfiguration/m:cvParam", NAMESPACE).get("value") == 'a "b" <c> & d'
    identifiers = {element.get("id") for element in root.iter() if element.get("id")}
    references = {
        v for element in root.iter() for k, v in element.attrib.items() if k.lower().endswith("ref")
    }
    assert references <= identifiers
    for listed in root.iterfind(".//*[@count]"):
        items = [child for child in listed if etree.QName(child).localname != "cvParam"]
        assert int(listed.get("count")) == len(items)
    spectra = root.findall(".//m:spectrum", NAMESPACE)
    assert [(s.get("id"), s.get("index")) for s in spectra] == [("spectrum=1", "0"), ("spectrum=2", "1")]


def test_without_a_pixel_size_none_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.imzML"
    with ImzMLWriter(path, shape=(1, 1), mz=AXIS) as writer:
        writer.write(0, 0, np.zeros(4))
    with ImzMLParser(str(path)) as parser:
        assert "pixel size x" not in parser.imzmldict
        assert parser.polarity is None


def test_the_files_appear_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.imzML"
    with ImzMLWriter(path, shape=(1, 1), mz=AXIS) as writer:
        writer.write(0, 0, np.zeros(4))
        assert not [p for p in tmp_path.iterdir() if not p.name.startswith(".")]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ibd", "a.imzML"]


def test_after_an_exception_nothing_remains(tmp_path: Path) -> None:
    def fail() -> None:
        with ImzMLWriter(tmp_path / "a.imzML", shape=(1, 1), mz=AXIS) as writer:
            writer.write(0, 0, np.zeros(4))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_spectra_is_refused_and_nothing_remains(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="no spectrum"),
        ImzMLWriter(tmp_path / "a.imzML", shape=(1, 1), mz=AXIS),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_existing_files_are_kept_unless_overwriting_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "a.imzML"
    path.with_suffix(".ibd").write_bytes(b"precious")
    with pytest.raises(UsageError, match=r"a\.ibd already"), ImzMLWriter(path, shape=(1, 1), mz=AXIS):
        pass
    assert path.with_suffix(".ibd").read_bytes() == b"precious"
    with ImzMLWriter(path, shape=(1, 1), mz=AXIS, overwrite=True) as writer:
        writer.write(0, 0, [1, 2, 3, 4])
    with ImzMLParser(str(path)) as parser:
        np.testing.assert_array_equal(parser.getspectrum(0)[1], [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "both"}, "mode='both'"),
        ({"representation": "raw"}, "profile or centroid"),
        ({"polarity": "up"}, "positive or negative"),
        ({"intensity_dtype": "uint16"}, "uint16"),
        ({"mz_dtype": "nonsense"}, "nonsense"),
        ({"mz": None}, "no axis for continuous"),
        ({"mode": "processed"}, "an axis for processed"),
        ({"mz": np.zeros((2, 2))}, r"shape \(2, 2\)"),
        ({"mz": []}, r"shape \(0,\)"),
        ({"mz_dtype": "int32"}, "float64 does not fit into int32"),
        ({"shape": (0, 3)}, "at least 1"),
        ({"pixel_size": (0, 1)}, "micrometres"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ImzMLWriter(tmp_path / "a.imzML", **{"shape": (2, 2), "mz": AXIS, **options})


def test_wrong_names_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must end in \.imzML"):
        ImzMLWriter(tmp_path / "a.xml", shape=(1, 1), mz=AXIS)
    with (
        pytest.raises(UsageError, match="no folder"),
        ImzMLWriter(tmp_path / "absent" / "a.imzML", shape=(1, 1), mz=AXIS),
    ):
        pass
    closed = ImzMLWriter(tmp_path / "a.imzML", shape=(1, 1), mz=AXIS)
    with pytest.raises(UsageError, match="not open"):
        closed.write(0, 0, np.zeros(4))


@pytest.mark.parametrize(
    ("y", "x", "block", "message"),
    [
        ([2], [0], np.zeros((1, 4)), r"\(2, 0\) lies outside"),
        ([0], [-1], np.zeros((1, 4)), "outside"),
        ([0], [0, 1], np.zeros((1, 4)), "equal length"),
        ([0], [0], np.zeros((1, 3)), r"shape \(1, 4\), found \(1, 3\)"),
        ([0], [0], np.zeros((1, 4), dtype=complex), "complex128 does not fit"),
        ([0], [0], np.full((1, 4), 2**24 + 1), "int64 does not fit"),
        ([0], [0], np.full((1, 4), 1e300), "float64 does not fit"),
    ],
)
def test_wrong_blocks_are_refused(
    tmp_path: Path, y: list[int], x: list[int], block: np.ndarray, message: str
) -> None:
    with (
        pytest.raises(UsageError, match=message),
        ImzMLWriter(tmp_path / "a.imzML", shape=(2, 2), mz=AXIS) as writer,
    ):
        writer.write_block(y, x, block)


def test_whole_numbers_may_change_their_type_and_others_may_not(tmp_path: Path) -> None:
    path = tmp_path / "a.imzML"
    with ImzMLWriter(path, shape=(1, 1), mz=AXIS, intensity_dtype="int32") as writer:
        for wrong in ([0.5, 1, 2, 3], [np.nan, 1, 2, 3], [2.0**31, 1, 2, 3]):
            with pytest.raises(UsageError, match="does not fit into int32"):
                writer.write(0, 0, wrong)
        writer.write(0, 0, np.array([7, 1, 2, 3], dtype=np.float32))
    with ImzMLParser(str(path)) as parser:
        np.testing.assert_array_equal(parser.getspectrum(0)[1], [7, 1, 2, 3])


def test_each_mode_has_its_own_calls(tmp_path: Path) -> None:
    with ImzMLWriter(tmp_path / "c.imzML", shape=(1, 1), mz=AXIS) as writer:
        with pytest.raises(UsageError, match="write_block"):
            writer.write_ragged([0], [0], [1.0], [1.0], [1])
        with pytest.raises(UsageError, match="one m/z axis for all"):
            writer.write(0, 0, np.zeros(4), mz=AXIS)
        writer.write(0, 0, np.zeros(4))
    with ImzMLWriter(tmp_path / "p.imzML", shape=(1, 1), mode="processed") as writer:
        with pytest.raises(UsageError, match="write_ragged"):
            writer.write_block([0], [0], np.zeros((1, 4)))
        with pytest.raises(UsageError, match="none were given"):
            writer.write(0, 0, np.zeros(4))
        with pytest.raises(UsageError, match="together 3 peaks"):
            writer.write_ragged([0], [0], [1.0, 2.0], [1.0, 2.0], [3])
        writer.write(0, 0, np.zeros(4), mz=AXIS)


def test_memory_does_not_grow_with_the_number_of_spectra(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        block = np.ones((50, 500), dtype=np.float32)
        tracemalloc.start()
        with ImzMLWriter(tmp_path / f"{rows}.imzML", shape=(rows, 50), mz=np.arange(1.0, 501)) as writer:
            for row in range(rows):
                writer.write_block([row] * 50, range(50), block)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(2)
    # The copy buffer of the spool, 1 MiB, is the larger part; the second file alone takes 20 MB.
    assert peak(200) < peak(20) + 2**20
