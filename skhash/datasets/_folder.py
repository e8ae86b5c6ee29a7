"""A folder of images, with tags from a table or with the keywords in the photos."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from .._files import walk
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
)
from ._keywords import Companions, distinct, read_keywords
from ._tables import IMAGE_COLUMNS, TAGS_COLUMNS, as_tags, choose_column, has_column, read_table


@validate_params(
    {
        "folder": PATH,
        "tags_file": [*PATH, None],
        "image_column": [str, None],
        "tags_column": [str, None],
        "labels_column": [str, None],
        "separator": [str],
        "encoding": [str, None],
        "keywords": ["boolean", None],
        "hierarchy": [StrOptions({"ignore", "levels", "path"})],
        "on_error": [StrOptions({"raise", "skip"})],
        "missing_images": MISSING_IMAGES,
        "unlisted_images": [StrOptions({"ignore", "raise", "untagged"})],
        "follow_links": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def load_tagged_images(
    folder: str | os.PathLike[str],
    tags_file: str | os.PathLike[str] | None = None,
    *,
    image_column: str | None = None,
    tags_column: str | None = None,
    labels_column: str | None = None,
    separator: str = ",",
    encoding: str | None = None,
    keywords: bool | None = None,
    hierarchy: str = "ignore",
    on_error: str = "skip",
    missing_images: str = "raise",
    unlisted_images: str = "ignore",
    follow_links: bool = False,
) -> Bunch:
    """Load your own images with tags from a table, or with the keywords in the photos.

    Without a table, all images of the folder and its subfolders are loaded, in the order of their
    paths. Keywords are read from all of these sources, in this order and without repeats; the
    pixels are not decoded:

    - XMP (``dc:subject``), as written by Lightroom, digiKam, darktable and most others: in JPEG,
      PNG, TIFF, WebP and other formats in which Pillow finds it;
    - IPTC (``2:25``) in JPEG and TIFF: in UTF-8 or Latin-1, as given by its character set. Without
      a character set, UTF-8 if possible, otherwise Latin-1;
    - the keywords of Windows (``XPKeywords``) in JPEG, TIFF and WebP;
    - XMP in a file beside the photo: ``photo.xmp`` or ``photo.jpg.xmp``;
    - the files ``photo_ID.json`` of a Flickr export, anywhere in the folder, for photos
      named ``title_ID_o.jpg`` or ``ID_secret_o.jpg``.

    A table has a row per image. Its format follows from its name:

    - ``.csv``: the first line names the columns. Commas, semicolons or tabs separate them, and
      fields that contain the separator are quoted. Files of Excel are supported;
    - ``.tsv``: the same with tabs;
    - ``.jsonl``, ``.ndjson``: an object per line;
    - ``.parquet``: needs pyarrow.

    Tags (and labels) are a list, a string of tags with separators, or a string that contains a JSON
    list. Empty tags are ignored. An empty or missing field means an image without tags.

    Parameters
    ----------
    folder : str or path
        Folder of the images; subfolders are part of the names in the table.
    tags_file : str or path, default=None
        The table. If None, the tags are the keywords in the photos.
    image_column : str, default=None
        Column of the image's file name. If None, the first column of the table among "file",
        "image", "path", "filename", "filepath", "imagepath", "imagefile", "photo", "picture" and
        "sourcefile", in any case, with or without spaces, hyphens and underscores.
    tags_column : str, default=None
        Column of the tags. If None, the first column among "tags", "keywords", "tag", "keyword" and
        "subject".
    labels_column : str, default=None
        Column of the labels (ground truth). If None, "labels", in any case, if the table has
        it.
    separator : str, default=","
        Separator of tags in a string.
    encoding : str, default=None
        Encoding of a text table, such as "cp1252". If None, UTF-8, or UTF-16 or UTF-32 if the file
        has a byte order mark.
    keywords : bool, default=None
        Whether to read the keywords in the photos. With a table, they follow the tags of the row,
        without repeats. None reads them only without a table.
    hierarchy : {"ignore", "levels", "path"}, default="ignore"
        What to do with keywords in levels, such as Lightroom's ``People|Family|Anna`` or digiKam's
        ``People/Family/Anna``, which are stored beside the plain keywords: ignore them, make each
        level a tag, or make ``People|Family|Anna`` one tag.
    on_error : {"raise", "skip"}, default="skip"
        What to do if keywords are damaged: raise an error that names the photo, or skip the
        keywords of that source with a warning that names the photo.
    missing_images : {"raise", "drop", "ignore"}, default="raise"
        What to do about images that are empty, and rows whose image is missing. "ignore" does not
        check.
    unlisted_images : {"ignore", "raise", "untagged"}, default="ignore"
        What to do about images of the folder that have no row in the table: leave them out,
        raise an error, or append them as images without tags (with their own keywords, if
        ``keywords=True``).
    follow_links : bool, default=False
        Whether images and the files beside them may be links that lead out of the folder, or be in
        linked folders that do. If False, a row with such an image is an error, and such an image
        without a row is ignored.

    Returns
    -------
    data : Bunch
        - images : ndarray of str, shape (n_samples,), paths
        - tags : ndarray of list of str, shape (n_samples,)
        - labels : csr_array of shape (n_samples, n_labels), or None without a column of labels
        - tag_names, label_names : ndarrays of str, sorted; ``label_names`` are the columns
          of labels
        - dropped : dict from the reason ("missing", "unlisted") to the paths left out
        - damaged_keywords : dict from the path of a photo to the cause
        - DESCR : str, a description of what was done

    Raises
    ------
    FileNotFoundError
        If the folder, the table or an image is missing; the message names it.
    ValueError
        If the table lacks a column or has another encoding, a row is damaged (the message says
        where), an image has two rows or is not below the folder, or there is no image. With
        ``on_error="raise"`` also if keywords are damaged.
    ImportError
        If the table is Parquet and pyarrow is not installed.

    Warns
    -----
    UserWarning
        If keywords are damaged.

    Examples
    --------
    >>> from skhash.datasets import load_tagged_images
    >>> data = load_tagged_images("photos")  # doctest: +SKIP
    >>> data = load_tagged_images("photos", "photos/tags.csv")  # doctest: +SKIP
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder.")
    reads_keywords = tags_file is None if keywords is None else keywords
    found = _find_files(folder, _is_image, follow_links=follow_links)
    if tags_file is None:
        if not found:
            raise ValueError(
                f"{folder} holds no images; names of images end in one of {sorted(IMAGE_SUFFIXES)}."
            )
        images, tags, labels, unlisted = found, _untagged(found), None, list[Path]()
        source = "their own keywords" if reads_keywords else "no tags"
    else:
        images, tags, labels, source = _read_rows(
            folder, Path(tags_file), image_column, tags_column, labels_column, separator, encoding
        )
        listed = set(images)
        unlisted = [path for path in found if path not in listed]
        if reads_keywords:
            source += ", and their own keywords"
    if unlisted and unlisted_images == "raise":
        raise ValueError(
            f"{len(unlisted)} images of {folder} have no row in {tags_file}: {listing(unlisted)}. "
            "Pass unlisted_images='ignore' to leave them out, or 'untagged' to keep them."
        )
    present = present_images(folder, images, missing_images, follow_links=follow_links)
    dropped = {"missing": [path for path, there in zip(images, present, strict=True) if not there]}
    if unlisted_images == "untagged":
        images = images + unlisted
        tags += _untagged(unlisted)
        if labels is not None:
            labels += _untagged(unlisted)
        present = np.append(present, np.ones(len(unlisted), dtype=bool))
    elif tags_file is not None:
        dropped["unlisted"] = unlisted
    damaged: dict[str, str] = {}
    if reads_keywords:
        companions = Companions(_find_files(folder, Companions.is_one, follow_links=follow_links))
        for row in np.flatnonzero(present):
            own, problems = read_keywords(images[row], companions, hierarchy)
            tags[row] = distinct([*tags[row], *own])
            if problems:
                causes = "; ".join(f"{place}: {cause}" for place, cause in problems.items())
                damaged[str(images[row])] = causes
    if damaged:
        _report_damaged(damaged, on_error)
    kept_tags = as_object_array(tags)[present]
    truth = None if labels is None else encode_tags(as_object_array(labels)[present])
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
        damaged_keywords=damaged,
        DESCR=(
            f"Images of {folder} with {source}\n\nImages: {present.sum()}; left out: {left_out}."
        ),
    )


