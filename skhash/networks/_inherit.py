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
    """Replace ``**kwargs`` of ``cls.__init__`` by what the next base takes.

    A parameter that ``cls`` declares itself hides the base's. The docstring's
    "Parameters" and "Attributes" are completed from the base's alike.
    """
    init: Any = vars(cls).get("__init__")
    if init is None:
        return
    own = inspect.signature(init)
    parameters = dict(own.parameters)
    rest = [name for name, p in parameters.items() if p.kind is p.VAR_KEYWORD]
    if not rest:
        return
    del parameters[rest[0]]
    base = cls.__mro__[1]
    inherited = inspect.signature(base.__init__).parameters  # type: ignore[misc]
    parameters = {**parameters, **{k: p for k, p in inherited.items() if k not in parameters}}
    init.__signature__ = own.replace(parameters=sorted(parameters.values(), key=lambda p: p.kind))
    if cls.__doc__ and base.__doc__:
        cls.__doc__ = _merge(cls.__doc__, base.__doc__, list(init.__signature__.parameters))


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
