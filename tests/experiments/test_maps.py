"""Predictions back on the tissue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from msicube.experiments import Run
from msicube.experiments.maps import LOOKED_AT, MEASURED, probability_picture, read_tissue, save_tissue
from msicube.experiments.relabelled import RelabelledStudy
from msicube.store import Study

ROW = {"slide": "d", "label": "tumour", "shape": [4, 7], "pixel_size": 10.0}
CLASSES = ("normal", "tumour")


def picture(y: list[int], x: list[int], p: list[float], **changes: Any) -> Any:
    table = pd.DataFrame({"y": y, "x": x, "p_tumour": p})
    table["p_normal"] = 1 - table["p_tumour"]
    options = {"classes": CLASSES, "positive": "tumour", "size": 2, "tissue": None, **changes}
    return probability_picture(options.pop("row", ROW), table, **options)


def test_samples_are_put_where_they_are_from() -> None:
    found = picture([0, 2], [0, 4], [0.25, 0.75])
    expected = np.full((4, 7), np.nan)
    expected[:2, :2] = 0.25
    expected[2:, 4:6] = 0.75
    np.testing.assert_array_equal(found.values, expected)
    assert found.title == "d (tumour)\nas normal, mean 0.50"
    assert found.pixel_size == 10.0


def test_a_pixel_has_the_mean_of_the_patches_that_cover_it() -> None:
    found = picture([0, 0], [0, 1], [0.0, 1.0])
    np.testing.assert_allclose(found.values[0], [0, 0.5, 1, np.nan, np.nan, np.nan, np.nan])
    assert found.title.endswith("mean 0.50")


def test_only_tissue_is_drawn_and_what_was_left_out_is_known() -> None:
    tissue = np.full((4, 7), LOOKED_AT, np.uint8)
    tissue[0, 0], tissue[1, 1] = 0, MEASURED
    found = picture([0], [0], [1.0], tissue=tissue)
    assert np.argwhere(np.isfinite(found.values)).tolist() == [[0, 1], [1, 0]]
    assert found.measured.sum() == 27


@pytest.mark.parametrize("size", [1, 3])
def test_a_large_slide_is_thinned_to_its_nth_pixels(size: int) -> None:
    rng = np.random.default_rng(0)
    y, x = np.divmod(rng.permutation(1400 * 40)[:3000], 40)
    y, x = np.minimum(y, 1400 - size), np.minimum(x, 40 - size)
    p = rng.random(3000)
    whole, count = np.zeros((1400, 40)), np.zeros((1400, 40))
    for top, left, value in zip(y, x, p, strict=True):
        whole[top : top + size, left : left + size] += value
        count[top : top + size, left : left + size] += 1
    found = picture(list(y), list(x), list(p), size=size, row={**ROW, "shape": [1400, 40]})
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(found.values, (whole / count)[::3, ::3], rtol=1e-5)
    assert found.pixel_size == 30.0


def test_tissue_is_what_was_measured_and_what_is_looked_at(study: Study, tmp_path: Path) -> None:
    table = study.samples
    slide = study.slides[0]
    save_tissue(Run(tmp_path), RelabelledStudy(study, table), [slide])
    (tmp_path / "run.json").write_text("{}")
    np.testing.assert_array_equal(read_tissue(Run(tmp_path))[slide] == LOOKED_AT, study.acquired(slide))
