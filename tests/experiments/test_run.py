from __future__ import annotations

from pathlib import Path

import pytest

from msicube.errors import UsageError
from msicube.experiments.recipe_files import load_recipe
from msicube.experiments.run import INFO, METRICS, create_run, open_run, replacing

RECIPE = load_recipe("colorectal-cnn1d", overrides={"train.epochs": 3})


def test_a_run_gives_back_what_was_written(tmp_path: Path) -> None:
    run = create_run(tmp_path / "deep" / "run", RECIPE, overwrite=False)
    run.write_json(INFO, {"seed": 3, "note": "µ"})
    run.append_metrics({"epoch": 1, "train": {"loss": 0.5}, "test": {"roc_auc": None}})
    run.append_metrics({"epoch": 2, "train": {"loss": 0.25}, "test": {"roc_auc": 0.75}})
    again = open_run(tmp_path / "deep" / "run")
    assert again.recipe == RECIPE
    assert again.info == {"seed": 3, "note": "µ"}
    assert again.summary == {}
    assert again.history["train_loss"].tolist() == [0.5, 0.25]
    assert again.history["test_roc_auc"].isna().tolist() == [True, False]


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", RECIPE, overwrite=False)
    run.append_metrics({"epoch": 1})
    with (run.path / METRICS).open("a") as file:
        file.write('{"epoch": 2, "tra')
    assert run.metrics == [{"epoch": 1}]


def test_a_run_is_replaced_only_when_asked_and_only_if_it_is_one(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = create_run(folder, RECIPE, overwrite=False)
    run.write_json(INFO, {})
    (folder / "old.txt").write_text("old")
    with pytest.raises(
        UsageError, match=r"holds a run: pass resume=True \(--resume\) .*, overwrite=True \(--overwrite\)"
    ):
        create_run(folder, RECIPE, overwrite=False)
    create_run(folder, RECIPE, overwrite=True)
    assert [path.name for path in folder.iterdir()] == ["recipe.toml"]
    with pytest.raises(UsageError, match="is not empty and holds no run: choose another folder"):
        create_run(folder, RECIPE, overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="choose another folder"):
        create_run(tmp_path / "file", RECIPE, overwrite=True)


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    create_run(tmp_path, RECIPE, overwrite=False)
    assert (tmp_path / "recipe.toml").is_file()


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no run \(it has no run\.json\)"):
        open_run(tmp_path)


def test_a_file_that_could_not_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as partial:
            partial.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
