"""Stores that keep the photos of a search: ids, codes and, in a table, tags."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..neighbors import Store, open_store
from ..neighbors._tables import TableStore
from ..neighbors._urls import is_url
from ._input import rows_of_tags
from ._photos import Photos

__all__ = ["add_to_store", "fill_store", "match_store", "open_backend", "update_store"]


def open_backend(backend: Any) -> Store | None:
    """The store given as ``backend``, itself or by URL; None if ``backend`` is another name."""
    if not isinstance(backend, str):
        store: Store = backend
        return store
    return open_store(backend) if is_url(backend) else None


def fill_store(store: Store, photos: Photos) -> None:
    """Replace the contents of a store by these photos."""
    store.replace(photos.ids, photos.codes, _n_bits(photos), **_tags(store, photos))


def add_to_store(store: Store, photos: Photos) -> None:
    """Add photos to a store."""
    store.add(photos.ids, photos.codes, _n_bits(photos), **_tags(store, photos))


def update_store(store: Store, photos: Photos) -> None:
    """Replace the codes of photos that are in a store."""
    if isinstance(store, TableStore):
        store.update(photos.ids, photos.codes, _n_bits(photos), **_tags(store, photos))
        return
    known = store.ids()
    rows = np.flatnonzero(np.isin(known, photos.ids))
    ids, codes = known[rows], store.codes()[rows]
    store.remove(photos.ids)
    try:
        add_to_store(store, photos)
    except BaseException:
        store.add(ids, codes, _n_bits(photos))
        raise


def match_store(store: Store, photos: Photos) -> None:
    """Check that a store holds these photos; an empty store is filled with them.

    Raises
    ------
    ValueError
        If it holds other photos or codes.
    """
    if not len(store):
        fill_store(store, photos)
    elif not (
        np.array_equal(store.ids(), photos.ids) and np.array_equal(store.codes(), photos.codes)
    ):
        raise ValueError(
            f"backend, {store!r}, holds other photos than the saved search, or codes of another "
            "hasher; empty it, use another table, or load with backend='auto'."
        )


def _n_bits(photos: Photos) -> int:
    n_bits = photos.neighbors.n_bits
    assert n_bits is not None
    return n_bits


def _tags(store: Store, photos: Photos) -> dict[str, Any]:
    """Tags as an argument, for stores that keep them."""
    if not isinstance(store, TableStore):
        return {}
    return {"tags": [list(map(str, tags)) for tags in rows_of_tags(photos.tags)]}
