"""``msicube evaluate``."""

from __future__ import annotations

import click

from msicube.cli.common import MASKS, json_option, print_json, say


@click.command("evaluate")
@click.argument("run")
@click.argument("study")
@click.option(
    "--slide", "slides", multiple=True, help="Only this slide; may be repeated.  [default: all labelled]"
)
@click.option("--where", type=MASKS, help='A mask, or such as "tissue & ~dead".  [default: the recipe\'s]')
@click.option("--out", metavar="FOLDER", help="For what comes of it.  [default: RUN/evaluation/STUDY]")
@click.option("--allow-seen", is_flag=True, help="Score patients that were trained on as well.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@json_option
def command(
    run: str,
    study: str,
    slides: tuple[str, ...],
    where: str | None,
    out: str | None,
    allow_seen: bool,
    device: str,
    as_json: bool,
) -> None:
    """Score the network of a run on labelled slides that it has not seen, of STUDY.

    Pipeline and weights are those of the run. Writes predictions.csv, summary.json and evaluation.json.
    """
    from msicube.cli.train import print_summary
    from msicube.experiments import evaluate

    found = evaluate(
        run, study, slides=slides or None, where=where, out=out, allow_seen=allow_seen, device=device
    )
    if as_json:
        print_json(found.summary)
    else:
        print_summary(str(found.path), found.summary)
    if found.info["seen"]:
        say(f"Not held out: {found.info['seen'][0]}" + (" and more" if found.info["seen"][1:] else ""))
