"""A bar on the terminal that shows how fast work goes, and how long it will take yet."""

from __future__ import annotations

from typing import Any

__all__ = ["Progress"]


class Progress:
    """How much is done, a context.

    Parameters
    ----------
    total : int or None
        How much there is to do; None where that is not known.
    unit : str
        What is counted.
    desc : str
        What is made.
    verbose : int or bool
        Whether to show it.
    """

    def __init__(self, total: int | None, *, unit: str, desc: str, verbose: int) -> None:
        self._bar: Any = None
        if verbose:
            from tqdm.auto import tqdm  # type: ignore[import-untyped]

            # The mean rate, which steps of any size do not shake.
            self._bar = tqdm(total=total, unit=unit, desc=desc, smoothing=0)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def add(self, n: int) -> None:
        """Count what is done now."""
        if self._bar is not None:
            self._bar.update(n)

    def skip(self, n: int) -> None:
        """Count what was done before, which has no part in the rate."""
        if self._bar is not None:
            self._bar.initial += n
            self._bar.update(n)
