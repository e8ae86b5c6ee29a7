"""The main job, and the README's promises about it."""

import csv
import importlib.util
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from PIL import Image

from skhash.datasets import make_social_images
from skhash.images import ImageReadError

matplotlib.use("Agg")

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "plot_social_image_search.py"
METHODS = {"LSH", "PCAH", "ITQ", "TagITQ", "DSTDHLinear"}


@pytest.fixture
def run(tmp_path, capsys):
    """Run the script; return what it prints, the rows of its table, and the path of its figure."""
    spec = importlib.util.spec_from_file_location("main_job", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    def run(*arguments):
        figure = tmp_path / "new" / "figure.png"
        # Small images, for speed; arguments may name another size.
        script.main(["--image-size", "64", *map(str, arguments), "--output", str(figure)])
        printed = capsys.readouterr().out
        assert str(figure) in printed
        lines = printed[printed.index("MAP") :].splitlines()
        table = {line.split()[0]: line.split()[1:] for line in lines[:-1]}
        return SimpleNamespace(printed=printed, table=table, figure=figure)

    yield run
    matplotlib.pyplot.close("all")


@pytest.fixture
def folder(tmp_path):
    """A folder of 60 photos in several modes and sizes, and what to write in a table of them."""
    photos = make_social_images(60, random_state=1)
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    rows = []
    for i, (pixels, tags) in enumerate(zip(photos.images, photos.tags, strict=True)):
        name = f"more/{i}.png" if i % 7 == 0 else f"{i}.png"
        image = Image.fromarray(pixels).convert(("RGB", "L", "RGBA", "P")[i % 4])
        image.resize((40 + i, 90)).save(folder / name)
        rows.append({"file": name, "tags": ",".join([*tags, "photo"])})
    return folder, rows


def write_table(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def is_a_picture(path):
    with Image.open(path) as image:
        return min(image.size) > 300 and np.asarray(image).std() > 5


def test_it_compares_all_hashers_with_chance_and_draws_a_picture(run):
    result = run("--n-images", 400, "--bits", 16, 8)

    assert result.table.pop("MAP") == ["8", "bits", "16", "bits"]
    scores = {name: np.array(row, float) for name, row in result.table.items()}
    chance = scores.pop("chance")
    assert set(scores) == METHODS
    assert chance[0] == chance[1]
    for name, score in scores.items():
        assert (score > chance).all(), name
        assert (score < 1).all(), name
    assert scores["DSTDHLinear"][1] > scores["ITQ"][1]
    assert is_a_picture(result.figure)
    assert any((result.figure.parent / "features").iterdir())


def test_it_can_do_without_a_network(run):
    result = run("--n-images", 200, "--bits", 16, "--backbone", "histograms")

    assert float(result.table["DSTDHLinear"][0]) > float(result.table["chance"][0])
    assert not (result.figure.parent / "features").exists()


def test_a_seed_repeats_it_and_another_seed_does_not(run):
    arguments = ["--n-images", 60, "--bits", 8]

    first = run(*arguments, "--seed", 1).table

    assert run(*arguments, "--seed", 1).table == first
    assert run(*arguments, "--seed", 2).table != first


def test_in_ones_own_folder_a_shared_tag_is_relevant(run, folder, tmp_path):
    photos, rows = folder  # which all have the tag "photo" in common
    table = write_table(tmp_path / "tags.csv", rows)

    result = run("--images", photos, "--tags", table, "--bits", 8)

    assert "10 queries, 50 photos" in result.printed
    assert set(result.table) == METHODS | {"chance", "MAP"}
    assert result.table["chance"] == result.table["DSTDHLinear"] == ["1.000"]
    assert is_a_picture(result.figure)


def test_in_ones_own_folder_a_shared_label_is_relevant_if_there_are_labels(run, folder, tmp_path):
    photos, rows = folder
    rows = [row | {"labels": f"only {i}"} for i, row in enumerate(rows)]
    table = write_table(tmp_path / "tags.csv", rows)

    result = run("--images", photos, "--tags", table, "--bits", 8, "--n-images", 48)

    assert "8 queries, 40 photos" in result.printed
    assert result.table["chance"] == result.table["DSTDHLinear"] == ["0.000"]


def test_photos_that_carry_keywords_need_no_table(run, folder):
    photos, rows = folder
    packet = (
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag>'
        "<rdf:li>photo</rdf:li><rdf:li>{}</rdf:li></rdf:Bag></dc:subject></rdf:Description></rdf:RDF>"
    )
    for i, row in enumerate(rows):
        (photos / row["file"]).with_suffix(".xmp").write_text(packet.format(i % 7))

    result = run("--images", photos, "--bits", 8, "--backbone", "histograms")

    assert "10 queries, 50 photos" in result.printed
    assert result.table["chance"] == ["1.000"]


def test_another_backbone_gives_the_features_and_keeps_them(run, folder, tmp_path):
    import torch

    from skhash.networks._torchvision import models

    photos, rows = folder
    table = write_table(tmp_path / "tags.csv", rows)
    torch.manual_seed(0)
    weights = tmp_path / "weights.pth"
    torch.save(models.squeezenet1_1(weights=None).state_dict(), weights)
    own = ["--images", photos, "--tags", table, "--bits", 8, "--n-images", 24]
    network = ["--backbone", "squeezenet1_1", "--weights", weights, "--image-size", 64]

    result = run(*own, *network)

    assert set(result.table) == METHODS | {"chance", "MAP"}
    assert any((result.figure.parent / "features").iterdir())
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        run(*own, *network, "--weights", tmp_path / "none.pth")


def test_a_torn_photo_is_named(run, folder, tmp_path):
    photos, rows = folder
    torn = photos / rows[3]["file"]
    torn.write_bytes(torn.read_bytes()[:200])

    with pytest.raises(ImageReadError, match=re.escape(f"cannot read image '{torn}'")):
        run("--images", photos, "--tags", write_table(tmp_path / "tags.csv", rows), "--bits", 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tags", "tags.csv"], "--tags is a table of the tags of --images"),
        (["--n-images", "5"], "--n-images must be at least 12"),
    ],
)
def test_arguments_that_cannot_work_are_refused(run, capsys, arguments, message):
    with pytest.raises(SystemExit):
        run(*arguments)
    assert message in capsys.readouterr().err


def blocks(language):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)


def test_the_two_commands_of_the_readme_are_what_ci_runs():
    commands = [block.strip() for block in blocks("sh")[:2]]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()

    assert [line for line in ci if line in commands] == commands
    targets = [shlex.split(command)[1] for command in commands]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    assert SCRIPT.name in makefile


def test_the_readme_in_python_runs():
    (code,) = blocks("python")
    names = {}

    exec(compile(code, "README.md", "exec"), names)

    assert names["codes"].shape == (1000, 64)
    (similar,), (distances,) = names["similar"], names["distances"]
    apart = (names["codes"] != names["codes"][0]).sum(axis=1)
    np.testing.assert_array_equal(distances, np.sort(apart)[:10])  # the first is that of itself
    np.testing.assert_array_equal(apart[similar], distances)
    assert len(set(similar)) == 10
