"""A progress bar on the terminal, with the rate of the work and the remaining time."""

from __future__ import annotations

from typing import Any

__all__ = ["Progress"]


class Progress:
    """Context manager that shows how much work is done.

    Parameters
    ----------
    total : int or None
        Total amount of work; None if it is not known.
    unit : str
        Unit of the amount.
    desc : str
        Description of the work.
    verbose : int or bool
        Whether to show the bar.
    """

    def __init__(self, total: int | None, *, unit: str, desc: str, verbose: int) -> None:
        self._bar: Any = None
        if verbose:
            from tqdm.auto import tqdm  # type: ignore[import-untyped]

            # The mean rate, which does not jump with large steps.
            self._bar = tqdm(total=total, unit=unit, desc=desc, smoothing=0)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def add(self, n: int) -> None:
        """Count work that is done now."""
        if self._bar is not None:
            self._bar.update(n)

    def skip(self, n: int) -> None:
        """Count work that was done before; it is not part of the rate."""
        if self._bar is not None:
            self._bar.initial += n
            self._bar.update(n)
