"""The MIRFLICKR-25000 collection."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from .._sklearn import StrOptions, validate_params
from ._base import (
    SPLIT_CONSTRAINTS,
    WHOLE,
    Protocol,
    assemble,
    find_path,
    listing,
    popular_tags,
    read_lines,
    shorten,
)

# fmt: off
# Potential labels: what can be seen in a photo.
POTENTIAL = (
    "animals", "baby", "bird", "car", "clouds", "dog", "female", "flower", "food", "indoor",
    "lake", "male", "night", "people", "plant_life", "portrait", "river", "sea", "sky",
    "structures", "sunset", "transport", "tree", "water",
)
# Relevant labels: what is important in a photo.
RELEVANT = (
    "baby_r1", "bird_r1", "car_r1", "clouds_r1", "dog_r1", "female_r1", "flower_r1", "male_r1",
    "night_r1", "people_r1", "portrait_r1", "river_r1", "sea_r1", "tree_r1",
)
# fmt: on

N_PHOTOS = 25_000

PROTOCOLS = {
    "dstdh": Protocol(
        "DSTDH (Zhu et al. 2020, Table II): 24 labels, the tags used on at least 20 photos, "
        "photos with at least one of each. The paper's own draw of queries is not published.",
        n_query=2266,
        n_train=5325,
        drop=("untagged", "unlabelled"),
    ),
    "wp": Protocol(
        "WP (Guan et al. 2018, section 4.1): 38 labels, the 1,000 most used tags, all photos. "
        "The paper counts tags over MIR Flickr-1M, of which this is the labelled part.",
        n_query=2000,
    ),
}


@validate_params(
    {
        **SPLIT_CONSTRAINTS,
        "protocol": [StrOptions(set(PROTOCOLS)), None],
    },
    prefer_skip_nested_validation=True,
)
def load_mirflickr25k(
    root: str | os.PathLike[str],
    *,
    protocol: str | None = "dstdh",
    drop: Collection[str] | None = None,
    n_query: int | None = None,
    n_train: int | None = None,
    missing_images: str = "raise",
    follow_links: bool = False,
    random_state: int | np.random.RandomState | None = 0,
) -> Bunch:
    """Load the MIRFLICKR-25000 photos, tags and labels from the official archives.

    Nothing is downloaded. ``root`` is the folder where ``mirflickr25k.zip`` and
    ``mirflickr25k_annotations_v080.zip`` were unpacked:

    - ``im1.jpg``, ``im2.jpg``, ... in ``root`` or ``root/mirflickr``;
    - ``meta/tags/tags1.txt``, ... beside them, one tag per line;
    - ``animals.txt``, ``baby.txt``, ``baby_r1.txt``, ... (numbers of photos, one per line) in
      ``annotations`` or ``mirflickr25k_annotations_v080``, in or beside the photos' folder, or in
      ``root`` itself.

    Parameters
    ----------
    root : str or path
        Folder of the collection.
    protocol : {"dstdh", "wp"} or None, default="dstdh"
        Which labels, tags and images are kept, and the sizes of the split:

        - "dstdh": 24 labels, tags used on at least 20 photos (1,386); photos without such a
          tag or without label are dropped (20,015 are left); 2,266 queries, 5,325 to train on.
        - "wp": 38 labels, the 1,000 most used tags, all photos; 2,000 queries, all others
          to train on.
        - None: 38 labels, all tags, all photos, no queries.
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
        - images : ndarray of str, shape (n_samples,), paths
        - tags : ndarray of list of str, shape (n_samples,)
        - labels : csr_array of shape (n_samples, n_labels), 1 where a photo has a label
        - tag_names, label_names : ndarrays of str; ``label_names`` are the columns of labels
        - query, database, train : ndarrays of row numbers; ``train`` is part of ``database``
        - dropped : dict from the reason ("missing", "untagged", "unlabelled") to the paths left
          out; a photo is listed under the first reason that holds
        - DESCR : str, a description of what was done

    Raises
    ------
    FileNotFoundError
        If a file of the collection is missing; the message names it.
    ValueError
        If a file is damaged, or the split needs more photos than there are.
    """
    root = Path(root)
    photos = find_path(root, "mirflickr", ".")
    folders = [
        str(Path(place) / name)
        for name in ("annotations", "mirflickr25k_annotations_v080", ".")
        for place in (".", photos.relative_to(root))
    ]
    annotations = find_path(root, *(f"{folder}/animals.txt" for folder in folders)).parent
    label_names = POTENTIAL if protocol == "dstdh" else POTENTIAL + RELEVANT
    ids_of = [_read_ids(annotations / f"{name}.txt") for name in label_names]

    tag_folder = find_path(photos, "meta/tags")
    tag_ids = _numbers(tag_folder, r"tags(\d+)\.txt")
    n_photos = max(tag_ids | _numbers(photos, r"im(\d+)\.jpg") | {max(ids) for ids in ids_of})
    untold = sorted(set(range(1, n_photos + 1)) - tag_ids)
    if untold:
        raise FileNotFoundError(
            f"{len(untold)} of {n_photos} tag files are missing in {tag_folder}: "
            f"{listing(f'tags{i}.txt' for i in untold)}."
        )
    tags = [
        [tag for tag in dict.fromkeys(read_lines(tag_folder / f"tags{i}.txt")) if tag]
        for i in range(1, n_photos + 1)
    ]
    tag_names = popular_tags(
        tags,
        min_count=20 if protocol == "dstdh" else 1,
        n_tags=1000 if protocol == "wp" else None,
    )
    known = set(tag_names)
    labels = np.zeros((n_photos, len(label_names)), dtype=bool)
    for column, ids in enumerate(ids_of):
        labels[np.array(ids) - 1, column] = True
    return assemble(
        collection="MIRFLICKR-25000 (Huiskes and Lew, MIR 2008)",
        folder=photos,
        images=[photos / f"im{i}.jpg" for i in range(1, n_photos + 1)],
        tags=[[tag for tag in row if tag in known] for row in tags],
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


def _numbers(folder: Path, pattern: str) -> set[int]:
    """The numbers in the names of the files of a folder."""
    matches = (re.fullmatch(pattern, entry.name) for entry in os.scandir(folder))
    return {_number(match[1], str(folder / match[0])) for match in matches if match}


def _read_ids(path: Path) -> list[int]:
    """The photo numbers of an annotation file."""
    lines = enumerate(read_lines(path), start=1)
    ids = [_number(text, f"{path}, line {line}") for line, text in lines if text]
    if not ids:
        raise ValueError(f"{path} is empty; unpack its archive again.")
    return ids


def _number(text: str, place: str) -> int:
    # Numbers that were joined by a lost line end are too large.
    if not text.isdecimal() or len(text) > 5 or not 1 <= int(text) <= N_PHOTOS:
        raise ValueError(
            f"{place}: {shorten(text)} is not the number of a photo, from 1 to {N_PHOTOS:,}."
        )
    return int(text)
