"""The trainer of all networks in this package, based on skorch."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import joblib
import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, LRScheduler, ProgressBar
from skorch.helper import predefined_split
from torch.utils.data import Dataset

from .._files import read_checked, write_checked
from .._rows import Features, Rows
from ._distributed import Processes, is_first, processes, share, together
from ._extract import autocast, place
from ._fingerprint import module_digest, object_digest
from ._images import Images, unchanged
from ._random import draws_randomly, seeded

__all__ = ["HashNet", "RoundNet", "TrainingSet"]

Targets: TypeAlias = "NDArray[Any] | Rows | sp.csr_array"

# Keys of a checkpoint.
_PARTS = {"fingerprint", "history", "module", "criterion", "optimizer", "callbacks"}


class TrainingSet(Dataset):
    """Inputs and targets with the same rows, and the rows to use.

    Parameters
    ----------
    inputs : ndarray or Rows of shape (n_samples, n_features), float32, or Images
        Inputs of the network.
    targets : ndarray, Rows or csr_array with n_samples rows
        Targets of the loss. Sparse rows become dense batch by batch. A loss
        that looks up other data can get row numbers, ``np.arange(n_samples)``.
    rows : ndarray of int
        The rows in use.
    """

    def __init__(self, inputs: Features | Images, targets: Targets, rows: NDArray) -> None:
        self.inputs = inputs
        self.targets = targets
        self.rows = rows
        self._rank, self._n_processes = 0, 1

    def __len__(self) -> int:
        return len(self.rows)

    def _shared_out(self, among: Processes) -> TrainingSet:
        """The same set, whose batches have the inputs of this process's share and all targets.

        Where there are fewer samples than processes, the share is one that is not its own.
        """
        shared = copy.copy(self)
        shared._rank, shared._n_processes = among.rank, among.size
        return shared

    def __getitems__(self, positions: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Read a batch of inputs and targets."""
        rows = self.rows[positions]
        own = rows[share(len(rows), self._rank, self._n_processes)]
        inputs = self.inputs[own if len(own) else rows[:1]]
        targets: Any = self.targets[rows]
        if isinstance(inputs, np.ndarray):
            inputs = torch.from_numpy(inputs)
        if sp.issparse(targets):
            targets = targets.toarray()
        return inputs, torch.as_tensor(targets)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, targets = self.__getitems__([position])
        return inputs[0], targets[0]

    def content(self) -> list[Any]:
        """List the content that identifies this set.

        Returns
        -------
        list
            List of arrays. Images that are files are identified by their names
            and sizes.
        """
        inputs: Any = self.inputs
        if isinstance(inputs, Images):
            inputs = [inputs.stamp(row) for row in range(len(inputs))]
        elif isinstance(inputs, Rows):
            inputs = inputs.content()
        targets: Any = self.targets
        if isinstance(targets, Rows):
            targets = targets.content()
        elif sp.issparse(targets):
            targets = [targets.data, targets.indices, targets.indptr]
        return [inputs, targets, self.rows]


