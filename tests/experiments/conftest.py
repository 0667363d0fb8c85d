"""One run of each built-in recipe on the small study, shared by the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from msicube.experiments import Run, TrainingEvent, train

SPECTRA = {
    "train.epochs": 2,
    "train.threads": 1,
    "train.batch_size": 64,
    "train.learning_rate": 1e-3,
    "spectra.limit": 1500,
}
PATCHES = {
    "train.epochs": 1,
    "train.threads": 1,
    "train.batch_size": 16,
    "patches.size": 12,
    "patches.stride": 6,
    "model.weights": "random",
}


@pytest.fixture(scope="session")
def study_path(_converted: Path) -> Path:
    """Where the study is."""
    return _converted


@pytest.fixture(scope="session")
def pixels(study_path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[TrainingEvent]]:
    events: list[TrainingEvent] = []
    out = tmp_path_factory.mktemp("runs") / "pixels"
    return train("colorectal-cnn1d", study_path, out, overrides=SPECTRA, progress=events.append), events


@pytest.fixture(scope="session")
def patches(study_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "patches"
    return train("colorectal-resnet18", study_path, out, overrides=PATCHES)
