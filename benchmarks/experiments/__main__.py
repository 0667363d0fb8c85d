"""``python -m benchmarks.experiments``: make the studies, run the experiments, write results, figures and page."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from benchmarks.experiments.commands import ROOT, CommandFailed
from benchmarks.experiments.figures import write_figures
from benchmarks.experiments.page import write_page
from benchmarks.experiments.planned import FULL, QUICK
from benchmarks.experiments.results import collect
from benchmarks.experiments.running import ExperimentPlace, run_experiment
from benchmarks.experiments.studies import StudyPlace, find_study, make_study
from benchmarks.experiments.table import Experiment, StudySpec, Table

#: Where the full table's results are kept; the page is made of them.
RESULTS = ROOT / "benchmarks" / "experiments" / "results.json"


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    default=ROOT / "build" / "experiments",
    show_default="build/experiments",
    help="Where studies and runs are; what is finished there is not done again.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="Runs at a time.  [default: the cores, at most 4]")
@click.option("--fresh", is_flag=True, help="Begin anew: remove what is in the work folder.")
@click.option(
    "--quick", is_flag=True, help="Two experiments of seconds; writes nothing outside the work folder."
)
@click.option("--page", is_flag=True, help="Run nothing: write the page of the results that are there again.")
def main(names: tuple[str, ...], work: Path, jobs: int | None, fresh: bool, quick: bool, page: bool) -> None:
    """Run the experiments on simulated studies and write docs/experiments.md.

    With NAMES only these are run, and the page is written if all others are finished.
    """
    if page:
        click.echo(f"Wrote {write_page(json.loads(RESULTS.read_text('utf-8')), ROOT / 'docs')}")
        return
    table = QUICK if quick else FULL
    known = [one.name for one in table.experiments]
    if unknown := sorted(set(names) - set(known)):
        raise click.UsageError(f"there is no experiment {unknown[0]!r}: choose some of {', '.join(known)}")
    work = work / ("quick" if quick else "full")
    if fresh:
        shutil.rmtree(work, ignore_errors=True)
    wanted = [one for one in table.experiments if not names or one.name in names]
    studies, places, failures = run_all(table, wanted, work, jobs or min(4, len(os.sched_getaffinity(0))))
    if failures:
        raise click.ClickException("\n\n".join(failures))
    missing = [
        one.name
        for one in table.experiments
        if (study := studies.get(table.study_of(one).name)) is None or not places[one.name].is_finished(study)
    ]
    if missing:
        click.echo(f"No page yet, for lack of {', '.join(missing)}")
        return
    docs, results = (work / "docs", work / "results.json") if quick else (ROOT / "docs", RESULTS)
    document = collect(table, studies, places)
    results.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    write_figures(document, places, docs / "figures" / "experiments")
    click.echo(f"Wrote {write_page(document, docs)}")


def run_all(
    table: Table, wanted: list[Experiment], work: Path, jobs: int
) -> tuple[dict[str, StudyPlace], dict[str, ExperimentPlace], list[str]]:
    """Make the studies of some experiments, and run those that are not finished, ``jobs`` at a time.

    Returns
    -------
    studies, places
        By name: the studies that are there, and the place of every experiment of the table.
    failures
        What went wrong; one experiment that fails does not keep others from being run.
    """
    (work / "runs").mkdir(parents=True, exist_ok=True)
    places = {one.name: ExperimentPlace(work / "runs", one) for one in table.experiments}
    needed = {spec.name: spec for spec in map(table.study_of, wanted)}
    failures: list[str] = []

    def study(spec: StudySpec) -> None:
        try:
            make_study(spec, work / spec.name)
        except CommandFailed as error:
            failures.append(str(error))

    def experiment(one: Experiment) -> None:
        spec = table.study_of(one)
        place = find_study(spec, work / spec.name)
        if place is None:
            return  # its failure is among the others
        try:
            done = run_experiment(places[one.name], place)
        except CommandFailed as error:
            failures.append(str(error))
        else:
            click.echo(f"{one.name}: {'done' if done else 'was finished'}")

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(study, needed.values()))
        list(pool.map(experiment, wanted))
    found = {spec.name: find_study(spec, work / spec.name) for spec in table.studies}
    return {name: place for name, place in found.items() if place}, places, failures


if __name__ == "__main__":
    main()
