"""Layer 3: a whole project of the PRIDE Archive into one study, and back to where every slide came from."""

from __future__ import annotations

from msicube.pride.archive import Archive
from msicube.pride.convert import convert_project
from msicube.pride.fetch import fetch_project
from msicube.pride.project import Project, list_project
from msicube.pride.report import ProjectReport, ProjectRow
from msicube.pride.verify import verify_study

__all__ = [
    "Archive",
    "Project",
    "ProjectReport",
    "ProjectRow",
    "convert_project",
    "fetch_project",
    "list_project",
    "verify_study",
]
