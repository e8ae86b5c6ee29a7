"""A folder of images and a table of their tags."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from .._sklearn import StrOptions, validate_params
from ..images import IMAGE_SUFFIXES
from ..tags import encode_tags
from ._base import (
    MISSING_IMAGES,
    PATH,
    as_object_array,
    led_outside,
    listing,
    path_below,
    present_images,
    read_text,
    shorten,
)

IMAGE_COLUMNS = ("file", "image", "path", "filename", "file_name")

# Torn; a number of thousands of digits; nested too deeply.
_JSON_ERRORS = (ValueError, RecursionError)

Row = tuple[str, dict[str, Any]]  # where it stands, and its fields


@validate_params(
    {
        "folder": PATH,
        "tags_file": PATH,
        "image_column": [str, None],
        "tags_column": [str],
        "labels_column": [str, None],
        "separator": [str],
        "missing_images": MISSING_IMAGES,
        "unlisted_images": [StrOptions({"ignore", "raise", "untagged"})],
        "follow_links": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def load_tagged_images(
    folder: str | os.PathLike[str],
    tags_file: str | os.PathLike[str],
    *,
    image_column: str | None = None,
    tags_column: str = "tags",
    labels_column: str | None = None,
    separator: str = ",",
    missing_images: str = "raise",
    unlisted_images: str = "ignore",
    follow_links: bool = False,
) -> Bunch:
    """Load your own images with tags from a table.

    The table has a row per image. Its format follows from its name:

    - ``.csv``, ``.tsv``: the first line names the columns; fields that hold the delimiter are
      quoted;
    - ``.jsonl``, ``.ndjson``: an object per line;
    - ``.parquet``: needs pyarrow.

    Tags (and labels) are a list, or a string of tags between separators, or a string that holds
    a JSON list. Blank ones do not count; an empty or missing field is an image without tags.

    Parameters
    ----------
    folder : str or path
        Folder of the images; subfolders are part of the names in the table.
    tags_file : str or path
        The table.
    image_column : str, default=None
        Column of the image's file name. If None, the first of "file", "image", "path",
        "filename" and "file_name" that the table has.
    tags_column : str, default="tags"
        Column of the tags.
    labels_column : str, default=None
        Column of the labels (ground truth). If None, "labels" if the table has it.
    separator : str, default=","
        What stands between tags in a string.
    missing_images : {"raise", "drop", "ignore"}, default="raise"
        What to do about rows whose image is missing or empty. "ignore" does not look.
    unlisted_images : {"ignore", "raise", "untagged"}, default="ignore"
        What to do about images of the folder that have no row: leave them out, raise an
        error, or append them as images without tags.
    follow_links : bool, default=False
        Whether images may be links that lead out of the folder, or lie in linked folders that
        do. If not, a row of such an image is an error, and one without row is no image of the
        folder.

    Returns
    -------
    data : Bunch
        - images : ndarray of str, shape (n_samples,), paths
        - tags : ndarray of list of str, shape (n_samples,)
        - labels : csr_array of shape (n_samples, n_labels), or None without a column of labels
        - tag_names, label_names : ndarrays of str, sorted; ``label_names`` are the columns
          of labels
        - dropped : dict from the reason ("missing", "unlisted") to the paths left out
        - DESCR : str, what was done

    Raises
    ------
    FileNotFoundError
        If the folder, the table or an image is missing; the message names it.
    ValueError
        If the table lacks a column, a row is torn (the message names its place), an image
        has two rows or is not below the folder, or there is no row at all.
    ImportError
        If the table is Parquet and pyarrow is not installed.

    Examples
    --------
    >>> from skhash.datasets import load_tagged_images
    >>> data = load_tagged_images("photos", "photos/tags.csv")  # doctest: +SKIP
    """
    folder, tags_file = Path(folder), Path(tags_file)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder.")
    rows = _read_table(tags_file)
    columns = list(dict.fromkeys(column for _, row in rows for column in row))
    image_column = _choose_column(columns, tags_file, image_column, IMAGE_COLUMNS)
    tags_column = _choose_column(columns, tags_file, tags_column)
    if labels_column is not None or "labels" in columns:
        labels_column = _choose_column(columns, tags_file, labels_column, ("labels",))

    place_of: dict[Path, str] = {}
    tags, labels = [], []
    for place, row in rows:
        name = row.get(image_column)
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{tags_file}, {place}: column {image_column!r} names no image.")
        image = path_below(folder, name.strip(), f"{tags_file}, {place}")
        if image in place_of:
            raise ValueError(f"{tags_file}, {place}: {name} already has {place_of[image]}.")
        place_of[image] = place
        tags.append(_as_tags(row.get(tags_column), separator, f"{tags_file}, {place}"))
        if labels_column is not None:
            labels.append(_as_tags(row.get(labels_column), separator, f"{tags_file}, {place}"))

    images = list(place_of)
    unlisted = sorted(
        path for path in _find_images(folder, follow_links=follow_links) if path not in place_of
    )
    if unlisted and unlisted_images == "raise":
        raise ValueError(
            f"{len(unlisted)} images of {folder} have no row in {tags_file}: {listing(unlisted)}. "
            "Pass unlisted_images='ignore' to leave them out, or 'untagged' to keep them."
        )
    present = present_images(folder, images, missing_images, follow_links=follow_links)
    dropped = {"missing": [path for path, there in zip(images, present, strict=True) if not there]}
    if unlisted_images == "untagged":
        images += unlisted
        tags += [[] for _ in unlisted]
        labels += [[] for _ in unlisted]
        present = np.append(present, np.ones(len(unlisted), dtype=bool))
    else:
        dropped["unlisted"] = unlisted
    kept_tags = as_object_array(tags)[present]
    truth = None if labels_column is None else encode_tags(as_object_array(labels)[present])
    left_out = ", ".join(f"{len(paths)} {reason}" for reason, paths in dropped.items())
    return Bunch(
        images=as_object_array([str(path) for path in images])[present],
        tags=kept_tags,
        labels=None if truth is None else truth.indicator,
        tag_names=encode_tags(kept_tags).vocabulary,
        label_names=as_object_array([]) if truth is None else truth.vocabulary,
        dropped={
            reason: as_object_array([str(path) for path in paths])
            for reason, paths in dropped.items()
        },
        DESCR=(
            f"Images of {folder} with the tags of {tags_file}\n\n"
            f"Images: {present.sum()}; left out: {left_out}.\n"
            f"Columns: {image_column} (image), {tags_column} (tags), {labels_column} (labels)."
        ),
    )


def _find_images(folder: Path, *, follow_links: bool) -> list[Path]:
    """The files below a folder that have the name of an image."""
    found, seen = [], set()
    for place, subfolders, names in os.walk(folder, followlinks=follow_links):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:  # links that lead in a circle
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        paths = [Path(place, name) for name in names]
        found += [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    found = [path for path in found if path.is_file()]  # no pipes, no links to nothing
    outside = set() if follow_links else set(led_outside(folder, found))
    return [path for path in found if path not in outside]


def _read_table(path: Path) -> list[Row]:
    """The rows of a table of any format."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, or no file.")
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise ValueError(f"{path} must be a table that ends in one of {sorted(_READERS)}.")
    rows = read(path)
    if not rows:
        raise ValueError(f"{path} has no rows.")
    return rows


