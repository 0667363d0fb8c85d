"""What ``import msicube`` may cost: nothing of torch, no configuration, little time."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import msicube as mc

ROOT = Path(__file__).resolve().parents[1]


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, msicube; print(*[m for m in ('torch', 'numpy', 'dask', 'zarr', 'sklearn') if m in sys.modules])"
    assert run(code).strip() == ""


@pytest.mark.parametrize(
    "command", ["convert", "simulate", "info", "validate", "fit", "apply", "mask", "rebin", "export", "pride"]
)
def test_help_does_not_load_torch(command: str) -> None:
    code = f"""
import sys
from msicube.cli import main
try:
    main([{command!r}, "--help"])
except SystemExit as end:
    assert end.code == 0
assert "torch" not in sys.modules
"""
    assert "Usage: msicube" in run(code)


def test_everything_below_the_streams_works_without_torch() -> None:
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import msicube as mc
mc.convert, mc.open_study, mc.Pipeline, mc.PCA, mc.simulate_msi, mc.validate
"""
    run(code)


def test_importing_changes_no_global_configuration() -> None:
    code = """
import warnings, copy, dask, zarr, sklearn
def settings():
    configs = copy.deepcopy([dask.config.config, zarr.config.config, sklearn.get_config()])
    return list(warnings.filters), configs
before = settings()
import msicube, msicube.store, msicube.conversion, msicube.preprocess, msicube.cli
assert settings() == before
"""
    run(code)


def test_every_public_name_resolves() -> None:
    for name in mc.__all__:
        assert callable(getattr(mc, name)), name
    with pytest.raises(AttributeError, match="nonsense"):
        mc.nonsense  # noqa: B018


def test_the_version_is_said_once() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert declared == mc.__version__


def test_the_extra_all_is_the_sum_of_the_others() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = extras.pop("all")[0].removeprefix("msicube[").removesuffix("]").split(",")
    assert sorted(named) == sorted(extras)
