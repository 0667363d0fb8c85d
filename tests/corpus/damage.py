"""Damage of every kind, and a limit on how long reading what is left may take."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

#: A number of an imzML: what still parses after it is changed.
XML_NUMBER = rb'value="(-?\d+)"'


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Fail where something takes longer."""

    def late(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def damage(data: bytes, rng: np.random.Generator, numbers: bytes = XML_NUMBER) -> bytes:
    """Return the bytes with some of them flipped, left out, doubled, exchanged or made up."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        a, b = sorted(rng.integers(0, len(out) + 1, 2).tolist())
        b = min(b, a + int(rng.integers(1, 60)))
        match rng.integers(0, 7):
            case 0 if a < len(out):
                out[a] ^= 1 << int(rng.integers(0, 8))
            case 1:
                del out[a:b]
            case 2:
                out[a:a] = out[a:b]
            case 3 if rng.random() < 0.2:
                del out[a:]
            case 4:
                out[a:b] = rng.bytes(b - a)
            case 5:
                swap_digits(out, rng, numbers)
            case _:
                c = int(rng.integers(0, len(out) + 1))
                out[a:b], out[c : c + b - a] = out[c : c + b - a], out[a:b]
        if not out:
            out.extend(b"x")
    return bytes(out)


def swap_digits(out: bytearray, rng: np.random.Generator, numbers: bytes) -> None:
    """Change one number, the first group of a pattern."""
    values = list(re.finditer(numbers, bytes(out)))
    if values:
        start, end = values[rng.integers(0, len(values))].span(1)
        choices = [b"0", b"-1", b"4", b"1e3", b"99999999999999999999", b"4294967312", b"", b"16", b"nan"]
        out[start:end] = choices[rng.integers(0, len(choices))]
