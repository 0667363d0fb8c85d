from __future__ import annotations

from pathlib import Path

import pytest

from msicube.errors import UsageError
from msicube.samples import read_samples, samples_frame


def test_rows_by_slide_without_empty_cells(tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    path.write_text("slide,label,patient,age\n007,tumour,p1,61\nb,,p2,\n")
    rows = read_samples(path)
    assert rows == {"007": {"label": "tumour", "patient": "p1", "age": 61.0}, "b": {"patient": "p2"}}
    frame = samples_frame(rows)
    assert frame.index.name == "slide"
    assert frame.loc["007", "label"] == "tumour"


@pytest.mark.parametrize(
    ("text", "message"),
    [("name,label\na,b\n", "slide"), ("slide\na\na\n", "twice"), ("", "cannot read")],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "samples.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_samples(path)
