"""Fixtures of several test modules."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import sklearn
from _postgres import running_server

from skhash.neighbors import DuckDBStore, PostgresStore

_numbers = count()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def metadata_routing():
    """Turn on scikit-learn's metadata routing, which hands labels through."""
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.fixture(scope="session")
def real_data():
    """Folder of the real photo collections, from SKHASH_DATA; the test is skipped without it."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SKHASH_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"needs the real photo collections: {folder} is not there (set SKHASH_DATA)")
    return folder


@pytest.fixture
def close_folder(monkeypatch):
    """Make a folder of a name unreadable, even for root."""
    scandir = os.scandir

    def close(name):
        def closed(path):
            if os.fspath(path).endswith(name):
                raise PermissionError(13, "Permission denied", os.fspath(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", closed)

    return close


@pytest.fixture(scope="session")
def server():
    with running_server() as server:
        yield server


@pytest.fixture
def make_store(request, tmp_path):
    """Make stores of both kinds, each empty."""
    stores = []

    def make(kind, **options):
        if kind == "duckdb":
            pytest.importorskip("duckdb")
            stores.append(DuckDBStore(tmp_path / f"{next(_numbers)}.duckdb", **options))
        else:
            uri = request.getfixturevalue("server").uri
            stores.append(PostgresStore(uri, **{"table": f"codes {next(_numbers)}", **options}))
        return stores[-1]

    yield make
    for store in stores:
        store.close()
