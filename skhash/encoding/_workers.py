"""Where shards are encoded: processes of this machine, or the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import BrokenProcessPool

__all__ = ["run_on_dask", "run_on_joblib"]

Task = tuple[Any, ...]

_STOPPED = "Finished shards are kept: call skhash.encode again, which goes on from there."


def run_on_joblib(
    function: Callable[..., Any], tasks: Iterator[Task], n_jobs: int | None
) -> Iterator[Any]:
    """Results of a function, as they come, in processes of this machine.

    Parameters
    ----------
    function : callable
        Is called with the items of each task.
    tasks : iterator of tuple
        Is asked for a task when a process is about to need one.
    n_jobs : int or None
        As in joblib.

    Yields
    ------
    object
        What the function returned, in any order.

    Raises
    ------
    RuntimeError
        If a process was killed.
    """
    failures: list[BaseException] = []

    def without_failures() -> Iterator[Any]:
        # joblib asks for tasks in a thread of its own, which an error would end in silence.
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
            f"a worker process was killed, perhaps for want of memory. {_STOPPED}"
        ) from error
    if failures:
        raise failures[0]


def run_on_dask(function: Callable[..., Any], tasks: Iterator[Task], client: Any) -> Iterator[Any]:
    """Results of a function, as they come, by the workers of a Dask cluster.

    Parameters
    ----------
    function : callable
        Is called with the items of each task.
    tasks : iterator of tuple
        Is asked for a task when a worker is about to need one.
    client : dask.distributed.Client or str
        The client, or the address of a scheduler.

    Yields
    ------
    object
        What the function returned, in any order. What a worker that died was
        at, another one does anew.

    Raises
    ------
    ImportError
        If dask.distributed is not installed.
    RuntimeError
        If the connection to the scheduler is lost, or workers die again and
        again.
    """
    try:
        from dask import distributed
        from distributed.comm.core import CommClosedError
    except ImportError as error:
        raise ImportError('client needs Dask: `pip install "scikit-hash[dask]"`.') from error
    lost = distributed.CancelledError, distributed.KilledWorker, CommClosedError
    with ExitStack() as stack:
        try:
            if isinstance(client, str):
                client = stack.enter_context(distributed.Client(client, set_as_default=False))
            running = distributed.as_completed(loop=client.loop)
            stack.callback(lambda: client.cancel(list(running.futures)))
            for task in tasks:
                running.add(client.submit(function, *task, pure=False))
                # Twice what can run at once, so that no worker waits; workers may come and go.
                while running.count() >= max(2, 2 * sum(client.nthreads().values())):
                    yield next(running).result()
            for future in running:
                yield future.result()
        except lost as error:
            raise RuntimeError(
                f"the Dask cluster gave up, or its scheduler is lost ({error!r}). {_STOPPED}"
            ) from error
