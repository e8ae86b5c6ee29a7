"""Images a second by each engine, in memory and from large JPEG files; and the start without torch.

    python benchmarks/bench_engines.py
    python benchmarks/bench_engines.py --photos 16 --repeats 3 --networks efficientnet_lite0

Each network runs on one core, by ``ImageFeatures.transform``; engines alternate, and each is
compared with torch's eager mode of the same round, medians and extremes over the rounds. Seconds
are those of the processor, which a busy machine blurs less than those of the clock.

"12 MP" are JPEG files of 4,000 x 3,000 pixels, enlarged from the photos, with grain, so that there
is something to decode; "whole" decodes all pixels of a JPEG in place of a fraction of its width and
height, as :func:`skhash.images.read_image` does. Enlarged photos say what decoding costs, and not
what finer detail would change.

The second table has the first photo of a process: by a hasher that skhash has loaded, and by its
ONNX model and the recipe of the user guide, without torch.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import _mirflickr
import numpy as np
import torch
from _runs import markdown_table
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin
from sklearn.pipeline import make_pipeline

import skhash
from skhash import ITQ, LSH, ImageFeatures
from skhash.datasets import make_social_images
from skhash.images import read_image

SIZES = {"efficientnet_lite0": 224, "vgg16": 128}
ENGINES: dict[str, dict[str, Any]] = {
    "torch": {},
    "torch, bf16, channels last": {"amp": True},
    "onnxruntime": {"engine": "onnxruntime"},
    "openvino": {"engine": "openvino"},
    "openvino, bf16": {"engine": "openvino", "amp": True},
}
LARGE = 4000, 3000
GRAIN = 3.0
GUIDE = Path(__file__).parents[1] / "docs" / "user_guide" / "persistence.rst"
COUNTED = """
import time, resource
start = time.perf_counter()
{code}
seconds = time.perf_counter() - start
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def photos(n: int) -> list[Any]:
    """Files of MIR Flickr, or rendered images where it is not at hand."""
    if _mirflickr.FOLDER.is_dir():
        return list(_mirflickr.load("test").images[:n])
    return list(make_social_images(n, image_size=128, random_state=0).images)


def enlarge(images: list[Any], folder: Path) -> list[Path]:
    """JPEG files of 12 megapixels."""
    rng, files = np.random.default_rng(0), []
    for i, image in enumerate(images):
        pixels = Image.fromarray(read_image(image, 128)).resize(LARGE, Image.Resampling.BICUBIC)
        grain = rng.normal(0, GRAIN, LARGE[::-1])[..., None]
        noisy = np.clip(np.asarray(pixels) + grain, 0, 255).astype(np.uint8)
        files.append(folder / f"{i}.jpg")
        Image.fromarray(noisy).save(files[-1], quality=88)
    return files


def seconds(run: Callable[[], Any]) -> float:
    """Of the processor."""
    start = time.process_time()
    run()
    return time.process_time() - start


def compare(runs: dict[str, Callable[[], Any]], n_images: int, repeats: int) -> list[list[str]]:
    """Rows of a table: images a second, and their ratio to the first, median [least, most]."""
    for run in runs.values():
        run()  # compiles, warms up
    spent = np.array([[seconds(run) for run in runs.values()] for _ in range(repeats)])
    ratios = spent[:, :1] / spent
    return [
        [
            name,
            f"{n_images / np.median(spent[:, i]):.1f}",
            f"{np.median(ratios[:, i]):.2f} [{ratios[:, i].min():.2f}, {ratios[:, i].max():.2f}]",
        ]
        for i, name in enumerate(runs)
    ]


