"""Loaders, on small trees in the layouts of the real collections."""

import csv
import json
import os
import re
import sys

import numpy as np
import pytest
from PIL import Image

from skhash.datasets import load_mirflickr25k, load_nus_wide, load_tagged_images
from skhash.datasets._mirflickr import POTENTIAL, RELEVANT
from skhash.tags import encode_tags


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_lines(path, lines):
    write(path, "".join(f"{line}\n" for line in lines))


def write_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (2, 2)).save(path)


def label_rows(data):
    """The labels of each image, by name."""
    return [data.label_names[row.nonzero()[0]].tolist() for row in data.labels.toarray()]


def assert_is_split(data, n_query, n_train):
    n = len(data.images)
    assert len(data.query) == n_query
    assert len(data.train) == n_train
    assert sorted([*data.query, *data.database]) == list(range(n))
    assert set(data.train) <= set(data.database)


# ---------------------------------------------------------------------------- MIRFLICKR-25000

N_MIR = 40


def mir_tags(i):
    """Photo i: "sky" on the 25 first, "rare" on 19, 30 words of its own, none from 36 on."""
    if i > 35:
        return []
    return [*(["sky"] if i <= 25 else []), *(["rare"] if i <= 19 else []), *mir_own_tags(i)]


def mir_own_tags(i):
    return [f"w{i}x{k}" for k in range(30)]


def mir_ids(name):
    """Photos of a label: i has the label of column i modulo 24; 24 has none; tree_r1 has 3."""
    if name in RELEVANT:
        return [3]
    column = POTENTIAL.index(name)
    return [i for i in range(1, N_MIR + 1) if i % len(POTENTIAL) == column and i != 24] or [3]


@pytest.fixture
def mir(tmp_path):
    for i in range(1, N_MIR + 1):
        write_image(tmp_path / f"mirflickr/im{i}.jpg")
        write_lines(tmp_path / f"mirflickr/meta/tags/tags{i}.txt", mir_tags(i))
    for name in (*POTENTIAL, *RELEVANT):
        write_lines(tmp_path / f"mirflickr/annotations/{name}.txt", mir_ids(name))
    write(tmp_path / "mirflickr/annotations/README.txt", "not a label")
    return tmp_path


def test_mirflickr_dstdh_keeps_frequent_tags_and_photos_with_tag_and_label(mir):
    data = load_mirflickr25k(mir, n_query=5, n_train=7)
    assert data.tag_names.tolist() == ["sky"]  # "rare" is on 19 photos, one too few
    assert data.label_names.tolist() == list(POTENTIAL)
    # Photo 24 has "sky" but no label; 26 and later have no frequent tag.
    kept = [i for i in range(1, 26) if i != 24]
    assert data.images.tolist() == [str(mir / f"mirflickr/im{i}.jpg") for i in kept]
    assert data.tags.tolist() == [["sky"] for _ in kept]
    expected = [[name for name in POTENTIAL if i in mir_ids(name)] for i in kept]
    assert label_rows(data) == expected
    assert [len(data.dropped[why]) for why in ("missing", "untagged", "unlabelled")] == [0, 15, 1]
    assert data.dropped["unlabelled"].tolist() == [str(mir / "mirflickr/im24.jpg")]
    assert "15 untagged, 1 unlabelled" in data.DESCR
    assert_is_split(data, 5, 7)


def test_mirflickr_counts_tags_before_photos_are_dropped(mir):
    # 19 photos with tag and label, and one without label: 20 in all.
    write_lines(mir / "mirflickr/meta/tags/tags24.txt", ["sky", "rare"])
    assert "rare" in load_mirflickr25k(mir, n_query=5, n_train=7).tag_names


def test_mirflickr_wp_keeps_all_photos_and_the_thousand_most_used_tags(mir):
    data = load_mirflickr25k(mir, protocol="wp", n_query=10)
    assert len(data.images) == N_MIR
    assert data.label_names.tolist() == [*POTENTIAL, *RELEVANT]
    assert label_rows(data)[2] == [n for n in (*POTENTIAL, *RELEVANT) if 3 in mir_ids(n)]
    assert len(data.tag_names) == 1000
    used_once = sorted(tag for i in range(1, 36) for tag in mir_own_tags(i))
    assert data.tag_names.tolist() == sorted(["sky", "rare", *used_once[:998]])
    assert data.tags[39] == []
    assert_is_split(data, 10, 30)


def test_mirflickr_without_protocol_keeps_everything(mir):
    data = load_mirflickr25k(mir, protocol=None)
    assert data.tags.tolist() == [mir_tags(i) for i in range(1, N_MIR + 1)]
    assert len(data.label_names) == 38
    assert_is_split(data, 0, N_MIR)


