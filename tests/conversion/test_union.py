"""The axis law ``union`` against all values at once, and studies that are on it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from processed_helpers import hashes, write_processed

import msicube as mc
from msicube.conversion import union
from msicube.conversion.union import UnionOfValues
from msicube.errors import AxisMismatch, UsageError

#: Clusters a few ppm apart, single values, and values that are none.
near = st.builds(
    lambda centre, ppm: centre * (1 + ppm * 1e-6), st.sampled_from([200.0, 500.0]), st.floats(-60, 60)
)
odd = st.sampled_from([np.nan, -3.0, 1e35])
values = st.lists(st.one_of(near, st.floats(100.0, 1000.0), odd), max_size=60)


def chains(found: np.ndarray, ppm: float) -> list[tuple[float, float]]:
    """Group all values at once, the plain way."""
    groups: list[list[float]] = []
    for value in found:
        if groups and value <= groups[-1][-1] * (1 + ppm * 1e-6):
            groups[-1].append(float(value))
        else:
            groups.append([float(value)])
    return [(group[0], group[-1]) for group in groups]


@given(values, st.sampled_from([0.0, 1.0, 20.0]), st.integers(1, 20), st.randoms(use_true_random=False))
def test_portions_and_order_do_not_matter(found: list[float], ppm: float, portion: int, random) -> None:  # type: ignore[no-untyped-def]
    real = np.unique([value for value in found if 0 < value < 1e6])
    random.shuffle(found)
    union_of = UnionOfValues(ppm)
    for start in range(0, len(found), portion):
        union_of.add(np.array(found[start : start + portion]))
        union_of._merge()
    if not len(real):
        with pytest.raises(UsageError, match="no peak"):
            union_of.bins()
        return
    bins = union_of.bins()
    expected = chains(real, ppm)
    starts, ends = {low for low, _ in expected}, {high for _, high in expected}
    assert starts <= set(bins.lower.tolist())
    assert {np.nextafter(high, np.inf) for high in ends} <= set(bins.upper.tolist())
    assert (bins.assign(real) >= 0).all(), "an observed value is in no channel"
    assert (bins.lower <= bins.centres).all()
    assert (bins.centres < bins.upper).all()
    assert (np.diff(bins.centres) > 0).all()
    assert (bins.upper[:-1] <= bins.lower[1:]).all()
    assert (bins.upper <= bins.lower * (1 + ppm * 1e-6) * (1 + 1e-12)).all()
    if ppm == 0:
        np.testing.assert_array_equal(bins.centres, real)
    for a, b in pairwise(real):
        if b > a * (1 + ppm * 1e-6):
            assert bins.assign(np.array([a]))[0] != bins.assign(np.array([b]))[0]


def test_too_many_values_are_refused_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(union, "MAX_CHANNELS", 1000)
    monkeypatch.setattr(union, "PENDING", 100)
    exact, wide = UnionOfValues(0), UnionOfValues(1e5)
    rng = np.random.default_rng(0)
    portions = rng.uniform(100, 1000, (40, 90))
    with pytest.raises(UsageError, match="union:PPM"):
        [exact.add(portion) for portion in portions]
    for portion in portions:
        wide.add(portion)
    assert len(wide.bins()) < 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_processed(tmp_path / "in" / "a.imzML", seed=1)
    write_processed(tmp_path / "in" / "b.imzML", seed=2, low=400.0, high=1000.0, mz_dtype="float32")
    return tmp_path / "in"


@pytest.mark.parametrize("law", ["union", "union:50"])
def test_all_slides_share_the_union_and_lose_nothing(folder: Path, tmp_path: Path, law: str) -> None:
    report = mc.convert(folder, tmp_path / "s.zarr", mz_axis=law)
    study = mc.open_study(tmp_path / "s.zarr")
    np.testing.assert_array_equal(study.axis("a"), study.axis("b"))
    assert study.slide_attrs["a"]["axis"]["law"] == law
    assert all(row.out_of_range == 0 and row.peaks for row in report.slides)
    assert mc.validate(study, sources=[folder]) == []
    if law == "union":
        peaks = [study.peaks(name) for name in study]
        every = np.concatenate([p.read_mz(0, len(p.lengths)).astype(np.float64) for p in peaks if p])
        np.testing.assert_array_equal(study.axis("a"), np.unique(every))
    mc.convert(
        [folder / "b.imzML", folder / "a.imzML"], tmp_path / "u.zarr", mz_axis=law, scheduler="synchronous"
    )
    assert hashes(tmp_path / "u.zarr") == hashes(tmp_path / "s.zarr")


def test_a_late_slide_joins_the_stored_union(folder: Path, tmp_path: Path) -> None:
    mc.convert(folder / "a.imzML", tmp_path / "s.zarr", mz_axis="union:50")
    row = mc.convert(folder / "b.imzML", tmp_path / "s.zarr").slides[0]
    assert row.out_of_range > 0
    study = mc.open_study(tmp_path / "s.zarr")
    np.testing.assert_array_equal(study.axis("a"), study.axis("b"))
    assert mc.validate(study, sources=[folder]) == []


def test_a_list_of_peaks_is_needed_once_only(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("\n".join(map(str, np.linspace(150, 950, 40))))
    law = f"peaks:{file}@300"
    mc.convert(folder / "a.imzML", tmp_path / "s.zarr", mz_axis=law)
    file.write_text("300.0\n400.0\n")
    with pytest.raises(AxisMismatch, match="lists other peaks"):
        mc.convert(folder / "b.imzML", tmp_path / "s.zarr", mz_axis=law)
    file.unlink()
    mc.convert(folder / "b.imzML", tmp_path / "s.zarr")
    study = mc.open_study(tmp_path / "s.zarr")
    np.testing.assert_array_equal(study.axis("a"), study.axis("b"))
    assert mc.validate(study, sources=[folder]) == []


def test_a_range_is_not_enough() -> None:
    from msicube.axis import AxisLaw

    for text in ("union", "union:5"):
        assert str(AxisLaw.parse(text)) == text
        with pytest.raises(UsageError, match="observed values"):
            AxisLaw.parse(text).bins(100, 200)
    for text in ("union:", "union:-1", "union:x", "union:inf"):
        with pytest.raises(UsageError, match="no axis law"):
            AxisLaw.parse(text)
