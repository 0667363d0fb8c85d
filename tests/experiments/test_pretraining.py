"""Learning without labels, and training on what was learned, on real small runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import msicube as mc
from msicube.cli.main import cli
from msicube.errors import LeakageError, RecipeError, UsageError
from msicube.experiments import Run, open_pretraining, open_run, pretrain, train
from msicube.experiments.reconstruction import Masked, Moments, interpolated
from msicube.models import build_model
from msicube.models.encoding import encoder_state
from msicube.simulate import simulate_msi

QUICK = {"train.threads": 1, "train.batch_size": 64, "train.epochs": 1, "spectra.limit": 400}
PRETRAIN = {**QUICK, "pretrain.epochs": 12, "pretrain.test_limit": 1000}
#: Asks for no labels.
STEPS = [
    {"step": "Log1p"},
    {"step": "SelectChannels", "k": 60, "criterion": "variance"},
    {"step": "Standardize"},
]


class Mine(nn.Module):
    """A network of a user's own: features of a spectrum are one vector."""

    encoder_parts = ("body",)

    def __init__(self, *, n_channels: int, n_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_channels, 24), nn.ReLU())
        self.head = nn.Linear(24, n_classes)

    def encode(self, spectra: torch.Tensor) -> torch.Tensor:
        return self.body(spectra)

    def forward(self, spectra: torch.Tensor) -> torch.Tensor:
        return self.head(self.encode(spectra))


