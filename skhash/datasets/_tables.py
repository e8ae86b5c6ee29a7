"""Tables of images and their tags, in the formats that programs write."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ._base import read_text, shorten

__all__ = [
    "IMAGE_COLUMNS",
    "TAGS_COLUMNS",
    "Row",
    "as_tags",
    "choose_column",
    "read_labels",
    "read_table",
]

# In lower case, without blanks, hyphens and underscores; the first that a table has is used.
IMAGE_COLUMNS = (
    *("file", "image", "path", "filename", "filepath", "imagepath", "imagefile"),
    *("photo", "picture", "sourcefile"),  # the last one is exiftool's
)
TAGS_COLUMNS = ("tags", "keywords", "tag", "keyword", "subject")

Row = tuple[str, dict[str, Any]]  # where it stands, and its fields

# Damaged; a number of thousands of digits; nested too deeply.
_JSON_ERRORS = (ValueError, RecursionError)
_DELIMITERS = {",": "','", ";": "';'", "\t": "a tab"}


def read_table(path: Path, encoding: str | None = None) -> list[Row]:
    """The rows of a table of any format."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, or not a file.")
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        rows = _read_parquet(path)
    elif suffix in _READERS:
        rows = _READERS[suffix](path, read_text(path, encoding=encoding))
    else:
        formats = sorted([*_READERS, ".parquet"])
        raise ValueError(f"{path} must be a table that ends in one of {formats}.")
    if not rows:
        raise ValueError(f"{path} has no rows.")
    return rows


def choose_column(
    columns: list[str], path: Path, given: str | None, usual: tuple[str, ...] = ()
) -> str:
    """The given column, or the first usual one that the table has, in any case."""
    if given is not None:
        if given in columns:
            return given
        usual = (given,)
    else:
        plain = {_plain(column): column for column in reversed(columns)}
        for name in usual:
            if name in plain:
                return plain[name]
    raise ValueError(
        f"{path} has no column {' or '.join(map(repr, usual))}, only {columns}; name the columns "
        "by image_column, tags_column and labels_column."
    )


def has_column(columns: list[str], usual: str) -> bool:
    """Whether the table has a column of a usual name, in any case."""
    return usual in map(_plain, columns)


def read_labels(path: Path) -> dict[str, list[str]]:
    """The labels of each image that a table names; its tags, if it has no labels."""
    rows = read_table(path)
    columns = list(dict.fromkeys(column for _, row in rows for column in row))
    image_column = choose_column(columns, path, None, IMAGE_COLUMNS)
    labels_column = choose_column(columns, path, None, ("labels", *TAGS_COLUMNS))
    labels: dict[str, list[str]] = {}
    for place, row in rows:
        name = str(row.get(image_column) or "").strip()
        if not name or name in labels:
            fault = "already has a row" if name else "names no image"
            raise ValueError(f"{path}, {place}: column {image_column!r} {fault}: {name!r}.")
        labels[name] = as_tags(row.get(labels_column), ",", f"{path}, {place}")
    return labels


def _plain(column: str) -> str:
    return column.lower().translate({ord(letter): None for letter in " -_"})


def as_tags(cell: Any, separator: str, place: str) -> list[str]:
    """The distinct tags of a field, in its order."""
    if cell is None:
        return []
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            cell = json.loads(cell)
        except _JSON_ERRORS as error:
            raise ValueError(f"{place}: damaged list {shorten(cell)} ({error}).") from None
    elif isinstance(cell, str):
        cell = cell.split(separator)
    if not isinstance(cell, list) or not all(isinstance(tag, str) for tag in cell):
        raise ValueError(f"{place}: expected a string or a list of strings, got {shorten(cell)}.")
    return list(dict.fromkeys(tag.strip() for tag in cell if tag.strip()))


def _read_csv(path: Path, text: str, delimiter: str | None = None) -> list[Row]:
    lines_before = 0
    first, _, rest = text.partition("\n")
    if first.strip().lower().startswith("sep=") and len(first.strip("\r")) == len("sep=") + 1:
        # The line that gives Excel the delimiter, which may be a tab.
        delimiter, text, lines_before = first.strip("\r")[-1], rest, 1
    if delimiter is None:
        delimiter = _find_delimiter(path, text)
    rows: list[Row] = []
    reader = csv.reader(io.StringIO(text, ""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        # Excel writes delimiters after the last column, and rows that hold nothing else.
        named = {name for name in header if name}
        if len(named) < sum(map(bool, header)):
            raise ValueError(f"{path}: two columns of the same name in {header}.")
        for fields in reader:
            place = f"line {reader.line_num + lines_before}"
            if fields and len(fields) != len(header):
                raise ValueError(
                    f"{path}, {place}: {len(fields)} fields, but the first line names "
                    f"{len(header)}; quote a field that holds {delimiter!r}."
                )
            if any(fields):
                row = dict(zip(header, fields, strict=True))
                if any(field for name, field in zip(header, fields, strict=True) if not name):
                    raise ValueError(f"{path}, {place}: a field of a column without a name.")
                row.pop("", None)
                rows.append((place, row))
    except csv.Error as error:
        place = f"line {reader.line_num + lines_before}"
        raise ValueError(f"{path}, {place}: damaged row ({error}).") from None
    return rows


def _find_delimiter(path: Path, text: str) -> str:
    """The delimiter of the first line; if there are several, the one that fits all lines."""
    header = text.partition("\n")[0]
    dividing = [mark for mark in _DELIMITERS if max(_widths(header, mark), default=0) > 1]
    if len(dividing) > 1:
        dividing = [mark for mark in dividing if len(_widths(text, mark)) == 1]
    if len(dividing) > 1:
        raise ValueError(
            f"{path} may have its columns divided by "
            f"{' or '.join(_DELIMITERS[mark] for mark in dividing)}; write 'sep=;' (or the right "
            "one) into a line before the first, as Excel does."
        )
    return dividing[0] if dividing else ","


def _widths(text: str, delimiter: str) -> set[int]:
    """The numbers of fields of the lines."""
    try:
        reader = csv.reader(io.StringIO(text, ""), delimiter=delimiter)
        return {len(fields) for fields in reader if fields}
    except csv.Error:
        return set()


def _read_tsv(path: Path, text: str) -> list[Row]:
    return _read_csv(path, text, delimiter="\t")


def _read_json_lines(path: Path, text: str) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except _JSON_ERRORS as error:
            raise ValueError(f"{path}, line {number}: damaged row ({error}).") from None
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
        raise ValueError(f"{path} is damaged or not Parquet ({error}).") from None
    return [(f"row {number}", row) for number, row in enumerate(rows, start=1)]


_READERS: dict[str, Callable[[Path, str], list[Row]]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
}
