"""``python -m benchmarks CASE...``; each case is a module of this package with a function ``run(work)``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

import click

CASES = (
    "chain",
    "codecs",
    "emsc",
    "frames",
    "ftir",
    "ftir_chain",
    "ftir_chain10",
    "imzml",
    "imzml10",
    "index",
    "large",
    "pca",
    "pretraining",
    "pride",
    "stream",
)


def case(name: str) -> Callable[[Path], None]:
    """Return what a case runs; a name that ends in 10 is the case at ten times its size."""
    module = import_module(f"benchmarks.{name.removesuffix('10')}")
    return partial(module.run, scale=10) if name.endswith("10") else module.run


@click.command()
@click.argument("cases", nargs=-1, type=click.Choice(CASES))
@click.option(
    "--work", type=click.Path(path_type=Path), help="Where to put the data.  [default: a temporary folder]"
)
def main(cases: tuple[str, ...], work: Path | None) -> None:
    """Time msicube on this machine and print the figures."""
    with tempfile.TemporaryDirectory(prefix="msicube-bench-") as folder:
        place = work or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        for name in cases or ("chain",):
            case(name)(place)


if __name__ == "__main__":
    main()