def engine_table(network: str, files: list[Path], small: list[Any], args: Any) -> None:
    """Print the speeds of a network's engines, and how far they agree."""
    size = SIZES[network]
    weights: Any = "DEFAULT"
    if network == "vgg16":
        weights = str(_mirflickr.WEIGHTS) if _mirflickr.WEIGHTS.exists() else None
    model = ImageFeatures(network, weights=weights, image_size=size, random_state=0).fit(small)
    images = np.stack([read_image(image, size, interpolation="bicubic") for image in small])

    def encoder(X: Any, params: dict[str, Any], whole: bool = False) -> Callable[[], Any]:
        def run() -> NDArray[Any]:
            model.set_params(**{"engine": "torch", "amp": False, **params})
            if not whole:
                return model.transform(X)
            with mock.patch.object(JpegImagePlugin.JpegImageFile, "draft"):
                return model.transform(X)

        return run

    title = f"{network}, {size} px, images/s"
    rows = compare(
        {name: encoder(images, p) for name, p in ENGINES.items()}, len(images), args.repeats
    )
    print(markdown_table([title, "in memory", "ratio"], rows), "\n", flush=True)
    runs = {"torch, whole": encoder(files, {}, whole=True)}
    runs |= {name: encoder(files, p) for name, p in ENGINES.items()}
    rows = compare(runs, len(files), args.repeats)
    print(markdown_table([title, "12 MP", "ratio"], rows), "\n", flush=True)
    exact = encoder(images, {})()
    # Random projections: unlike learned ones they do not keep so few photos off the thresholds.
    hasher = LSH(1024, random_state=0).fit(exact)
    codes = hasher.transform(exact)
    rows = []
    for name, params in ENGINES.items():
        features = encoder(images, params)()
        off = np.abs(features - exact).max() / np.abs(exact).max()
        rows.append([name, f"{off:.1e}", f"{(hasher.transform(features) != codes).mean():.2%}"])
    drafted, whole = (encoder(files, {}, whole=whole)() for whole in (False, True))
    changed = (hasher.transform(drafted) != hasher.transform(whole)).mean()
    off = np.abs(drafted - whole).max() / np.abs(whole).max()
    rows.append(["torch, 12 MP: a fraction of the pixels for all", f"{off:.1e}", f"{changed:.2%}"])
    print(markdown_table([network, "features off by", "bits that differ"], rows), "\n")


def start_table(image: Any, folder: Path, repeats: int) -> None:
    """Print seconds and memory of a process that encodes one photo."""
    photo = folder / "photo.jpg"
    Image.fromarray(read_image(image, 128)).save(photo)
    model = ImageFeatures("efficientnet_lite0")
    images = make_social_images(64, image_size=64, random_state=0).images
    hasher = make_pipeline(model, ITQ(64, random_state=0)).fit(images)
    skhash.save(hasher, folder / "hasher.skhash")
    skhash.to_onnx(hasher, folder / "hasher.onnx")
    recipe = GUIDE.read_text().split(".. recipe")[1].split("::\n", 1)[1]
    lines = []
    for line in recipe.splitlines():
        if line and not line.startswith("    "):
            break
        lines.append(line[4:])
    programs = {
        "skhash, torch": 'import skhash\nskhash.load("hasher.skhash").transform(["photo.jpg"])',
        "ONNX model, without torch": "\n".join([*lines, 'encode(open("photo.jpg", "rb").read())']),
    }
    environment = {**os.environ, "PYTHONPATH": str(Path(skhash.__file__).parents[1])}
    rows = []
    for name, code in programs.items():
        found = []
        for _ in range(repeats):
            printed = subprocess.run(
                [sys.executable, "-c", COUNTED.format(code=code)],
                cwd=folder,
                env=environment,
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            found.append([float(number) for number in printed.split()])
        best = np.min(found, axis=0)
        rows.append([name, f"{best[0]:.2f}", f"{best[1]:.0f}"])
    print(markdown_table(["first code of a process", "seconds (least)", "MiB"], rows))


def main() -> None:
    """Measure, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--photos", type=int, default=32)
    parser.add_argument("--large", type=int, default=8, help="photos of 12 megapixels")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()

    warnings.filterwarnings("ignore", r"\d+ of \d+ bits are constant")  # of so few photos
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    small = photos(args.photos)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = enlarge(small[: args.large], folder)
        size = np.mean([file.stat().st_size for file in files]) / 1e6
        print(f"one core; {len(small)} photos, {len(files)} of 12 MP ({size:.1f} MB each)\n")
        for network in args.networks:
            engine_table(network, files, small, args)
        start_table(small[0], folder, args.repeats)


if __name__ == "__main__":
    main()
