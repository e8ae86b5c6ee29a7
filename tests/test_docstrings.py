"""Every public object is documented in numpydoc form, and says what its signature says."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from typing import is_typeddict

import numpy as np
import pytest
from _estimators import ABSTRACT, ARGUMENTS, make_hasher

import skhash

SECTIONS = [
    "Parameters",
    "Attributes",
    "Returns",
    "Yields",
    "Raises",
    "Warns",
    "See Also",
    "Notes",
    "References",
    "Examples",
]


def public_modules():
    """The package and its modules whose names have no underscore."""
    names = [
        info.name
        for info in pkgutil.walk_packages(skhash.__path__, "skhash.")
        if not any(part.startswith("_") for part in info.name.split("."))
    ]
    return ["skhash", *names]


def is_method(value):
    return inspect.isfunction(value) or inspect.ismethod(value)


def public_objects():
    """Classes and functions that the public modules export, and the methods they define."""
    found = {}
    for module_name in public_modules():
        module = importlib.import_module(module_name)
        for name in getattr(module, "__all__", []):
            value = getattr(module, name)
            if is_typeddict(value) or not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            path = f"{value.__module__}.{value.__qualname__}"
            found[path] = value
            if inspect.isclass(value):
                found |= {
                    f"{path}.{method_name}": method
                    for method_name, method in inspect.getmembers(value, is_method)
                    if not method_name.startswith("_") and method.__module__.startswith("skhash.")
                }
    return found


def sections_of(docstring):
    """The parts of a docstring, {title: lines}; the summary has the title ""."""
    sections, title = {"": []}, ""
    lines = inspect.cleandoc(docstring).splitlines()
    for line, underline in zip(lines, [*lines[1:], ""], strict=True):
        if line and re.fullmatch(r"-+", underline) and len(underline) == len(line):
            title = line
            sections[title] = []
        elif not (title and re.fullmatch(r"-+", line)):
            sections[title].append(line)
    return sections


def documented(lines):
    """What a Parameters or Attributes section lists, {name: type}.

    The type may be left out for several names at once and for ``**kwargs``: the text then says
    where they are described.
    """
    entries = {}
    for line in lines:
        if line and not line.startswith(" "):
            names, colon, kind = line.partition(" : ")
            loose = ", " in names or names.startswith("*")
            assert colon or loose, f"{names} has no type"
            entries |= {name.strip(): kind or None for name in names.split(", ")}
    return entries


def is_made_elsewhere(value):
    """Whether users get the objects of a class, from a function that its docstring names."""
    if not inspect.isclass(value) or "Parameters" in sections_of(value.__doc__):
        return False
    return issubclass(value, Exception) or ":func:`" in value.__doc__


def overrides(path):
    """Whether a method has its documentation in a class that it extends.

    That is one of another package, or, for a method that says no more than a summary, any.
    """
    class_path, _, method = path.rpartition(".")
    bases = getattr(OBJECTS.get(class_path), "__mro__", ())[1:]
    brief = list(sections_of(OBJECTS[path].__doc__ or "")) == [""]
    others = [base for base in bases if brief or not base.__module__.startswith("skhash")]
    return any(hasattr(base, method) for base in others)


def parameters(value):
    """Parameters of a function or of the constructor of a class, without self."""
    prefix = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return {
        prefix.get(parameter.kind, "") + name: parameter
        for name, parameter in inspect.signature(value).parameters.items()
        if name not in ("self", "cls")
    }


OBJECTS = public_objects()
every_object = pytest.mark.parametrize("path", OBJECTS)


def test_the_walk_finds_the_known_objects():
    assert {
        "skhash.codes.pack",
        "skhash.tags.encode_tags",
        "skhash.unsupervised._itq.ITQ",
        "skhash.unsupervised._itq.ITQ.fit",
        "skhash.base.HasherMixin.score",
    } <= {*OBJECTS, *(f"{v.__module__}.{v.__qualname__}" for v in OBJECTS.values())}


@pytest.mark.parametrize("name", public_modules())
def test_modules_say_what_they_are_for(name):
    assert (importlib.import_module(name).__doc__ or "").strip().endswith(".")


@every_object
def test_the_summary_is_one_sentence_on_the_first_line(path):
    summary = inspect.cleandoc(OBJECTS[path].__doc__ or "").split("\n\n")[0]
    assert summary, "no docstring"
    assert "\n" not in summary
    assert summary.endswith(".")


@every_object
def test_sections_are_known_and_in_order(path):
    titles = [title for title in sections_of(OBJECTS[path].__doc__) if title]
    assert titles == [title for title in SECTIONS if title in titles]


@every_object
def test_documented_parameters_are_those_of_the_signature(path):
    value = OBJECTS[path]
    if not is_made_elsewhere(value) and not overrides(path):
        entries = documented(sections_of(value.__doc__).get("Parameters", []))
        assert list(entries) == list(parameters(value))


@every_object
def test_documented_defaults_are_those_of_the_signature(path):
    value = OBJECTS[path]
    entries = documented(sections_of(value.__doc__).get("Parameters", []))
    for name, kind in entries.items():
        default = parameters(value)[name].default
        if kind in (None, "None"):
            continue
        _, equals, shown = kind.partition("default=")
        assert bool(equals) == (default is not inspect.Parameter.empty), name
        if equals:
            assert ast.literal_eval(shown) == default, name


@every_object
def test_what_comes_back_is_documented(path):
    value = OBJECTS[path]
    if inspect.isclass(value) or overrides(path):
        return
    annotation = str(inspect.signature(value).return_annotation)
    assert annotation != str(inspect.Signature.empty), "no annotation of the return value"
    wanted = "Yields" if annotation.startswith(("Iterator", "Generator")) else "Returns"
    assert (wanted in sections_of(value.__doc__)) == (annotation not in ("None", "NoReturn"))


@pytest.mark.parametrize("name", ARGUMENTS)
def test_documented_attributes_are_those_that_fit_sets(name, rng):
    X = rng.normal(size=(30, 4))
    hasher = make_hasher(name).fit(X, [["a"], ["b"], ["a", "c"]] * 10)
    fitted = {key for key in vars(hasher) if key.endswith("_") and not key.startswith("_")}
    lines = sections_of(type(hasher).__doc__)["Attributes"]
    entries = documented(lines)
    assert fitted <= set(entries)
    for attribute, kind in entries.items():
        if attribute not in fitted:
            text = "\n".join(lines).partition(f"{attribute} : ")[2]
            assert re.match(r".*(\n .*)*\b([Ii]f|[Ww]here)\b", text), f"{attribute} is not set"
        elif isinstance(getattr(hasher, attribute), np.ndarray):
            assert "ndarray of shape" in kind, attribute


@pytest.mark.parametrize(
    "name", [name for name in skhash.__all__ if name[0].isupper() and name not in ABSTRACT]
)
def test_top_level_classes_have_an_example(name):
    assert ">>> from skhash import" in getattr(skhash, name).__doc__
