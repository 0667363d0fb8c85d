"""``msicube info``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from msicube.cli.common import json_option, print_json, print_table

if TYPE_CHECKING:
    from msicube.readers import CubeInfo
    from msicube.store import Study


@click.command("info")
@click.argument("path")
@json_option
def command(path: str, as_json: bool) -> None:
    """Tell what a source file or a study holds, without reading its spectra."""
    documents = _source(Path(path)) if _is_source(Path(path)) else [_study(path)]
    if as_json:
        print_json(documents if len(documents) > 1 else documents[0])
        return
    for document in documents:
        _print(path, document)


def _print(path: str, document: dict[str, Any]) -> None:
    slides = document.pop("slides", None)
    print_table(path, ("", ""), [(key, value) for key, value in _flat(document)])
    if slides:
        columns = list(dict.fromkeys(key for row in slides for key in row))
        print_table("slides", columns, [[_cell(row.get(key)) for key in columns] for row in slides])


def _cell(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _is_source(path: Path) -> bool:
    """Return whether a path is a file, or a folder that is no Zarr store and so may hold the files of a source."""
    return path.is_file() or (path.is_dir() and any(path.iterdir()) and not (path / "zarr.json").exists())


def _source(path: Path) -> list[dict[str, Any]]:
    """Describe a source file: one document, or one for each plane of a stack."""
    from msicube.readers import open_sources

    return [_cube(reader.info) for reader in open_sources(path)]


def _cube(info: CubeInfo) -> dict[str, Any]:
    size = info.pixel_size
    return {
        "name": info.name,
        "modality": info.modality,
        "shape": {"y": info.shape[0], "x": info.shape[1]},
        "spectra": info.n_spectra,
        "axis": None if info.axis is None else _axis(info.axis, info.axis_law),
        "dtype": info.dtype.name,
        "pixel_size_um": {"y": size.y, "x": size.x, "provenance": size.provenance} if size else None,
        "source": info.source,
        "remarks": list(info.remarks),
    }


def _study(path: str) -> dict[str, Any]:
    from msicube.store import open_study

    study = open_study(path)
    return {
        **study.header,
        "n_slides": len(study),
        "n_spectra": sum(attrs["conversion"]["spectra"] for attrs in study.slide_attrs.values()),
        "pipelines": study.pipelines(),
        "slides": [_slide(study, name) for name in study.slides],
    }


def _slide(study: Study, name: str) -> dict[str, Any]:
    cube, attrs = study.cube(name), study.slide_attrs[name]
    axis = study.axis(name)
    ny, nx, channels = cube.shape
    return {
        "slide": name,
        "y": ny,
        "x": nx,
        "spectra": attrs["conversion"]["spectra"],
        "channels": channels,
        "axis": f"{axis[0]:.6g} to {axis[-1]:.6g}, {attrs['axis']['law']}",
        "dtype": cube.dtype.name,
        "tile": "x".join(map(str, cube.tile)),
        "masks": study.masks(name)[1:],
        **attrs["sample"],
    }


def _axis(axis: np.ndarray, law: str | None) -> dict[str, Any]:
    return {"channels": len(axis), "first": float(axis[0]), "last": float(axis[-1]), "law": law}


def _flat(document: dict[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    """Return nested documents as rows with dotted names."""
    rows: list[tuple[str, object]] = []
    for key, value in document.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((prefix + key, ", ".join(map(str, value)) if isinstance(value, list) else value))
    return rows
