"""``msicube predict``."""

from __future__ import annotations

import click

from msicube.cli.common import SIZE, Reporter, say


@click.command("predict")
@click.argument("run")
@click.argument("study")
@click.option("--name", default="prediction", show_default=True, help="Of the variable.")
@click.option("--slide", "slides", multiple=True, help="Only this slide; may be repeated.")
@click.option("--where", default="acquired", show_default=True, help='A mask, or such as "tissue & ~dead".')
@click.option("--stride", type=click.IntRange(min=1), help="Pixels between patches.  [default: the recipe's]")
@click.option("--batch-size", type=click.IntRange(min=1), help="[default: the recipe's]")
@click.option("--memory", type=SIZE, help="Bound on the stream.  [default: the recipe's]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--overwrite", is_flag=True, help="Replace another prediction of this name.")
def command(
    run: str,
    study: str,
    name: str,
    slides: tuple[str, ...],
    where: str,
    stride: int | None,
    batch_size: int | None,
    memory: str | None,
    device: str,
    overwrite: bool,
) -> None:
    """Write what the network of a run says of each pixel into the slides of a study.

    Slides that have it already are left alone, so the same command run again goes on where it stopped.
    """
    from msicube.experiments import predict
    from msicube.store import open_study

    opened = open_study(study)
    with Reporter("predicting") as reporter:
        written = predict(
            run,
            opened,
            name=name,
            slides=slides or None,
            where=where,
            stride=stride,
            batch_size=batch_size,
            memory=memory,
            device=device,
            overwrite=overwrite,
            progress=reporter.update,
        )
    present = len(slides or opened.slides) - len(written)
    say(f"{name}: written into {len(written)} slides" + (f", {present} had it already" if present else ""))
