"""Every list of hashers knows every public hasher."""

import re
import runpy
import sys
from pathlib import Path

import pytest
from _estimators import ARGUMENTS, WRAPPERS, make_hasher

import skhash

ROOT = Path(__file__).parents[1]
# Learn from labels, which the tables of the DSTDH paper have no place for.
SUPERVISED = {"DRSCHHasher", "DSHHasher", "KSH", "KSHHasher"}


def text(path):
    return (ROOT / path).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def listed():
    rows = [line for line in text("README.md").splitlines() if line.startswith("| `")]
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(ROOT / "benchmarks"))
    before = set(sys.modules)
    tables = runpy.run_path(str(ROOT / "benchmarks" / "tables.py"))
    patch.undo()
    for name in set(sys.modules) - before:
        if name.startswith("_"):
            del sys.modules[name]
    return {
        "the reference": re.findall(r"^   (\w+)$", text("docs/api.rst"), re.MULTILINE),
        "the README": [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])],
        "the page of methods": re.findall(
            r"^   \* - :class:`~skhash\.(\w+)`",
            text("docs/user_guide/methods.rst"),
            re.MULTILINE,
        ),
        "the benchmark": [
            method.factory.partition(".")[0] for method in tables["METHODS"].values()
        ],
    }


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize(
    "place", ["the reference", "the README", "the page of methods", "the benchmark"]
)
def test_every_hasher_is_listed(listed, place, name):
    missing = place == "the benchmark" and name in SUPERVISED | WRAPPERS
    assert (name in listed[place]) != missing


@pytest.mark.parametrize("place", ["the README", "the page of methods", "the benchmark"])
def test_no_list_has_a_hasher_that_is_none(listed, place):
    assert set(listed[place]) - {"SemanticSpace"} <= set(ARGUMENTS)


@pytest.mark.parametrize(
    "name", ["HammingNeighbors", "ImageFeatures", "ImageSearch", "SemanticSpace", *ARGUMENTS]
)
def test_the_representation_links_to_a_page_of_the_reference(listed, name):
    estimator = make_hasher(name) if name in ARGUMENTS else getattr(skhash, name)()
    link = re.search(r'href="(https://[^"]*)"', estimator._repr_html_())
    assert link is not None
    page = re.fullmatch(r"https://\S+/generated/skhash\.(\w+)\.html", link[1])
    assert page[1] == name
    assert name in listed["the reference"]


def test_a_subclass_elsewhere_has_no_page():
    class Mine(skhash.LSH):
        pass

    assert "/generated/" not in Mine()._repr_html_()