def test_mirflickr_drop_overrides_the_protocol(mir):
    assert len(load_mirflickr25k(mir, drop=[], n_query=1, n_train=1).images) == N_MIR
    data = load_mirflickr25k(mir, drop=["unlabelled"], n_query=1, n_train=1)
    assert len(data.images) == N_MIR - 1
    assert "untagged" not in data.dropped


def test_split_depends_on_the_seed_alone(mir):
    first, again, other = (
        load_mirflickr25k(mir, n_query=8, n_train=5, random_state=seed) for seed in (1, 1, 2)
    )
    assert first.query.tolist() == again.query.tolist()
    assert first.train.tolist() == again.train.tolist()
    assert first.query.tolist() != other.query.tolist()


@pytest.mark.parametrize("place", ["annotations", "mirflickr25k_annotations_v080", "."])
@pytest.mark.parametrize("photos", ["mirflickr", "."])
def test_mirflickr_annotations_may_lie_in_several_places(mir, place, photos):
    expected = load_mirflickr25k(mir, n_query=5, n_train=7)
    moved = mir / "moved"
    (mir / "mirflickr/annotations").rename(mir / "saved")
    (mir / "mirflickr").rename(moved) if photos == "." else moved.mkdir()
    if photos != ".":
        (mir / "mirflickr").rename(moved / "mirflickr")
    (moved / place).mkdir(exist_ok=True)
    for path in (mir / "saved").iterdir():
        path.rename(moved / place / path.name)
    data = load_mirflickr25k(moved, n_query=5, n_train=7)
    assert data.tags.tolist() == expected.tags.tolist()
    assert (data.labels != expected.labels).nnz == 0


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ("im7.jpg", r"im7\.jpg"),
        ("meta/tags/tags9.txt", r"tags9\.txt"),
        ("annotations/sky.txt", r"sky\.txt"),
        ("annotations/animals.txt", r"animals\.txt"),
    ],
)
def test_mirflickr_names_a_missing_file(mir, lost, named):
    (mir / "mirflickr" / lost).unlink()
    with pytest.raises(FileNotFoundError, match=named):
        load_mirflickr25k(mir, n_query=5, n_train=7)


def test_mirflickr_names_photos_that_only_the_annotations_know(mir):
    with (mir / "mirflickr/annotations/sky.txt").open("a") as file:
        file.write("42\n")
    with pytest.raises(FileNotFoundError, match=r"2 of 42 tag files.*tags41\.txt, tags42\.txt"):
        load_mirflickr25k(mir, n_query=5, n_train=7)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("1\n2x\n", r"line 2: '2x'"),
        ("", "empty"),
        ("\n\n", "empty"),
        ("0\n", "'0'"),
        ("7\n\n1234512346\n", "line 3: '1234512346' is not the number of a photo"),  # joined
        ("25001\n", "line 1: '25001'"),
        ("9" * 5000, "line 1: '999"),
        ("1\0\n2\0\n", "zero bytes"),
    ],
    ids=lambda value: value[:40],
)
def test_mirflickr_names_a_torn_annotation(mir, text, named):
    write(mir / "mirflickr/annotations/sky.txt", text)
    with pytest.raises(ValueError, match=rf"sky\.txt.*{named}"):
        load_mirflickr25k(mir, n_query=5, n_train=7)


def test_mirflickr_names_a_photo_whose_number_is_too_large(mir):
    write_image(mir / "mirflickr/im1234512346.jpg")
    with pytest.raises(ValueError, match=r"im1234512346\.jpg: '1234512346' is not the number"):
        load_mirflickr25k(mir, n_query=5, n_train=7)


@pytest.mark.parametrize("kind", ["folder", "pipe", "circle"])
def test_what_is_no_file_counts_as_missing(mir, kind):
    photo = mir / "mirflickr/im7.jpg"
    photo.unlink()
    make = {"folder": os.mkdir, "pipe": os.mkfifo, "circle": lambda p: os.symlink("im7.jpg", p)}
    make[kind](photo)
    with pytest.raises(FileNotFoundError, match=r"1 of 40 images.*im7\.jpg.*missing_images"):
        load_mirflickr25k(mir, n_query=5, n_train=7)


@pytest.mark.parametrize("missing_images", ["raise", "drop", "ignore"])
def test_links_out_of_the_collection_are_refused_unless_on_purpose(
    mir, nus, tmp_path_factory, missing_images
):
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.jpg"
    write_image(secret)
    photos = {load_mirflickr25k: (mir, "im7.jpg"), load_nus_wide: (nus, "kind0/0003_1021.jpg")}
    for load, (root, name) in photos.items():
        settings = {"n_query": 1, "n_train": 1, "missing_images": missing_images}
        expected = load(root, **settings)
        (photo,) = root.glob(f"*/{name}")
        photo.unlink()
        photo.symlink_to(secret)
        with pytest.raises(ValueError, match=rf"lead out of .* 1 images: .*{name}.*follow_links"):
            load(root, **settings)
        again = load(root, **settings, follow_links=True)
        assert again.images.tolist() == expected.images.tolist()


