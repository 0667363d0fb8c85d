"""Masks of an experiment's own: their sections, who may name them, and what they keep from whom."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import msicube as mc
from msicube.errors import EmptySlideWarning, RecipeError
from msicube.experiments.features import prepare_features
from msicube.experiments.masks import MaskedStudy, used_masks, warn_of_empty
from msicube.experiments.recipe import Recipe
from msicube.experiments.recipe_files import load_recipe, parse_recipe
from msicube.experiments.split import resolve_split
from msicube.experiments.toml import dump_toml
from msicube.store import Study
from msicube.store.packed import PackedMask

ODD = {"steps": [{"step": "TICNormalize"}, {"step": "OutlierMask", "n_components": 2, "alpha": 0.1}]}
TABLE: dict[str, Any] = {
    "name": "small",
    "data": {"where": "~odd"},
    "masks": {"odd": ODD},
    "pipeline": {"steps": [{"step": "Log1p"}, {"step": "Standardize"}]},
    "spectra": {},
    "model": {"name": "cnn1d"},
}


def test_a_mask_is_fitted_on_training_slides_and_kept_out_of_the_store(
    study_path: Path, tmp_path: Path
) -> None:
    shutil.copytree(study_path, tmp_path / "study.zarr")
    study, recipe = mc.open_study(tmp_path / "study.zarr"), parse_recipe(TABLE)
    split = resolve_split(recipe.data, study.samples, seed=0)
    features = prepare_features(recipe, study, split, None)
    odd = features.masks["odd"]
    assert sorted(odd.slides_) == sorted(split.train)
    for slide in study.slides:
        spectra = study[slide]["intensity"].to_numpy()
        expected = study.acquired(slide)
        expected[expected] = odd.transform_block(spectra[expected])[:, 0] == 0
        assert np.array_equal(features.study.acquired(slide), expected)
        assert study.masks(slide) == mc.open_study(study_path).masks(slide)
    assert features.pipeline.where_ == "~odd"
    assert features.pipeline.n_spectra_ == sum(features.study.acquired(slide).sum() for slide in split.train)
    again = pickle.loads(pickle.dumps(features.study))
    assert np.array_equal(again.acquired(split.test[0]), features.study.acquired(split.test[0]))
    features.save(tmp_path / "pipeline.zarr")
    saved = mc.Pipeline.load(tmp_path / "pipeline.zarr", name="odd")
    assert saved.fingerprint() == odd.fingerprint()


def with_where(where: str) -> Recipe:
    return parse_recipe({**TABLE, "data": {"where": where}})


@pytest.mark.parametrize(
    ("where", "used"), [("~odd", ["odd"]), ("tissue & ~odd", ["odd"]), ("odder", []), ("", [])]
)
def test_only_a_mask_that_is_named_is_made(where: str, used: list[str]) -> None:
    assert used_masks(with_where(where)) == used


def test_a_step_may_name_it() -> None:
    step = {"step": "EMSC", "interferents": "odd"}
    recipe = parse_recipe({**TABLE, "data": {}, "pipeline": {"steps": [step]}})
    assert used_masks(recipe) == ["odd"]


def test_a_given_mask_comes_before_a_stored_one(study: Study) -> None:
    slide = study.slides[0]
    given = np.zeros(study.cube(slide).shape[:2], bool)
    given[::2] = True
    own = MaskedStudy(study, {"half": {slide: PackedMask.of(given)}})
    acquired = study.acquired(slide)
    assert np.array_equal(own.mask(slide, "half"), given & acquired)
    assert np.array_equal(own.mask_reader(slide, "~half | half")(), acquired)
    nothing = MaskedStudy(study, {"half": {slide: PackedMask.of(np.zeros_like(given))}})

    class Chosen(MaskedStudy):
        def acquired(self, slide: str) -> Any:
            return self.mask(slide, "half")

    with pytest.warns(EmptySlideWarning, match=slide):
        warn_of_empty(Chosen(study, nothing.own_masks), [slide])


def test_a_recipe_with_masks_survives_being_written(tmp_path: Path) -> None:
    recipe = parse_recipe(TABLE)
    (tmp_path / "recipe.toml").write_text(dump_toml(recipe.table()), "utf-8")
    assert load_recipe(tmp_path / "recipe.toml") == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": 3}, r"\[masks\] is 3: expected sections"),
        ({"masks": {"acquired": ODD}}, r"\[masks\.acquired\]: 'acquired' is the name of a variable"),
        ({"masks": {"odd": {"steps": [{"step": "Log1p"}]}}}, r"\[masks\.odd\] ends in Log1p"),
        ({"masks": {"odd": {**ODD, "name": "x"}}}, r"\[masks\.odd\] has a key 'name'"),
        ({"masks": {"odd": {"steps": [{"step": "OutlierMsk"}]}}}, r"\[masks\.odd\] there is no step"),
        ({"pipeline": {"steps": [{"step": "Log1p"}], "without": ["PCA"]}}, r"some of its steps, Log1p"),
        ({"pipeline": {"steps": [{"step": "Log1p"}], "without": ["Log1p"]}}, "leaves no step"),
    ],
)
def test_what_is_wrong_with_a_section_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe({**TABLE, **change})


def test_steps_are_left_out_by_name() -> None:
    recipe = load_recipe("breast-ftir-binary", overrides={"pipeline.without": ["EMSC", "Blank"]})
    assert [step.step for step in recipe.pipeline.steps] == ["Crop", "VectorNormalize"]
    full = load_recipe("breast-ftir-binary")
    assert [step.step for step in full.pipeline.steps] == ["EMSC", "Blank", "Crop", "VectorNormalize"]
