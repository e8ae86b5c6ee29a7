"""The command line on a whole collection: time and memory of each command, in one process each.

python benchmarks/command_line.py                # the 20,015 photos of MIR Flickr
python benchmarks/command_line.py --n-photos 600
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

COLLECTION = Path("mirflickr25k")


def measure(name: str, *arguments: object) -> None:
    """Run a command, and print its time and memory."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "skhash", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    assert process.returncode == 0, name
    unit = 1024 if sys.platform == "linux" else 1
    print(
        f"| {name} | {seconds:.1f} | {usage.ru_utime + usage.ru_stime:.1f} "
        f"| {usage.ru_maxrss * unit / 2**20:.0f} |",
        flush=True,
    )
    print(printed, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).parents[2] / "shared" / "data"
    data = Path(os.environ.get("SKHASH_DATA", default)) / COLLECTION
    parser.add_argument("--n-photos", type=int, help="draw so many (default: all)")
    parser.add_argument("--fit", nargs=argparse.REMAINDER, default=[], help="options of fit")
    args = parser.parse_args()

    names = (data / "images.txt").read_text().split()
    tags = (data / "tags.txt").read_text(encoding="utf-8").splitlines()
    labels = np.loadtxt(data / "labels24.txt", dtype=bool)
    label_names = np.array((data / "label_names24.txt").read_text().split())
    rows = np.random.default_rng(0).permutation(len(names))[: args.n_photos]
    with tempfile.TemporaryDirectory() as scratch:
        folder, table, truth = (
            Path(scratch) / name for name in ("search", "tags.csv", "truth.csv")
        )
        with table.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(
                [["file", "tags"], *([names[row], tags[row]] for row in rows)]
            )
        with truth.open("w", newline="") as file:
            shown = ([names[row], ",".join(label_names[labels[row]])] for row in rows)
            csv.writer(file).writerows([["file", "labels"], *shown])
        photos = data / "images"
        if args.n_photos:  # photos of the folder that have no row would be indexed, too
            photos = Path(scratch) / "photos"
            photos.mkdir()
            for row in rows:
                (photos / names[row]).write_bytes((data / "images" / names[row]).read_bytes())

        print("| command | seconds | CPU seconds | MiB at most |\n|---|---|---|---|")
        measure("fit", "fit", photos, "--tags", table, "--out", folder, "-v", *args.fit)
        measure("search", "search", folder, photos / names[rows[0]])
        measure("words", "words", folder, "sunset beach")
        measure("tags", "tags", folder, photos / names[rows[0]])
        measure("remove", "remove", folder, names[rows[1]])
        measure("add", "add", folder, photos, "--tags", table)
        measure("evaluate", "evaluate", folder, "--labels", truth)
        measure("info", "info", folder)


if __name__ == "__main__":
    main()
