"""What users hand in, and what happens to their files, as hypothesis draws it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

# A few examples in every run; many of them with `-m slow`.
with_effort = pytest.mark.parametrize(
    "effort", [pytest.param(1, id="short"), pytest.param(10, id="long", marks=pytest.mark.slow)]
)


def explore(n_examples: int, **strategies: st.SearchStrategy[Any]) -> Callable[[Any], None]:
    """Decorator that runs a check at once, on this many draws, the same ones in every run.

    Nothing is kept on disk. The check may use what stands around it, fixtures too.
    """
    profile = settings(
        max_examples=n_examples,
        derandomize=True,
        database=None,
        deadline=None,
        # To look for simpler failures as well takes minutes, where trainings are repeated.
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )

    def run(check: Any) -> None:
        profile(given(**strategies)(check))()

    return run


# ------------------------------------------------------------------------------------- features

N_SAMPLES, N_FEATURES = 48, 8
TAGS = [[("sea", "tree", "face")[i % 3]] + ["nikon"] * (i % 4 == 0) for i in range(N_SAMPLES)]
LABELS = np.arange(N_SAMPLES) % 3


def _clusters() -> np.ndarray:
    X = np.random.default_rng(1).normal(size=(N_SAMPLES, N_FEATURES))
    X[np.arange(N_SAMPLES), LABELS] += 4
    return X


def _one_hot() -> np.ndarray:
    return np.eye(N_FEATURES)[np.random.default_rng(2).integers(N_FEATURES, size=N_SAMPLES)]


def _duplicated() -> np.ndarray:
    """Few rows, many times each, of columns that come in twins."""
    X = np.repeat(np.random.default_rng(3).normal(size=(12, N_FEATURES // 2)), 2, axis=1)
    return np.tile(X, (N_SAMPLES // 12, 1))


def _counts() -> np.ndarray:
    """Small whole numbers, as all dtypes hold them, and many values of 0."""
    return np.random.default_rng(4).poisson(1.0, (N_SAMPLES, N_FEATURES)).astype(np.float64)


def _distant() -> np.ndarray:
    """Whole numbers far from 0, of which float32 tells hardly any from another."""
    rows = np.tile(np.arange(float(N_SAMPLES)), (N_FEATURES, 1))
    return 1e9 + np.random.default_rng(5).permuted(rows, axis=1).T


FEATURES: dict[str, Callable[[], np.ndarray]] = {
    "clusters": _clusters,
    "one-hot": _one_hot,
    "duplicated": _duplicated,
    "counts": _counts,
    "distant": _distant,
}


def _memory_map(X: np.ndarray, folder: Path) -> np.ndarray:
    mapped = np.lib.format.open_memmap(folder / "X.npy", "w+", X.dtype, X.shape)
    mapped[:] = X
    return np.load(folder / "X.npy", mmap_mode="r")


def _read_only(X: np.ndarray) -> np.ndarray:
    X = X.copy()
    X.flags.writeable = False
    return X


# All mean the same as the ndarray of float64 that they are made of, if it holds small whole
# numbers for the last ones.
FORMS_OF_DOUBLES: dict[str, Callable[[np.ndarray, Path], Any]] = {
    "list": lambda X, _: X.tolist(),
    "tuples": lambda X, _: tuple(map(tuple, X.tolist())),
    "list-of-rows": lambda X, _: list(X),
    "objects": lambda X, _: X.astype(object),
    "fortran": lambda X, _: np.asfortranarray(X),
    "strided": lambda X, _: np.repeat(X, 2, axis=1)[:, ::2],
    "reversed": lambda X, _: np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1],
    "other-endian": lambda X, _: X.astype(X.dtype.newbyteorder()),
    "read-only": lambda X, _: _read_only(X),
    "memory-mapped": _memory_map,
    "data-frame": lambda X, _: pd.DataFrame(X),
    "torch": lambda X, _: torch.tensor(X),
}
if importlib.util.find_spec("polars"):
    import polars

    FORMS_OF_DOUBLES["polars"] = lambda X, _: polars.DataFrame(X)
FORMS_OF_COUNTS: dict[str, Callable[[np.ndarray, Path], Any]] = {
    "list-of-ints": lambda X, _: X.astype(int).tolist(),
    "int64": lambda X, _: X.astype(np.int64),
    "uint8": lambda X, _: X.astype(np.uint8),
    "data-frame-of-ints": lambda X, _: pd.DataFrame(X.astype(np.int32)),
    "torch-of-ints": lambda X, _: torch.tensor(X.astype(np.int64)),
}
# Those that leave float32 as it is in scikit-learn; the others become float64.
FORMS_OF_SINGLES = {
    form: FORMS_OF_DOUBLES[form]
    for form in (
        "fortran", "strided", "reversed", "read-only", "memory-mapped", "data-frame", "torch",
    )
}  # fmt: skip


def batches(n_samples: int) -> st.SearchStrategy[list[int]]:
    """Rows in an order, some of them, once or more."""
    rows = st.integers(0, n_samples - 1)
    return st.one_of(
        st.permutations(range(n_samples)),
        st.lists(rows, min_size=1, max_size=2 * n_samples),
        st.lists(rows, min_size=1, max_size=3),
        rows.map(lambda start: list(range(start, n_samples))),
        rows.map(lambda row: [row] * n_samples),
    )


# ----------------------------------------------------------------------------------------- tags

# Names that are each their own, whatever their form: letters of several scripts, with accents
# that have two forms in Unicode, and single blanks inside.
names = st.lists(
    st.text("abcdefghijxyz0189éüńåñøßжщδθ海山", min_size=1, max_size=6), min_size=1, max_size=3
).map(" ".join)


@st.composite
def tag_rows(draw: Any, min_size: int = 2, max_size: int = 12) -> list[list[str]]:
    """A list of tags per image, of a small vocabulary; at least one image has one."""
    vocabulary = draw(st.lists(names, min_size=1, max_size=6, unique=True))
    row = st.lists(st.sampled_from(vocabulary), unique=True)
    rows = st.lists(row, min_size=min_size, max_size=max_size)
    return draw(rows.filter(any))


FORMS_OF_TAGS: dict[str, Callable[[list[list[str]]], Any]] = {
    "tuples": lambda rows: tuple(map(tuple, rows)),
    "sets": lambda rows: list(map(set, rows)),
    "reversed-rows": lambda rows: [row[::-1] for row in rows],
    "repeated": lambda rows: [row + row for row in rows],
    "arrays": lambda rows: [np.array(row, dtype=object) for row in rows],
    "arrays-of-str": lambda rows: [np.array(row, dtype=str) for row in rows],
    "none": lambda rows: [row or None for row in rows],
    "series": lambda rows: pd.Series(rows),
}


def indicator_of(rows: list[list[str]]) -> tuple[np.ndarray, list[str]]:
    """The dense indicator of tags, and the names of its columns."""
    vocabulary = sorted({tag for row in rows for tag in row})
    return np.array([[tag in row for tag in vocabulary] for row in rows]), vocabulary


FORMS_OF_INDICATORS: dict[str, Callable[[np.ndarray], Any]] = {
    "bool": lambda Y: Y,
    "int8": lambda Y: Y.astype(np.int8),
    "float": lambda Y: Y.astype(float),
    "fortran": lambda Y: np.asfortranarray(Y.astype(np.float32)),
    "lists": lambda Y: Y.astype(int).tolist(),
    "csr": lambda Y: sp.csr_array(Y.astype(int)),
    "csc-matrix": lambda Y: sp.csc_matrix(Y.astype(np.uint8)),
    "coo": lambda Y: sp.coo_array(Y),
    "explicit-zeros": lambda Y: sp.csr_array(
        (Y.ravel().astype(float), np.indices(Y.shape).reshape(2, -1)), shape=Y.shape
    ),
    "torch": lambda Y: torch.tensor(Y),
}


# ---------------------------------------------------------------------------------------- files


def flip(content: bytes, place: int, bit: int) -> bytes:
    """Content with one bit changed."""
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def damages(content: bytes, *parts: bytes) -> st.SearchStrategy[bytes]:
    """Contents of a damaged file: bits flipped, cut off, overwritten, garbage.

    Every second flip is in one of the parts, if there are such: in what matters.
    """
    starts = [(content.index(part), len(part)) for part in parts if part in content]
    places = st.integers(0, len(content) - 1)
    inside = st.sampled_from(starts or [(0, len(content))]).flatmap(
        lambda span: st.integers(span[0], span[0] + span[1] - 1)
    )

    def overwrite(place: int, garbage: bytes) -> bytes:
        return content[:place] + garbage + content[place + len(garbage) :]

    bits = st.integers(0, 7)
    garbage = st.binary(min_size=1, max_size=64)
    return st.one_of(
        st.builds(flip, st.just(content), inside, bits),
        st.builds(flip, st.just(content), places, bits),
        st.builds(overwrite, places, garbage),
        st.builds(overwrite, places, st.just(bytes(512))),
        places.map(lambda length: content[:length]),
        garbage.map(lambda tail: content + tail),
        garbage,
        st.just(b""),
    )