def _choose_column(
    columns: list[str], path: Path, given: str | None, defaults: tuple[str, ...] = ()
) -> str:
    """The given column, or the first default that the table has."""
    wanted = defaults if given is None else (given,)
    for column in wanted:
        if column in columns:
            return column
    raise ValueError(
        f"{path} has no column {' or '.join(map(repr, wanted))}, only {columns}; name the columns "
        "by image_column, tags_column and labels_column."
    )


def _as_tags(cell: Any, separator: str, place: str) -> list[str]:
    """The distinct tags of a field, in its order."""
    if cell is None:
        return []
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            cell = json.loads(cell)
        except _JSON_ERRORS as error:
            raise ValueError(f"{place}: torn list {shorten(cell)} ({error}).") from None
    elif isinstance(cell, str):
        cell = cell.split(separator)
    if not isinstance(cell, list) or not all(isinstance(tag, str) for tag in cell):
        raise ValueError(f"{place}: expected a string or a list of strings, got {shorten(cell)}.")
    return list(dict.fromkeys(tag.strip() for tag in cell if tag.strip()))


def _read_csv(path: Path, delimiter: str = ",") -> list[Row]:
    rows: list[Row] = []
    reader = csv.reader(io.StringIO(read_text(path), ""), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise ValueError(f"{path}: two columns of the same name in {header}.")
        for fields in reader:
            place = f"line {reader.line_num}"
            if fields and len(fields) != len(header):
                raise ValueError(
                    f"{path}, {place}: {len(fields)} fields where the first line names "
                    f"{len(header)}; quote a field that holds {delimiter!r}."
                )
            if fields:
                rows.append((place, dict(zip(header, fields, strict=True))))
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: torn row ({error}).") from None
    return rows


def _read_tsv(path: Path) -> list[Row]:
    return _read_csv(path, delimiter="\t")


def _read_json_lines(path: Path) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except _JSON_ERRORS as error:
            raise ValueError(f"{path}, line {number}: torn row ({error}).") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: expected an object, got {shorten(line)}.")
        rows.append((f"line {number}", row))
    return rows


def _read_parquet(path: Path) -> list[Row]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ImportError(
            "Reading Parquet needs pyarrow: `pip install pyarrow`, or save the table as CSV or "
            "JSON Lines."
        ) from None
    try:
        rows = parquet.read_table(path).to_pylist()
    except Exception as error:  # a damaged file can raise nearly anything
        raise ValueError(f"{path} is torn or not Parquet ({error}).") from None
    return [(f"row {number}", row) for number, row in enumerate(rows, start=1)]


_READERS: dict[str, Callable[[Path], list[Row]]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}
