"""Features, tags and labels of rendered photos, for tests of what hashers learn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from skhash.datasets import make_social_images


def rendered_photos(n_samples: int, random_state: int = 0) -> SimpleNamespace:
    """Photos with their tags and labels; features are the colours in the cells of a grid."""
    data = make_social_images(n_samples, image_size=32, random_state=random_state)
    return SimpleNamespace(X=colour_grid(data.images), tags=data.tags, labels=data.labels)


def colour_grid(images: Any, n_cells: int = 4) -> Any:
    """Mean and spread of the colours in each cell of a grid."""
    n_images, size = images.shape[:2]
    cells = images.reshape(n_images, n_cells, size // n_cells, n_cells, size // n_cells, 3) / 255.0
    moments = [cells.mean(axis=(2, 4)), cells.std(axis=(2, 4))]
    return np.hstack([moment.reshape(n_images, -1) for moment in moments])


class Tally(type):
    """A class of this kind counts in what is no part of it.

    An attribute of the class that changes would make it another network for the cache.
    """

    seen = property(lambda cls: _counts["seen"], lambda cls, n: _counts.update(seen=n))
    fail_at = property(lambda cls: _counts["fail_at"], lambda cls, n: _counts.update(fail_at=n))


_counts: dict[str, Any] = {"seen": 0, "fail_at": None}
