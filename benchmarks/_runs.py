"""Runs that are kept on disk, so that an interrupted benchmark goes on, and tables of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

CACHE = Path(__file__).parent / "cache"


class Runs:
    """Results of runs by key, appended to a file of JSON lines as they come.

    Parameters
    ----------
    name : str
        Name of the file in ``benchmarks/cache``. Delete it to run everything anew.
    """

    def __init__(self, name: str) -> None:
        self.path = CACHE / f"{name}.jsonl"
        self.results: dict[tuple[Any, ...], dict[str, Any]] = {}
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                record = json.loads(line)
                self.results[tuple(record["key"])] = record["result"]

    def add(self, key: tuple[Any, ...], result: dict[str, Any]) -> None:
        """Keep the result of a run and print it."""
        self.results[key] = result
        CACHE.mkdir(exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps({"key": key, "result": result}) + "\n")
        print(*key, result, flush=True)


def mean_and_spread(values: Iterable[float]) -> str:
    """``mean ± standard deviation`` with four decimals; the mean alone if all are the same."""
    values = np.asarray(list(values))
    if np.ptp(values) == 0:
        return f"{values[0]:.4f}"
    return f"{values.mean():.4f} ± {values.std(ddof=1):.4f}"


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, columns padded."""
    cells = [header, *rows]
    widths = [max(len(row[j]) for row in cells) for j in range(len(header))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)
