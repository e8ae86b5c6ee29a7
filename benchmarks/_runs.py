"""Runs that are kept on disk, so that an interrupted benchmark goes on, and tables of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

Task = tuple[Any, ...]

CACHE = Path(os.environ.get("SKHASH_BENCHMARK_CACHE", Path(__file__).parent / "cache"))


class Runs:
    """Results of runs by key, appended to a file of JSON lines as they come.

    Parameters
    ----------
    name : str
        Name of the file in ``benchmarks/cache``, or the folder that the environment variable
        SKHASH_BENCHMARK_CACHE names. Delete it to run everything anew.
    """

    def __init__(self, name: str) -> None:
        self.path = CACHE / f"{name}.jsonl"
        self.results: dict[tuple[Any, ...], dict[str, Any]] = {}
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                record = json.loads(line)
                self.results[tuple(record["key"])] = record["result"]

    def add(self, key: tuple[Any, ...], result: dict[str, Any]) -> None:
        """Keep the result of a run and print its numbers."""
        self.results[key] = result
        CACHE.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps({"key": key, "result": result}) + "\n")
        numbers = {k: v for k, v in result.items() if not isinstance(v, list)}
        print(*key, numbers, flush=True)

    def complete(
        self, tasks: Iterable[Task], run: Callable[..., dict[str, Any]], *args: Any, jobs: int = 1
    ) -> None:
        """Run the tasks that are not kept yet, ``jobs`` at a time: ``run(task, *args)``."""
        missing = [task for task in tasks if task not in self.results]
        results = Parallel(jobs, return_as="generator")(
            delayed(run)(task, *args) for task in missing
        )
        for task, result in zip(missing, results, strict=True):
            self.add(task, result)


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


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure of matplotlib to a file, and say so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"\nFigure: {path}")
