"""The experiments' command from end to end at its quick size, and that the page is what it writes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.stats import norm

from benchmarks.experiments.__main__ import RESULTS, main, run_all
from benchmarks.experiments.commands import CommandFailed, run_commands
from benchmarks.experiments.figures import figure_name
from benchmarks.experiments.page import PAGE, render
from benchmarks.experiments.planned import FULL, QUICK
from benchmarks.experiments.running import ExperimentPlace
from benchmarks.experiments.studies import StudyPlace
from benchmarks.experiments.table import Table
from benchmarks.experiments.truth import Populations, limit, telling
from msicube.experiments import load_recipe, open_run, parse_overrides
from msicube.simulate import simulate_ftir, simulate_msi

DOCS = RESULTS.parents[2] / "docs"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiments")
    done = CliRunner().invoke(main, ["--quick", "--work", str(folder), "--jobs", "2"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "binary: done" in done.output
    return folder / "quick"


def test_page_has_the_numbers_of_the_runs(work: Path) -> None:
    page = (work / "docs" / PAGE).read_text()
    for one in QUICK.experiments:
        metrics = open_run(work / "runs" / one.name).summary["slides"]["metrics"]
        row = page[page.index(f"| `{one.name}` |") :].splitlines()[1]
        assert f"{metrics['accuracy']:.3f}" in row
    for name in ("overview.png", figure_name("binary", "explanation")):
        assert f"figures/experiments/{name}" in page
        assert (work / "docs" / "figures" / "experiments" / name).stat().st_size < 300_000


def test_differences_are_those_of_the_runs(work: Path) -> None:
    document = json.loads((work / "results.json").read_text())
    (found,) = document["differences"]
    accuracy = [
        open_run(work / "runs" / name).summary["patients"]["metrics"]["accuracy"]
        for name in (found["of"], found["against"])
    ]
    assert found["patients"]["accuracy"]["value"] == pytest.approx(accuracy[0] - accuracy[1])
    low, high = found["patients"]["accuracy"]["interval"]
    assert low <= found["patients"]["accuracy"]["value"] <= high


def test_nothing_finished_is_done_again(work: Path) -> None:
    def receipts() -> dict[Path, int]:
        return {
            path: path.stat().st_mtime_ns
            for path in [*work.glob("*/receipt.json"), *work.glob("runs/*.json")]
        }

    before = receipts()
    assert len(before) == 3
    done = CliRunner().invoke(main, ["--quick", "--work", str(work.parent)], catch_exceptions=False)
    assert "binary: was finished" in done.output
    assert receipts() == before


def test_other_data_or_recipe_make_a_run_stale(work: Path) -> None:
    study, one = StudyPlace(work / "breast"), QUICK.experiments[0]
    assert ExperimentPlace(work / "runs", one).is_finished(study)
    changed = replace(one, settings=(*one.settings, "train.weight_decay=0.1"))
    assert not ExperimentPlace(work / "runs", changed).is_finished(study)
    other = work / "other"
    other.mkdir()
    receipt = json.loads(study.receipt.read_text())
    (other / "receipt.json").write_text(json.dumps({**receipt, "data": "of other slides"}))
    assert not ExperimentPlace(work / "runs", one).is_finished(StudyPlace(other))


def test_a_command_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"msicube info .*nowhere[\s\S]*ended with [12]"):
        run_commands([f"info {tmp_path}/nowhere"], tmp_path / "log.txt")


def test_an_experiment_that_fails_leaves_the_others(work: Path) -> None:
    good = QUICK.experiments[0]
    bad = replace(good, name="bad", settings=(*good.settings, "data.label=colour"))
    table = replace(QUICK, experiments=(bad, good))
    studies, places, failures = run_all(table, [bad, good], work, 1)
    (failure,) = failures
    assert "no column 'colour'" in failure
    assert not places["bad"].is_finished(studies["breast"])
    assert places["binary"].is_finished(studies["breast"])


@pytest.mark.parametrize("table", [FULL, QUICK], ids=["full", "quick"])
def test_table_is_consistent(table: Table) -> None:
    names = [one.name for one in table.experiments]
    assert len(set(names)) == len(names)
    for number, one in enumerate(table.experiments):
        assert table.study_of(one).name
        assert set(one.against) <= set(names[:number])
        load_recipe(one.recipe, overrides=parse_overrides(one.settings))


def test_page_is_made_of_the_results() -> None:
    document = json.loads(RESULTS.read_text())
    assert (DOCS / PAGE).read_text() == render(document), "python -m benchmarks.experiments --page writes it"
    assert [row["name"] for row in document["experiments"]] == [one.name for one in FULL.experiments]


def test_limit_of_two_classes_is_the_textbook_one() -> None:
    populations = Populations(("a", "b"), np.array([[0.0, 0.0], [1.2, -0.9]]), np.array([1.5, 0.5]))
    distance = np.hypot(1.2 / 1.5, 0.9 / 0.5)
    slides = pd.Series(["a", "b"] * 10, index=["a", "b"] * 10)
    found = limit(populations, slides, ["a", "b"], 1)
    assert found["accuracy"] == pytest.approx(norm.cdf(distance / 2), abs=0.01)
    assert found["roc_auc"] == pytest.approx(norm.cdf(distance / np.sqrt(2)), abs=0.01)


def test_channels_that_tell_are_those_of_the_markers(tmp_path: Path) -> None:
    report = simulate_msi(tmp_path, slides=1, shape=(8, 8), channels=400, ions=40, markers=3)
    truth = json.loads(report.truth.read_text())
    axis = np.linspace(700.25, 899.75, 400)
    found = axis[telling(truth, axis, pd.Series(dtype=str))]
    monoisotopic = np.array([marker["mz"] for marker in truth["markers"]])
    for mz in (*monoisotopic, *(monoisotopic + 1.00335)):
        assert np.abs(found - mz).min() < 0.3
    assert all(np.abs(np.subtract.outer([0, 1.00335], mz - monoisotopic)).min() < 0.3 for mz in found)


def test_channels_that_tell_subtypes_follow_the_changed_bands(tmp_path: Path) -> None:
    report = simulate_ftir(tmp_path, slides=2, shape=(8, 8))
    truth = json.loads(report.truth.read_text())
    axis = np.linspace(900, 1800, 467)
    labels = ["adjacent", "HER2"]
    found = axis[telling(truth, axis, pd.Series(labels, index=labels))]
    assert len(found) == pytest.approx(467 / 5, abs=1)
    intervals = [band["interval"] for band in truth["bands"] if band["discriminates"]]
    inside = [any(low <= value <= high for low, high in intervals) for value in found]
    assert np.mean(inside) > 0.9
