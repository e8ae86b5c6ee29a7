"""Common parts of the loaders: reading files, choosing tags and images, splitting."""

from __future__ import annotations

import codecs
import io
import os
import reprlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils import Bunch, check_random_state

from .._files import open_regular
from .._sklearn import Interval, StrOptions


@dataclass(frozen=True)
class Protocol:
    """The part of a collection that a paper uses, and its split.

    Attributes
    ----------
    source : str
        The paper, and our interpretation of it.
    n_query : int
        Number of query images; all others are the database.
    n_train : int or None
        Number of database images to train on; None for all of them.
    drop : tuple of {"untagged", "unlabelled"}
        Which images are left out.
    """

    source: str
    n_query: int = 0
    n_train: int | None = None
    drop: tuple[str, ...] = ()


WHOLE = Protocol("None: everything is kept, and there are no queries.")

# Constraints of the common arguments of the loaders, for scikit-learn's validate_params.
PATH = [str, os.PathLike]
MISSING_IMAGES = [StrOptions({"raise", "drop", "ignore"})]
SPLIT_CONSTRAINTS = {
    "root": PATH,
    "drop": ["array-like", set, frozenset, None],
    "n_query": [Interval(Integral, 0, None, closed="left"), None],
    "n_train": [Interval(Integral, 1, None, closed="left"), None],
    "missing_images": MISSING_IMAGES,
    "follow_links": ["boolean"],
    "random_state": ["random_state"],
}

# Little-endian UTF-32 begins like UTF-16, so it comes first.
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


def find_path(root: Path, *candidates: str) -> Path:
    """The first of the candidates that exists below root."""
    for candidate in candidates:
        if (root / candidate).exists():
            return root / candidate
    tried = ", ".join(dict.fromkeys(candidates))
    raise FileNotFoundError(f"{root} lacks a part of the collection: found none of {tried}.")


def read_text(path: Path, errors: str = "strict", *, encoding: str | None = None) -> str:
    """The text of a file in the encoding given, or that of its byte order mark, or UTF-8."""
    with open_regular(path) as file:
        content = file.read()
    if encoding is None:
        mark = next(filter(content.startswith, _MARKS), b"")
        content, encoding = content[len(mark) :], _MARKS.get(mark, "utf-8")
    try:
        text = content.decode(encoding, errors)
    except LookupError:
        raise ValueError(f"encoding must be one that Python knows, got {encoding!r}.") from None
    except UnicodeError as error:
        raise ValueError(
            f"{path} is not {encoding.upper()} text ({error}). Save it as UTF-8, or for a table "
            "pass its encoding, often 'cp1252' or 'latin-1' in western Europe."
        ) from None
    if "\0" in text:
        raise ValueError(
            f"{path} is not {encoding.upper()} text: it holds zero bytes. Save it as UTF-8, or for "
            "a table of UTF-16 pass encoding='utf-16-le' or 'utf-16-be'."
        )
    return text.removeprefix("\ufeff")


