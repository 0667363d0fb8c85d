"""What TensorBoard is shown is what the run records."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from msicube.errors import MissingDependency
from msicube.experiments import Run, TrainingEvent, train
from msicube.store import Study

OPTIONS: dict[str, Any] = {
    "train.epochs": 2,
    "train.threads": 1,
    "train.batch_size": 64,
    "train.tensorboard": True,
    "spectra.limit": 320,
    "spectra.test_limit": 640,
}
INSTALLED = importlib.util.find_spec("tensorboard") is not None


def read(run: Run) -> dict[str, list[tuple[int, float]]]:
    """The curves as TensorBoard's own reader sees them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.skipif(not INSTALLED, reason="tensorboard is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_curves_are_those_of_the_metrics_also_after_an_interruption(study: Study, tmp_path: Path) -> None:
    def stop(event: TrainingEvent) -> None:
        if event.stage == "train" and event.epoch == 2 and event.done == 3:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"overrides": OPTIONS, "figures": False, "resume": True}
    with pytest.raises(KeyboardInterrupt):
        train("colorectal-cnn1d", study, tmp_path / "run", progress=stop, **options)
    run = train("colorectal-cnn1d", study, tmp_path / "run", **options)
    curves = read(run)
    for part in ("train", "test"):
        for name in ("loss", "accuracy"):
            found = curves[f"{part}/{name}"]
            assert [step for step, _ in found] == [5, 10]
            assert [value for _, value in found] == pytest.approx([e[part][name] for e in run.metrics])
    assert [step for step, _ in curves["step/loss"]] == list(range(1, 11))
    mean = sum(value for _, value in curves["step/loss"][5:]) / 5
    assert mean == pytest.approx(run.metrics[1]["train"]["loss"])


def test_without_tensorboard_it_is_said_before_anything_is_written(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(("tensorboard", "torch.utils.tensorboard"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingDependency, match=r"pip install 'msicube\[tensorboard\]'"):
        train("colorectal-cnn1d", study, tmp_path / "run", overrides=OPTIONS, figures=False)
    assert not (tmp_path / "run").exists()
