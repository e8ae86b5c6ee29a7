"""Encoding of shards by processes of this machine, or by the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import BrokenProcessPool

__all__ = ["run_on_dask", "run_on_joblib"]

Task = tuple[Any, ...]

_STOPPED = "Finished shards are kept: call skhash.encode again to continue."


def run_on_joblib(
    function: Callable[..., Any], tasks: Iterator[Task], n_jobs: int | None
) -> Iterator[Any]:
    """Yield results of a function, as they are ready, from processes of this machine.

    Parameters
    ----------
    function : callable
        Called with the items of each task.
    tasks : iterator of tuple
        The next task is taken when a process will soon need one.
    n_jobs : int or None
        As in joblib.

    Yields
    ------
    object
        Results of the function, in any order.

    Raises
    ------
    RuntimeError
        If a process was killed.
    """
    failures: list[BaseException] = []

    def without_failures() -> Iterator[Any]:
        # joblib takes tasks in a separate thread, which an error would end silently.
        try:
            for task in tasks:
                yield delayed(function)(*task)
        except BaseException as error:
            failures.append(error)

    try:
        yield from Parallel(
            n_jobs, batch_size=1, pre_dispatch="2*n_jobs", return_as="generator_unordered"
        )(without_failures())
    except BrokenProcessPool as error:
        raise RuntimeError(
            f"a worker process was killed, perhaps for lack of memory. {_STOPPED}"
        ) from error
    if failures:
        raise failures[0]


def _cancel(client: Any, running: Any) -> None:
    if client.status == "running":
        client.cancel(list(running.futures))


def run_on_dask(function: Callable[..., Any], tasks: Iterator[Task], client: Any) -> Iterator[Any]:
    """Yield results of a function, as they are ready, from the workers of a Dask cluster.

    Parameters
    ----------
    function : callable
        Called with the items of each task.
    tasks : iterator of tuple
        The next task is taken when a worker will soon need one.
    client : dask.distributed.Client or str
        The client, or the address of a scheduler.

    Yields
    ------
    object
        Results of the function, in any order. If a worker dies, another worker
        repeats its task.

    Raises
    ------
    ImportError
        If dask.distributed is not installed.
    RuntimeError
        If the connection to the scheduler is lost, the client is closed, or
        workers die repeatedly.
    TypeError
        If the client is of another type.
    """
    try:
        from dask import distributed
        from distributed.comm.core import CommClosedError
    except ImportError as error:
        raise ImportError('client needs Dask: `pip install "scikit-hash[dask]"`.') from error
    if not isinstance(client, str | distributed.Client):
        raise TypeError(f"client must be a Client of Dask or an address, got {client!r:.100}.")
    lost = distributed.CancelledError, distributed.KilledWorker, CommClosedError
    with ExitStack() as stack:
        try:
            if isinstance(client, str):
                client = stack.enter_context(distributed.Client(client, set_as_default=False))
            running = distributed.as_completed(loop=client.loop)
            stack.callback(_cancel, client, running)
            for task in tasks:
                running.add(client.submit(function, *task, pure=False))
                # Twice the tasks that can run at once, so that no worker waits; their number may
                # change.
                while running.count() >= max(2, 2 * sum(client.nthreads().values())):
                    yield next(running).result()
            for future in running:
                yield future.result()
        except Exception as error:
            closed = isinstance(client, distributed.Client) and client.status != "running"
            if not (closed or isinstance(error, lost)):
                raise
            raise RuntimeError(
                "the Dask cluster failed, its scheduler is lost, or the client was closed "
                f"({error!r}). {_STOPPED}"
            ) from error