def read_lines(path: Path) -> list[str]:
    r"""The stripped lines of a text file; bytes that are not UTF-8 come out as ``\xNN``."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; unpack its archive again.")
    return [line.strip() for line in io.StringIO(read_text(path, "backslashreplace"), None)]


def read_names(path: Path) -> list[str]:
    """The lines of a list of names that cannot be empty."""
    names = [line for line in read_lines(path) if line]
    if not names:
        raise ValueError(f"{path} is empty; unpack its archive again.")
    return names


def listing(names: Iterable[Any], limit: int = 5) -> str:
    """Names for a message: the first few, and how many more there are."""
    names = [str(name) for name in names]
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


def shorten(value: Any) -> str:
    """A value for a message, shortened if it is long or nested."""
    return reprlib.repr(value)


def as_object_array(items: Sequence[Any]) -> NDArray[np.object_]:
    """A 1-D array of Python objects, such as lists and paths, for selection by index arrays."""
    return np.fromiter(items, dtype=object, count=len(items))


def popular_tags(
    tags: Iterable[Collection[str]], *, min_count: int = 1, n_tags: int | None = None
) -> list[str]:
    """The ``n_tags`` most used of the tags that at least ``min_count`` images have, sorted."""
    counts = Counter(tag for row in tags for tag in set(row))
    ranked = sorted((-n, tag) for tag, n in counts.items() if n >= min_count)
    return sorted(tag for _, tag in ranked[:n_tags])


def path_below(folder: Path, name: str, place: str) -> Path:
    """The file of a name in a table; a name that leads out of the folder is refused."""
    refusal = ValueError(
        f"{place}: {name!r} is not below {folder}; pass the folder that holds all images."
    )
    if "\0" in name or any("\ud800" <= letter <= "\udfff" for letter in name):
        raise ValueError(f"{place}: {name!r} cannot be the name of a file.")
    if os.path.isabs(name):
        name = os.path.relpath(name, os.path.abspath(folder))
    name = os.path.normpath(name)
    if name.split(os.sep)[0] in (os.curdir, os.pardir):
        raise refusal
    return folder / name


def led_outside(folder: Path, images: Iterable[Path]) -> list[Path]:
    """The images below a folder that are outside it because of links."""
    root = os.path.realpath(folder)
    inside: dict[Path, bool] = {}  # by folder, as most images share one with others
    outside = []
    for image in images:
        parent = image.parent
        if parent not in inside:
            inside[parent] = _is_below(root, os.path.realpath(parent))
        is_link = os.path.islink(image)
        if not inside[parent] or (is_link and not _is_below(root, os.path.realpath(image))):
            outside.append(image)
    return outside


def _is_below(root: str, path: str) -> bool:
    return path == root or path.startswith(os.path.join(root, ""))


def present_images(
    folder: Path, images: Sequence[Path], missing_images: str, *, follow_links: bool
) -> NDArray[np.bool_]:
    """Which images to keep: those that exist and are not empty; an error names the others.

    Images that are outside the folder because of links are an error, unless links may be followed.
    """
    if not follow_links:
        outside = led_outside(folder, images)
        if outside:
            raise ValueError(
                f"links lead out of {folder} at {len(outside)} images: {listing(outside)}. Pass "
                "follow_links=True if they are there on purpose."
            )
    present = np.ones(len(images), dtype=bool)
    if missing_images != "ignore":
        present[:] = [path.is_file() and path.stat().st_size > 0 for path in images]
    if missing_images == "raise" and not present.all():
        lost = [path for path, there in zip(images, present, strict=True) if not there]
        raise FileNotFoundError(
            f"{len(lost)} of {len(images)} images are missing or empty: {listing(lost)}. Pass "
            "missing_images='drop' to leave them out, or 'ignore' if the images are not needed."
        )
    return present


def assemble(
    *,
    collection: str,
    folder: Path,
    images: Sequence[Path],
    tags: Sequence[list[str]],
    tag_names: Sequence[str],
    labels: NDArray[np.bool_],
    label_names: Sequence[str],
    protocol: Protocol,
    drop: Collection[str] | None,
    n_query: int | None,
    n_train: int | None,
    missing_images: str,
    follow_links: bool,
    random_state: Any,
) -> Bunch:
    """Leave images out, split the others, and describe what was done.

    The arguments are those of the public loaders; ``images`` (below ``folder``),
    ``tags`` and the rows of ``labels`` (an indicator) are aligned.
    """
    drop = protocol.drop if drop is None else drop
    if not set(drop) <= {"untagged", "unlabelled"}:
        raise ValueError(f"drop must hold 'untagged', 'unlabelled', both or none, got {drop!r}.")
    lacking = {
        "missing": ~present_images(folder, images, missing_images, follow_links=follow_links),
        "untagged": np.array([not row for row in tags]),
        "unlabelled": ~labels.any(axis=1),
    }
    paths = as_object_array([str(path) for path in images])
    keep = np.ones(len(images), dtype=bool)
    dropped = {}
    for reason, lacks in lacking.items():
        if reason == "missing" or reason in drop:
            dropped[reason] = paths[keep & lacks]
            keep &= ~lacks
    query, database, train = split(
        int(keep.sum()),
        protocol.n_query if n_query is None else n_query,
        protocol.n_train if n_train is None else n_train,
        random_state,
    )
    left_out = ", ".join(f"{len(paths)} {reason}" for reason, paths in dropped.items())
    return Bunch(
        images=paths[keep],
        tags=as_object_array(tags)[keep],
        labels=sp.csr_array(labels[keep].astype(np.float32)),
        tag_names=as_object_array(tag_names),
        label_names=as_object_array(label_names),
        query=query,
        database=database,
        train=train,
        dropped=dropped,
        DESCR=(
            f"{collection}\n\n"
            f"Protocol: {protocol.source}\n"
            f"Images: {keep.sum()} of {len(images)}; left out: {left_out}.\n"
            f"Tags: a vocabulary of {len(tag_names)}. Labels: {len(label_names)}.\n"
            f"Split: {len(query)} queries, {len(database)} in the database, "
            f"{len(train)} of them to train on; random_state={random_state!r}."
        ),
    )


def split(
    n_samples: int, n_query: int, n_train: int | None, random_state: Any
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Draw queries; the rest is the database, and training images are drawn from it.

    Parameters
    ----------
    n_samples : int
        Number of images.
    n_query : int
        Number of queries.
    n_train : int or None
        Number of training images; None for the whole database.
    random_state : int, RandomState instance or None
        Seed of the draw.

    Returns
    -------
    query, database, train : ndarray of int
        Sorted row numbers; ``train`` is part of ``database``.
    """
    if n_query + (n_train or 0) > n_samples or n_query >= n_samples:
        raise ValueError(
            f"{n_query} queries and {n_train or 'some'} training images do not fit in {n_samples} "
            "images; pass smaller n_query and n_train, or protocol=None."
        )
    order = check_random_state(random_state).permutation(n_samples)
    stop = None if n_train is None else n_query + n_train
    return np.sort(order[:n_query]), np.sort(order[n_query:]), np.sort(order[n_query:stop])
