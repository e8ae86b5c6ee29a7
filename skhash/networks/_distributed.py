"""One training by several processes, started by ``torchrun``.

Within :func:`together`, :func:`processes` returns the processes of the training. Everywhere else,
and in a program with one process, it returns this process only, and its methods cost nothing.
"""

from __future__ import annotations

import importlib
import itertools
import multiprocessing
import os
import pickle
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from functools import lru_cache
from threading import Lock
from typing import Any, TypeVar

import joblib
import scipy.sparse as sp
import torch
import torch.distributed as dist

from ._versions import check_torch

__all__ = ["Processes", "cuda_name", "is_first", "processes", "share", "together"]

T = TypeVar("T")

# The oldest version tested. With 2.6 processes wait forever when they close their connections.
_TORCH = 2, 13

# How long processes wait for another one that still computes. If it ends, they notice at once.
_PATIENCE = timedelta(hours=2)
_PACK_SIZE = 2**26  # bytes of tensors that are sent as one
_LOST = (
    "another process of this training has ended, or cannot be reached any more; its messages show "
    "the cause. Start the job again: with checkpoint= it continues after the last complete epoch."
)

_SAME_DATA = (
    "give each the same data in the same order (sort the names of files, and choose parts of the "
    "data with a fixed random_state), and the same parameters."
)
# Parameters that may differ: they do not decide what is learned, or those of the first process do.
_OF_ONE_PROCESS = {
    *("cache", "callbacks", "checkpoint", "device", "num_workers", "random_state", "verbose"),
    "weights",
}
_PLAIN = (bool, float, int, str, list, tuple, type(None))


