"""Sphinx configuration; `make docs` builds the pages into docs/_build/html.

Building and reading the pages needs no network: formulas are MathML, links to other packages follow
the patterns of their sites, and figures are drawn from the package and from benchmarks/RESULTS.md.
"""

import html
import importlib.metadata
import inspect
import pydoc
import re
from typing import Any
from xml.etree import ElementTree

from docutils import nodes
from docutils.utils.math.latex2mathml import MathError, tex2mathml
from sphinx import addnodes
from sphinx.ext.autosummary import autosummary_table
from sphinx.util import logging
from sphinx_gallery.sorting import ExplicitOrder

import skhash

logger = logging.getLogger(__name__)

project = "scikit-hash"
author = "The scikit-hash developers"
copyright = f"2026, {author}"
version = release = skhash.__version__

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
nitpicky = True  # `make docs` has -W, so a reference without a target is an error
nitpick_ignore_regex = [("py:class", r"torch\.nn\.modules\..*")]  # defaults in signatures

html_theme = "pydata_sphinx_theme"
# Without the commit of a development version, for which the header has no room.
html_title = f"scikit-hash {version.partition('+')[0]}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": False,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}
pages = "index install benchmarks policies security changelog citing glossary"
html_sidebars = {page: [] for page in pages.split()}
# Link to the repository if pyproject.toml has its URL.
for url in importlib.metadata.metadata("scikit-hash").get_all("Project-URL") or []:
    label, _, target = url.partition(", ")
    if label == "Repository":
        html_theme_options["github_url"] = target

autodoc_typehints = "none"  # the docstrings have types and shapes
autosummary_generate = True
numpydoc_show_class_members = False
numpydoc_show_inherited_class_members = False
numpydoc_xref_param_type = False
toc_object_entries_show_parents = "hide"
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

html_math_renderer = "mathml"
plot_formats = ["svg"]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_rcparams = {"figure.constrained_layout.use": True, "svg.fonttype": "none"}

# The gallery reads from the first search to what takes it further.
EXAMPLES = [
    "plot_social_image_search.py",
    "plot_own_folder.py",
    "plot_words_and_photos.py",
    "plot_tune_transfer.py",
    "plot_tag_noise.py",
    "plot_semantic_space.py",
    "plot_few_labels.py",
    "plot_deep_hashing.py",
    "plot_optimiser.py",
    "plot_metrics.py",
    "plot_compare_methods.py",
    "plot_codes_to_database.py",
    "plot_encode_cluster.py",
    "plot_save_and_serve.py",
    "serve_search.py",
    "plot_own_hasher.py",
    "*",
]
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "backreferences_dir": "generated/backreferences",
    "doc_module": "skhash",
    "remove_config_comments": True,
    "within_subsection_order": ExplicitOrder(EXAMPLES),
}

# Addresses of the pages of other packages.
EXTERNAL = {
    "joblib": "https://joblib.readthedocs.io/en/stable/generated/{name}.html",
    "numpy": "https://numpy.org/doc/stable/reference/generated/{name}.html",
    "skorch": "https://skorch.readthedocs.io/en/stable/net.html",
    "sklearn": "https://scikit-learn.org/stable/modules/generated/{name}.html",
}


def link_outside(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Link a name of another package to its page, without the inventory of its site."""
    name = node.get("reftarget", "")
    pattern = EXTERNAL.get(name.partition(".")[0])
    if node.get("refdomain") != "py" or pattern is None or pydoc.locate(name) is None:
        return None
    return nodes.reference("", "", contnode, internal=False, refuri=pattern.format(name=name))


def prepare_docstring(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Prepare docstrings for numpydoc, which runs next."""
    # A name like ``n_iter_`` in prose or in a shape is not a link. In code it needs no escape.
    code = r"^ *(?:>>>|\.\.\. ).*|`+[^`]+`+|^[\w, ]+ : "
    for i, line in enumerate(lines):
        line = re.sub(rf"({code})|(?<=\w)_(?!\w)", lambda m: m[1] or r"\_", line)
        # Inherited docstrings of scikit-learn refer to its glossary and guide.
        lines[i] = re.sub(r":(?:term|ref):`([^`<]+?)(?: <\w+>)?`", r"\1", line)


def add_methods(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Add a table of methods to the docstring of a class."""
    names = shown_methods(obj) if what == "class" else []
    if names:
        rows = [f"   ~{obj.__name__}.{method}" for method in names]
        lines += ["", ".. rubric:: Methods", "", ".. autosummary::", "   :nosignatures:", "", *rows]


def shown_methods(cls: type) -> list[str]:
    """Public methods on the page of a class: those of this package and of scikit-learn."""
    names = [n for n in dir(cls) if not n.startswith("_") and n not in NOT_SHOWN]
    return [n for n in names if inspect.isroutine(getattr(cls, n)) and _owner(cls, n) in OURS]


def _owner(cls: type, name: str) -> str:
    """Top-level package of the class that defines a method."""
    owner = next(base for base in cls.__mro__ if name in vars(base))
    return owner.__module__.partition(".")[0]


NOT_SHOWN = {"get_metadata_routing", "set_output"}
OURS = {"skhash", "sklearn"}


def drop_citations(app: Any, doctree: nodes.document) -> None:
    """Remove citations from the summaries in tables, where they have no target."""
    for table in doctree.findall(autosummary_table):
        for ref in list(table.findall(addnodes.pending_xref)):
            if ref["refdomain"] != "citation":
                continue
            before = ref.parent[ref.parent.index(ref) - 1]
            ref.parent.replace(before, nodes.Text(before.astext().rstrip()))
            ref.parent.remove(ref)


def write_formula(writer: Any, node: Any) -> None:
    """Write a formula as MathML, which browsers can draw."""
    block = isinstance(node, nodes.math_block)
    try:
        formula = mend(tex2mathml(node.astext(), as_block=block))
    except MathError as error:
        formula = node.astext()
        logger.warning("%s In: %s", error, formula, location=node)
    writer.body.append(f'<div class="formula">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def mend(formula: str) -> str:
    """Correct two faults of docutils: bars that stretch, and indices below letters with accents."""
    formula = re.sub(' xmlns="[^"]+"', "", formula)  # HTML needs none
    formula = re.sub("&(?!amp|lt|gt)[A-Za-z]+;", lambda name: html.unescape(name[0]), formula)
    math = ElementTree.fromstring(formula)
    for bar in math.iterfind(".//mo"):
        if bar.text in ("‖", "|") and not bar.attrib:
            bar.set("stretchy", "false")
    for node in math.iterfind(".//munderover"):
        letter, index, accent = node
        if letter.tag == "mi" and accent.tag == "mo":
            node.tag = "msub"
            node[:] = [ElementTree.Element("mover", accent="true"), index]
            node[0][:] = [letter, accent]
    return ElementTree.tostring(math, encoding="unicode")


def setup(app: Any) -> None:
    """Register these functions. numpydoc's handler of docstrings has priority 500."""
    app.connect("autodoc-process-docstring", prepare_docstring, priority=100)
    app.connect("autodoc-process-docstring", add_methods, priority=900)
    app.connect("doctree-read", drop_citations)
    app.connect("missing-reference", link_outside)
    app.add_html_math_renderer("mathml", (write_formula, None), (write_formula, None))
