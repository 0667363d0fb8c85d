from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import msicube as mc
from msicube.errors import UsageError
from msicube.experiments import Run

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """Checks that tags are balanced and collects what a page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        assert tag not in ("script", "link", "iframe")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_report_is_one_page_that_needs_nothing_else(patches: Run) -> None:
    path = mc.report(patches.path)
    assert path == patches.path / "report.html"
    text = path.read_text("utf-8")
    page = Page(text)
    assert page.open == []
    assert len(page.sources) == 11
    for source in page.sources:
        kind, data = re.fullmatch(r"data:image/(png|svg\+xml);base64,(.*)", source).groups()
        start = b"\x89PNG" if kind == "png" else b"<?xml"
        assert base64.b64decode(data).startswith(start)
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", re.sub(r'"data:[^"]*"', "", text))


def test_a_report_has_the_numbers_of_the_run(patches: Run, pixels: tuple[Run, Any]) -> None:
    for run in (patches, pixels[0]):
        text = Page(mc.report(run).read_text("utf-8")).text
        metrics = run.summary["samples"]["metrics"]
        assert f"{100 * metrics['accuracy']:.1f} %" in text
        assert f"{metrics['specificity']:.3f}" in text
        assert run.info["pipeline"]["fingerprint"] in text
        assert all(row["slide"] in text for part in ("train", "test") for row in run.info["split"][part])
        assert (run.path / "recipe.toml").read_text("utf-8") in text
        assert f"torch {run.info['versions']['torch']}" in text
        assert "None" not in text


def test_names_are_escaped(pixels: tuple[Run, Any], tmp_path: Path) -> None:
    import shutil

    shutil.copytree(pixels[0].path, tmp_path / "run")
    recipe = tmp_path / "run" / "recipe.toml"
    recipe.write_text(
        recipe.read_text("utf-8").replace('name = "colorectal-cnn1d"', 'name = "<b>&me"'), "utf-8"
    )
    text = mc.report(tmp_path / "run").read_text("utf-8")
    assert "<h1>&lt;b&gt;&amp;me</h1>" in text


def test_what_is_no_run_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no run"):
        mc.report(tmp_path)
