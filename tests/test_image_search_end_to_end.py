"""A user's day with real photos: every command in a process of its own, checked from Python."""

import csv
import json
import struct
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from skhash import ImageSearch
from skhash.codes import pack

pytestmark = pytest.mark.slow

N, N_LATER, N_ODD_TAGS = 600, 40, 12
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag>%s</rdf:Bag>'
    b"</dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
)


def run(*arguments, code=0):
    """Run a command; its answer, and what it says besides."""
    done = subprocess.run(
        [sys.executable, "-m", "skhash", *map(str, arguments), "--json"],
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if done.stdout else None, done.stderr


@pytest.fixture(scope="module")
def day(real_data, tmp_path_factory):
    """600 photos with tags, odd ones among them, and 40 that come later."""
    source = real_data / "mirflickr25k"
    names = (source / "images.txt").read_text().split()
    lines = (source / "tags.txt").read_text(encoding="utf-8").splitlines()
    truth = np.loadtxt(source / "labels24.txt", dtype=bool)
    label_names = (source / "label_names24.txt").read_text().split()
    rows = np.random.default_rng(0).permutation(len(names))[: N + N_LATER]

    root = tmp_path_factory.mktemp("day")
    photos, later = root / "Fotos für alle", root / "later"
    (photos / "été").mkdir(parents=True)
    later.mkdir()
    tags, labels = {}, {}
    for i, row in enumerate(rows):
        content = (source / "images" / names[row]).read_bytes()
        name = f"été/写真 {i}.jpg" if i % 7 == 0 else names[row]
        tags[name] = lines[row].split(",") if lines[row] else []
        labels[name] = [label_names[column] for column in np.flatnonzero(truth[row])]
        (photos / name if i < N else later / names[row]).write_bytes(content)
        if i >= N:
            tags[names[row]], labels[names[row]] = tags.pop(name), labels.pop(name)
    first = [name for name in tags if (photos / name).exists()]
    for name in first[:N_ODD_TAGS]:
        tags[name] = []
    for name in first[N_ODD_TAGS : 2 * N_ODD_TAGS]:
        tags[name] = [*tags[name], "москва", "plage d'été"]

    odd = {"torn.jpg", "dot.png", "clear.png", "deep.png", "cmyk.jpg", "turned.png"}
    image = Image.open(photos / first[100]).convert("RGB")
    content = (photos / first[101]).read_bytes()
    (photos / "torn.jpg").write_bytes(content[: len(content) // 2])
    Image.new("RGB", (1, 1), "red").save(photos / "dot.png")
    clear = image.copy()
    clear.putalpha(Image.linear_gradient("L").resize(image.size))
    clear.save(photos / "clear.png")
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(
        photos / "deep.png"
    )
    image.convert("CMYK").save(photos / "cmyk.jpg", quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(photos / "turned.png", exif=exif)
    for name in odd:
        tags[name] = ["odd"]

    rows_of_table = {name: row for name, row in tags.items() if (photos / name).exists()}
    rows_of_table |= {"gone.jpg": ["sky"], "été/gone.jpg": []}
    write(root / "tags.csv", "tags", rows_of_table)
    write(root / "labels.csv", "labels", labels)
    return SimpleNamespace(
        root=root,
        photos=photos,
        later=later,
        index=root / "mein Index",
        cache=root / "cache",
        tags=tags,
        labels=labels,
        first=first,
        upright=first[100],
    )


def write(path, column, words):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [["file", column], *([name, ",".join(row)] for name, row in words.items())]
        )


@pytest.fixture(scope="module")
def fitted(day):
    """What fit printed."""
    table = ["--tags", day.root / "tags.csv"]
    answer, _ = run("fit", day.photos, *table, "--out", day.index, "--cache", day.cache)
    later, _ = run("add", day.index, day.later, "--cache", day.cache)
    return answer, later


def by_sight(search, files):
    return pack(search.hasher_.transform([str(file) for file in files]))


def test_all_photos_are_there_but_those_that_cannot_be_read(day, fitted):
    answer, later = fitted
    assert [photo["photo"] for photo in answer["skipped"]] == ["torn.jpg"]
    assert "torn.jpg" in answer["skipped"][0]["reason"]
    assert sorted(answer["missing"]) == ["gone.jpg", "été/gone.jpg"]
    assert answer["n_photos"] == N + 5
    assert (later["n_added"], later["n_photos"]) == (N_LATER, N + 5 + N_LATER)

    search = ImageSearch.load(day.index)
    assert {*search.ids_} == {*day.tags} - {"torn.jpg"}
    for name in (*day.first, "clear.png", "turned.png"):
        assert set(search.tags_of(name)[0]) == set(day.tags[name])
    # Photos without tags have the code of what is to be seen; those that came later, too.
    files = [day.photos / name for name in day.first[:N_ODD_TAGS]] + sorted(day.later.iterdir())
    names = day.first[:N_ODD_TAGS] + [file.name for file in sorted(day.later.iterdir())]
    rows = search.photos_.rows(np.array(names, object))
    np.testing.assert_array_equal(search.photos_.codes[rows], by_sight(search, files))
    # A photo that its EXIF data turns is as it is seen.
    turned, upright = by_sight(search, [day.photos / "turned.png", day.photos / day.upright])
    assert np.unpackbits(turned ^ upright).sum() <= 1


def test_photos_find_photos(day, fitted):
    late = sorted(day.later.iterdir())[:10]
    answers, _ = run("search", day.index, *late, "-n", 5)
    for file, answer in zip(late, answers, strict=True):
        assert answer["found"][0]["distance"] == 0
        assert file.name in {hit["id"] for hit in answer["found"] if hit["distance"] == 0}

    measured, _ = run("evaluate", day.index, "--labels", day.root / "labels.csv")
    assert measured["n_photos"] + measured["n_without_labels"] == N + 5 + N_LATER
    assert measured["n_without_labels"] == 5
    assert measured["map"] > measured["chance_map"] + 0.08
    assert measured["precision_at_10"] > measured["chance_precision_at_10"] + 0.15


def test_words_find_photos_that_show_them(day, fitted):
    words = ["sky", "flower", "night", "portrait", "tree", "water", "clouds", "sea"]
    known = set(ImageSearch.load(day.index).words_)
    words = [
        word for word in words if word in known and any(word in x for x in day.labels.values())
    ]
    assert len(words) >= 4
    answers, _ = run("words", day.index, *words, "-n", 10)
    precision, chance = [], []
    for word, answer in zip(words, answers, strict=True):
        shown = [word in day.labels.get(hit["id"], ()) for hit in answer["found"]]
        precision.append(np.mean(shown))
        chance.append(np.mean([word in row for row in day.labels.values()]))
    assert np.mean(precision) > 2 * np.mean(chance)
    answers, _ = run("words", day.index, "москва", "--having", "plage d'été")
    assert len(answers[0]["found"]) == 10
    assert all("plage d'été" in hit["tags"] for hit in answers[0]["found"])


def test_suggested_tags_are_more_often_right_than_frequent_ones(day, fitted):
    files = sorted(day.later.iterdir())
    answers, _ = run("tags", day.index, *files)
    own = [set(day.tags[file.name]) for file in files]
    counts: dict[str, int] = {}
    for name in day.first:
        for tag in day.tags[name]:
            counts[tag] = counts.get(tag, 0) + 1
    frequent = set(sorted(counts, key=counts.__getitem__)[-5:])
    suggested = [{one["tag"] for one in answer["tags"]} for answer in answers]
    n_right = sum(len(a & b) for a, b in zip(suggested, own, strict=True))
    assert n_right > sum(len(frequent & b) for b in own)


def test_photos_go_and_come_back(day, fitted):
    names = [day.first[0], "turned.png"]
    run("remove", day.index, *names)
    with_less = ImageSearch.load(day.index)
    assert not any(name in with_less for name in names)
    answer, _ = run(
        *("add", day.index, day.photos, "--tags", day.root / "tags.csv", "--cache", day.cache)
    )
    assert answer["n_added"] == 2
    assert [photo["photo"] for photo in answer["skipped"]] == ["torn.jpg"]
    assert set(names) < set(ImageSearch.load(day.index).ids_)


def test_photos_that_carry_their_keywords_need_no_table(day, tmp_path):
    folder = tmp_path / "keywords"
    folder.mkdir()
    names = [name for name in day.first[2 * N_ODD_TAGS :] if len(day.tags[name]) > 1][:60]
    for name in names:
        xmp = b"".join(f"<rdf:li>{tag}</rdf:li>".encode() for tag in day.tags[name])
        segment = b"http://ns.adobe.com/xap/1.0/\0" + XMP % xmp
        content = (day.photos / name).read_bytes()
        app1 = b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
        (folder / name.replace("/", "-")).write_bytes(content[:2] + app1 + content[2:])

    run("fit", folder, "--out", tmp_path / "index", "--bits", 16)

    search = ImageSearch.load(tmp_path / "index")
    assert len(search) == len(names)
    for name in names:
        assert set(search.tags_of(name.replace("/", "-"))[0]) == set(day.tags[name])
    (answer,), _ = run("words", tmp_path / "index", search.words_[0])
    assert len(answer["found"]) == 10
