"""One BLAS thread while reading threads transform spectra, however many streams are read at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from msicube.preprocess import _blas
from msicube.stream.selection import Selection


@contextmanager
def one_blas_thread(selection: Selection) -> Iterator[None]:
    """Hold NumPy's linear algebra to one thread while any stream with a pipeline is read.

    The reading threads work beside one another already; threads inside each would fight over the processors. It is the
    limit that fits hold as well, counted in one place: two that did not know of each other would lift each other's.
    """
    if selection.pipeline is None:
        yield
        return
    with _blas.one_blas_thread():
        yield