class HashNet(NeuralNet):
    """A skorch net for losses of (outputs, targets) that can be stopped and resumed.

    The shuffling and dropout of an epoch depend only on ``seed`` and the number
    of the epoch, not on earlier epochs or on other threads. With a checkpoint
    file, the state is written after every epoch. A later ``fit`` with the same
    module, data and settings continues after the last complete epoch. On a CPU
    it ends with the same weights as a run without interruption. The checkpoint
    contains module, criterion, optimizer, history, and the state of skorch's
    ``LRScheduler`` and ``EarlyStopping``; other callbacks start again. If a
    schedule or the trainer depends on ``max_epochs``, a run of more epochs is
    another training.

    In a job of several processes, started by ``torchrun``, each process runs the
    network on its share of every batch, and all of them compute the loss of the
    whole batch. So the gradient is the same as with one process, also if a loss
    compares samples. Only layers that depend on the batch differ: dropout draws
    another mask in each process, and batch normalisation uses the share of its
    process; its statistics are those of the first process. Only the first
    process reads and writes the checkpoint and shows progress.

    To change the training step, a subclass overrides ``train_step_single`` as in
    skorch. State that it keeps between epochs belongs in buffers of the
    criterion, which are part of the checkpoint.

    Parameters
    ----------
    module : nn.Module
        The network to train, in place.
    criterion : nn.Module
        Called with the outputs (n, n_bits) and the targets of a batch; returns
        the scalar loss. If it has parameters, they are trained too.
    seed : int, default=0
        Seed of shuffling and dropout.
    identity : object, default=None
        Further content that identifies this training, for the checkpoint: plain
        values, arrays, and lists and dicts of them.
    amp : bool, default=False
        Whether the network runs in bfloat16 where that is safe, and in the
        channels-last layout. The loss is computed in float32.
    checkpoint : path, default=None
        File to write the state to and continue from.
    valid : TrainingSet, default=None
        Validation part; its loss is in the history as ``valid_loss``.
    patience : int, default=None
        Stop when the validation loss has not improved for this many epochs, and
        restore the best weights. None trains for all epochs.
    num_workers : int, default=0
        Number of processes that read batches.
    callbacks : list, default=None
        skorch callbacks.
    verbose : int, default=0
        1 prints a line per epoch; 2 also shows a progress bar per epoch.
    **params
        Other parameters of :class:`skorch.NeuralNet`.
    """

    def __init__(
        self,
        module: Any,
        criterion: Any,
        *,
        seed: int = 0,
        identity: Any = None,
        amp: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        valid: TrainingSet | None = None,
        patience: int | None = None,
        num_workers: int = 0,
        callbacks: list[Any] | None = None,
        verbose: int = 0,
        **params: Any,
    ) -> None:
        verbose = verbose if is_first() else 0
        own: list[Any] = (
            [] if patience is None else [EarlyStopping(patience=patience, load_best=True)]
        )
        if verbose > 1:
            own.append(ProgressBar())
        # A separate generator; otherwise every pass over the data would draw from torch's.
        self._generator = torch.Generator()
        for part in ("iterator_train", "iterator_valid"):
            params[f"{part}__generator"] = self._generator
            params[f"{part}__collate_fn"] = unchanged
            params[f"{part}__num_workers"] = num_workers
            if num_workers:  # a forked reader could wait without end for a thread that it lacks
                params[f"{part}__multiprocessing_context"] = "spawn"
        super().__init__(
            module,
            criterion,
            callbacks=[*(callbacks or []), *own, ("save_state", _SaveState())],
            train_split=None if valid is None else predefined_split(valid),
            iterator_train__shuffle=True,
            verbose=verbose,
            **params,
        )
        self.seed = seed
        self.identity = identity
        self.amp = amp
        self.checkpoint = checkpoint

    def fit(self, X: TrainingSet, y: None = None, **fit_params: Any) -> HashNet:
        """Train the module; continue from the checkpoint if there is one.

        Parameters
        ----------
        X : TrainingSet
            Inputs and targets.
        y : None
            Ignored.
        **fit_params : dict
            Passed to ``forward`` of the module.

        Returns
        -------
        HashNet
            The net.

        Raises
        ------
        ValueError
            If the checkpoint is of other data or settings, or is damaged; or
            the processes of a job train on different data.
        FloatingPointError
            If the loss becomes infinite or NaN.
        RuntimeError
            If another process of the job ends.
        """
        with together() as job:
            self.initialize()
            place(self.module_, torch.device(self.device), channels_last=self.amp)
            parts = self.module_, self.criterion_
            weights = [w for part in parts for w in (*part.parameters(), *part.buffers())]
            job.check_same_data(
                **{"number of samples": len(X)},
                device=torch.device(self.device).type,
                weights=[(tuple(tensor.shape), str(tensor.dtype)) for tensor in weights],
                settings=[self.seed, self.batch_size, self.max_epochs, repr(self.optimizer_)],
            )
            job.copy_first(weights)
            state = job.first_only(lambda: self._prepare_checkpoint(X))
            if state is not None:
                self._restore(state)
            self.notify("on_train_begin", X=X, y=y)
            if state is not None:
                self._restore_callbacks(state)
            try:
                self.fit_loop(X, epochs=self.max_epochs - len(self.history), **fit_params)
            except KeyboardInterrupt:
                # skorch's EarlyStopping stops with this exception; otherwise the user did.
                if not self._stopped_early():
                    raise
            self._check_epoch(None)
            self.notify("on_train_end", X=X, y=y)
        return self

    def get_split_datasets(
        self, X: TrainingSet, y: None = None, **fit_params: Any
    ) -> tuple[TrainingSet, TrainingSet | None]:
        """Training and validation part; each process has its share of their batches."""
        train, valid = super().get_split_datasets(X, y, **fit_params)
        job = processes()
        return train._shared_out(job), None if valid is None else valid._shared_out(job)

    @staticmethod
    def _check_epoch(number: int | None) -> None:
        """Check that the same epoch, or none, begins in all processes."""
        processes().check_same("callbacks must stop all processes at the same epoch.", epoch=number)

    def _stopped_early(self) -> bool:
        stoppers = [cb for _, cb in self.callbacks_ if isinstance(cb, EarlyStopping)]
        return any(cb.misses_ >= cb.patience for cb in stoppers)

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Seed the epoch."""
        super().on_epoch_begin(net, **kwargs)
        self._check_epoch(len(self.history))
        self._generator.manual_seed(self._seed_of(len(self.history)))

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """Run an epoch; then copy the buffers of the network from the first process."""
        super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)
        if training:
            processes().copy_first(self.module_.buffers())

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Gradients of a batch; all random numbers depend only on the seed."""
        if not (draws_randomly(self.module_) or draws_randomly(self.criterion_)):
            step = super().train_step_single(batch, **fit_params)
        else:
            job = processes()
            own = (job.rank,) if job.size > 1 else ()
            with seeded(self._seed_of(*self._batch, *own), device=self.device):
                step = super().train_step_single(batch, **fit_params)
        processes().average(parameter for _, parameter in self.get_all_learnable_params())
        return step

    def get_loss(
        self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False
    ) -> torch.Tensor:
        """Loss of a batch; a random loss draws the same numbers in all processes."""
        size = processes().size
        if not training or size == 1 or not draws_randomly(self.criterion_):
            return super().get_loss(y_pred, y_true, X=X, training=training)
        with seeded(self._seed_of(*self._batch, size), device=self.device):
            return super().get_loss(y_pred, y_true, X=X, training=training)

    @property
    def _batch(self) -> tuple[int, int]:
        """Numbers of the epoch and of the batch in it."""
        return len(self.history), len(self.history[-1]["batches"])

    def _seed_of(self, *place: int) -> int:
        return int(np.random.SeedSequence([self.seed, *place]).generate_state(1)[0])

    # Number of samples in the current batch, of all processes together.
    _n_in_batch: int | None = None

    def on_batch_begin(self, net: NeuralNet, batch: Any = None, **kwargs: Any) -> None:
        """Store the number of samples in the batch."""
        super().on_batch_begin(net, batch=batch, **kwargs)
        self._n_in_batch = len(batch[1])

    def on_batch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Stop a training that diverges."""
        part = "train" if kwargs["training"] else "valid"
        self.history.record_batch(f"{part}_batch_size", self._n_in_batch)
        self._n_in_batch = None
        if not torch.isfinite(kwargs["loss"]).all():
            raise FloatingPointError(
                f"the loss became {kwargs['loss'].item()} in epoch {len(self.history)}; lower lr."
            )

    def infer(self, x: Any, **fit_params: Any) -> torch.Tensor:
        """Outputs of the module, float32; for a batch, the outputs of all processes."""
        with autocast(torch.device(self.device), self.amp):
            outputs = super().infer(x, **fit_params).float()
        if self._n_in_batch is None:
            return outputs
        return processes().gather(outputs, self._n_in_batch)

    def _prepare_checkpoint(self, data: TrainingSet) -> dict[str, Any] | None:
        """Make the folder; read its state if it belongs to this training."""
        if self.checkpoint is None:
            return None
        file = Path(self.checkpoint)
        self._fingerprint = self._digest(data)
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            return None
        try:
            content = read_checked(file)
        except ValueError as error:
            raise ValueError(f"checkpoint {error} Delete it to start again.") from None
        try:
            state = torch.load(content, map_location="cpu", weights_only=True)
        except Exception:  # the file is complete, but not written by torch
            state = None
        if not isinstance(state, dict) or state.keys() != _PARTS:
            raise ValueError(
                f"checkpoint {str(file)!r} is a file of another kind or version; choose another "
                "folder, or delete it to start again."
            )
        if state["fingerprint"] != self._fingerprint:
            raise ValueError(
                f"checkpoint {str(file)!r} is of another training (other data, settings, loss, "
                "network, random_state or learning rate schedule, or one that depends on "
                "max_epochs); choose another folder, or delete it to start again."
            )
        n_epochs = len(json.loads(state["history"]))
        if n_epochs > self.max_epochs:
            raise ValueError(
                f"checkpoint {str(file)!r} holds {n_epochs} epochs already, more than "
                f"max_epochs={self.max_epochs}; raise max_epochs or delete it."
            )
        return state

    # Whether the result of an epoch depends on max_epochs.
    _has_horizon = False

    def _digest(self, data: TrainingSet) -> str:
        """Digest of everything that determines the weights after an epoch."""
        valid = None if self.train_split is None else self.train_split(data)[1].content()
        settings = [type(self).__qualname__, self.seed, self.batch_size, self.amp, self.identity]
        if self._has_horizon:
            settings.append(self.max_epochs)
        schedules = [
            [callback.policy, callback.kwargs, callback.step_every]
            for _, callback in self.callbacks_
            if isinstance(callback, LRScheduler)
        ]
        return joblib.hash(
            [
                # Only its weights, because attributes may count the runs.
                [(k, v.cpu().numpy()) for k, v in self.module_.state_dict().items()],
                module_digest(self.criterion_),
                [repr(o) for o in (self.module_, self.optimizer_)],
                [object_digest(schedule) for schedule in schedules],
                data.content(),
                valid,
                settings,
            ]
        )

    def save_state(self) -> None:
        """Write the checkpoint; if this is interrupted, the previous one remains."""
        if self.checkpoint is None or processes().rank:
            return
        rows = [{k: v for k, v in row.items() if k != "batches"} for row in self.history]
        state = {
            "fingerprint": self._fingerprint,
            "history": json.dumps(rows, default=float),
            "module": self.module_.state_dict(),
            "criterion": self.criterion_.state_dict(),
            "optimizer": self.optimizer_.state_dict(),
            "callbacks": {name: _state_of(cb) for name, cb in self.callbacks_},
        }
        write_checked(self.checkpoint, lambda file: torch.save(state, file))

    def _restore(self, state: dict[str, Any]) -> None:
        self.module_.load_state_dict(state["module"])
        self.criterion_.load_state_dict(state["criterion"])
        self.optimizer_.load_state_dict(state["optimizer"])
        for row in json.loads(state["history"]):
            self.history.new_epoch()
            self.history[-1].update(row)

    def _restore_callbacks(self, state: dict[str, Any]) -> None:
        """Restore callbacks, after ``on_train_begin`` has reset them."""
        kept = {name for name, saved in state["callbacks"].items() if saved is not None}
        now = {name for name, cb in self.callbacks_ if _state_of(cb) is not None}
        if kept != now:
            raise ValueError(
                f"checkpoint {str(self.checkpoint)!r} was written with other callbacks that "
                f"decide the training ({', '.join(sorted(kept ^ now))}); give the same ones, or "
                "delete it to start again."
            )
        for name, callback in self.callbacks_:
            saved = state["callbacks"].get(name)
            if saved is not None and isinstance(callback, LRScheduler):
                callback.lr_scheduler_.load_state_dict(saved)
            elif saved is not None:
                vars(callback).update(saved)
        # A new scheduler has just set the first learning rate.
        self.optimizer_.load_state_dict(state["optimizer"])


class RoundNet(HashNet):
    """The trainer of a round. Later rounds depend on its result."""

    _has_horizon = True


class _SaveState(Callback):
    """Writes the checkpoint; it runs after the callbacks whose state it saves."""

    def on_epoch_end(self, net: HashNet, **kwargs: Any) -> None:
        net.save_state()


def _state_of(callback: Callback) -> dict[str, Any] | None:
    if isinstance(callback, LRScheduler):
        state = callback.lr_scheduler_.state_dict()
    elif isinstance(callback, EarlyStopping):
        names = ("misses_", "dynamic_threshold_", "best_epoch_", "best_model_weights_")
        state = {name: getattr(callback, name) for name in names}
    else:
        return None
    # torch.load(weights_only=True) refuses NumPy's scalars.
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in state.items()}
