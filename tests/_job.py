"""Trainings that tests/test_distributed.py runs in one process and, by torchrun, in several.

``python -m torch.distributed.run ... tests/_job.py FOLDER NAME...`` runs the functions of these
names and saves what they return, a dict of arrays, as ``FOLDER/NAME-RANK.npz``.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import nn

from skhash import (
    DeepBit,
    DRSCHHasher,
    DSHHasher,
    DSTDHHasher,
    GreedyHash,
    KSHHasher,
    SADHHasher,
    SemanticSpace,
    TagITQHasher,
    UHBDNN,
    WeaklySupervisedHasher,
)
from skhash.datasets import make_social_images
from skhash.networks import HashNet, TrainingSet
from skhash.supervised._losses import DRSCHLoss, DSHLoss
from skhash.weakly._joint import RetainedLoss

RANK = int(os.environ.get("RANK", "0"))


class Small(nn.Module):
    """A convolution and what it finds where."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layers = nn.Sequential(
                nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.AvgPool2d(7), nn.Flatten()
            )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


def photos(n: int, random_state: int = 0) -> Any:
    return make_social_images(n, image_size=32, random_state=random_state)


def on_photos(**changes: Any) -> dict[str, Any]:
    """Parameters of a network hasher that trains a small backbone, without dropout."""
    settings = {
        "backbone": Small(), "image_size": 32, "trainable": "all", "optimizer": "sgd",
        "lr": 0.02, "backbone_lr": 0.01, "weight_decay": 0.01, "batch_size": 16, "max_epochs": 2,
        "random_state": 0, "device": "cpu",
    }  # fmt: skip
    return {**settings, **changes}


def arrays(*modules: nn.Module) -> dict[str, Any]:
    state = {f"{i}.{k}": v for i, m in enumerate(modules) for k, v in m.state_dict().items()}
    return {name: value.numpy() for name, value in state.items()}


def learned(hasher: Any) -> dict[str, Any]:
    """All that is the same in all processes after a fit."""
    if isinstance(hasher, WeaklySupervisedHasher):
        hasher = hasher.estimator_
    found = arrays(hasher.head_, *([hasher.backbone_] if hasher.backbone_ is not None else []))
    for name in ("codes_", "objective_", "transfer_", "threshold_"):
        if getattr(hasher, name, None) is not None:
            found[name] = getattr(hasher, name)
    return found


# Trainings.


def losses() -> dict[str, Any]:
    """A loss of each kind; the last batch of an epoch is of one sample."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(33, 6)).astype(np.float32)
    labels = (rng.random((33, 4)) < 0.4).astype(np.float32)
    found = {}
    for name in ("mse", "pairs", "triplets", "retained"):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
        criterion = {
            "mse": nn.MSELoss(),
            "pairs": DSHLoss(8.0),
            "triplets": DRSCHLoss(4, 4.0),
            "retained": RetainedLoss(nn.MSELoss(), module, 0.5),
        }[name]
        data = [TrainingSet(X, labels, rows) for rows in (np.arange(25), np.arange(25, 33))]
        net = HashNet(
            module, criterion, lr=0.05, batch_size=8, max_epochs=4, valid=data[1], verbose=1,
            optimizer__momentum=0.9, optimizer__weight_decay=0.01,
        ).fit(data[0])  # fmt: skip
        history = net.history[:, ("train_loss", "valid_loss")]
        state = {**arrays(net.module_, net.criterion_), "history": np.array(history)}
        found |= {f"{name}.{key}": value for key, value in state.items()}
    return found


if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    for name in names:
        np.savez(f"{folder}/{name}-{RANK}.npz", **globals()[name]())