MINE = {"model": {"name": f"{__name__}:Mine"}}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen slides; of two patients who would be trained on, one has no label at all, one has one missing."""
    folder = tmp_path_factory.mktemp("pretraining")
    made = simulate_msi(folder / "slides", slides=14, seed=5, shape=(24, 24), channels=200)
    table = pd.read_csv(made.samples)
    assert set(table["patient"][table["split"] == "test"]) == {"patient_002", "patient_005"}
    table.loc[table["patient"].isin(["patient_006", "patient_007"]), ["label", "split"]] = None
    # A slide without a label, of a patient who is held out with another one.
    table.loc[table["slide"] == "slide_009", ["label", "split"]] = None
    table.to_csv(folder / "samples.csv", index=False)
    mc.convert(made.folder, folder / "study.zarr", samples=folder / "samples.csv")
    return folder / "study.zarr"


@pytest.fixture(scope="module")
def spectra(study: Path) -> Run:
    return pretrain("colorectal-cnn1d", study, study.parent / "spectra", overrides=PRETRAIN, seed=2)


def seen(run: Run) -> set[str]:
    return {row["slide"] for row in run.info["pretraining"]["seen"]}


def state(run: Run) -> dict[str, torch.Tensor]:
    return torch.load(run.path / "weights.pt", weights_only=True)


def test_masked_spans_of_unseen_patients_are_told_from_the_rest(spectra: Run, study: Path) -> None:
    """Better by a tenth than a line across the span, and by a half than the mean of the channel."""
    error = spectra.summary["masked_error"]
    assert spectra.summary["part"] == "validation"
    assert error["loss"] < 0.9 * error["interpolation"]
    assert error["loss"] < 0.5 * error["mean"]
    trained, shown = ({row["patient"] for row in spectra.info["split"][p]} for p in ("train", "validation"))
    assert shown
    assert not trained & shown
    assert [entry["epoch"] for entry in spectra.metrics] == list(range(1, 13))
    assert spectra.metrics[-1]["train"]["loss"] < spectra.metrics[0]["train"]["loss"]


def test_the_folder_is_that_of_a_run(spectra: Run) -> None:
    files = {path.name for path in spectra.path.iterdir()}
    assert files == {
        "recipe.toml",
        "run.json",
        "metrics.jsonl",
        "weights.pt",
        "decoder.pt",
        "pipeline.zarr",
        "summary.json",
        "examples.npz",
        "figures",
    }
    assert {p.stem for p in (spectra.path / "figures").iterdir()} == {"training", "reconstruction"}
    assert spectra.info["state"] == "finished"
    assert spectra.recipe.pretrain is not None
    assert spectra.recipe.pretrain.epochs == 12
    network = build_model("cnn1d", n_channels=100, n_classes=2)
    assert set(state(spectra)) == set(encoder_state(network))
    with np.load(spectra.path / "examples.npz") as found:
        hidden = found["masked"]
        assert np.array_equal(found["reconstructed"][~hidden], found["truth"][~hidden])
        assert not np.isclose(found["reconstructed"][hidden], found["truth"][hidden]).all()
    for use in (open_run, mc.report, mc.explain):
        with pytest.raises(UsageError, match=r"is a pretraining.*--set model\.pretrained="):
            use(spectra.path)


def test_only_what_the_split_trains_on_is_seen(spectra: Run, study: Path) -> None:
    samples = mc.open_study(study).samples
    assert seen(spectra) == set(samples.index[samples["split"] == "train"])
    pipeline = mc.Pipeline.load(spectra.path / "pipeline.zarr", name="colorectal_top100")
    assert set(pipeline.slides_) == seen(spectra)


def test_a_seed_gives_the_same_bits(spectra: Run, study: Path, tmp_path: Path) -> None:
    again, other = (
        pretrain(
            "colorectal-cnn1d", study, tmp_path / str(seed), overrides=PRETRAIN, seed=seed, figures=False
        )
        for seed in (2, 3)
    )
    assert all(torch.equal(value, state(again)[name]) for name, value in state(spectra).items())
    assert again.summary == spectra.summary
    assert not torch.equal(state(other)["features.0.0.weight"], state(again)["features.0.0.weight"])


def test_slides_without_label_are_seen_but_not_those_of_held_out_patients(
    study: Path, tmp_path: Path
) -> None:
    overrides = {**PRETRAIN, **MINE, "pipeline.steps": STEPS, "pretrain.epochs": 1}
    run = pretrain(
        "colorectal-cnn1d", study, tmp_path / "pre", overrides=overrides, unlabelled=True, figures=False
    )
    samples = mc.open_study(study).samples
    missing = samples[samples["label"].isna()]
    assert seen(run) == set(missing.index[~missing["patient"].isin(["patient_005"])])
    assert "slide_009" not in seen(run)
    with pytest.raises(RecipeError, match=r"SelectChannels\(.*asks for the label of every slide"):
        pretrain("colorectal-cnn1d", study, tmp_path / "no", overrides=PRETRAIN, unlabelled=True)
    tuned = train(
        "colorectal-cnn1d",
        study,
        tmp_path / "run",
        overrides={**overrides, "model": {**MINE["model"], "pretrained": str(run.path)}},
        figures=False,
    )
    assert tuned.info["pipeline"]["slides"] == run.info["pipeline"]["slides"]
    assert tuned.info["model"]["note"] == "2 arrays of the encoder were loaded; new: head"


def test_training_starts_from_the_weights_and_the_pipeline(spectra: Run, study: Path, tmp_path: Path) -> None:
    runs = {
        part: train(
            "colorectal-cnn1d",
            study,
            tmp_path / part,
            overrides={**QUICK, "model.pretrained": str(spectra.path), "model.finetune": part},
            figures=False,
        )
        for part in ("all", "head")
    }
    for part, run in runs.items():
        assert run.info["pipeline"]["fingerprint"] == spectra.info["pipeline"]["fingerprint"]
        assert run.info["started_from"]["path"] == str(spectra.path.resolve())
        assert run.info["model"]["weights"] == f"pretrained: {spectra.path}"
        kept = [torch.equal(value, state(run)[name]) for name, value in state(spectra).items()]
        assert all(kept) == (part == "head"), "statistics of batch normalisation included"
    assert runs["head"].info["model"]["trained"] == ["classifier"]
    assert runs["head"].info["model"]["n_trained"] < runs["all"].info["model"]["n_trained"]
    # What was trained can be used without the pretraining: the run has its own weights.
    spectra.path.rename(tmp_path / "away")
    try:
        mc.predict(runs["all"], study, slides=["slide_001"], name="tuned")
    finally:
        (tmp_path / "away").rename(spectra.path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.pretrained": "nowhere"}, "nowhere is no pretraining: make one with"),
        ({"model.finetune": "head"}, r"give model\.pretrained as well"),
        ({"model": {"name": "carenet"}}, "none of the weights fits CaReNet"),
        ({"pipeline.steps": STEPS}, "knows the features of the steps Log1p.*k=100.*the recipe has .*k=60"),
    ],
)
def test_what_does_not_fit_is_refused(
    changes: dict[str, Any], message: str, spectra: Run, study: Path, tmp_path: Path
) -> None:
    changes = {**QUICK, "model.pretrained": str(spectra.path), **changes}
    if "model" in changes:
        changes["model"] = {**changes["model"], "pretrained": changes.pop("model.pretrained")}
    if "model.finetune" in changes:
        del changes["model.pretrained"]
    with pytest.raises(RecipeError, match=message):
        train("colorectal-cnn1d", study, tmp_path / "run", overrides=changes, figures=False)


def test_held_out_patients_must_not_have_been_seen(spectra: Run, study: Path, tmp_path: Path) -> None:
    start = {**QUICK, "model.pretrained": str(spectra.path)}
    others = {**start, "data.split": "patient"}
    with pytest.raises(LeakageError, match=r"the pretraining saw slides of patient 'patient_00\d', of whom"):
        train("colorectal-cnn1d", study, tmp_path / "run", overrides=others, seed=1)
    with pytest.raises(LeakageError, match="of whom this run holds out"):
        train("colorectal-cnn1d", study, tmp_path / "run", overrides={**start, "data.split": "folds"})
    with pytest.raises(LeakageError, match="fitted with the true labels"):
        train("colorectal-cnn1d", study, tmp_path / "run", overrides=start, shuffle_labels=True)
    # The same slide under another patient's name.
    info = json.loads((spectra.path / "run.json").read_text())
    for row in info["pretraining"]["seen"]:
        row["patient"] = "somebody"
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for path in spectra.path.iterdir():
        (renamed / path.name).symlink_to(path)
    (renamed / "run.json").unlink()
    (renamed / "run.json").write_text(json.dumps(info))
    with pytest.raises(LeakageError, match="the pretraining saw slide 'slide_"):
        train(
            "colorectal-cnn1d",
            study,
            tmp_path / "run",
            overrides={**others, "model.pretrained": str(renamed)},
            seed=1,
        )
    assert not (tmp_path / "run").exists()


def test_what_is_held_out_is_seen_only_when_asked_for(study: Path, tmp_path: Path) -> None:
    options = {**PRETRAIN, **MINE, "pretrain.epochs": 1, "pretrain.limit": 200}
    run = pretrain(
        "colorectal-cnn1d", study, tmp_path / "pre", overrides=options, held_out=True, figures=False
    )
    assert run.info["pretraining"]["held_out"]
    samples = mc.open_study(study).samples
    assert seen(run) == set(samples.index[samples["split"].isin(["train", "test"])])
    changed = {**QUICK, "model": {**MINE["model"], "pretrained": str(run.path)}}
    with pytest.raises(LeakageError, match="of whom this run holds out"):
        train("colorectal-cnn1d", study, tmp_path / "run", overrides=changed)


def test_each_fold_has_a_pretraining_of_its_own(study: Path, tmp_path: Path) -> None:
    folds = {**PRETRAIN, **MINE, "data.split": "folds", "data.folds": 2, "pretrain.epochs": 1}
    with pytest.raises(RecipeError, match=r"set data\.fold = 1, 2, \.\.\. in turn"):
        pretrain("colorectal-cnn1d", study, tmp_path / "pre", overrides=folds)
    for fold in (1, 2):
        pretrain(
            "colorectal-cnn1d",
            study,
            tmp_path / f"pre_{fold}",
            overrides={**folds, "data.fold": fold, "pretrain.limit": 200},
            figures=False,
        )
    model = {**MINE["model"], "pretrained": str(tmp_path / "pre_{fold}")}
    run = train(
        "colorectal-cnn1d", study, tmp_path / "run", overrides={**folds, "model": model}, figures=False
    )
    found = [Path(one.info["started_from"]["path"]).name for one in run.folds]
    assert found == ["pre_1", "pre_2"]


def test_patches_are_reconstructed_where_they_are_masked_and_measured(study: Path, tmp_path: Path) -> None:
    sets = {
        "train.threads": 1,
        "train.batch_size": 16,
        "train.epochs": 1,
        "patches.size": 12,
        "patches.stride": 3,
        "patches.limit": 0,
        "pretrain.epochs": 6,
        "pretrain.block": 3,
    }
    words = [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
    pre, run = tmp_path / "pre", tmp_path / "run"
    line = ["pretrain", "colorectal-resnet18", str(study), "--out", str(pre), *words]
    done = CliRunner().invoke(cli, line, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "reconstructed by the network" in done.output
    assert f"--set model.pretrained={pre}" in done.output
    error = open_pretraining(pre).summary["masked_error"]
    assert error["loss"] < 0.8 * error["mean"]
    with np.load(pre / "examples.npz") as found:
        hidden = np.broadcast_to(found["masked"], found["truth"].shape)
        assert np.array_equal(found["reconstructed"][~hidden], found["truth"][~hidden])
    line = ["train", "colorectal-resnet18", str(study), "--out", str(run), *words]
    done = CliRunner().invoke(cli, [*line, "--set", f"model.pretrained={pre}"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    info = open_run(run).info["model"]
    assert info["trained"] == ["all"], "nothing is frozen as ImageNet's layers would be"
    assert info["note"].endswith("new: head")
    assert CliRunner().invoke(cli, line).exit_code == 1, "the run is there already"


def test_a_line_is_drawn_across_spans_and_a_mean_into_blocks() -> None:
    spectra = torch.tensor([[9.0, 1, 7, 7, 4, 9]])
    masked = torch.tensor([[True, False, True, True, False, True]])
    found = interpolated(Masked(spectra, masked, ~masked), block=1)
    assert found.tolist() == [[1, 1, 2, 3, 4, 4]]
    patches = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    hidden = torch.zeros(2, 1, 9, 9, dtype=torch.bool)
    hidden[:, :, 3:6, 3:6] = True
    visible = ~hidden
    visible[:, :, :2] = False
    found = interpolated(Masked(patches, hidden, visible), block=3)
    y, x = np.mgrid[:9, :9]
    weight = np.exp(-((y - 4) ** 2 + (x - 5) ** 2) / (2 * 1.5**2)) * visible[0, 0].numpy()
    expected = (patches[0].numpy() * weight).sum(axis=(1, 2)) / weight.sum()
    np.testing.assert_allclose(found[0, :, 4, 5], expected, rtol=1e-5)
    assert torch.equal(found[:, :, :3], patches[:, :, :3])


def test_moments_are_those_of_all_batches_together() -> None:
    values = np.random.default_rng(0).normal(1e3, [1e-2, 1, 0], (500, 3)).astype(np.float32)
    moments = Moments()
    for part in np.split(values, [1, 1, 200]):
        moments.add(part)
    mean, deviation = moments.tensors(0)
    np.testing.assert_allclose(mean, values.mean(axis=0, dtype=np.float64), rtol=1e-7)
    np.testing.assert_allclose(deviation[:2], values.astype(np.float64).std(axis=0)[:2], rtol=1e-6)
    assert deviation[2] == 1, "where a channel is constant"


def test_a_span_that_masks_everything_is_refused(study: Path, tmp_path: Path) -> None:
    for changes, message in (
        ({"pretrain.span": 100}, r"pretrain\.span = 100 masks all of a sample of 100 channels"),
        ({"model.pretrained": "pre"}, "a pretraining starts from random weights"),
        ({"pretrain.spam": 3}, r"\[pretrain\] has no key 'spam' \(did you mean 'span'\?\)"),
        ({"model": {"name": "torch.nn:Linear"}}, "Linear"),
    ):
        with pytest.raises((RecipeError, TypeError), match=message):
            pretrain(
                "colorectal-cnn1d",
                study,
                tmp_path / "pre",
                overrides={**PRETRAIN, **changes},
                overwrite=True,
            )
