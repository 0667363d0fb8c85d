"""The limit on BLAS threads holds in every task, and is gone afterwards."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from msicube.preprocess import PCA, Pipeline, Standardize
from msicube.preprocess._blas import one_blas_thread
from msicube.preprocess.moments import Covariance


def threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_tasks_see_one_thread_each(slide: Any, scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, inside = threads(), []
    through = Covariance.merge

    def merge(one: Covariance, other: Covariance) -> Covariance:
        inside.append(threads())
        return through(one, other)

    monkeypatch.setattr(Covariance, "merge", merge)
    dataset = slide.dataset((5, 5, 40))
    for _ in range(2):
        Pipeline([Standardize(), PCA(2)]).fit(dataset, scheduler=scheduler, workers=3)
    assert len(inside) == 2 * 19
    assert all(found == {1} for found in inside)
    assert threads() == before


def test_an_error_gives_the_threads_back() -> None:
    before = threads()
    with pytest.raises(np.linalg.LinAlgError), one_blas_thread():
        np.linalg.inv(np.zeros((2, 2)))
    assert threads() == before


def test_blocks_that_overlap_keep_the_limit_until_the_last_ends() -> None:
    before, inside, first_left = threads(), Event(), Event()

    def late() -> set[int]:
        with one_blas_thread():
            inside.set()
            first_left.wait(10)
            return threads()

    with ThreadPoolExecutor(1) as pool:
        with one_blas_thread():
            found = pool.submit(late)
            inside.wait(10)
        first_left.set()
        assert found.result() == {1}
    assert threads() == before
