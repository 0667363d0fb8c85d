"""The ``[pipeline]`` section of a recipe: what it may hold, and what is said of anything else."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any, Literal

import pytest

import msicube.preprocess
from msicube.errors import RecipeError, UsageError
from msicube.preprocess import PCA, Log1p, Pipeline, SelectChannels, Standardize, Step, TICNormalize
from msicube.preprocess.recipes import build_pipeline, known_steps, parse_pipeline, str_steps
from msicube.preprocess.sections import check_value

WHOLE = """
name = "paper"
steps = [
    { step = "TICNormalize", target = 1 },
    { step = "Log1p" },
    { step = "Standardize", with_std = false },
    { step = "SelectChannels", k = 100, by = "label" },
    { step = "PCA", n_components = 3 },
]
"""


def test_a_section_becomes_a_pipeline() -> None:
    section = parse_pipeline(tomllib.loads(WHOLE))
    expected = [TICNormalize(target=1.0), Log1p(), Standardize(with_std=False), SelectChannels(100), PCA(3)]
    assert section.name == "paper"
    assert str_steps(build_pipeline(section).steps) == str_steps(Pipeline(expected).steps)
    assert parse_pipeline(section.table()) == section


def test_every_public_step_may_be_named() -> None:
    named = set(known_steps())
    assert {"TICNormalize", "Log1p", "Standardize", "SelectChannels", "PCA"} <= named
    assert named.isdisjoint({"Step", "Pipeline", "NotFittedError"})
    assert named <= set(msicube.preprocess.__all__)


def steps(**parameters: Any) -> dict[str, Any]:
    return {"steps": [{"step": "PCA", "n_components": 3}, parameters]}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (3, r"\[pipeline\] is 3: expected a section"),
        ({}, r"\[pipeline\] lacks the key 'steps'"),
        ({"steps": {}}, "expected a list of at least one table"),
        ({"steps": ["Log1p"]}, "step 1 is 'Log1p': expected a table such as"),
        (steps(stepp="Log1p"), "step 2 is"),
        ({**steps(step="Log1p"), "nam": "x"}, r"no key 'nam' \(did you mean 'name'\?\)"),
        ({**steps(step="Log1p"), "name": 3}, r"name = 3 is of type int: expected a text"),
        (steps(step="Standardise"), r"no step 'Standardise' \(did you mean 'Standardize'\?\): expected one of"),
        (steps(step="Pipeline"), "there is no step 'Pipeline'"),
        (steps(step="PCA", components=3), r"PCA has no parameter 'components' \(did you mean 'n_components'\?\)"),
        (steps(step="Log1p", base=2), "Log1p has no parameter 'base': expected none"),
        (steps(step="PCA"), "PCA lacks the parameter 'n_components'"),
        (steps(step="PCA", n_components="3"), r"step PCA n_components = '3' is of type str: expected a whole"),
        (steps(step="PCA", n_components=True), "n_components = True is of type bool: expected a whole number"),
        (steps(step="PCA", n_components=2.5), "n_components = 2.5 is of type float"),
        (steps(step="TICNormalize", target="mean"), "target = 'mean' is of type str: expected a number"),
        (steps(step="Standardize", with_mean=1), "with_mean = 1 is of type int: expected true or false"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(table: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_pipeline(table)


def test_a_recipe_says_where() -> None:
    section = parse_pipeline({"where": "tissue & ~dead", "steps": [{"step": "Log1p"}]})
    assert section.where == "tissue & ~dead"
    assert parse_pipeline(section.table()) == section
    assert "where" not in parse_pipeline({"steps": [{"step": "Log1p"}]}).table()
    with pytest.raises(RecipeError, match=r"\[pipeline\] where = 3 is of type int"):
        parse_pipeline({"where": 3, "steps": [{"step": "Log1p"}]})


def test_what_the_data_decide_is_left_to_the_fit() -> None:
    pipeline = build_pipeline(parse_pipeline({"steps": [{"step": "PCA", "n_components": 0}]}))
    with pytest.raises(UsageError, match="choose between 1 and"):
        pipeline.fit([[1.0, 2.0], [2.0, 1.0]])


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (3, float, 3.0),
        (3, float | None, 3.0),
        (3, int | float, 3),
        ("auto", int | Literal["auto", "all"], "auto"),
        ([1, 2.5], Sequence[float], [1.0, 2.5]),
        ([[1, 2], [3, 4]], list[tuple[float, float]], [(1.0, 2.0), (3.0, 4.0)]),
        ([1, 2, 3], tuple[int, ...] | None, (1, 2, 3)),
        ({"a": 1}, Any, {"a": 1}),
    ],
)
def test_values_become_what_is_annotated(value: Any, hint: Any, expected: Any) -> None:
    found = check_value(value, hint, "x")
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("value", "hint", "message"),
    [
        (
            "snp",
            Literal["snip", "als"],
            r"x = 'snp' \(did you mean 'snip'\?\): expected one of 'snip', 'als'",
        ),
        ("al", int | Literal["all"], r"did you mean 'all'"),
        (2.5, int | Literal["all"], "of type float: expected a whole number or one of 'all'"),
        ([1, 2, 3], tuple[float, float], "of type list: expected a list of 2, each a number"),
        ([1, "b"], Sequence[float], "expected a list, each a number"),
        ("ab", Sequence[str], "of type str: expected a list, each a text"),
        ("x", float | None, "expected a number"),
    ],
)
def test_values_of_other_types_are_refused(value: Any, hint: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check_value(value, hint, "x")


def test_a_step_whose_annotations_cannot_be_read_is_still_built(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Step):
        def __init__(self, *, scale: Missing = 1) -> None:  # type: ignore[name-defined]  # noqa: F821
            self.scale = scale

    monkeypatch.setattr(msicube.preprocess, "Odd", Odd, raising=False)
    monkeypatch.setattr(msicube.preprocess, "__all__", [*msicube.preprocess.__all__, "Odd"])
    pipeline = build_pipeline(parse_pipeline({"steps": [{"step": "Odd", "scale": "x"}]}))
    assert pipeline.steps[0].scale == "x"  # type: ignore[attr-defined]
