"""What is run: studies, tasks and experiments, each a line of a table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class StudySpec:
    """A simulated study.

    Attributes
    ----------
    name
        Of its folder.
    commands
        What follows ``msicube``; ``{files}`` and ``{study}`` are where the files and the study are.
    """

    name: str
    commands: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """A question that a study is asked.

    Attributes
    ----------
    name, title
        Of its section.
    study
        Name of a :class:`StudySpec`.
    label
        Column of the samples table with the classes.
    """

    name: str
    title: str
    study: str
    label: str


@dataclass(frozen=True)
class Experiment:
    """A run, and what it is compared with.

    Attributes
    ----------
    name
        Of the run's folder.
    task
        Name of a :class:`Task`.
    recipe
        Name of a recipe of msicube.
    shows
        What the run is there for, as the end of a sentence.
    options
        Of ``msicube train``, besides ``--set``.
    settings
        What is changed in the recipe, as ``key=value``.
    seed
        Of the run.
    before
        Commands that the run needs first; ``{study}`` and ``{work}`` are the study and a folder for what they make.
        Settings may say ``{work}`` too.
    explain
        ``""``: not at all. ``"run"``: the run as a whole. ``"folds"``: each fold by itself, because each selects
        channels of its own.
    against
        Names of experiments, of which this one's results are taken away, patient by patient.
    figures
        Of the run's figures, those that the page shows.
    """

    name: str
    task: str
    recipe: str
    shows: str
    options: str = ""
    settings: tuple[str, ...] = ()
    seed: int = 0
    before: tuple[str, ...] = ()
    explain: str = ""
    against: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Everything that one call of the command runs."""

    studies: tuple[StudySpec, ...]
    tasks: tuple[Task, ...]
    experiments: tuple[Experiment, ...]

    def study(self, name: str) -> StudySpec:
        """Return the study of a name."""
        return _named(self.studies, name)

    def task(self, name: str) -> Task:
        """Return the task of a name."""
        return _named(self.tasks, name)

    def experiment(self, name: str) -> Experiment:
        """Return the experiment of a name."""
        return _named(self.experiments, name)

    def study_of(self, experiment: Experiment) -> StudySpec:
        """Return the study that an experiment is trained on."""
        return self.study(self.task(experiment.task).study)


def _named(entries: Iterable[Any], name: str) -> Any:
    return next(entry for entry in entries if entry.name == name)
