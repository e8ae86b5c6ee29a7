"""Joint learning of sem-vectors and hash codes (WP paper, section 3.2 and Algorithm 1)."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import nn

from .._files import reserve
from .._rows import Rows, row_blocks, summarise_columns
from ..networks import HashNet

__all__ = ["JointLoss", "JointNet", "RetainedLoss", "UnitRows"]

# Largest mean number of bytes of sem-vectors that checkpoints write per epoch.
_MOST_WRITTEN = 2**28
# Share of a network step that is due before the first batch, so that the first batch makes one.
_FIRST = 1 - 1e-6


class JointLoss(nn.Module):
    """The joint objective of sem-vectors and codes, batch by batch (Eq. 7).

    For a batch of n images with observed sem-vectors z, learned ones zh and
    outputs h of the network::

        1/n sum_i [ 1/2 ||zh_i - z_i||^2 + beta/2 zh_i' L zh_i ]
        + delta/(2 n (n - 1)) sum_{i != j} ((zh_i - c)' (zh_j - c) - h_i' h_j / n_bits)^2

    It is Eq. 7 with the sum over images divided by their number and the sum over
    pairs by the number of pairs. The paper does not specify three choices. Both
    similarities are on one scale: sem-vectors have unit length at the start, and
    inner products of outputs are divided by ``n_bits``. The mean c is subtracted
    from sem-vectors, because otherwise all images are somewhat similar. The
    pairs of an image with itself are omitted: they are a share 1/n of a batch
    but 1/N of all pairs, and would make the network fit lengths, not
    similarities.

    Parameters
    ----------
    observed : ndarray, csr_array or Rows of shape (n_images, n_components), float32
        Observed sem-vectors z of all images, of any length.
    laplacian : ndarray of shape (n_components, n_components)
        L of the correlations between sem-words (Eq. 5).
    beta : float
        Weight of the smoothing over sem-words.
    delta : float
        Weight of the agreement of similarities.
    step : float
        Step size of :meth:`update`, in units of the inverse curvature.
    half : bool, default=False
        Whether learned sem-vectors are kept in half precision.
    file : path, default=None
        Where to keep the learned sem-vectors; in memory if None.
    """

    zh: torch.Tensor
    centre: torch.Tensor
    laplacian: torch.Tensor

    def __init__(
        self,
        observed: Any,
        laplacian: NDArray[Any],
        *,
        beta: float,
        delta: float,
        step: float = 1.0,
        half: bool = False,
        file: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        self.observed = UnitRows(observed)
        self.beta, self.delta, self.step = beta, delta, step
        self.register_buffer("laplacian", torch.as_tensor(laplacian, dtype=torch.float32))
        dtype = torch.float16 if half else torch.float32
        if file is None:
            zh = torch.empty(observed.shape, dtype=dtype)
        else:
            size = math.prod(observed.shape)
            with open(file, "xb") as stream:  # otherwise a full disk would end the process
                reserve(stream, dtype.itemsize * size)
            zh = torch.from_file(os.fspath(file), shared=True, size=size, dtype=dtype)
            zh = zh.view(observed.shape)
        for rows, block in row_blocks(self.observed):
            zh[rows] = torch.from_numpy(block)
        self.register_buffer("zh", zh)
        centre = summarise_columns(self.observed).mean.astype(np.float32)
        self.register_buffer("centre", torch.from_numpy(centre))
        self._curvature = 1 + beta * float(np.linalg.eigvalsh(laplacian)[-1]) + 2 * delta

    def forward(self, outputs: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Objective of a batch; ``rows`` are the numbers of its images."""
        zh, deviation = self._rows(rows)
        smoothing = (zh @ self.laplacian * zh).sum()
        single = (deviation.square().sum() + self.beta * smoothing) / 2 / len(zh)
        disagreement = self._disagreement(zh - self.centre, outputs)
        n_pairs = max(len(zh) * (len(zh) - 1), 1)
        return single + self.delta / 2 * disagreement.square().sum() / n_pairs

    @torch.no_grad()
    def update(self, outputs: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Step 1 of Algorithm 1: a gradient step of the sem-vectors of a batch.

        Returns the objective before the step.
        """
        zh, _ = self._rows(rows)
        step = self.step / self._curvature
        objective = self(outputs, rows)
        self.zh[rows] = (zh - step * self.gradient(outputs, rows)).to(self.zh.dtype)
        return objective

    @torch.no_grad()
    def gradient(self, outputs: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Gradient of ``n`` times the batch's objective with respect to its sem-vectors (Eq. 8).

        The last term has the factor 2, which the paper omits: a sem-vector is in
        the pairs (i, j) and (j, i).
        """
        zh, deviation = self._rows(rows)
        centred = zh - self.centre
        pairs = self._disagreement(centred, outputs) @ centred / max(len(zh) - 1, 1)
        return deviation + self.beta * zh @ self.laplacian + 2 * self.delta * pairs

    def _rows(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        zh = self.zh[rows]
        if zh.dtype == torch.float16:
            zh = zh.float()
        observed = torch.from_numpy(self.observed[rows.cpu().numpy()]).to(zh.device)
        return zh, zh - observed

    @staticmethod
    def _disagreement(centred: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
        """Difference of the similarities of each pair, 0 for an image and itself."""
        difference = centred @ centred.T - outputs @ outputs.T / outputs.shape[1]
        return difference - torch.diag(difference.diag())

    def extra_repr(self) -> str:
        """Parameters in the representation of the module."""
        return f"beta={self.beta}, delta={self.delta}, step={self.step}"


class JointNet(HashNet):
    """The trainer of Algorithm 1: batches go to Step 1 or Step 2.

    Step 1 updates the sem-vectors of the batch, Step 2 the network. The share of
    Step 2 grows from 1 in 11 batches in the first epoch to 10 in 11 in the last
    (p:m from 10:1 to 1:10, geometrically; 1:1 if there is only one epoch). The
    very first batch uses Step 2; later batches with Step 2 are spread evenly. A
    fraction of a step that remains after an epoch is added to the next epoch, so
    that epochs with few batches work too.
    """

    _has_horizon = True

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Set the share of Step 2."""
        super().on_epoch_begin(net, **kwargs)
        epoch, n_batches = len(self.history) - 1, len(self.get_iterator(kwargs["dataset_train"]))
        # Computed from the number of the epoch only, so that training can resume at a checkpoint.
        self._n_due = _FIRST + n_batches * sum(map(self._network_share, range(epoch)))
        self._share = self._network_share(epoch)

    def save_state(self) -> None:
        """Write the checkpoint; with large sem-vectors only after some epochs and the last."""
        zh = self.criterion_.zh
        period = max(1, -(-zh.numel() * zh.element_size() // _MOST_WRITTEN))
        n_epochs = len(self.history)
        if n_epochs % period == 0 or n_epochs == self.max_epochs:
            super().save_state()

    def _network_share(self, epoch: int) -> float:
        progress = epoch / (self.max_epochs - 1) if self.max_epochs > 1 else 0.5
        return 1 / (1 + 10 ** (1 - 2 * progress))  # m / (p + m)

    def train_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Run Step 1 or Step 2 for a batch."""
        n_before = int(self._n_due)
        self._n_due += self._share
        if int(self._n_due) > n_before:
            return super().train_step(batch, **fit_params)
        inputs, rows = batch
        self._set_training(False)
        with torch.no_grad():
            outputs = self.infer(inputs, **fit_params)
        loss = self.criterion_.update(outputs, rows.to(outputs.device))
        return {"loss": loss, "y_pred": outputs}


class RetainedLoss(nn.Module):
    """A loss plus the squared distance of weights from their values at the start.

    ``loss(outputs, targets) + strength * ||W - W_0||^2``. With it, fine-tuning
    learns from few labels and keeps what the network has learned from many tags
    (X. Li, Y. Grandvalet and F. Davoine, "Explicit inductive bias for transfer
    learning with convolutional networks", ICML 2018).

    Parameters
    ----------
    loss : nn.Module
        The loss of outputs and targets.
    module : nn.Module
        The module whose weights are kept near their present values.
    strength : float
        Weight of the distance.
    """

    def __init__(self, loss: nn.Module, module: nn.Module, strength: float) -> None:
        super().__init__()
        self.loss = loss
        self.strength = strength
        self._held = list(module.parameters())  # in a list, so that torch does not register them
        for i, weight in enumerate(self._held):
            self.register_buffer(f"start_{i}", weight.detach().clone())

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss of a batch."""
        distance = sum(
            (weight - self.get_buffer(f"start_{i}")).square().sum()
            for i, weight in enumerate(self._held)
        )
        return self.loss(outputs, targets) + self.strength * distance

    def extra_repr(self) -> str:
        """Parameters in the representation of the module."""
        return f"strength={self.strength}"


class UnitRows(Rows):
    """Vectors scaled to length 1; zero vectors stay zero.

    Parameters
    ----------
    vectors : ndarray, csr_array or Rows of shape (n_images, n_components), float32
        Of any length.
    """

    def __init__(self, vectors: Any) -> None:
        super().__init__((vectors.shape[0], vectors.shape[1]), np.float32)
        # Unit rows of unit rows would be scaled twice whenever they are read.
        self._vectors: Any = vectors._vectors if isinstance(vectors, UnitRows) else vectors

    def _read(self, rows: Any) -> NDArray[Any]:
        vectors = self._vectors[rows]
        dense = vectors.toarray() if sp.issparse(vectors) else vectors
        norms = np.linalg.norm(dense, axis=1)
        return dense / np.where(norms > 0, norms, 1)[:, None]

    def content(self) -> list[Any]:
        """The vectors."""
        return self._vectors.content()
