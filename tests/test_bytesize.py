from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msicube.bytesize import format_bytes, parse_bytes
from msicube.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64 MiB", 64 * 2**20),
        ("2GB", 2 * 10**9),
        ("1.5 KiB", 1536),
        ("512M", 512 * 2**20),
        ("7", 7),
        ("7 b", 7),
    ],
)
def test_units(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "12 parsecs", "-3 MiB", "0"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="size"):
        parse_bytes(text)


@given(st.integers(1, 2**50))
def test_a_formatted_size_reads_back_within_its_digits(size: int) -> None:
    assert parse_bytes(format_bytes(size)) == pytest.approx(size, rel=0.06)
