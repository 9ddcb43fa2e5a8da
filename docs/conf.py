"""Sphinx settings."""

import sys
from importlib.metadata import version as installed
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import listing  # noqa: E402 - beside this file

project = "probae"
author = "The probae developers"
copyright = "the probae developers"
version = release = installed("probae")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_templates", "_generated/*.md"]
templates_path = ["_templates"]

html_theme = "furo"
html_title = f"probae {release}"

myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
copybutton_prompt_text = ">>> |\\.\\.\\. |\\$ "
copybutton_prompt_is_regexp = True

autosummary_generate = True
autosummary_filename_map = listing.filename_map()
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # the class template lists them

# Written here, not in a hook, because autosummary looks for its tables before any hook of ours would run.
generated = HERE / "_generated"
generated.mkdir(exist_ok=True)
for name, text in (("api.rst", listing.api_page()), ("errors.md", listing.error_table())):
    target = generated / name
    if not target.exists() or target.read_text("utf-8") != text:  # an unchanged page is not built again
        target.write_text(text, "utf-8")


def escape_docstring(app, what, name, value, options, lines):
    """Let docstrings say |x| for an absolute value."""
    lines[:] = listing.escape_bars(lines)


def setup(app):
    """Register the hook."""
    app.connect("autodoc-process-docstring", escape_docstring)