def share(n: int, rank: int, size: int) -> slice:
    """The share of n items for one of several processes; shares differ by at most one item."""
    return slice(n * rank // size, n * (rank + 1) // size)


class Processes:
    """The processes of a training. Each runs the same program on the same data.

    Parameters
    ----------
    rank : int, default=0
        Number of this process among them.
    size : int, default=1
        Number of processes. With one process, no method has an effect.
    group : ProcessGroup, default=None
        The torch group that exchanges data on the CPU. None is the default group, which always
        exchanges data on GPUs.
    """

    def __init__(self, rank: int = 0, size: int = 1, group: Any = None) -> None:
        self.rank = rank
        self.size = size
        self._group = group

    def _group_of(self, tensor: torch.Tensor) -> Any:
        return None if tensor.is_cuda else self._group

    # Values of any kind.

    def first(self, value: T) -> T:
        """The value of the first process."""
        return self._broadcast(value, 0)

    def first_only(self, function: Callable[[], T]) -> T:
        """Call a function in the first process only; all get its result or its exception."""
        if self.size == 1:
            return function()
        result, error = _outcome(function) if self.rank == 0 else (None, None)
        return self._settle([self.first((result, _portable(error)))], error)[0]

    def each(self, n: int, compute: Callable[[slice], T], step: int = 1) -> list[T]:
        """Compute something for n items, each process for its share.

        Parameters
        ----------
        n : int
            Number of items; all processes have all items.
        compute : callable
            Called with the slice of this process's share.
        step : int, default=1
            Shares begin at multiples of it. There must be at least one multiple per process.

        Returns
        -------
        list
            The results of all processes, in the order of their shares. An exception in one
            process is raised in all.
        """
        if self.size == 1:
            return [compute(slice(0, n))]
        batches = share(-(-n // step), self.rank, self.size)
        own = slice(batches.start * step, min(batches.stop * step, n))
        result, error = _outcome(lambda: compute(own))
        outcome = (result, _portable(error))
        return self._settle([self._broadcast(outcome, rank) for rank in range(self.size)], error)

    def check_same(self, remedy: str, **values: Any) -> None:
        """Raise an error if values are not the same in all processes.

        Raises
        ------
        ValueError
            In all processes. The message names the values and ends with the remedy.
        """
        if self.size == 1:
            return
        of_all: list[Any] = [None] * self.size
        with _losses_named():
            dist.all_gather_object(of_all, values, group=self._group)
        for name in values:
            found = [of_one[name] for of_one in of_all]
            if any(value != found[0] for value in found):
                numbers = ", ".join(map(str, found)) if isinstance(found[0], int) else ""
                raise ValueError(
                    f"the processes of this training differ in {name}"
                    f"{numbers and f' ({numbers})'}; {remedy}"
                )

    def check_same_data(self, **data: Any) -> None:
        """Raise an error if data or parameters of a fit differ between processes."""
        if self.size > 1:
            known = {k: v if isinstance(v, int) else joblib.hash(v) for k, v in data.items()}
            self.check_same(_SAME_DATA, **known)

    def check_same_fit(self, estimator: Any, X: Any, **others: Any) -> None:
        """Raise an error if parameters or arguments of ``fit`` differ.

        Processes with other parameters might wait for each other without end. Of X only the length
        is compared, and of parameters that are objects the type.
        """
        if self.size == 1:  # X has not been checked yet
            return
        parameters = {
            name: value if isinstance(value, _PLAIN) else type(value).__name__
            for name, value in sorted(estimator.get_params().items())  # an object before its own
            if name.split("__")[-1] not in _OF_ONE_PROCESS
        }
        self.check_same_data(hasher=type(estimator).__name__, **parameters)
        number = len(X) if isinstance(X, Sized) and not sp.issparse(X) else None
        self.check_same_data(**{"number of samples": number}, **others)

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self.size > 1:
            with _losses_named():
                dist.all_reduce(torch.zeros(1), group=self._group)

    def _broadcast(self, value: T, rank: int) -> T:
        if self.size == 1:
            return value
        box = [value if rank == self.rank else None]
        with _losses_named():
            dist.broadcast_object_list(box, rank, group=self._group, device=torch.device("cpu"))
        return value if rank == self.rank else box[0]  # type: ignore[return-value]

    def _settle(self, outcomes: list[Any], error: Exception | None) -> list[Any]:
        """Return the results, or raise the first exception; a process raises its own first."""
        for rank, (_, raised) in enumerate(outcomes):
            if raised is not None:
                raise error if rank == self.rank and error is not None else raised
        return [result for result, _ in outcomes]

    # Tensors of a training.

    def gather(self, outputs: torch.Tensor, n: int) -> torch.Tensor:
        """Outputs for a whole batch; each process has computed its share.

        The share of this process keeps its gradient; the other shares are constants. Every
        process computes the loss of the whole batch and its gradient with respect to its share.
        :meth:`average` adds these gradients.

        Parameters
        ----------
        outputs : Tensor of shape (n_own, ...)
            Outputs for the share of this process, or for any one sample if the share is empty.
        n : int
            Number of samples in the batch.

        Returns
        -------
        Tensor of shape (n, ...)
        """
        if self.size == 1:
            return outputs
        parts = [share(n, rank, self.size) for rank in range(self.size)]
        lengths = [part.stop - part.start for part in parts]
        own = outputs[: lengths[self.rank]]
        # With equal lengths, which every backend supports.
        padded = own.new_zeros((max(lengths), *own.shape[1:]))
        padded[: len(own)] = own.detach()
        gathered = [torch.empty_like(padded) for _ in parts]
        with _losses_named():
            dist.all_gather(gathered, padded, group=self._group_of(padded))
        shares = [rows[:length] for rows, length in zip(gathered, lengths, strict=True)]
        shares[self.rank] = own
        if own.requires_grad:
            # The average of gradients must be the sum of those that pass through the outputs, so
            # these are multiplied by the number of processes. Other gradients, of the parameters
            # of a loss or of a term with the network's weights, are complete in every process.
            own.register_hook(lambda gradient: gradient * self.size)
        return torch.cat(shares)

    @torch.no_grad()
    def average(self, parameters: Iterable[torch.Tensor]) -> None:
        """Average the gradients of parameters."""
        if self.size == 1:
            return
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        for flat in _packed(gradients):
            with _losses_named():
                dist.all_reduce(flat, group=self._group_of(flat))
            flat /= self.size
        for parameter, gradient in zip(trained, gradients, strict=True):
            # The gradient of an unused parameter is None, and an optimiser does not change it.
            if parameter.grad is None and gradient.any():
                parameter.grad = gradient

    @torch.no_grad()
    def copy_first(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrite tensors with those of the first process."""
        if self.size == 1:
            return
        for flat in _packed(tensors):
            with _losses_named():
                dist.broadcast(flat, 0, group=self._group_of(flat))


def _packed(tensors: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Many tensors packed into few vectors, to send few messages; written back after use."""
    packs: dict[Any, list[torch.Tensor]] = {}
    n_bytes = 0
    for tensor in tensors:
        kind = tensor.dtype, tensor.device, n_bytes // _PACK_SIZE
        packs.setdefault(kind, []).append(tensor)
        n_bytes += tensor.nbytes
    for pack in packs.values():
        flat = torch.cat([tensor.reshape(-1) for tensor in pack])
        # No backend exchanges booleans.
        yield flat.view(torch.uint8) if flat.dtype == torch.bool else flat
        parts = flat.split([tensor.numel() for tensor in pack])
        for tensor, part in zip(pack, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


_ALONE = Processes()
_current: ContextVar[Processes | None] = ContextVar("_current", default=None)
_busy = Lock()


def processes() -> Processes:
    """The processes of the current training, or only this process."""
    return _current.get() or _ALONE


@contextmanager
def together() -> Iterator[Processes]:
    """Context of a training by all processes of the job; a nested context is the outer one.

    The job was started by ``torchrun``, or is a process group that the program has made. An
    exception that leaves the context ends it for all: processes that wait for this one get an
    exception, too. Only the first process shows warnings.

    Yields
    ------
    Processes
        The processes that :func:`processes` returns within the context.

    Raises
    ------
    RuntimeError
        If another process ends, or another thread is within such a context.
    """
    rank, size = _place()
    if size == 1 or _current.get() is not None:
        yield processes()
        return
    with _one_at_a_time(), _joined(rank, size) as job, warnings.catch_warnings():
        if rank:
            warnings.simplefilter("ignore")
        token = _current.set(job)
        try:
            yield job
            job.wait()  # otherwise the others would report the first process that ends as lost
        finally:
            _current.reset(token)


def is_first() -> bool:
    """Whether this is the process that shows progress: the first of a job, or the only one."""
    return _place()[0] == 0


def cuda_name() -> str:
    """Name of the GPU of this process: in a job, the GPU with its number on this machine."""
    number = os.environ.get("LOCAL_RANK")
    of_many = dist.is_available() and dist.is_torchelastic_launched()
    # A launcher may also show each process only its own GPU.
    if not of_many or number is None or torch.cuda.device_count() == 1:
        return "cuda"
    return f"cuda:{number}"


def _place() -> tuple[int, int]:
    """Number of this process in its job, and number of processes."""
    if not dist.is_available():
        return 0, 1
    if dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    if dist.is_torchelastic_launched() and _is_of_job():
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return 0, 1


def _is_of_job() -> bool:
    """Whether torchrun started this process, and not another process of the job (joblib, a fork).

    What a process starts has its environment, so the process of the job leaves its number there.
    """
    if multiprocessing.parent_process() is not None:
        return False
    # The number of another job counts for that one only.
    mark = f"SKHASH_PROCESS_OF_{os.environ['TORCHELASTIC_RUN_ID']}_{os.environ['MASTER_PORT']}"
    return os.environ.setdefault(mark, str(os.getpid())) == str(os.getpid())


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Raise an error in a second thread, because messages of two threads would be mixed up."""
    if not _busy.acquire(blocking=False):
        raise RuntimeError(
            "another thread is in a training of this job's processes; fit one hasher at a time."
        )
    try:
        yield
    finally:
        _busy.release()


@contextmanager
def _joined(rank: int, size: int) -> Iterator[Processes]:
    """Connect the processes of a job; close the connections at the end, so that others notice."""
    check_torch(_TORCH, "training by several processes")
    excepthook = sys.excepthook  # which torch wraps again for each group
    if dist.is_initialized():  # by the program, perhaps only for GPUs
        with _losses_named():
            group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    else:
        # Its functions have as a default the group that exists when it is first imported, which
        # the first optimiser does. The threads of that group would never end, and might abort the
        # process when Python ends.
        importlib.import_module("torch.distributed.nn.functional")
        gpus = torch.cuda.is_available() and dist.is_nccl_available()
        with _losses_named():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if gpus else "gloo",
                store=_new_store(),
                rank=rank,
                world_size=size,
                timeout=_PATIENCE,
            )
        group = None
    try:
        yield Processes(rank, size, group)
    finally:
        dist.destroy_process_group(group)
        sys.excepthook = excepthook


_groups = itertools.count()


@lru_cache(maxsize=1)
def _job_store() -> Any:
    from torch.distributed.rendezvous import rendezvous

    return next(rendezvous("env://", timeout=_PATIENCE))[0]


def _new_store() -> Any:
    """A store of addresses with which the processes of a group connect.

    The prefix is new for each group, because the store of a job keeps the addresses of earlier
    groups, also of groups before a restart.
    """
    from torch.distributed.distributed_c10d import PrefixStore

    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return PrefixStore(f"skhash/{attempt}/{next(_groups)}", _job_store())


@contextmanager
def _losses_named() -> Iterator[None]:
    """Explain, in the error, why processes cannot communicate."""
    try:
        yield
    except RuntimeError as error:
        # "[file:line] Connection closed by peer [address]. This is typically caused by ..."
        cause = re.sub(r"^\[\S*\] ", "", str(error)).split(". ")[0]
        raise RuntimeError(f"{_LOST} ({cause})") from error


def _outcome(function: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """Result or exception of a function, which runs as if this process were the only one."""
    token = _current.set(_ALONE)
    try:
        return function(), None
    except Exception as error:
        return None, error
    finally:
        _current.reset(token)


def _portable(error: Exception | None) -> Exception | None:
    """An exception that can be pickled, to be raised in another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
