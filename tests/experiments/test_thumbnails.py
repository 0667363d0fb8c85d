from __future__ import annotations

import numpy as np
import pytest

from msicube.experiments.thumbnails import pixel_size, thumbnail
from msicube.preprocess import PCA, Log1p, Pipeline
from msicube.store import Study


@pytest.mark.parametrize("max_edge", [512, 20, 7, 1])
def test_a_thumbnail_is_every_nth_pixel_of_the_cube(study: Study, max_edge: int) -> None:
    slide = study.slides[0]
    channels = np.array([100, 3, 17])
    picture = thumbnail(study, slide, title="a", channels=channels, max_edge=max_edge)
    whole = study[slide]["intensity"].to_numpy()[..., channels]
    whole[~study.acquired(slide)] = np.nan
    step = -(-max(whole.shape[:2]) // max_edge)
    np.testing.assert_array_equal(picture.values, whole[::step, ::step])
    assert max(picture.values.shape[:2]) <= max_edge
    assert picture.pixel_size == pytest.approx(50.0 * step)


def test_features_are_those_of_the_pipeline(study: Study) -> None:
    slide = study.slides[1]
    pipeline = Pipeline([Log1p(), PCA(3)]).fit(study)
    picture = thumbnail(study, slide, title="a", pipeline=pipeline)
    acquired = study.acquired(slide)
    expected = pipeline.transform(study)[slide]["features"].to_numpy()
    np.testing.assert_allclose(picture.values[acquired], expected[acquired], rtol=1e-4, atol=1e-4)
    assert np.isnan(picture.values[~acquired]).all()


@pytest.mark.parametrize(
    ("known", "expected"),
    [({"y": 50, "x": 50.0}, 50.0), ({"y": 50, "x": 20}, None), ({}, None), (None, None)],
)
def test_a_pixel_size_that_is_not_known_or_not_square_gives_none(
    study: Study, known: dict[str, float] | None, expected: float | None
) -> None:
    slide = study.slides[0]
    again = type(study)(study.location)
    again.slide_attrs = {slide: {"pixel_size": known}}
    assert pixel_size(again, slide) == expected
