"""Archives of tiny slides."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from archive_server import Archive, serve

from msicube.simulate import SimulationReport, simulate_msi


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> SimulationReport:
    """Twelve continuous slides of 8 x 8 pixels."""
    return simulate_msi(tmp_path_factory.mktemp("tiny") / "in", slides=12, shape=(8, 8), channels=40, seed=3)


@pytest.fixture(scope="session")
def ragged(tmp_path_factory: pytest.TempPathFactory) -> SimulationReport:
    """Six processed slides of 8 x 8 pixels."""
    return simulate_msi(
        tmp_path_factory.mktemp("ragged") / "in",
        slides=6,
        shape=(8, 8),
        channels=120,
        mode="processed",
        representation="centroid",
        seed=5,
    )


@pytest.fixture
def archive(tiny: SimulationReport) -> Iterator[Archive]:
    with serve(Archive.of(tiny.folder)) as found:
        yield found


@pytest.fixture
def ragged_archive(ragged: SimulationReport) -> Iterator[Archive]:
    with serve(Archive.of(ragged.folder)) as found:
        yield found


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MSICUBE_PRIDE_API", "MSICUBE_PRIDE_FILES", "MSICUBE_PRIDE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
