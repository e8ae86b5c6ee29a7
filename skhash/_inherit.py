"""Constructor parameters that a subclass takes over from its base.

scikit-learn reads an estimator's parameters from the signature of its
``__init__``. Where that ends in ``**network``, the functions here write the
base's parameters in its place, in the signature and in the docstring, so that
two dozen parameters are declared and documented once.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

__all__ = ["inherit_parameters"]

_SECTIONS = ("Parameters", "Attributes", "Raises", "See Also", "Notes", "References", "Examples")


def inherit_parameters(cls: type) -> None:
    """Replace ``**kwargs`` of ``cls.__init__`` by what the constructors of its bases take.

    The bases follow in the order of resolution, up to the first that takes no
    ``**kwargs`` itself. A parameter that ``cls`` declares itself hides theirs.
    The docstring's "Parameters" and "Attributes" are completed alike.
    """
    init: Any = vars(cls).get("__init__")
    if init is None or not _hands_on(init):
        return
    own = inspect.signature(init)
    bases = []
    for base in cls.__mro__[1:-1]:
        if "__init__" in vars(base):
            bases.append(base)
            if not _hands_on(vars(base)["__init__"]):
                break
    signatures = [own, *(inspect.signature(vars(base)["__init__"]) for base in bases)]
    parameters: dict[str, inspect.Parameter] = {}
    for signature in signatures:
        for name, parameter in signature.parameters.items():
            if parameter.kind is not parameter.VAR_KEYWORD:
                parameters.setdefault(name, parameter)
    init.__signature__ = own.replace(parameters=sorted(parameters.values(), key=lambda p: p.kind))
    names = list(init.__signature__.parameters)
    for base in bases:
        if cls.__doc__ and base.__doc__:
            cls.__doc__ = _merge(cls.__doc__, base.__doc__, names)


def _hands_on(init: Any) -> bool:
    """Whether a constructor hands ``**kwargs`` on (as written: the signature may hide it)."""
    return bool(init.__code__.co_flags & inspect.CO_VARKEYWORDS)


def _merge(own_doc: str, base_doc: str, parameters: list[str]) -> str:
    own, base = _sections(own_doc), _sections(base_doc)
    entries = {
        section: {**_entries(base.get(section, "")), **_entries(own.get(section, ""))}
        for section in ("Parameters", "Attributes")
    }
    described = entries["Parameters"]
    own["Parameters"] = "\n".join(described[name] for name in parameters if name in described)
    own["Attributes"] = "\n".join(entries["Attributes"].values())
    text = [own[""]]
    text += [f"{s}\n{'-' * len(s)}\n{own[s]}" for s in _SECTIONS if own.get(s)]
    return "\n\n".join(text) + "\n"


def _sections(doc: str) -> dict[str, str]:
    """Text under each numpydoc heading; under "" what comes before the first."""
    parts = re.split(r"^(\w[\w ]*)\n-+\n", inspect.cleandoc(doc), flags=re.MULTILINE)
    return {"": parts[0].strip()} | {
        title: text.rstrip() for title, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def _entries(section: str) -> dict[str, str]:
    """Entries of a list of parameters, by name."""
    entries = re.findall(r"^\S.*(?:\n(?:[ ].*)?)*", section, flags=re.MULTILINE)
    return {re.split(r" : |\n", entry)[0]: entry.rstrip() for entry in entries}
