"""The NUS-WIDE collection."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from .._sklearn import StrOptions, validate_params
from ._base import (
    SPLIT_CONSTRAINTS,
    WHOLE,
    Protocol,
    assemble,
    find_path,
    path_below,
    popular_tags,
    read_lines,
    read_names,
)

PROTOCOLS = {
    "dstdh": Protocol(
        "DSTDH (Zhu et al. 2020, Table II): the 21 most frequent concepts, 1,000 tags, photos "
        "with at least one of the concepts. The paper's own draw of queries is not published.",
        n_query=2085,
        n_train=5000,
        drop=("unlabelled",),
    ),
    "wp": Protocol(
        "WP (Guan et al. 2018, section 4.1): 81 concepts, 5,018 tags, all photos.", n_query=5000
    ),
}
_TAGS_OF_PROTOCOL = {"dstdh": "1k", "wp": "5k", None: "all"}


@validate_params(
    {
        **SPLIT_CONSTRAINTS,
        "protocol": [StrOptions(set(PROTOCOLS)), None],
        "tags": [StrOptions({"1k", "81", "5k", "all"}), None],
    },
    prefer_skip_nested_validation=True,
)
def load_nus_wide(
    root: str | os.PathLike[str],
    *,
    protocol: str | None = "dstdh",
    tags: str | None = None,
    drop: Collection[str] | None = None,
    n_query: int | None = None,
    n_train: int | None = None,
    missing_images: str = "raise",
    follow_links: bool = False,
    random_state: int | np.random.RandomState | None = 0,
) -> Bunch:
    r"""Load the NUS-WIDE photos, tags and concepts from the official archives.

    Nothing is downloaded. ``root`` holds the unpacked archives:

    - ``ImageList/Imagelist.txt``, lines such as ``actor\0001_2124494179.jpg``, and these
      photos in ``Flickr``, ``images`` or ``root``;
    - ``Groundtruth/AllLabels/Labels_*.txt``, 0 or 1 per line, and ``ConceptsList/Concepts81.txt``;
    - ``NUS_WID_Tags`` with ``AllTags1k.txt`` and ``TagList1k.txt``, ``AllTags81.txt``, or
      ``All_Tags.txt`` and ``Final_Tag_List.txt``, whichever ``tags`` needs.

    The contents of the folders ``ImageList``, ``Groundtruth``, ``ConceptsList`` and
    ``NUS_WID_Tags`` may also be in ``root`` itself. The lines of all files are in the order of
    ``Imagelist.txt``.

    Parameters
    ----------
    root : str or path
        Folder of the collection.
    protocol : {"dstdh", "wp"} or None, default="dstdh"
        Which concepts, tags and images are kept, and the sizes of the split:

        - "dstdh": the 21 most frequent concepts, 1,000 tags; photos with none of the concepts
          are dropped (195,834 are left), those without tag stay; 2,085 queries, 5,000 to
          train on.
        - "wp": 81 concepts, 5,018 tags, all photos; 5,000 queries, all others to train on.
        - None: 81 concepts, all tags, all photos, no queries.
    tags : {"1k", "81", "5k", "all"}, default=None
        Tags to use, instead of those of the protocol: the 1,000 of ``AllTags1k.txt``, the 81 of
        ``AllTags81.txt`` (concept names used as tags), those of ``All_Tags.txt`` that are in
        ``Final_Tag_List.txt`` (5,018), or all of ``All_Tags.txt``.
    drop : collection of {"untagged", "unlabelled"}, default=None
        Which photos are left out, instead of the choice of the protocol.
    n_query, n_train : int, default=None
        Sizes, instead of those of the protocol.
    missing_images : {"raise", "drop", "ignore"}, default="raise"
        What to do about photos whose file is missing or empty. "ignore" does not check.
    follow_links : bool, default=False
        Whether photos may be links that lead out of their folder. If False, they are an error.
    random_state : int, RandomState instance or None, default=0
        Seed of the split.

    Returns
    -------
    data : Bunch
        As :func:`load_mirflickr25k` returns it.

    Raises
    ------
    FileNotFoundError
        If a file of the collection is missing; the message names it.
    ValueError
        If a file is damaged, or the split needs more photos than there are.
    """
    tags = _TAGS_OF_PROTOCOL[protocol] if tags is None else tags
    root = Path(root)
    image_list = find_path(root, "ImageList/Imagelist.txt", "Imagelist.txt")
    names = [name.replace("\\", "/") for name in read_names(image_list)]
    photos = find_path(root, "Flickr", "images", ".")
    images = [path_below(photos, name, str(image_list)) for name in names]

    concepts = read_names(find_path(root, "ConceptsList/Concepts81.txt", "Concepts81.txt"))
    truth = find_path(root, "Groundtruth/AllLabels", "AllLabels")
    labels = np.column_stack(
        [_read_column(truth / f"Labels_{concept}.txt", len(names)) for concept in concepts]
    )
    label_names = concepts
    if protocol == "dstdh":
        frequent = np.sort(np.argsort(-labels.sum(axis=0), kind="stable")[:21])
        labels, label_names = labels[:, frequent], [concepts[j] for j in frequent]

    folder = find_path(root, "NUS_WID_Tags", ".")
    if tags in ("1k", "81"):
        tag_names = concepts if tags == "81" else read_names(folder / "TagList1k.txt")
        indicator = _read_indicator(folder / f"AllTags{tags}.txt", len(names), len(tag_names))
        rows = [[tag_names[j] for j in columns] for columns in indicator]
    else:
        rows = list(_read_tag_lists(folder / "All_Tags.txt", names))
        if tags == "5k":
            tag_names = read_names(folder / "Final_Tag_List.txt")
            known = set(tag_names)
            rows = [[tag for tag in row if tag in known] for row in rows]
        else:
            tag_names = popular_tags(rows)
    return assemble(
        collection="NUS-WIDE (Chua et al., CIVR 2009)",
        folder=photos,
        images=images,
        tags=rows,
        tag_names=tag_names,
        labels=labels,
        label_names=label_names,
        protocol=WHOLE if protocol is None else PROTOCOLS[protocol],
        drop=drop,
        n_query=n_query,
        n_train=n_train,
        missing_images=missing_images,
        follow_links=follow_links,
        random_state=random_state,
    )


def _check_n_lines(path: Path, n_lines: int, n_images: int) -> None:
    if n_lines != n_images:
        raise ValueError(
            f"{path} has {n_lines} lines, but Imagelist.txt names {n_images} images: one of the "
            "two is damaged; unpack the archives again."
        )


def _read_column(path: Path, n_images: int) -> NDArray[np.bool_]:
    """A file with one 0 or 1 per line."""
    lines = read_lines(path)
    _check_n_lines(path, len(lines), n_images)
    values = np.array(lines)
    bad = np.flatnonzero((values != "0") & (values != "1"))
    if len(bad):
        raise ValueError(f"{path}, line {bad[0] + 1}: {lines[bad[0]]!r} is neither 0 nor 1.")
    return values == "1"


def _read_indicator(path: Path, n_images: int, n_columns: int) -> Iterator[NDArray[np.intp]]:
    """For each line of 0 and 1 the columns that hold 1."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; unpack its archive again.")
    n_lines = 0
    with path.open("rb") as file:  # half a gigabyte: one line at a time
        for n_lines, line in enumerate(file, start=1):
            values = np.frombuffer(line.translate(None, b" \t\r\n"), np.uint8) - ord("0")
            if len(values) != n_columns or (values > 1).any():
                raise ValueError(f"{path}, line {n_lines}: expected {n_columns} values of 0 or 1.")
            yield np.flatnonzero(values)
    _check_n_lines(path, n_lines, n_images)


def _read_tag_lists(path: Path, names: list[str]) -> Iterator[list[str]]:
    """For each line, which starts with the number of the image, its tags."""
    lines = read_lines(path)
    _check_n_lines(path, len(lines), len(names))
    for number, (line, name) in enumerate(zip(lines, names, strict=True), start=1):
        image, *tags = line.split() or [""]
        if image != Path(name).stem.rpartition("_")[2]:
            raise ValueError(
                f"{path}, line {number}: image {image!r}, but Imagelist.txt has {name}."
            )
        yield list(dict.fromkeys(tags))
