"""The fast path gives what the XML path gives, on every text; and it is taken where it should be."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imzml_scans import assert_same, outcome, tuned

from msicube.readers.imzml.rows import RowReader
from msicube.readers.imzml.scan import scan
from msicube.readers.imzml.template import Template
from msicube.simulate import simulate_msi

# Numbers as writers write them, and as they should not.
NUMBERS = st.one_of(
    st.integers(0, 10**6).map(str),
    st.integers(0, 10**6).map(str),
    st.sampled_from(
        ["0", "007", "-5", "+3", "1e3", "1.25e+02", "1.6e+01", " 7 ", "", "1.5", "nan", "9" * 17, "9" * 18, "9" * 30,
         "1_0", "٣", "1&#48;", "2&amp;"]
    ),
)  # fmt: skip
SPACE = st.sampled_from([" ", " ", "  ", "\n", "\t", "\r\n "])
BETWEEN = st.sampled_from(
    ["", "\n", "\n\n  ", "<!-- x -->", "<!-- </spectrum> <spectrum> -->", "<?pi </spectrum>?>", "text",
     "<other a='1'/>", "<![CDATA[</spectrum>]]>", "<spectrum/>", "</spectrumList><spectrumList count='9'>"]
)  # fmt: skip
RARELY = st.integers(0, 9).map(lambda n: n == 0)


@st.composite
def terms(draw: st.DrawFn, accession: str, hole: str | None) -> str:
    """One cvParam with its attributes in any order and quotes; ``hole`` is replaced by a number later."""
    attributes = [
        ("accession", accession),
        ("name", draw(st.sampled_from(["a", "position x", "profile spectrum", "ä"]))),
    ]
    if hole is not None:
        attributes.append(("value", hole))
    if draw(st.booleans()):
        attributes.append(("cvRef", "MS"))
    attributes = draw(st.permutations(attributes))
    quote = draw(st.sampled_from(['"', '"', '"', "'"]))
    body = "".join(
        f"{draw(SPACE)}{key}{draw(st.sampled_from(['=', '=', ' = ']))}{quote}{value}{quote}"
        for key, value in attributes
    )
    return f"<cvParam{body}{draw(st.sampled_from(['/>', ' />', '></cvParam>']))}"


@st.composite
def arrays(draw: st.DrawFn, kind: str) -> str:
    lines = [draw(terms("IMS:1000102", "%")), draw(terms("IMS:1000103", "%"))]
    if draw(st.booleans()):
        lines.append(draw(terms("IMS:1000104", "%")))
    if draw(st.booleans()):
        group = "mz" if kind == "MS:1000514" else "intensity"
        lines.append(f'<referenceableParamGroupRef ref="{group}"/>')
        if draw(RARELY):
            lines.append(draw(terms("MS:1000523", None)))
    else:
        lines += [
            draw(terms(kind, None)),
            draw(terms(draw(st.sampled_from(["MS:1000521", "MS:1000519"])), "")),
        ]
    if draw(RARELY):
        lines.append(draw(terms("IMS:1000102", "%")))
    lines = draw(st.permutations(lines))
    return f'<binaryDataArray encodedLength="0">{draw(SPACE)}{draw(SPACE).join(lines)}<binary/></binaryDataArray>'


@st.composite
def shapes(draw: st.DrawFn) -> str:
    """One spectrum in which every ``%`` stands for a number."""
    own = [draw(terms(draw(st.sampled_from(["MS:1000511", "MS:1000285", "MS:1000128", "MS:1000580"])), "%"))]
    if draw(st.booleans()):
        own.append('<userParam name="note" value="%"/>')
    if draw(RARELY):
        own.append(
            draw(
                st.sampled_from(
                    ["<!-- & </spectrum> -->", "<![CDATA[x]]>", "a > b", '<x value="%">t</x>', "&lt;"]
                )
            )
        )
    position = [draw(terms("IMS:1000050", "%")), draw(terms("IMS:1000051", "%"))]
    if draw(st.booleans()):
        position.append(draw(terms("IMS:1000052", "%")))
    if draw(st.booleans()):
        position.append('<referenceableParamGroupRef ref="scan"/>')
    position = draw(st.permutations(position))
    both = draw(st.permutations([draw(arrays("MS:1000514")), draw(arrays("MS:1000515"))]))
    gap, end = draw(SPACE), draw(st.sampled_from(["", "", "", " "]))
    return (
        f'<spectrum{draw(SPACE)}id="s=%" index="%">{gap.join(own)}{gap}<scanList><scan>{gap.join(position)}</scan>'
        f"</scanList><binaryDataArrayList>{gap.join(both)}</binaryDataArrayList></spectrum{end}>"
    )


@st.composite
def files(draw: st.DrawFn) -> bytes:
    chosen = draw(st.lists(shapes(), min_size=1, max_size=3))
    spectra = []
    for _ in range(draw(st.integers(4, 20))):
        pieces = draw(st.sampled_from(chosen)).split("%")
        plain = not draw(RARELY)
        numbers = [
            str(draw(st.integers(0, 10**6))) if plain else draw(NUMBERS) for _ in range(len(pieces) - 1)
        ]
        spectra.append("".join(a + b for a, b in zip(pieces, [*numbers, ""], strict=True)))
        spectra.append(draw(BETWEEN) if draw(RARELY) else "\n")
    encoding = draw(st.sampled_from(["UTF-8", "UTF-8", "ISO-8859-1", "UTF-16", "US-ASCII"]))
    namespace = draw(st.sampled_from([' xmlns="http://psi.hupo.org/ms/mzml"', ""]))
    groups = "".join(
        f'<referenceableParamGroup id="{name}">{"".join(f"<cvParam accession={chr(34)}{a}{chr(34)}/>" for a in held)}'
        "</referenceableParamGroup>"
        for name, held in (
            ("mz", ("MS:1000514", "MS:1000523")),
            ("intensity", ("MS:1000515", "MS:1000521")),
            ("scan", ()),
        )
    )
    text = (
        f'<?xml version="1.0" encoding="{encoding}"?>\n<mzML{namespace}><fileDescription/>{groups}<run><spectrumList '
        f'count="{len(spectra) // 2}">\n{"".join(spectra)}</spectrumList></run></mzML>'
    )
    if draw(st.booleans()):
        text = text.replace("\r\n", "\n").replace("\n", "\r\n")
    return text.encode(encoding, errors="xmlcharrefreplace")


@given(data=files(), block=st.sampled_from([1, 7, 100, 1000, 2**20]))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_both_paths_agree_on_every_text(
    data: bytes, block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "quick.imzML"
    path.write_bytes(data)
    with tuned(block=block):
        assert_same(outcome(path, fast=True), outcome(path, fast=False))


@given(
    data=files(),
    places=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_both_paths_agree_on_damaged_text(
    data: bytes, places: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    changed = bytearray(data)
    for place, byte in places:
        changed[place % len(changed)] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.imzML"
    path.write_bytes(changed)
    assert_same(outcome(path, fast=True), outcome(path, fast=False))


def test_both_paths_agree_on_real_files(shared_data: Path) -> None:
    paths = [path for path in (shared_data / "imzml").rglob("*") if path.suffix.lower() == ".imzml"]
    assert len(paths) == 9
    for path in paths:
        assert_same(outcome(path, fast=True), outcome(path, fast=False))


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the spectra that go through the XML path."""
    count = [0]
    read = RowReader.read

    def counted(self: RowReader, *arguments: object) -> None:
        count[0] += 1
        read(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(RowReader, "read", counted)
    return count


def test_ordinary_files_hardly_touch_the_parser(tmp_path: Path, shared_data: Path, parsed: list[int]) -> None:
    path = simulate_msi(tmp_path / "s", slides=1, shape=(60, 60), channels=5).slides[0].path
    for block in (500, 9_999, 2**20):
        with tuned(block=block):
            parsed[0] = 0
            spectra = len(scan(path)[1])
        assert spectra > 1000
        assert parsed[0] < 10
    parsed[0] = 0
    assert len(scan(shared_data / "imzml/galaxy/spatial_DGMM_input.imzML")[1]) == 400
    assert parsed[0] < 10


def test_alternating_shapes_are_both_learned(tmp_path: Path, parsed: list[int]) -> None:
    path = simulate_msi(tmp_path / "s", slides=1, shape=(40, 40), channels=5).slides[0].path
    text = path.read_text(encoding="UTF-8")
    head, *spectra = text.split("<spectrum ")
    extra = f'<userParam name="{escape("odd")}" value="1.5"/><scanList'
    spectra = [s.replace("<scanList", extra) if i % 2 else s for i, s in enumerate(spectra)]
    path.write_text("<spectrum ".join([head, *spectra]), encoding="UTF-8")
    reference = outcome(path, fast=False)
    parsed[0] = 0
    fast = outcome(path, fast=True)
    assert parsed[0] < 15
    assert_same(fast, reference)


def test_a_file_of_which_no_spectrum_is_like_another_is_read_all_the_same(tmp_path: Path) -> None:
    path = simulate_msi(tmp_path / "s", slides=1, shape=(20, 20), channels=5).slides[0].path
    pieces = path.read_text(encoding="UTF-8").split("<scanList")
    path.write_text(
        "".join(a + f'<userParam name="n{i}"/><scanList' for i, a in enumerate(pieces[:-1])) + pieces[-1]
    )
    assert_same(outcome(path, fast=True), outcome(path, fast=False))


def test_a_shape_is_learned_once_however_often_the_parser_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = simulate_msi(tmp_path / "s", slides=1, shape=(20, 20), channels=5).slides[0].path
    pieces = path.read_text(encoding="UTF-8").split("<spectrum ")
    path.write_text(
        "".join(f"{piece}{'<!-- x -->' if n % 10 == 9 else ''}<spectrum " for n, piece in enumerate(pieces))[
            : -len("<spectrum ")
        ],
        encoding="UTF-8",
    )
    learned = []
    learn = Template.learn
    monkeypatch.setattr(Template, "learn", lambda *rest: learned.append(rest) or learn(*rest))
    assert_same(outcome(path, fast=True), outcome(path, fast=False))
    assert 0 < len(learned) < 4
