"""How somebody else writes a step, here one that needs two passes and a statistic of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from msicube import errors
from msicube.preprocess import PCA, Log1p, Pipeline, Standardize, Step
from msicube.preprocess.affine import Affine
from msicube.preprocess.channels import Channels
from msicube.preprocess.moments import ClassMoments
from msicube.preprocess.request import Request, moments
from msicube.store import Study


@dataclass(frozen=True, eq=False)
class AbsoluteDeviations:
    """Sum of absolute deviations from a given centre."""

    n: int
    total: NDArray[np.float64]
    n_nonfinite: int = 0

    @classmethod
    def from_block(
        cls, block: NDArray[Any], labels: Any, *, centre: NDArray[np.float64]
    ) -> AbsoluteDeviations:
        return cls(len(block), np.abs(block - centre).sum(axis=0))

    def merge(self, other: AbsoluteDeviations) -> AbsoluteDeviations:
        return AbsoluteDeviations(self.n + other.n, self.total + other.total)

    def through(self, affine: Affine) -> None:
        return None


class MeanDeviation(Step):
    """Centre channels and divide them by their mean absolute deviation."""

    linear = True
    learned_arrays: ClassVar = {"mean_": ("channel",), "deviation_": ("channel",)}

    def request(self) -> Request:
        return moments()

    def learn(self, statistic: Any) -> Request | None:
        if isinstance(statistic, ClassMoments):
            self.mean_ = statistic.total().mean
            measure = partial(AbsoluteDeviations.from_block, centre=self.mean_)
            return Request("absolute deviations", measure)
        self.deviation_ = statistic.total / statistic.n
        return None

    def as_affine(self) -> Affine:
        return Affine.diagonal(centre=self.mean_, weight=1 / self.deviation_)


class Crop(Step):
    """Keep a range of channels; the kernel returns a view."""

    def __init__(self, *, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop

    def plan(self, n_channels: int) -> int:
        return self.stop - self.start

    def channels_out(self) -> Channels:
        return self._channels.take(np.arange(self.start, self.stop))

    def kernel(self, block: Any, out: Any = None, tally: Any = None) -> Any:
        return block[:, self.start : self.stop]


def test_a_step_may_take_two_passes(slide: Any) -> None:
    pipeline = Pipeline([Log1p(), MeanDeviation(), PCA(2)]).fit(slide.dataset((7, 7, 40)))
    assert [one.gathered for one in pipeline.passes_] == ["moments", "absolute deviations", "covariance"]
    logged = np.log1p(slide.X)
    deviation = np.abs(logged - logged.mean(axis=0)).mean(axis=0)
    np.testing.assert_allclose(pipeline.steps_[1].deviation_, deviation, rtol=1e-12)  # type: ignore[attr-defined]
    assert len(pipeline.chain.stages) == 2


def test_two_passes_cannot_be_made_part_by_part(slide: Any) -> None:
    with pytest.raises(errors.UsageError, match="MeanDeviation goes through the data more than once"):
        MeanDeviation().partial_fit(slide.X)


def test_its_first_pass_may_be_shared(slide: Any) -> None:
    pipeline = Pipeline([Standardize(), MeanDeviation()]).fit(slide.X)
    assert [one.gathered for one in pipeline.passes_] == ["moments", "absolute deviations"]
    Z = Standardize().fit(slide.X).transform(slide.X)
    np.testing.assert_allclose(pipeline.transform(slide.X), Z / np.abs(Z).mean(axis=0), rtol=1e-9, atol=1e-12)


def test_it_is_saved_and_loaded(own_study: Study, slide: Any) -> None:
    pipeline = Pipeline([Crop(start=3, stop=9), MeanDeviation()]).fit(slide.X)
    pipeline.save(own_study, name="custom")
    loaded = Pipeline.load(own_study, name="custom")
    assert loaded.transform(slide.X).tobytes() == pipeline.transform(slide.X).tobytes()


def test_a_kernel_may_return_a_view_and_nothing_is_overwritten(slide: Any) -> None:
    X = slide.X.copy()
    pipeline = Pipeline([Crop(start=3, stop=9), Log1p()]).fit(X)
    np.testing.assert_array_equal(pipeline.transform(X), np.log1p(X[:, 3:9]))
    assert X.tobytes() == slide.X.tobytes()
    assert list(pipeline.get_feature_names_out()) == ["x3", "x4", "x5", "x6", "x7", "x8"]


def test_a_step_without_a_kernel_says_so(slide: Any) -> None:
    class Nothing(Step):
        pass

    with pytest.raises(NotImplementedError, match="Nothing has neither a kernel nor an affine form"):
        Nothing().fit(slide.X).transform(slide.X)
