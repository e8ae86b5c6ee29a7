"""The commands: each returns its results as data and as lines of text."""

from __future__ import annotations

import argparse
import difflib
import os
import warnings
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import skhash

from ..datasets import load_tagged_images
from ..datasets._tables import read_labels
from ..metrics._distance_counts import Retrieval
from ..metrics._table import Measure, rank_for
from ..tags import clean_tag, encode_tags
from ._encoding import tell_apart
from ._folder import read_manifest
from ._image_search import ImageSearch
from ._messages import remark
from ._results import SearchResult, number

Answer = tuple[Any, list[str]]

# Methods that learn from tags: `fit` refuses them if there are none.
_NEED_TAGS = {"TagITQ", "TagITQHasher", "DSTDHLinear", "DSTDHHasher", "SAH", "WMH"}
_N_SIMILAR = 3
_N_COMMON_TAGS = 10


# Changes of the photos.


class _Folder(NamedTuple):
    """Photos of a folder: their files, names and tags, and the names of missing photos."""

    files: list[str]
    names: list[str]
    tags: list[list[str]]
    missing: list[str]


def fit(args: argparse.Namespace) -> Answer:
    """Learn from a folder of photos."""
    _check_free(Path(args.out), force=args.force)
    photos = _read_folder(args)
    n_tagged = sum(map(bool, photos.tags))
    if not n_tagged:
        _say_what_tags_are_for(args)
    elif not args.method and not tell_apart(encode_tags(photos.tags)):
        args.method = "ITQ"  # nothing is learned from tags that are all the same
    hasher = _make_hasher(args, tagged=n_tagged > 0)
    remark(args, f"{len(photos.files)} photos, {n_tagged} of them with tags")
    search = ImageSearch(hasher)
    _quietly(search.fit, photos.files, photos.tags if n_tagged else None, photos.names)
    _save(search, args.out)
    data, lines = _report(args.out, search, photos.missing)
    words = f'   scikit-hash words {args.out} "WORDS"' if n_tagged else ""
    return data, [
        *lines,
        "Ask it:",
        f"   scikit-hash search {args.out} PHOTO",
        *filter(None, [words]),
    ]


def add(args: argparse.Namespace) -> Answer:
    """Index more photos."""
    search = _load(args)
    photos = _read_folder(args, args.prefix)
    path_of = dict(zip(search.ids_.tolist(), search.photos_.paths.tolist(), strict=True))
    new = []
    for row, (name, file) in enumerate(zip(photos.names, photos.files, strict=True)):
        if name not in path_of:
            new.append(row)
        elif path_of[name] != os.path.abspath(file):
            raise ValueError(
                f"{args.folder} has another photo with the name {name!r}: {path_of[name]}. Give "
                "the new photos other names by --prefix TEXT, or remove that photo by `scikit-hash "
                "remove`."
            )
    search.skipped_ = []
    if new:
        files, names, tags = ([column[row] for row in new] for column in photos[:3])
        _quietly(search.add, files, tags if any(tags) else None, names)
        _save(search, args.folder)
    data, lines = _report(args.folder, search, photos.missing)
    n_added, n_known = len(new) - len(search.skipped_), len(photos.names) - len(new)
    known = f"; {n_known} were already there" if n_known else ""
    return data | {"n_added": n_added}, [*lines, f"{n_added} photos added{known}."]


def remove(args: argparse.Namespace) -> Answer:
    """Remove photos."""
    search = _load(args)
    names: list[Any] = list(dict.fromkeys(args.names))
    if search.ids_.dtype != object and all(name.isdecimal() for name in names):
        names = list(map(int, names))
    for name in names:
        if name not in search:
            raise ValueError(
                f"{args.folder} has no photo {name!r}{_similar(name, search.ids_.tolist())}; "
                "give names as `scikit-hash search` prints them."
            )
    search.remove(names)
    _save(search, args.folder)
    return {"folder": args.folder, "n_photos": len(search), "n_removed": len(names)}, [
        f"{len(names)} photos removed; {len(search)} are left in {args.folder}."
    ]


