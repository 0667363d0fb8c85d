"""Every code block of the README and the documentation runs, page by page, as a reader would type it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from msicube.simulate import SimulationReport, simulate_msi

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: Fences that are not code to run: diagrams, and directives of the documentation.
PROSE = {"text", "toml", "csv"}


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    code: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        yield Block(match[1], match[2], text.count("\n", 0, match.start()) + 2)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> SimulationReport:
    """The slides that the pages talk about; a page that makes its own replaces them."""
    folder = tmp_path_factory.mktemp("docs") / "slides"
    return simulate_msi(folder, slides=8, shape=(64, 64), channels=300, seed=1)


@pytest.fixture
def reader_folder(example: SimulationReport, tmp_path: Path) -> Path:
    """A folder as a reader has it: slides, and a study made of them."""
    (tmp_path / "slides").symlink_to(example.folder)
    msicube("convert", "slides", "study.zarr", "--samples", "slides/samples.csv", folder=tmp_path)
    return tmp_path


def msicube(*arguments: str, folder: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "msicube.cli", *arguments], cwd=folder, check=True, capture_output=True
    )


def environment() -> dict[str, str]:
    """The environment of somebody who has activated the virtual environment."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def run_shell(block: Block, folder: Path) -> None:
    if block.code.startswith("msicube simulate msi slides"):
        (folder / "slides").unlink()
        subprocess.run(["rm", "-rf", "study.zarr"], cwd=folder, check=True)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.code],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"line {block.line}:\n{block.code}\n{done.stdout}{done.stderr}"


def run_python(code: str, folder: Path) -> None:
    # A file of its own, because worker processes import the main module again.
    script = folder / "page.py"
    body = "".join(f"    {line}\n" if line else "\n" for line in code.splitlines())
    script.write_text(f'if __name__ == "__main__":\n{body}')
    done = subprocess.run(
        [sys.executable, script.name], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_runs(page: Path, reader_folder: Path) -> None:
    found = [block for block in blocks(page) if block.language not in PROSE]
    if not found:
        assert re.search(r"^\s*```(python|sh)$", page.read_text(), re.MULTILINE) is None
        return
    pending: list[str] = []
    for block in found:
        if block.language == "python":
            pending.append(block.code)
        elif block.language == "sh":
            if block.code.startswith(("make ", "git ")):
                check_make(block)
            else:
                run_shell(block, reader_folder)
        else:
            pytest.fail(f"line {block.line}: a block of {block.language} is neither run nor listed as prose")
    if pending:
        run_python("\n".join(pending), reader_folder)


def check_make(block: Block) -> None:
    """CI itself runs the README's make commands; here it is only checked that it does."""
    ci = (ROOT / ".ci" / "run").read_text()
    for line in block.code.splitlines():
        command = line.split("#")[0].strip()
        if command.startswith("make"):
            assert f"\n{command}\n" in ci, f"line {block.line}: {command} is not run by .ci/run"