def test_an_empty_image_counts_as_missing(mir):
    (mir / "mirflickr/im7.jpg").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"1 of 40 images.*im7\.jpg.*missing_images"):
        load_mirflickr25k(mir, n_query=5, n_train=7)


def test_missing_images_can_be_dropped_or_ignored(mir):
    lost = mir / "mirflickr/im7.jpg"
    lost.unlink()
    dropped = load_mirflickr25k(mir, n_query=5, n_train=7, missing_images="drop")
    assert dropped.dropped["missing"].tolist() == [str(lost)]
    assert str(lost) not in dropped.images
    assert len(dropped.images) == 23
    ignored = load_mirflickr25k(mir, n_query=5, n_train=7, missing_images="ignore")
    assert str(lost) in ignored.images


def test_a_split_that_does_not_fit_is_refused(mir):
    with pytest.raises(ValueError, match="2266 queries and 5325 training images do not fit in 24"):
        load_mirflickr25k(mir)
    with pytest.raises(ValueError, match="do not fit"):
        load_mirflickr25k(mir, n_query=24)


@pytest.mark.parametrize("load", [load_mirflickr25k, load_nus_wide])
@pytest.mark.parametrize(
    "arguments",
    [
        {"protocol": "paper"},
        {"drop": "untagged"},
        {"drop": ["tagless"]},
        {"missing_images": "skip"},
        {"n_query": -1},
        {"n_train": 0},
        {"random_state": "seed"},
    ],
    ids=str,
)
def test_bad_arguments_are_named(mir, nus, load, arguments):
    root = mir if load is load_mirflickr25k else nus
    with pytest.raises(ValueError, match=next(iter(arguments))):
        load(root, **{"n_query": 1, "n_train": 1} | arguments)


@pytest.mark.parametrize("load", [load_mirflickr25k, load_nus_wide])
def test_a_folder_that_is_not_there_is_named(tmp_path, load):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load(tmp_path / "nowhere")


# ---------------------------------------------------------------------------------- NUS-WIDE

N_NUS = 12
CONCEPTS = [f"concept{j:02d}" for j in range(24)]
TAGS_1K = ["beach", "sea", "sky", "dog"]
NUS_ALL_TAGS = [["beach", "sea", "nikon"], ["dog"], [], *([["sky", "zz"]] * (N_NUS - 3))]


def nus_labels():
    """Concept j on the first photos, fewer for the last three concepts; photo 11 has only those."""
    labels = np.zeros((N_NUS, len(CONCEPTS)), dtype=int)
    for j in range(21):
        labels[: 4 + j % 5, j] = 1
    labels[11, 21:] = 1
    return labels


@pytest.fixture
def nus(tmp_path):
    root = tmp_path / "nus"
    names = [f"kind{i % 3}\\{i:04d}_{1000 + 7 * i}.jpg" for i in range(N_NUS)]
    write(root / "ImageList/Imagelist.txt", "".join(f"{name}\r\n" for name in names))
    for name in names:
        write_image(root / "Flickr" / name.replace("\\", "/"))
    write_lines(root / "ConceptsList/Concepts81.txt", CONCEPTS)
    for concept, column in zip(CONCEPTS, nus_labels().T, strict=True):
        write_lines(root / f"Groundtruth/AllLabels/Labels_{concept}.txt", column)
    tags = root / "NUS_WID_Tags"
    write_lines(tags / "TagList1k.txt", TAGS_1K)
    rows = [[int(tag in row) for tag in TAGS_1K] for row in NUS_ALL_TAGS]
    write_lines(tags / "AllTags1k.txt", ["".join(f"{v}\t" for v in row) for row in rows])
    rows_81 = np.eye(N_NUS, len(CONCEPTS), dtype=int)
    write_lines(tags / "AllTags81.txt", [" ".join(map(str, row)) for row in rows_81])
    lines = [f"{1000 + 7 * i}      {' '.join(row)} " for i, row in enumerate(NUS_ALL_TAGS)]
    write_lines(tags / "All_Tags.txt", lines)
    write_lines(tags / "Final_Tag_List.txt", [*TAGS_1K, "zz"])
    return root


def test_nus_wide_dstdh_keeps_21_concepts_and_photos_that_have_one(nus):
    data = load_nus_wide(nus, n_query=2, n_train=3)
    assert data.label_names.tolist() == CONCEPTS[:21]
    assert data.tag_names.tolist() == TAGS_1K
    # The most frequent concepts are on photos 0 to 7; the third photo stays without tags.
    assert data.images.tolist() == [
        str(nus / f"Flickr/kind{i % 3}/{i:04d}_{1000 + 7 * i}.jpg") for i in range(8)
    ]
    np.testing.assert_array_equal(data.labels.toarray(), nus_labels()[:8, :21])
    assert data.tags.tolist() == [["beach", "sea"], ["dog"], [], *[["sky"]] * 5]
    assert len(data.dropped["unlabelled"]) == 4
    assert_is_split(data, 2, 3)


