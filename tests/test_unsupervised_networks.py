"""The unsupervised hashers that are networks, on features of real photos."""

import numpy as np
import pytest

from skhash import UHBDNN, DeepBit, GreedyHash
from skhash.metrics import mean_average_precision


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hasher_class", "least"), [(UHBDNN, 0.65), (DeepBit, 0.63), (GreedyHash, 0.64)]
)
def test_on_real_photos_they_come_near_itq(real_data, hasher_class, least):
    folder = real_data / "mirflickr25k"
    X = np.load(folder / "vgg16_pool5_gap512_f16.npy")
    labels = np.loadtxt(folder / "labels24.txt", dtype=np.uint8)
    split = np.load(folder / "split_dstdh.npz")
    query, database = split["validation"], np.setdiff1d(split["database"], split["validation"])
    hasher = hasher_class(16, random_state=0).fit(X[split["train"]])
    codes = [hasher.transform(X[rows]) for rows in (query, database)]
    assert mean_average_precision(*codes, labels[query], labels[database]) > least
