from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msicube.errors import RecipeError
from msicube.experiments.recipe_files import builtin_recipes, load_recipe, parse_overrides, parse_recipe
from msicube.experiments.toml import dump_toml

MINIMAL: dict[str, Any] = {
    "name": "small",
    "pipeline": {"steps": [{"step": "Log1p"}]},
    "spectra": {},
    "model": {"name": "cnn1d"},
}


def changed(section: str, key: str, value: Any) -> dict[str, Any]:
    return {**MINIMAL, section: {**MINIMAL.get(section, {}), key: value}}


def test_the_paper_is_in_the_resnet_recipe() -> None:
    recipe = load_recipe("colorectal-resnet18")
    assert [step.step for step in recipe.pipeline.steps] == ["Log1p", "Standardize", "SelectChannels", "PCA"]
    assert recipe.pipeline.steps[2].parameters == {"k": 100, "by": "label"}
    assert recipe.patches is not None
    assert (recipe.patches.size, recipe.patches.stride, recipe.patches.limit) == (32, 32, 1000)
    assert recipe.model.options == {"weights": "imagenet", "dropout": 0.5}
    train = recipe.train
    assert (train.epochs, train.batch_size, train.learning_rate, train.weight_decay) == (10, 32, 1e-4, 1e-4)


@pytest.mark.parametrize("name", builtin_recipes())
def test_a_recipe_survives_being_written(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, overrides={"model.own": [1, 2.5, "drei"]})
    path = tmp_path / "recipe.toml"
    path.write_text(dump_toml(recipe.table()), "utf-8")
    assert load_recipe(path) == recipe


def test_overrides_reach_into_sections() -> None:
    recipe = load_recipe(
        "colorectal-cnn1d", overrides={"train.epochs": 3, "name": "mine", "model.width": [8, 8]}
    )
    assert (recipe.train.epochs, recipe.name, recipe.model.options["width"]) == (3, "mine", [8, 8])
    assert recipe.train.batch_size == 256


def test_overrides_are_read_from_a_command_line() -> None:
    given = [
        "train.epochs=3",
        "data.split=patient",
        "model.weights='a=b'",
        "patches.balance = false",
        "train.x=1e-3",
    ]
    assert parse_overrides(given) == {
        "train.epochs": 3,
        "data.split": "patient",
        "model.weights": "a=b",
        "patches.balance": False,
        "train.x": 1e-3,
    }
    with pytest.raises(RecipeError, match=r"write section\.key=value"):
        parse_overrides(["train.epochs"])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (changed("train", "epoch", 3), r"\[train\] has no key 'epoch' \(did you mean 'epochs'\?\)"),
        (
            changed("train", "epochs", "ten"),
            r"\[train\] epochs = 'ten' is of type str: expected a whole number",
        ),
        (changed("train", "epochs", True), r"epochs = True is of type bool"),
        (changed("train", "epochs", 0), r"epochs = 0: expected a whole number at least 1"),
        (changed("train", "optimizer", "adamm"), r"did you mean 'adam'\?\): expected one of 'adam', 'adamw'"),
        (changed("data", "test_fraction", 1.5), r"test_fraction = 1.5: expected a number from 0.01 to 0.99"),
        (changed("data", "label", 3), r"\[data\] label = 3 is of type int: expected a text"),
        (changed("pipeline", "steps", []), r"steps = \[\]: expected a list of at least one"),
        (changed("pipeline", "steps", [{"k": 1}]), r"step 1 is \{'k': 1\}"),
        ({**MINIMAL, "model": {}}, r"\[model\] lacks the key 'name'"),
        ({k: v for k, v in MINIMAL.items() if k != "pipeline"}, r"lacks the section \[pipeline\]"),
        ({**MINIMAL, "modle": {}}, r"no key 'modle' \(did you mean 'model'\?\)"),
        ({**MINIMAL, "train": 3}, r"\[train\] is 3: expected a section"),
        ({**MINIMAL, "patches": {}}, r"both \[patches\] and \[spectra\]"),
        ({k: v for k, v in MINIMAL.items() if k != "spectra"}, r"neither \[patches\] nor \[spectra\]"),
    ],
)
def test_what_is_wrong_is_named(table: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(table)


def test_whole_numbers_pass_as_numbers() -> None:
    rate = parse_recipe(changed("train", "learning_rate", 1)).train.learning_rate
    assert (rate, type(rate)) == (1.0, float)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'colorectal-resnet18'"):
        load_recipe("colorectal-resnet")


def test_broken_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("[train\n", "utf-8")
    with pytest.raises(RecipeError, match=r"broken\.toml is not valid TOML"):
        load_recipe(path)


def test_an_override_below_a_value_is_refused() -> None:
    with pytest.raises(RecipeError, match="'name' is not a section"):
        load_recipe("colorectal-cnn1d", overrides={"name.first": 1})


scalars = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=8)


@given(st.dictionaries(keys, values))
def test_what_is_written_as_toml_is_read_back(table: dict[str, Any]) -> None:
    import tomllib

    assert tomllib.loads(dump_toml(table)) == table


def test_reading_a_recipe_imports_no_torch() -> None:
    code = (
        "import sys; from msicube.experiments import load_recipe; load_recipe('colorectal-resnet18'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_overrides_are_left_as_they_are() -> None:
    overrides = {"model": {"name": "carenet"}, "model.hidden": 8}
    assert load_recipe("colorectal-cnn1d", overrides=overrides).model.options == {"hidden": 8}
    assert overrides == {"model": {"name": "carenet"}, "model.hidden": 8}