def test_nus_wide_wp_keeps_all_photos_concepts_and_listed_tags(nus):
    data = load_nus_wide(nus, protocol="wp", n_query=4)
    assert data.tags.tolist() == [["beach", "sea"], ["dog"], [], *[["sky", "zz"]] * 9]
    np.testing.assert_array_equal(data.labels.toarray(), nus_labels())
    assert data.tag_names.tolist() == [*TAGS_1K, "zz"]
    assert_is_split(data, 4, 8)


def test_nus_wide_without_protocol_keeps_every_tag(nus):
    data = load_nus_wide(nus, protocol=None)
    assert data.tags.tolist() == NUS_ALL_TAGS
    assert data.tag_names.tolist() == ["beach", "dog", "nikon", "sea", "sky", "zz"]
    assert_is_split(data, 0, N_NUS)


def test_nus_wide_can_take_concept_names_as_tags(nus):
    data = load_nus_wide(nus, tags="81", drop=(), n_query=1, n_train=1)
    assert data.tags.tolist() == [[CONCEPTS[i]] for i in range(N_NUS)]
    assert len(data.label_names) == 21


def test_nus_wide_parts_may_lie_in_the_root(nus):
    expected = load_nus_wide(nus, n_query=2, n_train=3)
    for folder in ("ImageList", "ConceptsList", "NUS_WID_Tags", "Groundtruth"):
        for path in (nus / folder).iterdir():
            path.rename(nus / path.name)
        (nus / folder).rmdir()
    data = load_nus_wide(nus, n_query=2, n_train=3)
    assert data.tags.tolist() == expected.tags.tolist()
    assert (data.labels != expected.labels).nnz == 0


@pytest.mark.parametrize(
    ("lost", "protocol"),
    [
        ("ImageList/Imagelist.txt", "dstdh"),
        ("ConceptsList/Concepts81.txt", "dstdh"),
        ("Groundtruth/AllLabels/Labels_concept07.txt", "dstdh"),
        ("NUS_WID_Tags/AllTags1k.txt", "dstdh"),
        ("NUS_WID_Tags/TagList1k.txt", "dstdh"),
        ("NUS_WID_Tags/All_Tags.txt", "wp"),
        ("NUS_WID_Tags/Final_Tag_List.txt", "wp"),
        ("Flickr/kind0/0003_1021.jpg", "wp"),
    ],
)
def test_nus_wide_names_a_missing_file(nus, lost, protocol):
    (nus / lost).unlink()
    with pytest.raises(FileNotFoundError, match=lost.rpartition("/")[2].replace(".", r"\.")):
        load_nus_wide(nus, protocol=protocol, n_query=1, n_train=1)


@pytest.mark.parametrize(
    ("torn", "old", "new", "protocol", "named"),
    [
        ("Groundtruth/AllLabels/Labels_concept07.txt", "1\n", "-113\n", "dstdh", "line 1: '-113'"),
        ("Groundtruth/AllLabels/Labels_concept07.txt", "1\n", "", "dstdh", "11 lines.*12 images"),
        ("NUS_WID_Tags/AllTags1k.txt", "0\t0\t0\t1\t\n", "0\t0\t0\n", "dstdh", "line 2"),
        ("NUS_WID_Tags/AllTags1k.txt", "0\t0\t0\t1\t\n", "0\t0\t0\t2\t\n", "dstdh", "line 2"),
        ("NUS_WID_Tags/AllTags1k.txt", "0\t0\t0\t1\t\n", "", "dstdh", "11 lines.*12 images"),
        ("NUS_WID_Tags/All_Tags.txt", "1007 ", "1008 ", "wp", "line 2: image '1008'"),
        ("NUS_WID_Tags/All_Tags.txt", "1007      dog \n", "", "wp", "11 lines.*12 images"),
        ("NUS_WID_Tags/All_Tags.txt", "1007      dog \n", "\n", "wp", "line 2: image ''"),
    ],
)  # fmt: skip
def test_nus_wide_names_a_torn_file(nus, torn, old, new, protocol, named):
    text = (nus / torn).read_text()
    assert old in text
    write(nus / torn, text.replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"{torn.rpartition('/')[2]}.*{named}"):
        load_nus_wide(nus, protocol=protocol, n_query=1, n_train=1)


