"""Sphinx configuration: ``make docs``."""

from __future__ import annotations

from types import GenericAlias
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

import msicube
from msicube import schema

project = "msicube"
author = "the msicube developers"
version = release = msicube.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"msicube {release}"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False


class SchemaTable(Directive):
    """Print the store's schema from the code that creates and validates it."""

    required_arguments = 1
    has_content = False
    option_spec: ClassVar[dict[str, object]] = {}

    def run(self) -> list[nodes.Node]:
        if self.arguments[0] == "variables":
            text = schema.describe()
        elif self.arguments[0] == "peaks":
            text = schema.describe(schema.PEAK_SPECS)
        else:
            optional = self.arguments[0] == "optional-attributes"
            attrs = schema.OPTIONAL_SLIDE_ATTRS if optional else schema.SLIDE_ATTRS
            rows = [f"| `{name}` | {what} |" for name, what in attrs.items()]
            text = "\n".join(["| attribute | what it holds |", "|---|---|", *rows])
        container = nodes.Element()
        self.state.nested_parse(text.splitlines(), self.content_offset, container)
        return list(container.children)


def leave_out_aliases(app: Sphinx, what: str, name: str, member: object, skip: bool, options: object) -> bool:
    """Leave out names for types such as ``tuple[float, float]``: they have neither a signature nor a docstring."""
    return skip or isinstance(member, GenericAlias)


def setup(app: Sphinx) -> None:
    app.add_directive("include-schema", SchemaTable)
    app.connect("autodoc-skip-member", leave_out_aliases)
