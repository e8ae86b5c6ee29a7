"""Fixtures of several test modules."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import sklearn


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
