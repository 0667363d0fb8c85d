"""The figures of the page: all results in one, and small copies of some of the runs' own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.experiments.running import ExperimentPlace
from msicube.experiments.figures.style import (
    COLOURS,
    GREY,
    WIDTH,
    new_figure,
    panel_letter,
    save_figure,
    styled,
)
from msicube.experiments.run import FIGURES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OVERVIEW = "overview"
#: Of a copy, in pixels: enough for a page.
COPY_WIDTH = 1000
_PANELS = (
    ("samples", "roc_auc", "ROC AUC by sample"),
    ("slides", "roc_auc", "ROC AUC by slide"),
    ("slides", "accuracy", "accuracy by slide"),
)


def write_figures(results: Mapping[str, Any], places: Mapping[str, ExperimentPlace], folder: Path) -> None:
    """Draw the overview and copy the figures that experiments name; others that are there are removed.

    Parameters
    ----------
    results
        As :func:`~benchmarks.experiments.results.collect` returns them.
    places
        By name of the experiment.
    folder
        Is made where it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.png"):
        path.unlink()
    save_figure(overview(results), folder, OVERVIEW, dpi=160)
    (folder / f"{OVERVIEW}.svg").unlink()
    _shrink(folder / f"{OVERVIEW}.png", folder / f"{OVERVIEW}.png")
    for row in results["experiments"]:
        for name in row["figures"]:
            source = places[row["name"]].path / FIGURES / f"{name}.png"
            _shrink(source, folder / figure_name(row["name"], name))


def figure_name(experiment: str, figure: str) -> str:
    """Return the file name of a copy."""
    return f"{experiment}-{figure}.png"


def _shrink(source: Path, target: Path) -> None:
    from PIL import Image

    with Image.open(source) as image:
        picture = image.convert("RGB")
    if picture.width > COPY_WIDTH:
        height = round(picture.height * COPY_WIDTH / picture.width)
        picture = picture.resize((COPY_WIDTH, height), Image.Resampling.LANCZOS)
    # All colours are kept: fewer would make the file half as large, and a colour bar or a pale ground wrong.
    picture.save(target, optimize=True)


@styled
def overview(results: Mapping[str, Any]) -> Figure:
    """Draw every experiment's results with their intervals, beside chance and the limit."""
    rows = _rows(results)
    figure = new_figure(WIDTH, 0.9 + 0.19 * len(rows))
    axes = figure.subplots(1, len(_PANELS), sharey=True)
    for panel, letter, (level, metric, title) in zip(axes, "abc", _PANELS, strict=True):
        _panel(panel, rows, level, metric)
        panel.set(xlim=(0, 1.03), xlabel=title)
        panel_letter(panel, letter)
    axes[0].set_yticks(range(len(rows)), [text for text, _, _ in rows])
    for label, (_, row, _) in zip(axes[0].get_yticklabels(), rows, strict=True):
        label.set_fontweight("normal" if row else "bold")
    axes[0].invert_yaxis()
    # The second panel has all kinds of lines, the limit among them.
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _rows(results: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any] | None, Mapping[str, Any]]]:
    """Return a heading for each task, and under it its experiments: text, experiment, task."""
    rows: list[tuple[str, Mapping[str, Any] | None, Mapping[str, Any]]] = []
    for task in results["tasks"]:
        rows.append((task["title"], None, task))
        rows += [(one["name"], one, task) for one in results["experiments"] if one["task"] == task["name"]]
    return rows


def _panel(panel: Axes, rows: list[Any], level: str, metric: str) -> None:
    seen: set[str] = set()

    def once(text: str) -> str | None:
        """Return a label for the first of its kind, and none for the others."""
        return None if text in seen or seen.add(text) else text  # type: ignore[func-returns-value]

    for y, (_, row, task) in enumerate(rows):
        if row is None:
            continue
        chance = 0.5 if metric == "roc_auc" else row[level]["chance"]
        panel.plot([chance, chance], [y - 0.5, y + 0.5], color=GREY, lw=0.8, ls=":", label=once("chance"))
        best = task["limit"][metric]
        if level == "slides" and best is not None:
            panel.plot(
                [best, best], [y - 0.5, y + 0.5], color=COLOURS[2], lw=1.0, label=once("limit of slides")
            )
        value, interval = row[level]["metrics"][metric], row[level]["intervals"][metric]
        if value is None:
            continue
        colour = COLOURS[1] if row["shuffled"] else COLOURS[0]
        if interval:
            panel.plot(interval, [y, y], color=colour, lw=1.0, solid_capstyle="butt")
        text = "shuffled labels" if row["shuffled"] else "true labels"
        panel.plot(value, y, "o", ms=3.5, color=colour, label=once(text))
    panel.tick_params(axis="y", length=0)
    panel.margins(y=0.02)
