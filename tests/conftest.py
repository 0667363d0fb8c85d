"""Fixtures that several rooms share: real data, and one small simulated study."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import msicube as mc
from msicube.simulate import SimulationReport, simulate_msi
from msicube.store import Study

# No test depends on the time that it takes, or that its examples take.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _no_caches() -> Iterator[None]:
    """Nothing is written into the home of whoever runs the tests, and every fit of the shared study reads it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSICUBE_INDEX_CACHE", "off")
        patch.setenv("MSICUBE_STATISTICS", "off")
        yield


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> Iterator[None]:
    """What a shell runs in the background ignores Ctrl-C, and so does all that it starts; tests send it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real files that other projects publish; they lie beside the project, not in it."""
    if not SHARED.is_dir():
        pytest.skip(f"the real files are not at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> SimulationReport:
    """Six slides of 40 x 36 pixels and 160 channels, continuous, as imzML pairs."""
    return simulate_msi(
        tmp_path_factory.mktemp("msi") / "slides", slides=6, seed=7, shape=(40, 36), channels=160
    )


@pytest.fixture(scope="session")
def _converted(simulation: SimulationReport, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("studies") / "study.zarr"
    mc.convert(simulation.folder, path, samples=simulation.samples, shard_size="256 KiB")
    return path


@pytest.fixture
def study(_converted: Path) -> Study:
    """The simulation as a study, several tiles a slide; shared by all tests, so only to be read."""
    return mc.open_study(_converted)
