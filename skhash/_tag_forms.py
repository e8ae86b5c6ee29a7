"""Forms of the same tag: case, Unicode form, joined words, English plurals."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

__all__ = ["group_tags", "plain_case"]

_SEPARATORS = re.compile(r"[\s_\-\u2010\u2011]+")
_NOT_PLURALS = frozenset({"news", "lens", "series", "species", "pants", "jeans", "christmas"})
_MIN_SINGULAR = 3  # letters; "as" is no plural


def plain_case(tag: str) -> str:
    """A tag in lower case, in Unicode's compatible form (NFKC)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", tag).lower())


def group_tags(tags: Collection[str], normalize: str | None) -> dict[str, str]:
    """A key for each tag, the same for all forms of a tag.

    Parameters
    ----------
    tags : collection of str
        All tags: forms are found only among them.
    normalize : {"case", "forms"} or None
        What counts as a form of a tag: only the tag itself (None), tags that
        differ in case or Unicode form, or also joined words and plurals.

    Returns
    -------
    dict from str to str
        For each tag the key of its group.
    """
    if normalize is None:
        return {tag: tag for tag in tags}
    keys = {tag: plain_case(tag).casefold() for tag in tags}
    if normalize == "case":
        return keys
    keys = {tag: _SEPARATORS.sub("", key) or key for tag, key in keys.items()}
    known = set(keys.values())
    return {tag: _singular(key, known) for tag, key in keys.items()}


def _singular(word: str, known: set[str]) -> str:
    """The known English singular of a word, or the word itself."""
    if word in _NOT_PLURALS or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if not word[-2:-1].isalpha():  # cameras: d70 and d70s
        return word
    singulars = [word[:-1]]
    if word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
        singulars.append(word[:-2])
    if word.endswith("ies"):
        singulars.append(word[:-3] + "y")
    if word.endswith("ves"):
        singulars += [word[:-3] + "f", word[:-3] + "fe"]
    for singular in singulars:
        if len(singular) >= _MIN_SINGULAR and singular in known:
            return singular
    return word