def _read_rows(
    folder: Path,
    table: Path,
    image_column: str | None,
    tags_column: str | None,
    labels_column: str | None,
    separator: str,
    encoding: str | None,
) -> tuple[list[Path], list[list[str]], list[list[str]] | None, str]:
    """Images, tags and labels of a table, and a description."""
    rows = read_table(table, encoding)
    columns = list(dict.fromkeys(column for _, row in rows for column in row))
    image_column = choose_column(columns, table, image_column, IMAGE_COLUMNS)
    tags_column = choose_column(columns, table, tags_column, TAGS_COLUMNS)
    if labels_column is not None or has_column(columns, "labels"):
        labels_column = choose_column(columns, table, labels_column, ("labels",))

    place_of: dict[Path, str] = {}
    tags, labels = [], []
    for place, row in rows:
        name = row.get(image_column)
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{table}, {place}: column {image_column!r} names no image.")
        image = path_below(folder, name.strip(), f"{table}, {place}")
        if image in place_of:
            raise ValueError(f"{table}, {place}: {name} already has {place_of[image]}.")
        place_of[image] = place
        tags.append(as_tags(row.get(tags_column), separator, f"{table}, {place}"))
        if labels_column is not None:
            labels.append(as_tags(row.get(labels_column), separator, f"{table}, {place}"))
    source = (
        f"the tags of {table} (columns: {image_column} for the image, {tags_column} for tags, "
        f"{labels_column} for labels)"
    )
    return list(place_of), tags, None if labels_column is None else labels, source


def _untagged(images: list[Path]) -> list[list[str]]:
    return [[] for _ in images]


def _report_damaged(damaged: dict[str, str], on_error: str) -> None:
    causes = listing(f"{path} ({cause})" for path, cause in damaged.items())
    found = f"{len(damaged)} photos have damaged keywords: {causes}."
    if on_error == "raise":
        raise ValueError(f"{found} Pass on_error='skip' to skip these keywords.")
    warnings.warn(
        f"{found} These keywords are skipped; all are in damaged_keywords.",
        UserWarning,
        stacklevel=4,
    )


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _find_files(
    folder: Path, is_wanted: Callable[[Path], bool], *, follow_links: bool
) -> list[Path]:
    """The wanted files below a folder, sorted; links out of it only if ``follow_links``."""
    found: list[Path] = []
    seen = set()
    for place, subfolders, names in walk(folder, follow_links=follow_links):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:  # links that form a cycle
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        found += filter(is_wanted, (Path(place, name) for name in names))
    found = [path for path in found if path.is_file()]  # no pipes, no broken links
    outside = set() if follow_links else set(led_outside(folder, found))
    return sorted(path for path in found if path not in outside)
