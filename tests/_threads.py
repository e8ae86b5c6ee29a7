"""For tests of what threads share: functions at the same time, and global generators."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def in_threads(*functions: Callable[[], Any]) -> list[Any]:
    """What functions return that run at the same time, each in a thread."""
    start = threading.Barrier(len(functions))

    def run(function: Callable[[], Any]) -> Any:
        start.wait()
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        return [future.result() for future in [pool.submit(run, f) for f in functions]]


@contextmanager
def global_generators_left_alone() -> Iterator[None]:
    """Neither torch's nor NumPy's global generator is drawn from, seeded or rewound."""
    torch.manual_seed(5)
    torch.rand(3)
    np.random.seed(5)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    yield
    assert torch.equal(torch.get_rng_state(), before[0])
    after = np.random.get_state()  # noqa: NPY002
    np.testing.assert_array_equal(after[1], before[1][1])
    assert after[2] == before[1][2]
