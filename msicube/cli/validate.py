"""``msicube validate``."""

from __future__ import annotations

import click

from msicube.cli.common import Reporter, json_option, print_json, say, scheduler_option, workers_option


@click.command("validate")
@click.argument("study")
@click.option(
    "--source", "sources", multiple=True, metavar="SRC", help="Compare with these files or folders."
)
@click.argument("more_sources", nargs=-1, metavar="[SRC...]")
@click.option(
    "--independent", is_flag=True, help="Read the sources through pyimzML instead of msicube's reader."
)
@click.option("--slide", "slides", multiple=True, help="Only this slide; may be repeated.")
@scheduler_option
@workers_option
@json_option
def command(
    study: str,
    sources: tuple[str, ...],
    more_sources: tuple[str, ...],
    independent: bool,
    slides: tuple[str, ...],
    scheduler: str,
    workers: int | None,
    as_json: bool,
) -> int:
    """Check a study against the store format and, with --source, every stored spectrum against its file.

    --source takes one path and may be repeated; paths after it (as a shell expands *.imzML) are sources too. With
    --independent the sources are read through pyimzML, so that an error of msicube's own reader is found as well.
    """
    from msicube.store import open_study
    from msicube.store import validate as run

    opened = open_study(study)
    chosen = [*sources, *more_sources]
    with Reporter("validating") as reporter:
        findings = run(
            opened,
            slides=slides or None,
            sources=chosen or None,
            independent=independent,
            scheduler=scheduler,
            workers=workers,
            progress=reporter.update,
        )
    if as_json:
        print_json([{"slide": finding.slide, "message": finding.message} for finding in findings])
    else:
        for finding in findings:
            click.echo(str(finding))
    compared = " and equal to their sources, bit for bit" if chosen else ""
    say(
        f"{len(findings)} findings in {len(slides or opened.slides)} slides"
        if findings
        else f"{len(slides or opened.slides)} slides are valid{compared}"
    )
    return 1 if findings else 0
