from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import msicube as mc
from msicube.errors import LeakageError, RecipeError, UsageError
from msicube.experiments import Run, TrainingEvent, load_recipe, open_run, train
from msicube.experiments.features import prepare_features
from msicube.experiments.metrics import table_metrics
from msicube.experiments.split import resolve_split
from msicube.preprocess.recipes import build_pipeline
from msicube.simulate import simulate_msi
from msicube.store import Study
from msicube.tiling import Window

SPECTRA = {
    "train.epochs": 2,
    "train.threads": 1,
    "train.batch_size": 64,
    "train.learning_rate": 1e-3,
    "spectra.limit": 1500,
}


class Tiny(nn.Module):
    """A network of a user's own that only needs the documented batch."""

    def __init__(self, *, n_channels: int, n_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n_channels, n_classes)

    def forward(self, spectra: torch.Tensor) -> torch.Tensor:
        return self.layer(spectra)


TINY = {**SPECTRA, "model": {"name": f"{__name__}:Tiny"}}


@pytest.fixture(scope="module")
def own_study(study_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the study that these tests may write to."""
    path = tmp_path_factory.mktemp("own") / "study.zarr"
    shutil.copytree(study_path, path)
    return path


def quick(study: Study | Path, out: Path, **options: Any) -> Run:
    """Train the small network, without figures."""
    return train("colorectal-cnn1d", study, out, **{"overrides": TINY, "figures": False, **options})


def weights(run: Run) -> dict[str, torch.Tensor]:
    return torch.load(run.path / "weights.pt", weights_only=True)


def test_the_run_folder_is_complete(pixels: tuple[Run, Any], patches: Run) -> None:
    common = {
        "recipe.toml",
        "run.json",
        "pipeline.zarr",
        "metrics.jsonl",
        "weights.pt",
        "predictions.csv",
        "summary.json",
        "examples.npz",
        "tissue.npz",
        "tsne.csv",
        "figures",
    }
    others = {"report.html", "explanation", "evaluation"}  # of other tests of this session
    assert {path.name for path in pixels[0].path.iterdir()} - others == common
    assert {path.name for path in patches.path.iterdir()} - others == common
    figures = {path.stem for path in (patches.path / "figures").iterdir()} - {"explanation", "strongest"}
    assert figures == {
        "training",
        "confusion",
        "roc",
        "calibration",
        "ion_images",
        "pca",
        "probability",
        "slides",
        "embedding",
        "patches",
        "patch_channels",
    }
    others |= {"strongest"}
    of_pixels = {path.stem for path in (pixels[0].path / "figures").iterdir()} - others
    assert of_pixels == figures - {"pca", "patches", "patch_channels"} | {"spectra"}
    for run in (pixels[0], patches):
        assert open_run(run.path).info["state"] == "finished"
        assert run.info["versions"]["torch"] == torch.__version__


def test_every_held_out_pixel_is_predicted_once(pixels: tuple[Run, Any], study: Study) -> None:
    run = pixels[0]
    table = run.predictions
    held_out = sorted(study.samples.index[study.samples["split"] == "test"])
    assert sorted(set(table["slide"])) == held_out
    for slide in held_out:
        rows = table[table["slide"] == slide]
        expected = np.argwhere(study.acquired(slide))
        assert rows[["y", "x"]].to_numpy().tolist() == expected.tolist()
        assert set(rows["label"]) == {study.samples["label"][slide]}
    np.testing.assert_allclose(table[["p_normal", "p_tumour"]].sum(axis=1), 1, atol=1e-5)
    metrics = table_metrics(table, ("normal", "tumour"), 1)
    assert run.summary["samples"]["metrics"] == pytest.approx(metrics, abs=1e-3)
    assert run.metrics[-1]["test"]["accuracy"] == run.summary["samples"]["metrics"]["accuracy"]


def test_predictions_follow_from_the_saved_weights_and_pipeline(
    pixels: tuple[Run, Any], study: Study
) -> None:
    run = pixels[0]
    recipe = run.recipe
    pipeline = mc.Pipeline.load(str(run.path / "pipeline.zarr"), name=recipe.pipeline.name)
    from msicube.models import build_model

    model = build_model(recipe.model.name, n_channels=100, n_classes=2, **recipe.model.options)
    model.load_state_dict(weights(run))
    rows = run.predictions.groupby("slide").head(20)
    blocks = [
        study.cube(slide).read(Window(y, y + 1, x, x + 1))[0]
        for slide, y, x in rows[["slide", "y", "x"]].itertuples(index=False)
    ]
    features = torch.from_numpy(pipeline.transform_block(np.concatenate(blocks)))
    with torch.inference_mode():
        probability = torch.softmax(model.eval()(features), dim=1).numpy()
    np.testing.assert_allclose(rows[["p_normal", "p_tumour"]], probability, atol=1e-4)


def test_progress_tells_of_every_stage(pixels: tuple[Run, list[TrainingEvent]]) -> None:
    run, events = pixels
    assert list(dict.fromkeys(event.stage for event in events)) == ["fit", "train", "epoch"]
    epochs = [event for event in events if event.stage == "epoch"]
    assert [(event.done, event.total, event.epoch) for event in epochs] == [(1, 2, 1), (2, 2, 2)]
    assert [dict(event.metrics) for event in epochs] == run.metrics
    last = [event for event in events if event.stage == "train"][-1]
    assert last.done == last.total == 1500 // 64


def test_the_same_seed_gives_the_same_run(study: Study, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    runs = [quick(study, tmp_path / str(i), seed=seed) for i, seed in enumerate((3, 3, 4))]
    first, again, other = (weights(run)["layer.weight"] for run in runs)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    pd.testing.assert_frame_equal(runs[0].predictions, runs[1].predictions)
    assert torch.initial_seed() not in (3, 4), "the caller's generator is left alone"
    assert torch.get_num_threads() == threads


def test_it_learns_and_from_shuffled_labels_it_does_not(tmp_path: Path) -> None:
    made = simulate_msi(
        tmp_path / "slides",
        slides=10,
        seed=5,
        shape=(24, 24),
        channels=300,
        class_difference=2.0,
        patient_effect=0.3,
        batch_effect=0.3,
    )
    mc.convert(made.folder, tmp_path / "study.zarr", samples=made.samples)
    true, control = (
        quick(
            tmp_path / "study.zarr",
            tmp_path / str(shuffled),
            overrides=SPECTRA,
            shuffle_labels=shuffled,
            seed=1,
        )
        for shuffled in (False, True)
    )
    assert control.info["shuffled_labels"]
    trained_as = {row["slide"]: row["trained_as"] for row in control.info["split"]["train"]}
    assert trained_as != {row["slide"]: row["label"] for row in control.info["split"]["train"]}
    assert "shuffled labels" in control.info["pipeline"]["origin"]
    assert control.info["pipeline"]["fingerprint"] != true.info["pipeline"]["fingerprint"]
    assert true.summary["samples"]["metrics"]["accuracy"] > 0.85
    assert control.metrics[-1]["train"]["accuracy"] > 0.85, "it does fit the shuffled labels"
    assert control.summary["samples"]["metrics"]["accuracy"] < 0.7


def test_a_saved_pipeline_is_used_and_gives_the_same_numbers(own_study: Path, tmp_path: Path) -> None:
    fresh = quick(own_study, tmp_path / "fresh")
    recipe = load_recipe("colorectal-cnn1d")
    build_pipeline(recipe.pipeline).fit(mc.open_study(own_study)).save(own_study, name=recipe.pipeline.name)
    saved = quick(own_study, tmp_path / "saved")
    mc.apply(own_study, name=recipe.pipeline.name)
    stored = quick(own_study, tmp_path / "stored")
    origins = [run.info["pipeline"]["origin"] for run in (fresh, saved, stored)]
    assert origins == [
        "Fitted in this run on the training slides, computed while streaming.",
        "Saved in the study as 'colorectal_top100', computed while streaming.",
        "Saved in the study as 'colorectal_top100', with its features.",
    ]
    assert len({run.info["pipeline"]["fingerprint"] for run in (fresh, saved, stored)}) == 1
    for run in (saved, stored):
        pd.testing.assert_frame_equal(run.predictions, fresh.predictions, rtol=1e-4)

    other = {**TINY, "pipeline.steps": [{"step": "Log1p"}, {"step": "SelectChannels", "k": 50}]}
    with pytest.raises(
        RecipeError, match=r"has the steps Log1p\(\) -> .*, the recipe has .*k=50.*set pipeline\.name"
    ):
        quick(own_study, tmp_path / "other", overrides=other)
    with pytest.raises(RecipeError, match=r"was fitted on \d slides, 'slide_\d+' .* set pipeline\.name"):
        quick(
            own_study,
            tmp_path / "other",
            overrides={**TINY, "data.split": "patient"},
            seed=2,
            overwrite=True,
        )


def test_interrupted_it_leaves_a_usable_run(study_path: Path, tmp_path: Path) -> None:
    def stop(event: TrainingEvent) -> None:
        if event.stage == "train" and event.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick(study_path, tmp_path / "run", progress=stop)
    run = open_run(tmp_path / "run")
    assert run.info["state"] == "interrupted"
    assert [entry["epoch"] for entry in run.metrics] == [1]
    assert set(weights(run)) == {"layer.weight", "layer.bias"}
    assert len(run.predictions) == run.summary["samples"]["n"]
    assert "interrupted" in mc.report(run).read_text("utf-8")


def test_a_failed_run_says_so(study_path: Path, tmp_path: Path) -> None:
    def fail(event: TrainingEvent) -> None:
        raise ArithmeticError("stop")

    with pytest.raises(ArithmeticError):
        quick(study_path, tmp_path / "run", progress=fail)
    assert open_run(tmp_path / "run").info["state"] == "failed"
    assert "ended before the first epoch" in mc.report(tmp_path / "run").read_text("utf-8")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.name": "resnet"}, "unknown model 'resnet'"),
        ({"model.depth": 3}, "takes no option 'depth'"),
        ({"pipeline.steps": [{"step": "Log1"}]}, r"no step 'Log1' \(did you mean 'Log1p'\?\)"),
        ({"pipeline.steps": [{"step": "PCA", "n_component": 3}]}, r"did you mean 'n_components'\?"),
        ({"pipeline.steps": [{"step": "PCA"}]}, "lacks the parameter 'n_components'"),
        ({"train.device": "abacus"}, r"device = 'abacus' cannot be used here"),
        ({"data.label": "diagnosis"}, "no column 'diagnosis'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    overrides: dict[str, Any], message: str, study: Study, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        quick(study, tmp_path / "run", overrides=overrides)
    assert not (tmp_path / "run").exists()


def test_a_patient_in_both_parts_is_refused(own_study: Path, tmp_path: Path) -> None:
    path = tmp_path / "study.zarr"
    shutil.copytree(own_study, path)
    samples = mc.open_study(path).samples
    test = samples.index[samples["split"] == "test"][0]
    attributes = json.loads((path / test / "zarr.json").read_text())
    attributes["attributes"]["sample"]["patient"] = samples["patient"][samples["split"] == "train"].iloc[0]
    (path / test / "zarr.json").write_text(json.dumps(attributes))
    with pytest.raises(LeakageError, match="has slides in train and in test"):
        quick(path, tmp_path / "run")


def test_overrides_need_a_recipe_that_is_read(study: Study, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="change the Recipe itself"):
        train(load_recipe("colorectal-cnn1d"), study, tmp_path / "run", overrides={"train.epochs": 1})


@pytest.fixture
def few(study: Study) -> Any:
    recipe = load_recipe("colorectal-cnn1d", overrides={**SPECTRA, "spectra.test_limit": 150})
    split = resolve_split(recipe.data, study.samples, seed=0)
    return prepare_features(recipe, study, split, None), split


def test_a_limit_bounds_what_is_scored(few: Any) -> None:
    features, split = few
    stream = features.stream(split.test, seed=0, training=False)
    first, again = (
        [
            (s, y, x)
            for batch in features.batches(stream, training=False)
            for s, y, x in zip(*(batch[k].tolist() for k in ("slide", "y", "x")), strict=True)
        ]
        for _ in range(2)
    )
    assert 64 <= len(set(first)) <= 150
    assert first == again, "every epoch scores the same samples"
