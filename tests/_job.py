"""Trainings that tests/test_distributed.py runs in one process and, by torchrun, in several.

``python -m torch.distributed.run ... tests/_job.py FOLDER NAME...`` runs the functions of these
names and saves what they return, a dict of arrays, as ``FOLDER/NAME-RANK.npz``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import weakref
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import nn

from skhash import (
    UHBDNN,
    DeepBit,
    DRSCHHasher,
    DSHHasher,
    DSTDHHasher,
    GreedyHash,
    KSHHasher,
    SADHHasher,
    SemanticSpace,
    TagITQHasher,
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
        "random_state": 0, "device": "cpu", "inference_batch_size": 8,
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


def connections() -> dict[str, Any]:
    """Whether anything keeps the connections of a training, the first of its process."""
    groups = []
    keep = Fail(lambda: groups.append(weakref.ref(torch.distributed.group.WORLD)), RANK)
    data = photos(30)
    DSHHasher(8, **on_photos(callbacks=[keep])).fit(data.images, data.labels)
    return {"ended": np.array([group() is None for group in groups])}


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
            module, criterion, lr=0.05, batch_size=8, max_epochs=3, valid=data[1], verbose=1,
            optimizer__momentum=0.9, optimizer__weight_decay=0.01,
        ).fit(data[0])  # fmt: skip
        history = net.history[:, ("train_loss", "valid_loss")]
        state = {**arrays(net.module_, net.criterion_), "history": np.array(history)}
        found |= {f"{name}.{key}": value for key, value in state.items()}
    return found


def hashers() -> dict[str, Any]:
    """Every hasher with a network, on photos, with a trained backbone."""
    data = photos(60)
    space = SemanticSpace(n_components=8, vector_size=8)
    of_each = {
        # Of one round: in later ones rounding may turn a bit, and what is learned from it.
        "DSTDH": (
            DSTDHHasher(8, n_rounds=1, n_concepts=20, n_anchors=20, dropout=0.0, **on_photos()),
            data.tags,
        ),
        "DSH": (DSHHasher(8, **on_photos()), data.labels),
        "KSH": (KSHHasher(8, **on_photos()), data.labels),
        "DRSCH": (DRSCHHasher(8, **on_photos()), data.labels),
        "TagITQ": (TagITQHasher(8, dropout=0.0, **on_photos()), data.tags),
        "SADH": (SADHHasher(8, n_anchors=20, **on_photos()), None),
        "UHBDNN": (UHBDNN(8, n_rounds=2, hidden_layers=(16,), **on_photos()), None),
        "DeepBit": (DeepBit(8, **on_photos()), None),
        "GreedyHash": (GreedyHash(8, **on_photos()), None),
        "WP": (
            WeaklySupervisedHasher(
                DSHHasher(8, **on_photos()), space, max_epochs=3, lr=1e-3, random_state=0
            ),
            data.tags,
        ),
    }
    labels = data.labels.toarray()
    labels[20:] = 0
    found = {}
    for name, (hasher, y) in of_each.items():
        hasher.fit(data.images, y, **({"labels": labels} if name == "WP" else {}))
        found |= {f"{name}.{key}": value for key, value in learned(hasher).items()}
    return found


def quality() -> dict[str, Any]:
    """Mean average precision of DSTDH, without dropout, on photos it has not seen."""
    data = photos(600)
    hasher = DSTDHHasher(
        32, backbone=Small(), image_size=32, trainable="all", dropout=0.0, max_epochs=3,
        batch_size=32, random_state=0, device="cpu",
    ).fit(data.images[:350], data.tags[:350])  # fmt: skip
    score = hasher.score(data.images[350:], labels=data.labels[350:])
    return {**learned(hasher), "score": score}


def layers_that_draw() -> dict[str, Any]:
    """Dropout, batch normalisation and a loss that draws, on samples that are all alike."""
    module = nn.Sequential(
        nn.Dropout(0.5), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)
    )
    data = TrainingSet(np.ones((24, 64), np.float32), np.ones((24, 2)), np.arange(24))
    record = Outputs()
    net = HashNet(module, Noisy(), lr=0.1, batch_size=12, max_epochs=3, callbacks=[record]).fit(
        data
    )
    return {**arrays(net.module_), "outputs": record.last, "noise": net.criterion_.last}


class Noisy(nn.Module):
    """A loss that draws random numbers."""

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        noise = torch.randn_like(targets)
        self.last = noise.numpy()
        return (outputs - targets - noise).square().mean()


class Outputs(Callback):
    """Keeps the outputs for the last batch."""

    def on_batch_end(self, net: Any, y_pred: Any = None, **kwargs: Any) -> None:
        self.last = y_pred.detach().numpy()


class Fail(Callback):
    """Does something in one process, at the second batch of the second epoch."""

    def __init__(self, act: Any, rank: int = 1) -> None:
        self.act, self.rank = act, rank

    def on_batch_begin(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        place = len(net.history), len(net.history[-1]["batches"])
        if training and self.rank == RANK and place == (2, 2):
            self.act()


class StopFirst(Callback):
    """Stops the training of one process as EarlyStopping does."""

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        if RANK == 1 and len(net.history) == 2:
            net._stopped_early = lambda: True
            raise KeyboardInterrupt


def with_checkpoint(folder: Any, **changes: Any) -> Any:
    """A training that a killed process breaks off, if ``callbacks`` say so."""
    data = photos(40)
    settings = on_photos(max_epochs=4, checkpoint=folder, **changes)
    return DSHHasher(8, **settings).fit(data.images, data.labels)


def said(function: Any) -> str:
    """Class and text of the exception that a function raises."""
    try:
        function()
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def refusals() -> dict[str, Any]:
    """What is wrong in one process, and what all say; afterwards they train all the same."""
    data = photos(30)
    images, labels, n = data.images, data.labels.toarray(), 30 - 2 * RANK
    broken = [*images[:29], b"no image"]

    def fit(hasher: Any, *given: Any) -> Any:
        return said(lambda: hasher.fit(*given))

    def raise_error(error: BaseException) -> None:
        raise error

    def failing(error: BaseException) -> Any:
        return DSHHasher(8, **on_photos(callbacks=[Fail(lambda: raise_error(error))]))

    alike = TrainingSet(np.ones((8, 2), np.float32), np.ones((8, 1), np.float32), np.arange(8))
    swapped, stop = labels[::-1] if RANK else labels, [StopFirst()]
    found = {
        "number": fit(DeepBit(8, **on_photos()), images[:n]),
        "number with labels": fit(DSHHasher(8, **on_photos()), images[:n], labels[:n]),
        "labels": fit(DSHHasher(8, **on_photos()), images, swapped),
        "images": fit(DeepBit(8, **on_photos()), images[::-1] if RANK else images),
        "lr": fit(DeepBit(8, **on_photos(lr=0.1 + RANK)), images),
        "layers": fit(DeepBit(8, **on_photos(hidden_layers=(8,) * RANK)), images),
        "nested": fit(
            WeaklySupervisedHasher(DSHHasher(8, **on_photos(amp=bool(RANK)))), images, labels
        ),
        "method": fit(DeepBit(8) if RANK else GreedyHash(8), images),
        "network": said(lambda: HashNet(nn.Linear(2 + RANK, 1), nn.MSELoss(), lr=0.1).fit(alike)),
        "folder": fit(
            DSHHasher(8, **on_photos(checkpoint=f"{sys.argv[1]}/one" if RANK else None)),
            *(images, labels),
        ),
        "unseeded": fit(
            DSHHasher(
                8,
                **on_photos(checkpoint=f"{sys.argv[1]}/two", random_state=None if RANK else 0),
            ),
            *(images, labels),
        ),
        "unreadable": fit(DeepBit(8, **on_photos(trainable="head")), broken),
        "error": fit(failing(ZeroDivisionError("of one")), images, labels),
        "interrupt": fit(failing(KeyboardInterrupt("of one")), images, labels),
        "stopped": fit(DSHHasher(8, **on_photos(max_epochs=4, callbacks=stop)), images, labels),
        "skipped": fit(DeepBit(8, **on_photos(on_error="skip", rotation=0.0)), broken),
    }  # fmt: skip
    return {**{name: np.array(text) for name, text in found.items()}, **own_network()}


def own_network() -> dict[str, Any]:
    """A network of which each process has drawn other weights, and no random_state."""
    data = photos(30)
    settings = on_photos(backbone=Small(seed=RANK), random_state=None)
    return learned(DSHHasher(8, **settings).fit(data.images, data.labels))


def own_group() -> dict[str, Any]:
    """The same by a group that the program has made."""
    if "RANK" in os.environ:
        torch.distributed.init_process_group("gloo")
    found = own_network()
    if "RANK" in os.environ:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    return found


def kill() -> None:
    """Kill this process. torchrun sees it two seconds later, so others can say what they miss."""
    agent = os.getppid()
    os.kill(agent, signal.SIGSTOP)
    subprocess.Popen(["sh", "-c", f"sleep 2; kill -CONT {agent}"], start_new_session=True)
    os.kill(os.getpid(), signal.SIGKILL)


def kill_once() -> None:
    """Kill this process unless torchrun has started the job anew."""
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        kill()


def killed() -> dict[str, Any]:
    """A process is killed amid the second epoch; the folder is beside the results."""
    with_checkpoint(f"{sys.argv[1]}/killed", callbacks=[Fail(kill)])
    return {}


def resumed() -> dict[str, Any]:
    """Goes on where ``killed`` was broken off."""
    return learned(with_checkpoint(f"{sys.argv[1]}/killed"))


if __name__ == "__main__":
    import _job  # a network is known by its module, which is not __main__ in the tests

    folder, *names = sys.argv[1:]
    for name in names:
        np.savez(f"{folder}/{name}-{RANK}.npz", **getattr(_job, name)())