def _check_free(folder: Path, *, force: bool) -> None:
    """Refuse a folder that holds something else, or a search unless ``force``."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; give --out a folder.")
    try:
        read_manifest(folder)
    except FileNotFoundError:
        if any(not path.name.startswith(".") for path in folder.iterdir()):
            raise ValueError(
                f"{folder} holds other files; give --out a new folder, or an empty one."
            ) from None
    except ValueError as error:
        raise ValueError(f"{error} Remove {folder}, or give --out another folder.") from error
    else:
        if not force:
            raise ValueError(
                f"{folder} already holds a search: replace it with --force, add to it by "
                "`scikit-hash add`, or give --out another folder."
            )


def _read_folder(args: argparse.Namespace, prefix: str = "") -> _Folder:
    folder = Path(args.photos)
    data = load_tagged_images(folder, args.tags, missing_images="drop", unlisted_images="untagged")

    def names(files: Iterable[str]) -> list[str]:
        return [prefix + Path(file).relative_to(folder).as_posix() for file in files]

    missing = names(data.dropped.get("missing", ()))
    if not len(data.images):
        raise ValueError(f"{args.tags} names no photo that is in {folder}.")
    return _Folder(data.images.tolist(), names(data.images), data.tags.tolist(), missing)


def _make_hasher(args: argparse.Namespace, *, tagged: bool) -> Any:
    name = args.method or ("TagITQ" if tagged else "ITQ")
    if name in _NEED_TAGS and not tagged:
        raise ValueError(
            f"--method {name} learns from tags, but there are none: give --tags TABLE, or "
            "--method ITQ."
        )
    hasher = getattr(skhash, name)(args.bits)
    if "random_state" in hasher.get_params():
        hasher.set_params(random_state=args.random_state)
    network = {"backbone": args.backbone, "weights": args.weights, "engine": "auto"}
    if "backbone" in hasher.get_params():
        hasher.set_params(**network)
    else:
        from sklearn.pipeline import make_pipeline

        hasher = make_pipeline(skhash.ImageFeatures(**network), hasher)
    return _with_reading(hasher, cache=args.cache, workers=args.workers, verbose=args.progress)


def _with_reading(hasher: Any, *, cache: str | None, workers: int, verbose: bool) -> Any:
    """Set how a hasher reads photos; this does not change its codes."""
    reader = hasher[0] if hasattr(hasher, "steps") else hasher
    values = {"cache": cache, "num_workers": workers, "verbose": int(verbose)}
    reader.set_params(**{name: values[name] for name in values if name in reader.get_params()})
    return hasher


def _say_what_tags_are_for(args: argparse.Namespace) -> None:
    whose = f"{args.tags} has no tags" if args.tags else f"{args.photos} has no keywords"
    remark(
        args,
        f"no tags: {whose}. Codes are learned from the images alone: similar photos are "
        "found less well, and search by words is not possible. Give tags by --tags TABLE.",
    )


def _quietly(change: Any, *arguments: Any) -> None:
    """Change a search without warnings of skipped photos, which are listed at the end."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\d+ of \d+ photos cannot be read, and are")
        change(*arguments)


def _save(search: ImageSearch, folder: str) -> None:
    _with_reading(search.hasher_, cache=None, workers=0, verbose=False)
    if search.hasher is not None:
        _with_reading(search.hasher, cache=None, workers=0, verbose=False)
    search.save(folder)


def _load(args: argparse.Namespace) -> ImageSearch:
    folder = Path(args.folder)
    if not (folder / "search.json").exists():
        raise ValueError(
            f"{folder} holds no search; `scikit-hash fit PHOTOS --out {folder}` makes one."
        )
    search = ImageSearch.load(folder)
    cache, workers = getattr(args, "cache", None), getattr(args, "workers", 0)
    _with_reading(search.hasher_, cache=cache, workers=workers, verbose=args.progress)
    return search


