"""Sphinx configuration; `make docs` builds the pages into docs/_build/html."""

import re
from typing import Any

import skhash

project = "scikit-hash"
author = "The scikit-hash developers"
copyright = f"2026, {author}"
version = release = skhash.__version__

extensions = [
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

html_theme = "pydata_sphinx_theme"
html_title = f"scikit-hash {version}"
html_theme_options = {"navigation_with_keys": False}

autodoc_typehints = "none"  # docstrings tell types, and shapes
autosummary_generate = True
numpydoc_show_class_members = False
numpydoc_show_inherited_class_members = False
numpydoc_xref_param_type = False

# Only these links need the network; without it the pages build with a warning and plain text.
intersphinx_mapping = {
    "numpy": ("https://numpy.org/doc/stable", None),
    "python": ("https://docs.python.org/3", None),
    "scipy": ("https://docs.scipy.org/doc/scipy", None),
    "sklearn": ("https://scikit-learn.org/stable", None),
}

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "doc_module": "skhash",
    "reference_url": {"skhash": None},
    "remove_config_comments": True,
}


def escape_names(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep a name like ``n_iter_`` in prose or in a shape from being read as a link."""
    code = r"^ *(?:>>>|\.\.\. ).*|`+[^`]+`+|^[\w, ]+ : "  # a trailing underscore is right in these
    for i, line in enumerate(lines):
        lines[i] = re.sub(rf"({code})|(?<=\w)_(?!\w)", lambda m: m[1] or r"\_", line)


def setup(app: Any) -> None:
    """Come before numpydoc's own handler."""
    app.connect("autodoc-process-docstring", escape_names, priority=100)
