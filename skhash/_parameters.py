"""Constructor parameters: inherited from bases, with other defaults, checked for misspelled names.

scikit-learn reads an estimator's parameters from the signature of its
``__init__``. If it ends in ``**network``, this module replaces that by the
parameters of the base, in the signature and in the docstring. So two dozen
parameters are declared and documented only once.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from typing import Any, ClassVar

from ._sklearn import DocumentedMixin

__all__ = ["ParametersMixin"]

_SECTIONS = ("Parameters", "Attributes", "Raises", "See Also", "Notes", "References", "Examples")


class ParametersMixin(DocumentedMixin):
    """Mixin of all estimators of the package; comes before their other bases.

    A subclass whose constructor ends in ``**kwargs`` inherits the parameters
    of the constructors of its bases, in the order of resolution, up to the
    first constructor without ``**kwargs``. A parameter that the subclass
    declares hides theirs. Defaults of other parameters are changed in
    ``_defaults``, because type checkers refuse a parameter that is both
    declared and part of the :class:`~typing.TypedDict` that types
    ``**kwargs``.
    """

    # Defaults of inherited parameters that differ from those of the bases.
    _defaults: ClassVar[Any] = {}  # a mapping; subclasses narrow it to their TypedDict

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Complete the constructor and the docstring of a subclass."""
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            _complete(cls)


def _complete(cls: type) -> None:
    """Write out the inherited parameters of a class; let its constructor check names."""
    init: Any = vars(cls)["__init__"]
    defaults = vars(cls).get("_defaults", {})
    own = inspect.signature(init)
    bases = []
    if _hands_on(init):
        for base in cls.__mro__[1:-1]:
            if "__init__" in vars(base):
                bases.append(base)
                if not _hands_on(vars(base)["__init__"]):
                    break
    parameters: dict[str, inspect.Parameter] = {}
    for signature in [own, *(inspect.signature(vars(base)["__init__"]) for base in bases)]:
        for name, parameter in signature.parameters.items():
            if parameter.kind is not parameter.VAR_KEYWORD and name not in parameters:
                default = defaults.get(name, parameter.default)
                parameters[name] = parameter.replace(default=default)

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        # The constructor of a mixin also receives parameters of the bases after it.
        if type(self) is cls:
            for name in kwargs.keys() - parameters.keys():
                raise TypeError(_unknown(cls.__name__, name, list(parameters)[1:]))
        init(self, *args, **{**defaults, **kwargs})

    __init__.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=sorted(parameters.values(), key=lambda p: p.kind)
    )
    cls.__init__ = __init__  # type: ignore[misc]
    for base in bases:
        if cls.__doc__ and base.__doc__:
            cls.__doc__ = _merge(cls.__doc__, base.__doc__, list(parameters))


def _unknown(class_name: str, name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known)}."
    return f"{class_name} has no parameter {name!r}; {remedy}"


def _hands_on(init: Any) -> bool:
    """Whether a constructor, as written, passes ``**kwargs`` on."""
    return bool(inspect.unwrap(init).__code__.co_flags & inspect.CO_VARKEYWORDS)


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
