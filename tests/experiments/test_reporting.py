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
    assert len(page.sources) == len(list((patches.path / "figures").glob("*.svg")))
    for source in page.sources:
        kind, data = re.fullmatch(r"data:image/(png|svg\+xml);base64,(.*)", source).groups()
        start = b"\x89PNG" if kind == "png" else b"<?xml"
        assert base64.b64decode(data).startswith(start)
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", re.sub(r'"data:[^"]*"', "", text))


def test_a_report_suits_a_phone_and_paper_and_the_dark(patches: Run) -> None:
    text = mc.report(patches).read_text("utf-8")
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    style = text[text.index("<style>") : text.index("</style>")]
    for rule in ("@media print", "@media screen and (max-width", "prefers-color-scheme: dark", "@page"):
        assert rule in style
    printed = style[style.index("@media print") :]
    assert re.search(r"figure,[^{]*\{ break-inside: avoid", printed), "no page break inside a figure"
    assert "max-height: 200mm" in printed, "a figure and its words fit on a page"
    images = re.findall(r"<img [^>]*>", text)
    assert len(images) == len(list((patches.path / "figures").glob("*.svg")))
    titles = re.findall(r"<h3>([^<]*)</h3>", text)
    assert [re.search(r'alt="([^"]*)"', image).group(1) for image in images] == titles
    assert not re.search(r"[{}]samples[{}]|n_embedded", text.replace(style, ""))
    # What is wider than a phone moves sideways by itself, and not the page with it.
    assert text.count("<table") == text.count('class="scroll"><table')
    assert text.count("<img") == text.count('class="frame"><img')


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