def _report(folder: str, search: ImageSearch, missing: list[str]) -> Answer:
    """Report on a search after a change: its size, and the photos left out, with reasons."""
    skipped = [{"photo": name, "reason": reason} for name, reason in search.skipped_]
    lines = []
    if skipped:
        lines.append(f"{len(skipped)} photos skipped because they cannot be read:")
        lines += [f"   {photo['photo']}: {photo['reason']}" for photo in skipped]
    if missing:
        lines.append(f"{len(missing)} photos of the table are missing or empty:")
        lines += [f"   {name}" for name in missing]
    n_bytes = search.photos_.codes.nbytes
    lines.append(
        f"{len(search)} photos in {folder}: {search.n_bits_} bits each, {n_bytes:,} bytes."
    )
    data = {
        "folder": folder,
        "n_photos": len(search),
        "n_bits": search.n_bits_,
        "skipped": skipped,
        "missing": missing,
    }
    return data, lines


# Queries.


def search(args: argparse.Namespace) -> Answer:
    """Find photos by photos."""
    _check_files(args.queries)
    return _found(args, _load(args).query(args.queries, args.n, having=args.having))


def words(args: argparse.Namespace) -> Answer:
    """Find photos by words."""
    search = _load(args)
    known = {str(word) for word in search.words_}
    if not known:
        raise ValueError(
            f"{args.folder} was fitted without tags and knows no words: run `scikit-hash fit` with "
            "--tags TABLE."
        )
    queries = [_words_of(query, known) for query in args.queries]
    if not all(queries):
        raise ValueError(f"{args.queries[queries.index([])]!r} has no words to search for.")
    unknown = sorted({word for query in queries for word in query} - known)
    for word in unknown:
        hint = f"it has no word {word!r}{_similar(word, known)}"
        if not any(known & set(query) for query in queries):
            raise ValueError(f"{args.folder} knows none of these words: {hint}.")
        remark(args, f"{hint}; it is left out.")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "tags has words that")
        result = search.query_tags(queries, args.n, having=args.having)
    return _found(args, result)


def tags(args: argparse.Namespace) -> Answer:
    """Suggest tags."""
    _check_files(args.queries)
    search = _load(args)
    if not search.photos_.tags.indicator.nnz:
        raise ValueError(
            f"no photo of {args.folder} has tags to suggest: add some with --tags TABLE."
        )
    suggestions = search.suggest_tags(args.queries, args.n)
    data, lines = [], []
    for photo, found in zip(args.queries, suggestions, strict=True):
        data.append({"photo": photo, "tags": [one._asdict() for one in found]})
        shown = ", ".join(f"{tag} {score:.2f}" for tag, score in found)
        lines.append(f"{photo}: {shown or 'none'}")
    return data, lines


def _check_files(files: list[str]) -> None:
    """Refuse missing photos before the network is loaded."""
    for file in files:
        if not os.path.exists(file):
            raise FileNotFoundError(f"there is no file {file!r}.")


def _words_of(query: str, known: set[str]) -> list[str]:
    """The words of a query: all of it if it is a tag, else its parts between commas or spaces."""
    if "," not in query:
        return [clean_tag(query)] if clean_tag(query) in known else query.split()
    return [clean_tag(word) for word in query.split(",") if word.strip()]


def _similar(name: str, names: Iterable[Any]) -> str:
    """Names that are spelled like another, for a message."""
    similar = difflib.get_close_matches(str(name), [str(one) for one in names], _N_SIMILAR)
    return f" (similar: {', '.join(similar)})" if similar else ""


