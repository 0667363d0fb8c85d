"""Train and explain the experiments; a run that is there and as it should be is not made again."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks.experiments.commands import receipt, run_commands, write_receipt
from benchmarks.experiments.studies import StudyPlace, fingerprint
from benchmarks.experiments.table import Experiment
from msicube.experiments import load_recipe, open_run, parse_overrides
from msicube.experiments.run import FOLD, Run

#: Held-out spectra of each class and fold that are explained.
EXPLAINED = 100


@dataclass(frozen=True)
class ExperimentPlace:
    """Where an experiment's run is.

    Attributes
    ----------
    runs
        Holds the runs of all experiments.
    experiment
        Which one.
    """

    runs: Path
    experiment: Experiment

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.runs / self.experiment.name

    @property
    def work(self) -> Path:
        """What commands before the run leave."""
        return self.runs / f"{self.experiment.name}.before"

    @property
    def receipt(self) -> Path:
        """What it was made with, and what that cost; written last."""
        return self.runs / f"{self.experiment.name}.json"

    @property
    def log(self) -> Path:
        """What the commands said."""
        return self.runs / f"{self.experiment.name}.log"

    @property
    def run(self) -> Run:
        """The run, once it is there."""
        return open_run(self.path)

    def explained(self) -> list[Path]:
        """Return the runs that are explained: the whole, or each of its folds."""
        if self.experiment.explain == "folds":
            return [self.path / f"{FOLD}{number}" for number in range(1, self._folds() + 1)]
        return [self.path] if self.experiment.explain else []

    def _folds(self) -> int:
        words = shlex.split(self.experiment.options)
        return int(words[words.index("--folds") + 1])

    def commands(self, study: str | Path, *, run: str | Path | None = None) -> list[str]:
        """Return what is typed after ``msicube``.

        Parameters
        ----------
        study
            Where the study is.
        run
            What the run's folder is called in them; where it is by default.
        """
        one = self.experiment
        out = Path(run or self.path)
        work = self.work if run is None else f"{run}.before"
        settings = " ".join(
            f"--set {shlex.quote(text.replace('{work}', str(work)))}" for text in one.settings
        )
        train = f"train {one.recipe} {study} --out {out} {one.options} --seed {one.seed} {settings}"
        explain = [
            f"explain {out / path.relative_to(self.path)} --spectra {EXPLAINED}" for path in self.explained()
        ]
        before = [line.format(study=study, work=work) for line in one.before]
        return [*before, " ".join(train.split()), *explain]

    def key(self, place: StudyPlace) -> str:
        """Return a digest of everything that decides the result: commands, recipe, data and version."""
        one = self.experiment
        overrides = parse_overrides(one.settings)
        recipe = load_recipe(one.recipe, overrides=overrides).table()
        return fingerprint([self.commands("STUDY", run="RUN"), recipe, receipt(place.receipt)["data"]])

    def is_finished(self, place: StudyPlace) -> bool:
        """Return whether the run is there, made of this recipe on these data."""
        return receipt(self.receipt).get("key") == self.key(place)


def run_experiment(place: ExperimentPlace, study: StudyPlace) -> bool:
    """Train and explain, unless that is done; return whether anything was."""
    if place.is_finished(study):
        return False
    for path in (place.path, place.work):
        shutil.rmtree(path, ignore_errors=True)
    for path in (place.receipt, place.log):
        path.unlink(missing_ok=True)
    place.work.mkdir(parents=True)
    cost = run_commands(place.commands(study.study), place.log)
    commands = place.commands("study.zarr", run=place.experiment.name)
    write_receipt(place.receipt, {"key": place.key(study), "commands": commands}, cost)
    return True