@pytest.mark.parametrize("name", ["..\\..\\etc\\passwd", "/etc/passwd"])
def test_nus_wide_refuses_images_outside_its_folder(nus, name):
    text = (nus / "ImageList/Imagelist.txt").read_text()
    write(nus / "ImageList/Imagelist.txt", text.replace("kind0\\0003_1021.jpg", name))
    with pytest.raises(ValueError, match=r"Imagelist\.txt: '.*etc/passwd' is not below .*Flickr"):
        load_nus_wide(nus, n_query=2, n_train=3)


# ------------------------------------------------------------------------------ tagged folder

ROWS = [
    ("a.jpg", ["beach", "café"], ["sea"]),
    ("sub/b.png", [], ["sea", "sky"]),
    ("c.jpg", ["dog"], []),
]


def write_table(path, rows=ROWS, columns=("file", "tags", "labels")):
    """A table in the format of the path's suffix; tags are lists where it has them."""
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="," if path.suffix == ".csv" else "\t")
            writer.writerow(columns)
            writer.writerows(
                [[name, ",".join(tags), ",".join(labels)] for name, tags, labels in rows]
            )
    elif path.suffix == ".parquet":
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet as pq

        pq.write_table(
            pa.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))), path
        )
    else:
        write_lines(path, [json.dumps(dict(zip(columns, row, strict=True))) for row in rows])


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for name, _, _ in ROWS:
        write_image(folder / name)
    return folder


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".CSV"])
def test_every_format_gives_the_same_images(photos, tmp_path, suffix):
    path = tmp_path / f"table{suffix.lower()}"
    write_table(path)
    path = path.rename(tmp_path / f"table{suffix}")
    data = load_tagged_images(photos, path)
    assert data.images.tolist() == [str(photos / name) for name, _, _ in ROWS]
    assert data.tags.tolist() == [tags for _, tags, _ in ROWS]
    assert data.tag_names.tolist() == ["beach", "café", "dog"]
    assert label_rows(data) == [labels for _, _, labels in ROWS]
    np.testing.assert_array_equal(
        encode_tags(data.tags).indicator.toarray(), [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    )


@pytest.mark.parametrize(
    ("cell", "separator", "expected"),
    [
        ("sea, sea ,,sky,", ",", ["sea", "sky"]),
        ("sea sky  sea", " ", ["sea", "sky"]),
        ("new york;sea", ";", ["new york", "sea"]),
        ('["new york", "a,b"]', ",", ["new york", "a,b"]),
        ("  ", ",", []),
    ],
)
def test_tags_in_a_string_are_separated_stripped_and_distinct(
    photos, tmp_path, cell, separator, expected
):
    write_lines(tmp_path / "t.jsonl", [json.dumps({"file": "a.jpg", "tags": cell})])
    data = load_tagged_images(photos, tmp_path / "t.jsonl", separator=separator)
    assert data.tags.tolist() == [expected]
    assert data.labels is None


def test_rows_may_lack_their_tags(photos, tmp_path):
    rows = [{"file": "a.jpg"}, {"file": "c.jpg", "tags": None}, {"file": "sub/b.png", "tags": "x"}]
    write_lines(tmp_path / "t.jsonl", map(json.dumps, rows))
    assert load_tagged_images(photos, tmp_path / "t.jsonl").tags.tolist() == [[], [], ["x"]]


def test_columns_are_found_by_usual_names_or_given(photos, tmp_path):
    for column in ("file", "image", "path", "filename", "file_name"):
        write_table(tmp_path / "t.csv", columns=(column, "tags", "labels"))
        assert len(load_tagged_images(photos, tmp_path / "t.csv").images) == 3
    write_table(tmp_path / "t.csv", columns=("name", "words", "truth"))
    names = {"image_column": "name", "tags_column": "words", "labels_column": "truth"}
    data = load_tagged_images(photos, tmp_path / "t.csv", **names)
    assert label_rows(data) == [labels for _, _, labels in ROWS]
    for argument, column in names.items():
        with pytest.raises(ValueError, match=f"no column 'x{column}', only.*{argument}"):
            load_tagged_images(photos, tmp_path / "t.csv", **names | {argument: f"x{column}"})


def test_images_without_a_row_are_ignored_raised_or_kept_without_tags(photos, tmp_path):
    write_table(tmp_path / "t.csv", ROWS[:1])
    lost = [str(photos / "c.jpg"), str(photos / "sub/b.png")]
    data = load_tagged_images(photos, tmp_path / "t.csv")
    assert data.images.tolist() == [str(photos / "a.jpg")]
    assert data.dropped["unlisted"].tolist() == lost
    assert "2 unlisted" in data.DESCR
    with pytest.raises(ValueError, match=r"2 images.*c\.jpg.*b\.png"):
        load_tagged_images(photos, tmp_path / "t.csv", unlisted_images="raise")
    data = load_tagged_images(photos, tmp_path / "t.csv", unlisted_images="untagged")
    assert data.images.tolist() == [str(photos / "a.jpg"), *lost]
    assert data.tags.tolist() == [ROWS[0][1], [], []]
    assert label_rows(data) == [ROWS[0][2], [], []]


def test_rows_without_an_image_are_raised_dropped_or_ignored(photos, tmp_path):
    write_table(tmp_path / "t.csv")
    (photos / "a.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 3 images.*a\.jpg"):
        load_tagged_images(photos, tmp_path / "t.csv")
    data = load_tagged_images(photos, tmp_path / "t.csv", missing_images="drop")
    assert data.tags.tolist() == [tags for _, tags, _ in ROWS[1:]]
    assert label_rows(data) == [labels for _, _, labels in ROWS[1:]]
    assert data.dropped["missing"].tolist() == [str(photos / "a.jpg")]
    assert len(load_tagged_images(photos, tmp_path / "t.csv", missing_images="ignore").images) == 3


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("t.csv", "file,tags\na.jpg,x,y\n", "line 2: 3 fields.*quote"),
        ("t.csv", "file,tags\na.jpg,x\nc.jpg\n", "line 3: 1 fields"),
        ("t.csv", 'file,tags\na.jpg,"x\n', "damaged row"),
        ("t.csv", "file,tags,tags\na.jpg,x,y\n", "two columns of the same name"),
        ("t.csv", "file,tags\na.jpg,x\n./a.jpg,y\n", r"line 3: \./a\.jpg already has line 2"),
        ("t.csv", "file,tags\n,x\n", "line 2: column 'file' names no image"),
        ("t.csv", 'file,tags\na.jpg,"[""x"", "\n', "line 2: damaged list"),
        ("t.csv", "file,tags\n", "no rows"),
        ("t.csv", "", "no rows"),
        ("t.tsv", "file\ttags\na.jpg\n", "line 2: 1 fields"),
        ("t.jsonl", '{"file": "a.jpg"}\n{"file": "c.j', "line 2: damaged row"),
        ("t.jsonl", '["a.jpg", "x"]\n', "line 1: expected an object"),
        ("t.jsonl", '{"file": "a.jpg", "tags": [1]}\n', r"line 1: expected a string.*\[1\]"),
        ("t.jsonl", '{"file": "a.jpg", "tags": 3}\n', "line 1: expected a string or a list"),
        ("t.jsonl", '{"file": 3, "tags": "x"}\n', "line 1: column 'file' names no image"),
        ("t.csv", f"file,tags\na.jpg,{'x' * 200_000}\n", "line 2: damaged row .*field limit"),
        ("t.csv", "file,tags\na.jpg,x\0y\n", "zero bytes"),
        ("t.csv", f"file,tags\na.jpg,{'[' * 100_000}\n", "line 2: damaged list"),
        ("t.csv", f"file,tags\na.jpg,[{'9' * 5000}]\n", "line 2: damaged list"),
        ("t.jsonl", f'{{"tags": {"[" * 200_000}', "line 1: damaged row"),
        ("t.jsonl", f'{{"tags": {"9" * 5000}}}', "line 1: damaged row"),
        ("t.jsonl", f'{{"file": "a.jpg", "tags": {"[" * 500 + "]" * 500}}}', "line 1: expected"),
        ("t.jsonl", '{"tags": "", "file": "a\\u0000.jpg"}', "line 1: 'a.x00.jpg' cannot be"),
        ("t.jsonl", '{"tags": "", "file": "a\\ud800.jpg"}', "line 1: 'a.ud800.jpg' cannot be"),
        ("t.csv", "file,tags\n../../etc/passwd,x\n", "line 2: '../../etc/passwd' is not below"),
        ("t.csv", "file,tags\n/etc/passwd,x\n", "line 2: '/etc/passwd' is not below"),
        ("t.csv", "file,tags\nsub/../../x.jpg,x\n", "line 2: 'sub/../../x.jpg' is not below"),
        ("t.csv", "file,tags\n.,x\n", "line 2: '.' is not below"),
        ("t.parquet", "PAR1 torn", "damaged or not Parquet"),
        ("t.xlsx", "", r"ends in one of .*\.csv"),
    ],
    ids=lambda value: value[:40],
)  # fmt: skip
def test_a_torn_table_is_named_with_the_place(photos, tmp_path, name, text, named):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    write(tmp_path / name, text)
    with pytest.raises(ValueError, match=rf"{name}.*{named}"):
        load_tagged_images(photos, tmp_path / name)


