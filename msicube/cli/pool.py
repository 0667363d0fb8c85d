"""``msicube pool``."""

from __future__ import annotations

import click

from msicube.cli.common import SIZE, Reporter, say
from msicube.codecs import CODECS, DEFAULT_CODEC


@click.command("pool")
@click.argument("study")
@click.argument("out")
@click.option("--where", default="acquired", show_default=True, help='A mask, or such as "tissue & ~dead".')
@click.option("--slide", "slides", multiple=True, help="Only this slide; may be repeated.")
@click.option(
    "--balance", metavar="COLUMN", help="As many spectra of every value of this column of the samples."
)
@click.option("--replacement", is_flag=True, help="Balance by repeating spectra instead of leaving some out.")
@click.option("--limit", type=click.IntRange(min=1), help="The most spectra.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--memory", type=SIZE, default="1 GiB", show_default=True, help="Bound on the process.")
@click.option("--codec", type=click.Choice(list(CODECS)), default=DEFAULT_CODEC, show_default=True)
@click.option("--scratch", help="Folder for the spectra on their way.  [default: beside OUT]")
@click.option("--overwrite", is_flag=True, help="Replace a pool that is there.")
def command(
    study: str,
    out: str,
    where: str,
    slides: tuple[str, ...],
    balance: str | None,
    replacement: bool,
    limit: int | None,
    seed: int,
    memory: str,
    codec: str,
    scratch: str | None,
    overwrite: bool,
) -> None:
    """Write chosen spectra of a study once, in a random order of all of them.

    OUT is a study of one image whose pixels are the spectra, each with slide, y and x; mc.SpectrumStream reads it as it
    reads a study, and mixes all slides with little memory.
    """
    from msicube.stream import SpectrumStream, pool

    with Reporter("pool:") as reporter:
        pooled = pool(
            study,
            out,
            slides=slides or None,
            where=where,
            balance=balance,
            replacement=replacement,
            limit=limit,
            seed=seed,
            memory=memory,
            codec=codec,
            scratch=scratch,
            overwrite=overwrite,
            progress=reporter.update,
        )
    stream = SpectrumStream(pooled, batch_size=1, labels=None, memory=memory)
    say(f"{out}: {stream.n_samples} spectra of {stream.n_channels} channels from {len(stream.slides)} slides")
