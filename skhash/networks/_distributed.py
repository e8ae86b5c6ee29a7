"""One training by several processes, as ``torchrun`` starts them.

Within :func:`together`, :func:`processes` are those that take part; everywhere else, and in a
program that is one process, it is this one alone, and all that is asked of it costs nothing.
"""

from __future__ import annotations

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
import torch
import torch.distributed as dist

__all__ = ["Processes", "cuda_name", "is_first", "processes", "share", "together"]

T = TypeVar("T")

# How long one process may compute while the others wait for it. One that ends is noticed at once.
_PATIENCE = timedelta(hours=2)
_PACK_SIZE = 2**26  # bytes of tensors that are sent as one
_LOST = (
    "another process of this training has ended, or cannot be reached any more; its own messages "
    "say why. Start the job again: with checkpoint= it goes on from the last complete epoch."
)

_SAME_DATA = (
    "give each the same data in the same order (sort the names of files, and draw parts of the "
    "data with a fixed random_state), and the same parameters."
)


def share(n: int, rank: int, size: int) -> slice:
    """The part of n things that one of several processes takes; parts differ by one at most."""
    return slice(n * rank // size, n * (rank + 1) // size)


class Processes:
    """The processes of a training, each of which runs the same program on the same data.

    Parameters
    ----------
    rank : int, default=0
        Number of this process among them.
    size : int, default=1
        How many they are; for one, no method does anything.
    group : ProcessGroup, default=None
        Which of torch's groups exchanges what is on the CPU; None is the default one, which
        always exchanges what is on GPUs.
    """

    def __init__(self, rank: int = 0, size: int = 1, group: Any = None) -> None:
        self.rank = rank
        self.size = size
        self._group = group

    def _group_of(self, tensor: torch.Tensor) -> Any:
        return None if tensor.is_cuda else self._group

    # Values of any kind.

    def first(self, value: T) -> T:
        """The value that the first process has."""
        return self._broadcast(value, 0)

    def first_only(self, function: Callable[[], T]) -> T:
        """Call a function in the first process alone; all get its result, or its exception."""
        if self.size == 1:
            return function()
        result, error = _outcome(function) if self.rank == 0 else (None, None)
        return self._settle([self.first((result, _portable(error)))], error)[0]

    def each(self, n: int, compute: Callable[[slice], T], step: int = 1) -> list[T]:
        """Compute something of n things, each process of its share of them.

        Parameters
        ----------
        n : int
            How many things there are; all processes know them all.
        compute : callable
            Called with the slice that is the share of this process.
        step : int, default=1
            Shares begin at multiples of it, of which there is at least one for each process.

        Returns
        -------
        list
            The results of all processes, in the order of their shares. An exception in one of
            them is raised in all.
        """
        if self.size == 1:
            return [compute(slice(0, n))]
        batches = share(-(-n // step), self.rank, self.size)
        own = slice(batches.start * step, min(batches.stop * step, n))
        result, error = _outcome(lambda: compute(own))
        outcome = (result, _portable(error))
        return self._settle([self._broadcast(outcome, rank) for rank in range(self.size)], error)

    def check_same(self, remedy: str, **values: Any) -> None:
        """Refuse values that must be the same in all processes and are not.

        Raises
        ------
        ValueError
            In all of them; names the values, and ends with the remedy.
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
                    f"the processes of this training differ in {name.replace('_', ' ')}"
                    f"{numbers and f' ({numbers})'}; {remedy}"
                )

    def check_same_data(self, **data: Any) -> None:
        """Refuse data or parameters of a fit that are not the same in all processes."""
        if self.size > 1:
            known = {k: v if isinstance(v, int) else joblib.hash(v) for k, v in data.items()}
            self.check_same(_SAME_DATA, **known)

    def check_same_fit(self, X: Any, **others: Any) -> None:
        """Refuse arguments of ``fit`` that differ; of X, which may be read late, its length."""
        number = len(X) if isinstance(X, Sized) else None
        self.check_same_data(number_of_samples=number, **others)

    def wait(self) -> None:
        """Wait until all processes are here."""
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
        """Results of outcomes, or the first exception among them; this process raises its own."""
        for rank, (_, raised) in enumerate(outcomes):
            if raised is not None:
                raise error if rank == self.rank and error is not None else raised
        return [result for result, _ in outcomes]

    # Tensors of a training.

    def gather(self, outputs: torch.Tensor, n: int) -> torch.Tensor:
        """Outputs for a whole batch, of which each process has computed its share.

        The own share keeps its gradient, the others are constants. So the loss of the whole
        batch, which every process computes, has in each the gradient by its own share;
        :meth:`average` adds them up.

        Parameters
        ----------
        outputs : Tensor of shape (n_own, ...)
            Those of the share of this process, or of any one sample if that is empty.
        n : int
            Samples in the batch.

        Returns
        -------
        Tensor of shape (n, ...)
        """
        if self.size == 1:
            return outputs
        parts = [share(n, rank, self.size) for rank in range(self.size)]
        lengths = [part.stop - part.start for part in parts]
        own = outputs[: lengths[self.rank]]
        # Of one length, as every backend takes them.
        padded = own.new_zeros((max(lengths), *own.shape[1:]))
        padded[: len(own)] = own.detach()
        gathered = [torch.empty_like(padded) for _ in parts]
        with _losses_named():
            dist.all_gather(gathered, padded, group=self._group_of(padded))
        shares = [rows[:length] for rows, length in zip(gathered, lengths, strict=True)]
        shares[self.rank] = own
        if own.requires_grad:
            # What is averaged afterwards is the sum of what comes through the outputs. Gradients
            # that come another way, of a loss's own parameters or of a term about the network's
            # weights, are whole in every process, and their average is what they are.
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
            # None is the gradient of what was not used, which an optimiser leaves as it is.
            if parameter.grad is None and gradient.any():
                parameter.grad = gradient

    @torch.no_grad()
    def copy_first(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrite tensors by those of the first process."""
        if self.size == 1:
            return
        for flat in _packed(tensors):
            with _losses_named():
                dist.broadcast(flat, 0, group=self._group_of(flat))


def _packed(tensors: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Vectors of many tensors, which are written back after use: messages cost more than bytes."""
    packs: dict[Any, list[torch.Tensor]] = {}
    n_bytes = 0
    for tensor in tensors:
        kind = tensor.dtype, tensor.device, n_bytes // _PACK_SIZE
        packs.setdefault(kind, []).append(tensor)
        n_bytes += tensor.nbytes
    for pack in packs.values():
        flat = torch.cat([tensor.reshape(-1) for tensor in pack])
        # No backend exchanges truth values.
        yield flat.view(torch.uint8) if flat.dtype == torch.bool else flat
        parts = flat.split([tensor.numel() for tensor in pack])
        for tensor, part in zip(pack, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


_ALONE = Processes()
_current: ContextVar[Processes | None] = ContextVar("_current", default=None)
_busy = Lock()


def processes() -> Processes:
    """Those of the training that is going on, or this one alone."""
    return _current.get() or _ALONE


@contextmanager
def together() -> Iterator[Processes]:
    """Frame of a training by all processes of the job; within another one it is the same.

    The job is what ``torchrun`` started, or a process group that the program has made. Leaving
    the frame by an exception ends it for all: who waits for this process gets an exception, too.
    Warnings are those of the first process.

    Yields
    ------
    Processes
        As :func:`processes` returns them within.

    Raises
    ------
    RuntimeError
        If another process ends, or another thread is within such a frame.
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
            job.wait()  # or whoever leaves first is taken for lost
        finally:
            _current.reset(token)


def is_first() -> bool:
    """Whether this is the process that shows progress: the first of a job, or the only one."""
    return _place()[0] == 0


def cuda_name() -> str:
    """Name of the GPU of this process: in a job, that of its number on this machine."""
    number = os.environ.get("LOCAL_RANK")
    of_many = dist.is_available() and dist.is_torchelastic_launched()
    # A launcher may also let each process see none but its own.
    if not of_many or number is None or torch.cuda.device_count() == 1:
        return "cuda"
    return f"cuda:{number}"


def _place() -> tuple[int, int]:
    """Number of this process in its job, and how many these are."""
    if not dist.is_available():
        return 0, 1
    if dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    # What a process of a job starts in turn, such as workers of joblib, is no part of the job.
    if dist.is_torchelastic_launched() and multiprocessing.parent_process() is None:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return 0, 1


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Refuse a second thread, whose messages would be taken for those of the first."""
    if not _busy.acquire(blocking=False):
        raise RuntimeError(
            "another thread is in a training of all processes of this job; fit one after another."
        )
    try:
        yield
    finally:
        _busy.release()


@contextmanager
def _joined(rank: int, size: int) -> Iterator[Processes]:
    """Connect the processes of a job, and close the connections, which others notice."""
    excepthook = sys.excepthook  # which torch wraps again for each group
    if dist.is_initialized():  # by the program: for GPUs, perhaps, and nothing else
        with _losses_named():
            group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    else:
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
    """Where the processes of a group find each other.

    The store of a job keeps the addresses of earlier groups, and of those before a restart.
    """
    from torch.distributed.distributed_c10d import PrefixStore

    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return PrefixStore(f"skhash/{attempt}/{next(_groups)}", _job_store())


@contextmanager
def _losses_named() -> Iterator[None]:
    """Say in plain words what it means that processes cannot speak to each other."""
    try:
        yield
    except RuntimeError as error:
        # "[file:line] Connection closed by peer [address]. This is typically caused by ..."
        cause = re.sub(r"^\[\S*\] ", "", str(error)).split(". ")[0]
        raise RuntimeError(f"{_LOST} ({cause})") from error


def _outcome(function: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """Result or exception of a function, for which this process is alone."""
    token = _current.set(_ALONE)
    try:
        return function(), None
    except Exception as error:
        return None, error
    finally:
        _current.reset(token)


def _portable(error: Exception | None) -> Exception | None:
    """An exception as it can be raised in another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