def test_a_table_in_another_encoding_is_named_with_the_remedy_that_reads_it(photos, tmp_path):
    for name in ("t.csv", "t.jsonl"):
        (tmp_path / name).write_bytes(b"file,tags\na.jpg,caf\xe9\n")
        with pytest.raises(ValueError, match=rf"{name} is not UTF-8.*'cp1252' or 'latin-1'"):
            load_tagged_images(photos, tmp_path / name)
    for encoding in ("cp1252", "latin-1"):
        data = load_tagged_images(photos, tmp_path / "t.csv", encoding=encoding)
        assert data.tags.tolist() == [["caf\xe9"]]
    with pytest.raises(ValueError, match="encoding must be one that Python knows, got 'klingon'"):
        load_tagged_images(photos, tmp_path / "t.csv", encoding="klingon")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_byte_order_marks_name_the_encoding(photos, tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    text = "file,tags\r\na.jpg,caf\xe9\r\n"
    if suffix == ".jsonl":
        text = json.dumps({"file": "a.jpg", "tags": "caf\xe9"}, ensure_ascii=False)
    for encoding in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        path.write_bytes(("\ufeff" + text).encode(encoding))
        assert load_tagged_images(photos, path).tags.tolist() == [["caf\xe9"]]
        assert load_tagged_images(photos, path, encoding=encoding).tags.tolist() == [["caf\xe9"]]
    for encoding in ("utf-16-le", "utf-16-be"):
        path.write_bytes(text.encode(encoding))
        with pytest.raises(ValueError, match=rf"t{suffix} is not UTF-8.*"):
            load_tagged_images(photos, path)
        assert load_tagged_images(photos, path, encoding=encoding).tags.tolist() == [["caf\xe9"]]
    path.write_bytes(text.replace("\xe9", "e").encode("utf-16-le"))
    with pytest.raises(ValueError, match=r"zero bytes.*encoding='utf-16-le'"):
        load_tagged_images(photos, path)


@pytest.mark.parametrize(
    "text",
    [
        "file,tags\na.jpg,sea\nc.jpg,sky\n",
        "file;tags\na.jpg;sea\nc.jpg;sky\n",
        "file\ttags\na.jpg\tsea\nc.jpg\tsky\n",
        # As Excel writes it: a mark, quotes, delimiters behind the last column, empty rows.
        '\ufeff"file";tags;;\r\na.jpg;"sea";;\r\nc.jpg;sky;;\r\n;;;\r\n\r\n',
        "sep=;\r\nfile;tags\r\na.jpg;sea\r\nc.jpg;sky\r\n",
        "sep=\t\nfile\ttags\na.jpg\tsea\nc.jpg\tsky\n",
        # Other delimiters in the fields, and in the names of columns.
        'file,"a;b",tags\na.jpg,"1;2;3",sea\nc.jpg,x,sky\n',
        'file;tags;"note, more"\na.jpg;sea;"1,2"\nc.jpg;sky;x,y,z\n',
        "file;tags;note, more\na.jpg;sea;1,2,3\nc.jpg;sky;none\n",
        'file,tags,note\na.jpg,sea,"several\nlines; of text"\nc.jpg,sky,\n',
        " file , tags \na.jpg,sea\nc.jpg,sky\n",
    ],
)
def test_the_delimiter_of_a_table_is_found_out(photos, tmp_path, text):
    (tmp_path / "t.csv").write_bytes(text.encode())
    data = load_tagged_images(photos, tmp_path / "t.csv")
    assert data.images.tolist() == [str(photos / name) for name in ("a.jpg", "c.jpg")]
    assert data.tags.tolist() == [["sea"], ["sky"]]


def test_a_delimiter_in_doubt_is_asked_for_as_excel_is_given_it(photos, tmp_path):
    text = "file,x;tags\na.jpg,x;sea\n"
    write(tmp_path / "t.csv", text)
    with pytest.raises(ValueError, match=r"t\.csv may have.*',' or ';'.*'sep=;'"):
        load_tagged_images(photos, tmp_path / "t.csv")
    write(tmp_path / "t.csv", "sep=,\n" + text)
    with pytest.raises(ValueError, match=r"no column 'tags'.*only \['file', 'x;tags'\]"):
        load_tagged_images(photos, tmp_path / "t.csv")


def test_a_line_is_counted_as_an_editor_counts_it(photos, tmp_path):
    write(tmp_path / "t.csv", "sep=;\nfile;tags\na.jpg;x;y\n")
    with pytest.raises(ValueError, match="line 3: 3 fields"):
        load_tagged_images(photos, tmp_path / "t.csv")
    write(tmp_path / "t.csv", "file;tags;\na.jpg;x;lost\n")
    with pytest.raises(ValueError, match="line 2: a field of a column without a name"):
        load_tagged_images(photos, tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("image", "tags"),
    [
        ("FileName", "Keywords"),
        ("File name", "TAGS"),
        ("SourceFile", "Subject"),
        ("image_path", "keyword"),
        ("Photo", "Tag"),
    ],
)
def test_usual_names_of_columns_are_found_in_any_case(photos, tmp_path, image, tags):
    write(tmp_path / "t.csv", f"{image},{tags},Labels\na.jpg,sea,truth\n")
    data = load_tagged_images(photos, tmp_path / "t.csv")
    assert data.tags.tolist() == [["sea"]]
    assert data.label_names.tolist() == ["truth"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_of_a_damaged_table_only_an_error_that_names_it_comes_out(photos, tmp_path, rng, suffix):
    path = tmp_path / f"table{suffix}"
    write_table(path)
    whole = path.read_bytes()
    n_refused = 0
    for trial in range(200):
        content = bytearray(whole)
        if suffix != ".parquet":  # which is up to pyarrow
            for place in rng.integers(len(whole), size=1 + trial % 4):
                content[place] = rng.integers(256)
        path.write_bytes(content[: None if trial % 3 else rng.integers(len(whole))])
        try:
            load_tagged_images(photos, path, missing_images="ignore")
        except (ValueError, OSError) as error:
            n_refused += 1
            assert path.name in str(error)
    assert n_refused > 30


def test_absolute_names_below_the_folder_are_the_same_images(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [(str(photos / name), tags, labels) for name, tags, labels in ROWS]
    write_table(tmp_path / "t.csv", rows)
    data = load_tagged_images("photos", tmp_path / "t.csv", unlisted_images="raise")
    assert data.images.tolist() == [os.path.join("photos", name) for name, _, _ in ROWS]


def test_links_out_of_the_folder_are_refused_unless_on_purpose(photos, tmp_path):
    write_image(tmp_path / "elsewhere/secret.jpg")
    write_table(tmp_path / "t.csv", ROWS[:1])
    (photos / "inside.jpg").symlink_to("c.jpg")
    (photos / "link.jpg").symlink_to(tmp_path / "elsewhere/secret.jpg")
    (photos / "folder").symlink_to(tmp_path / "elsewhere")
    (photos / "again").symlink_to(photos)
    # Images of the folder that have no row: those that links lead to elsewhere are none of it.
    kept = load_tagged_images(photos, tmp_path / "t.csv").dropped["unlisted"].tolist()
    assert kept == [str(photos / name) for name in ("c.jpg", "inside.jpg", "sub/b.png")]
    followed = load_tagged_images(photos, tmp_path / "t.csv", follow_links=True)
    linked = [str(photos / name) for name in ("folder/secret.jpg", "link.jpg")]
    assert sorted(followed.dropped["unlisted"]) == sorted(kept + linked)
    for name in ("link.jpg", "folder/secret.jpg", "again/link.jpg"):
        write(tmp_path / "t.csv", f"file,tags\na.jpg,x\n{name},y\n")
        for missing_images in ("raise", "ignore"):
            with pytest.raises(ValueError, match=rf"links lead out of .* at 1 images: .*{name}"):
                load_tagged_images(photos, tmp_path / "t.csv", missing_images=missing_images)
        data = load_tagged_images(photos, tmp_path / "t.csv", follow_links=True)
        assert data.images[1] == str(photos / name)
    write(tmp_path / "t.csv", "file,tags\ninside.jpg,y\n")
    assert load_tagged_images(photos, tmp_path / "t.csv").tags.tolist() == [["y"]]


def test_subfolders_that_cannot_be_read_are_not_left_out(photos, tmp_path, close_folder):
    write_table(tmp_path / "t.csv")
    close_folder("sub")
    with pytest.raises(PermissionError, match="sub"):
        load_tagged_images(photos, tmp_path / "t.csv", unlisted_images="untagged")


def test_what_is_no_file_is_no_image_whatever_its_name(photos, tmp_path):
    write_table(tmp_path / "t.csv")
    (photos / "folder.jpg").mkdir()
    os.mkfifo(photos / "pipe.jpg")
    (photos / "circle.jpg").symlink_to("circle.jpg")
    data = load_tagged_images(photos, tmp_path / "t.csv", unlisted_images="untagged")
    assert data.images.tolist() == [str(photos / name) for name, _, _ in ROWS]
    for name in ("folder.jpg", "pipe.jpg", "circle.jpg"):
        write(tmp_path / "t.csv", f"file,tags\n{name},x\n")
        with pytest.raises(FileNotFoundError, match=re.escape(name)):
            load_tagged_images(photos, tmp_path / "t.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(FileNotFoundError, match=r"pipe\.csv"):
        load_tagged_images(photos, tmp_path / "pipe.csv")


def test_a_missing_folder_or_table_is_named(photos, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_tagged_images(tmp_path / "nowhere", tmp_path / "t.csv")
    with pytest.raises(FileNotFoundError, match=r"t\.csv"):
        load_tagged_images(photos, tmp_path / "t.csv")


def test_parquet_without_pyarrow_says_what_to_install(photos, tmp_path, monkeypatch):
    write(tmp_path / "t.parquet", "")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match="pip install pyarrow"):
        load_tagged_images(photos, tmp_path / "t.parquet")
