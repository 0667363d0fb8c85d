"""Mixed precision and compilation change how a step is computed, and little of what comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from msicube.errors import MissingDependency, RecipeError
from msicube.experiments import Run, TrainingEvent, load_recipe, train
from msicube.experiments.acceleration import Precision, compiled

#: Of torch's own compiler, about torch's own code.
INNER_WARNINGS = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
OPTIONS: dict[str, Any] = {
    "train.epochs": 2,
    "train.threads": 1,
    "train.batch_size": 64,
    "train.learning_rate": 1e-3,
    "train.device": "cpu",
    "spectra.limit": 320,
    "spectra.test_limit": 640,
}


class Watched(nn.Module):
    """Says in which numbers it computes."""

    seen: tuple[set[torch.dtype], set[torch.dtype]] = (set(), set())

    def __init__(self, *, n_channels: int, n_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n_channels, n_classes)

    def forward(self, spectra: torch.Tensor) -> torch.Tensor:
        logits = self.layer(spectra)
        self.seen[self.training].add(logits.dtype)
        return logits


class Plain(nn.Linear):
    """Nothing that torch could not compile."""

    def __init__(self, *, n_channels: int, n_classes: int) -> None:
        super().__init__(n_channels, n_classes)


def quick(study_path: Path, out: Path, **changes: Any) -> Run:
    overrides = OPTIONS | {"model": {"name": f"{__name__}:Watched"}} | changes
    return train("colorectal-cnn1d", study_path, out, overrides=overrides, figures=False)


@pytest.mark.parametrize(
    ("name", "dtype"), [("auto", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)]
)
def test_a_network_is_trained_in_the_precision_and_evaluated_in_float32(
    name: str, dtype: torch.dtype, study_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watched, "seen", (set(), set()))
    run = quick(study_path, tmp_path / "run", **{"train.precision": name})
    assert Watched.seen == ({torch.float32}, {dtype})
    assert run.info["precision"] == str(dtype).removeprefix("torch.")
    weights = torch.load(run.path / "weights.pt", weights_only=True)
    assert {value.dtype for value in weights.values()} == {torch.float32}
    whole = quick(study_path, tmp_path / "whole", **{"train.precision": "float32"})
    for ours, theirs in zip(run.metrics, whole.metrics, strict=True):
        assert ours["train"]["loss"] == pytest.approx(theirs["train"]["loss"], rel=0.05)


def test_the_scale_of_float16_is_taken_up_again(study_path: Path, tmp_path: Path) -> None:
    def stop(event: TrainingEvent) -> None:
        if event.stage == "train" and event.epoch == 2 and event.done == 2:
            raise KeyboardInterrupt

    changes = {"train.precision": "float16", "model": {"name": f"{__name__}:Watched"}}
    options: dict[str, Any] = {"overrides": OPTIONS | changes, "figures": False, "resume": True}
    with pytest.raises(KeyboardInterrupt):
        train("colorectal-cnn1d", study_path, tmp_path / "run", progress=stop, **options)
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["scaler"]["_growth_tracker"] == 7
    again = train("colorectal-cnn1d", study_path, tmp_path / "run", **options)
    whole = quick(study_path, tmp_path / "whole", **{"train.precision": "float16"})
    weights = [torch.load(run.path / "weights.pt", weights_only=True) for run in (again, whole)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_auto_is_half_precision_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for supported, name in ((True, "bfloat16"), (False, "float16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda found=supported: found)
        assert Precision.choose("auto", torch.device("cuda")).name == name
    with pytest.raises(RecipeError, match=r"did you mean 'bfloat16'\?"):
        load_recipe("colorectal-cnn1d", overrides={"train.precision": "bfloat"})


@pytest.mark.slow
@INNER_WARNINGS
def test_a_compiled_network_learns_the_same(study_path: Path, tmp_path: Path) -> None:
    plain = {"model": {"name": f"{__name__}:Plain"}}
    compiled_run = quick(study_path, tmp_path / "compiled", **plain, **{"train.compile": True})
    whole = quick(study_path, tmp_path / "whole", **plain)
    for ours, theirs in zip(compiled_run.metrics, whole.metrics, strict=True):
        assert ours["train"]["loss"] == pytest.approx(theirs["train"]["loss"], rel=1e-4)
    weights = torch.load(compiled_run.path / "weights.pt", weights_only=True)
    assert set(weights) == {"weight", "bias"}, "the names are those of the network itself"


@INNER_WARNINGS
def test_without_a_compiler_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", (None, str(tmp_path / "no-compiler")))
    torch._dynamo.reset()
    with pytest.raises(MissingDependency, match=r"needs a C\+\+ compiler.*set train\.compile = false"):
        compiled(nn.Linear(2, 2), torch.device("cpu"))
