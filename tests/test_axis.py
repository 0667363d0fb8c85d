from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from msicube.axis import AxisLaw, SpectralBins, suggest_law
from msicube.errors import UsageError

GRIDS = ["da:0.5", "ppm:50", "tof:0.1@800", "orbitrap:0.02@400", "fticr:0.01@400"]
#: How the width of a channel grows with m/z.
EXPONENT = {"da": 0.0, "ppm": 1.0, "tof": 0.5, "orbitrap": 1.5, "fticr": 2.0}


@pytest.mark.parametrize("text", GRIDS)
def test_width_grows_as_the_law_says(text: str) -> None:
    law = AxisLaw.parse(text)
    bins = law.bins(200.0, 1200.0)
    slope = np.polyfit(np.log(bins.centres), np.log(bins.upper - bins.lower), 1)[0]
    assert slope == pytest.approx(EXPONENT[law.kind], abs=1e-3)
    at = np.argmin(abs(bins.centres - law.reference))
    expected = law.width * (bins.centres[at] * 1e-6 if law.kind == "ppm" else 1.0)
    if bins.centres[0] < law.reference < bins.centres[-1]:
        assert bins.upper[at] - bins.lower[at] == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("text", GRIDS)
def test_every_range_is_a_part_of_one_grid(text: str) -> None:
    law = AxisLaw.parse(text)
    whole, part = law.bins(200.0, 1200.0), law.bins(401.3, 800.7)
    first = np.searchsorted(whole.centres, part.centres[0])
    np.testing.assert_array_equal(whole.centres[first : first + len(part)], part.centres)
    again = law.bins(part.centres[0], part.centres[-1])
    np.testing.assert_array_equal(again.centres, part.centres)


@given(st.sampled_from(GRIDS), st.lists(st.floats(100.0, 2000.0), min_size=1, max_size=50))
@example("tof:0.1@800", [1800.0])
def test_every_value_of_the_range_falls_into_the_channel_that_holds_it(
    text: str, values: list[float]
) -> None:
    mz = np.array(values)
    bins = AxisLaw.parse(text).bins(mz.min(), mz.max())
    channel = bins.assign(mz)
    assert (channel >= 0).all()
    assert (bins.lower[channel] <= mz).all()
    assert (mz < bins.upper[channel]).all()


@pytest.mark.parametrize("bins", [AxisLaw.parse(text).bins(200.0, 1200.0) for text in [*GRIDS, "da:20"]])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_search_is_bisection(bins: SpectralBins, dtype: type) -> None:
    rng = np.random.default_rng(0)
    edges = np.concatenate([bins.lower, bins.upper, bins.centres])
    odd = np.array([-np.inf, -1.0, 0.0, 1e35, np.finfo(dtype).max, np.inf, np.nan])
    beside = np.nextafter(edges, 0), np.nextafter(edges, 1e9)
    values = np.concatenate([edges, *beside, rng.uniform(150, 1300, 3000), odd]).astype(dtype)
    for mz in (values, rng.permutation(values)):
        expected = np.searchsorted(bins.lower, mz, side="right") - 1
        expected[(expected < 0) | ~(mz < bins.upper[expected])] = -1
        np.testing.assert_array_equal(bins.assign(mz), expected)
    assert len(pickle.dumps(bins)) < 3.1 * bins.centres.nbytes + 1000, "the table travels with the bins"


def test_what_lies_outside_is_in_no_channel() -> None:
    bins = AxisLaw.parse("da:1").bins(100.2, 104.7)
    np.testing.assert_array_equal(
        bins.assign(np.array([99.9, 100.0, 104.99, 105.0, np.nan, np.inf])), [-1, 0, 4, -1, -1, -1]
    )


def test_peaks_have_windows_that_never_overlap(tmp_path: Path) -> None:
    file = tmp_path / "peaks.csv"
    file.write_text("500.0\n500.01\n300.0\n")
    bins = AxisLaw.parse(f"peaks:{file}@50").bins(0, 0)
    np.testing.assert_array_equal(bins.centres, [300.0, 500.0, 500.01])
    assert (bins.upper[:-1] <= bins.lower[1:]).all()
    np.testing.assert_array_equal(
        bins.assign(np.array([300.01, 300.02, 500.004, 500.006, 400.0])), [0, -1, 1, 2, -1]
    )


def test_an_observed_axis_takes_its_own_values() -> None:
    bins = SpectralBins.observed(np.array([1.0, 1.5, 4.0], np.float32))
    assert bins.exact
    np.testing.assert_array_equal(bins.assign(np.array([1.0, 1.5, 4.0, 2.0])), [0, 1, 2, -1])


@pytest.mark.parametrize(
    "text", ["", "20", "ppm", "ppm:", "ppm:-3", "furlong:2", "tof:1@x", "da:0", "peaks:"]
)
def test_what_is_no_law_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no axis law"):
        AxisLaw.parse(text)


@pytest.mark.parametrize("text", [*GRIDS, "peaks:list.csv@10"])
def test_a_law_reads_back_as_it_prints(text: str) -> None:
    assert AxisLaw.parse(str(AxisLaw.parse(text))) == AxisLaw.parse(text)


def test_an_axis_without_end_is_refused() -> None:
    with pytest.raises(UsageError, match="choose wider"):
        AxisLaw.parse("da:0.0001").bins(1.0, 1e6)
    with pytest.raises(UsageError, match="0 < lowest"):
        AxisLaw.parse("da:1").bins(0.0, 10.0)


def test_the_suggestion_follows_the_spacing() -> None:
    mz = np.exp(np.arange(6.0, 6.1, 30e-6))
    assert suggest_law(np.diff(mz), mz[1:]) == "ppm:30"
    assert suggest_law(np.array([300.0]), np.array([600.0])) == "ppm:100"