def _found(args: argparse.Namespace, result: SearchResult) -> Answer:
    data, lines = [], []
    for query, hits in zip(result.queries, result, strict=True):
        data.append({"query": query, "found": [hit._asdict() for hit in hits]})
        lines.append(f"{query}:" if hits else f"{query}: nothing found")
        width = max((len(str(hit.id)) for hit in hits), default=0)
        for hit in hits:
            shown = (
                f"{number(hit.distance):>4}  {hit.id!s:<{width}}  {', '.join(map(str, hit.tags))}"
            )
            lines.append(shown.rstrip())
    if args.page:
        args.page.parent.mkdir(parents=True, exist_ok=True)
        result.to_html(args.page)
        lines.append(f"Page: {args.page}")
    return data, lines


# Contents and quality.


def evaluate(args: argparse.Namespace) -> Answer:
    """Measure how well photos find others with the same labels."""
    search = _load(args)
    labels_of = read_labels(Path(args.labels))
    ids = search.ids_.tolist()
    rows = [row for row, name in enumerate(ids) if labels_of.get(str(name))]
    if len(rows) < 2:
        raise ValueError(
            f"{args.labels} has labels of {len(rows)} photos of {args.folder}; its column 'file' "
            f"must have their names, such as {ids[0]!r}."
        )
    labels = [labels_of[str(ids[row])] for row in rows]
    retrieval = Retrieval.within(search.photos_.codes[rows], labels, packed=True)
    measures = {
        "map": Measure("map", None, options={"divisor": "min"}, with_chance=True),
        "precision_at_10": Measure("precision", [10], with_chance=True),
    }
    for ranked in rank_for(list(measures.values()), retrieval, "expected", None):
        for measure in measures.values():
            measure.add(ranked)
    n_without = len(ids) - len(rows)
    data: dict[str, Any] = {"n_photos": len(rows), "n_without_labels": n_without}
    lines = [f"Searched with each of {len(rows)} photos, among the others."]
    if n_without:
        lines.append(f"{n_without} photos have no labels there, and are not counted.")
    lines.append(f"{'':<16}{'found':>8}{'by chance':>12}")
    for name, measure in measures.items():
        assert measure.chance is not None
        value, chance = (float(mean.result()[0]) for mean in (measure.mean, measure.chance))
        data |= {name: value, f"chance_{name}": chance}
        lines.append(f"{name.replace('_', ' '):<16}{value:>8.3f}{chance:>12.3f}")
    return data, lines


def info(args: argparse.Namespace) -> Answer:
    """Show what a search contains."""
    search = _load(args)
    about = read_manifest(Path(args.folder))
    tags = search.photos_.tags
    counts = np.bincount(tags.indicator.indices, minlength=len(tags.vocabulary))
    common = np.argsort(-counts, kind="stable")[:_N_COMMON_TAGS]
    hasher = search.hasher_[-1] if hasattr(search.hasher_, "steps") else search.hasher_
    parameters = search.hasher_.get_params()
    backbones = [value for name, value in parameters.items() if name.split("__")[-1] == "backbone"]
    saved = datetime.fromtimestamp((Path(args.folder) / "search.json").stat().st_mtime)
    data = {
        "folder": args.folder,
        "n_photos": len(search),
        "n_tagged": len(search.photos_.tagged()),
        "n_tags": int((counts > 0).sum()),
        "n_words": len(search.words_),
        "n_bits": search.n_bits_,
        "bytes_per_photo": search.photos_.codes.shape[1],
        "method": type(hasher).__name__,
        "backbone": next((str(one) for one in backbones if one is not None), None),
        "saved": saved.isoformat(timespec="seconds"),
        "version": about["skhash"],
        "most_used_tags": {str(tags.vocabulary[i]): int(counts[i]) for i in common if counts[i]},
    }
    lines = [
        f"{name.replace('_', ' '):<16} {value}"
        for name, value in data.items()
        if name != "most_used_tags"
    ]
    shown = ", ".join(f"{tag} ({count})" for tag, count in data["most_used_tags"].items())
    return data, [*lines, f"most used tags   {shown or 'none'}"]
