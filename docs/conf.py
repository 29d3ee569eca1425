"""How the pages, the notebooks and the docstrings become a site: `make docs`."""

import re
from pathlib import Path
from typing import Any

import geodesic

project = "geodesic"
author = "The geodesic authors"
copyright = author
version = release = geodesic.__version__

# The source is the repository itself, so that links between pages, notebooks and files are those that a checkout has.
include_patterns = ["docs/**", "notebooks/*.ipynb", "CHANGELOG.md", "CONTRIBUTING.md"]
exclude_patterns = [".*", "build", "dist", "runs", "geodesic", "tests", "scripts", "configs", "docs/_templates"]
root_doc = "docs/index"

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "myst_nb"]

nb_execution_mode = "off"  # notebooks are stored with their outputs, by `python -m scripts.notebooks`
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4

templates_path = [str(Path(__file__).parent / "_templates")]
autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes are in the docstrings, as (N, d)
autodoc_preserve_defaults = True
napoleon_custom_sections = ["Reference"]
napoleon_attr_annotations = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = "geodesic"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}


EMPHASIS = re.compile(r"(?<![\w(*])\*\w[\w ]*\*(?!\w)")


def as_restructured_text(line: str) -> str:
    """A line of a docstring, whose `code` is that of Markdown and whose stars and bars are those of formulas."""

    def translated(part: str) -> str:
        if part.startswith("`"):
            return f"`{part}`"
        return part if EMPHASIS.fullmatch(part) else re.sub(r"([*|]|_(?!\w))", r"\\\1", part)

    return "".join(map(translated, re.split(rf"(`[^`]+`|{EMPHASIS.pattern})", line)))


def translate(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Translate a docstring, but for its examples."""
    example = False
    for number, line in enumerate(lines):
        if line.strip():
            example = line.lstrip().startswith(">>>") or (example and not line.strip().endswith(":"))
        else:
            example = False
        if not example:
            lines[number] = as_restructured_text(line)


def setup(app: Any) -> None:
    """Docstrings are translated before napoleon reads their sections."""
    app.connect("autodoc-process-docstring", translate, priority=100)
