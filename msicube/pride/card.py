"""The dataset card of a study, ``README.md``, and its catalogue, ``catalog.json``: both follow from the study."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msicube
from msicube.axis import OBSERVED
from msicube.bytesize import format_bytes
from msicube.pride.actions import ARCHIVE
from msicube.pride.labels import Labels
from msicube.pride.project import Project
from msicube.pride.report import ProjectReport
from msicube.store import Location, Study
from msicube.store.study import find_study

CARD, CATALOG = "README.md", "catalog.json"
CATALOG_VERSION = 1
#: How the archive calls licences, and how catalogues of data sets do.
LICENCES = {
    "creative commons public domain (cc0)": "cc0-1.0",
    "cc0": "cc0-1.0",
    "creative commons attribution (cc by)": "cc-by-4.0",
    "cc by 4.0": "cc-by-4.0",
}
#: From so many spectra on, a category of size of dataset cards begins.
SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
)


def write_card(location: Location, project: Project, labels: Labels, report: ProjectReport) -> None:
    """Write both into the study; nothing where there is no study."""
    study = find_study(location)
    if study is None:
        return
    before = json.loads((location / CATALOG).get() or b"{}")
    catalog = make_catalog(study, project, report)
    # Slides keep their labels when a later run is given none.
    catalog["labels_from"] = labels.source or before.get("labels_from", "")
    (location / CATALOG).put((json.dumps(catalog, indent=1, sort_keys=True) + "\n").encode())
    (location / CARD).put(make_card(catalog, project).encode())


def make_catalog(study: Study, project: Project, report: ProjectReport) -> dict[str, Any]:
    """Return what came from what: for each slide of the project its files with their checksums, and what is missing."""
    slides = {
        name: {
            "files": attrs["origin"]["files"],
            "sample": attrs.get("sample", {}),
            "source": {key: attrs["source"].get(key) for key in ("uuid", "mode") if key in attrs["source"]},
            "axis": attrs["axis"]["law"],
            "channels": attrs["conversion"]["channels"],
            "spectra": attrs["conversion"]["spectra"],
            "masked": attrs["conversion"]["masked"],
        }
        for name, attrs in study.slide_attrs.items()
        if attrs.get("origin", {}).get("accession") == project.accession
    }
    return {
        "version": CATALOG_VERSION,
        "archive": ARCHIVE,
        "accession": project.accession,
        "title": project.title,
        "doi": project.doi,
        "licence": project.licence,
        "software": f"msicube {msicube.__version__}",
        "slides": slides,
        "missing": {row.slide: row.error for row in report.failed},
        "odd": list(project.odd),
    }


def make_card(catalog: Mapping[str, Any], project: Project) -> str:
    """Return the card: a head in YAML with the keys that catalogues of data sets read, and the same for people."""
    slides = catalog["slides"].values()
    files = [file for slide in slides for file in slide["files"]]
    spectra = sum(slide["spectra"] for slide in slides)
    samples = [slide["sample"] for slide in slides]
    patients = {sample["patient"] for sample in samples if sample.get("patient")}
    counts = Counter(str(sample.get("label", "")) for sample in samples)
    head = {
        "pretty_name": project.title or project.accession,
        "license": LICENCES.get(project.licence.lower(), "other"),
        "license_name": project.licence or "not stated",
        "tags": ["mass-spectrometry-imaging", "imzML", "zarr", "msicube"],
        "size_categories": [next((name for most, name in SIZES if spectra < most), "n>10M")],
        "source_datasets": [f"{ARCHIVE}:{project.accession}"],
        "accession": project.accession,
        "doi": project.doi or None,
        "slides": len(slides),
        "slides_missing": len(catalog["missing"]),
        "patients": len(patients) or None,
        "spectra": spectra,
        "labels": {name or "unlabelled": count for name, count in sorted(counts.items())},
        "axis": sorted({_axis(slide) for slide in slides}),
        "checksums": {
            "algorithm": "MD5",
            "files": len(files),
            "met": sum(bool(file["md5_met"]) for file in files),
            "list": CATALOG,
        },
        "source_bytes": sum(file["size"] for file in files),
        "software": catalog["software"],
    }
    return f"---\n{_yaml(head)}---\n\n{_text(head, catalog, project)}"


def _axis(slide: Mapping[str, Any]) -> str:
    law = "as in the source" if slide["axis"] == OBSERVED else slide["axis"]
    return f"{law}, {slide['channels']} channels"


def _text(head: Mapping[str, Any], catalog: Mapping[str, Any], project: Project) -> str:
    facts = project.facts
    lines = [f"# {head['pretty_name']}", ""]
    if facts.get("projectDescription"):
        lines += [str(facts["projectDescription"]).strip(), ""]
    lines += ["| | |", "|---|---|"]
    rows = {
        "archive": f"{ARCHIVE}, {project.accession}",
        "DOI": project.doi,
        "licence": head["license_name"],
        "published": facts.get("publicationDate"),
        "organisms": facts.get("organisms"),
        "organs": facts.get("organismParts"),
        "diseases": facts.get("diseases"),
        "instruments": facts.get("instruments"),
        "slides": f"{head['slides']}"
        + (f", {head['slides_missing']} missing" if head["slides_missing"] else ""),
        "patients": head["patients"],
        "spectra": head["spectra"],
        "axis": head["axis"],
        "labels": [f"{name}: {count}" for name, count in head["labels"].items()],
        "where labels come from": catalog["labels_from"],
        "source files": f"{head['checksums']['files']}, {format_bytes(head['source_bytes'])}; "
        f"{head['checksums']['met']} met the archive's MD5",
        "made by": catalog["software"],
    }
    for key, value in rows.items():
        text = "; ".join(map(str, value)) if isinstance(value, list) else value
        if text:
            lines.append(f"| {key} | {_cell(text)} |")
    lines += [
        "",
        f"`{CATALOG}` has for each slide the files that it was made of, with their checksums; `msicube pride verify` "
        "compares them with the archive. Open the study with `msicube.open_study`, or a slide with "
        "`xarray.open_zarr(study, group=slide, consolidated=False)`.",
    ]
    if catalog["missing"]:
        lines += ["", "## Missing", ""]
        lines += [f"- {slide}: {_cell(why)}" for slide, why in sorted(catalog["missing"].items())]
    if facts.get("references"):
        lines += ["", "## References", "", *(f"- {_cell(line)}" for line in facts["references"])]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    """Return text that stays in its line and its cell, and is no markup."""
    text = " ".join(str(value).split())
    return text.replace("|", "\\|").replace("<", "&lt;")


def _yaml(document: Mapping[str, Any]) -> str:
    """Return a mapping as YAML; what stands behind a key is JSON, which YAML contains."""
    lines = []
    for key, value in document.items():
        lines.append(f"{key}: {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"
