"""``python -m benchmarks [chain] [codecs] [index] [imzml] [imzml10] [pride]``."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import click

from benchmarks import chain, codecs, imzml, index, pride

CASES = {
    "chain": chain.run,
    "codecs": codecs.run,
    "index": index.run,
    "imzml": imzml.run,
    "imzml10": partial(imzml.run, scale=10),
    "pride": pride.run,
}


@click.command()
@click.argument("cases", nargs=-1, type=click.Choice(list(CASES)))
@click.option(
    "--work", type=click.Path(path_type=Path), help="Where to put the data.  [default: a temporary folder]"
)
def main(cases: tuple[str, ...], work: Path | None) -> None:
    """Time msicube on this machine and print the figures."""
    with tempfile.TemporaryDirectory(prefix="msicube-bench-") as folder:
        place = work or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        for name in cases or ("chain",):
            CASES[name](place)


if __name__ == "__main__":
    main()
