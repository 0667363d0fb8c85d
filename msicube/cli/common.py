"""What the commands share: option types, progress on standard error, tables on standard output."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from msicube.axis import AxisLaw, parse_range
from msicube.bytesize import parse_bytes
from msicube.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class _Parsed(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """An option whose text one of our parsers must accept; what it says of bad text is wrong usage (exit code 2)."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            self._parse(str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)
        return str(value)


def _parse_where(text: str) -> None:
    from msicube.store import parse_where

    parse_where(text)


SIZE = _Parsed("size", parse_bytes)
AXIS_LAW = _Parsed("law", AxisLaw.parse)
RANGE = _Parsed("range", parse_range)
MASKS = _Parsed("expression", _parse_where)

where_option = click.option(
    "--where", type=MASKS, help='Only these pixels: names of masks joined by & | ~, such as "tissue & ~dead".'
)
scheduler_option = click.option(
    "--scheduler",
    default="threads",
    show_default=True,
    metavar="ADDRESS|threads|processes",
    help="Where the work runs: this machine's threads or processes, or a Dask scheduler such as tcp://host:8786.",
)
workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Threads or processes on this machine.  [default: one a core]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


#: Bars of finished items that stay on a terminal.
FINISHED_BARS = 6


class Reporter:
    """Progress on standard error: bars on a terminal, one line for each finished item elsewhere.

    Use as a context manager, and hand out :meth:`update` as a ``progress`` callback.
    """

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._finished: list[str] = []

    def __enter__(self) -> Reporter:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bars = Progress(console=Console(stderr=True))
            self._bars.start()
        return self

    @property
    def bars(self) -> bool:
        """Whether standard error is a terminal, where many items can be shown at once."""
        return self._bars is not None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def update(self, label: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` parts of an item are finished."""
        if self._bars is None:
            if done == total:
                click.echo(f"{self._verb} {label}", err=True)
            return
        task = self._tasks.get(label)
        if task is None:
            task = self._tasks[label] = self._bars.add_task(f"{self._verb} {label}", total=total)
        self._bars.update(task, completed=done, total=total)
        if done == total:
            self._finished.append(label)
        for old in self._finished[:-FINISHED_BARS]:  # a thousand slides would run off the screen
            self._bars.remove_task(self._tasks.pop(old))
        del self._finished[:-FINISHED_BARS]

    def finished(self, label: str) -> None:
        """Show that an item that has no parts is finished."""
        self.update(label, 1, 1)


def say(message: str) -> None:
    """Print a message on standard error."""
    click.echo(message, err=True)


def print_json(document: Any) -> None:
    """Print a document as JSON on standard output; numbers that JSON lacks become null."""
    click.echo(json.dumps(_finite(document), indent=2, default=str, allow_nan=False))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table on standard output, as wide as its text where that is no terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
