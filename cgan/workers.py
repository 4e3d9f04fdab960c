"""Applies a function to a list in parallel worker processes, one for each usable core, and yields results in order.

Workers end with the process that started them, for whatever reason it ends. If a worker is killed, a UserError is
raised. Python's own pools hang if a worker is killed while it sends a result, because all workers share one pipe. Here
each worker has its own pipe, which closes when it ends.
"""

import os
import pickle
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from signal import SIG_DFL, SIG_IGN, SIGINT, SIGTERM, signal
from typing import TypeVar

from cgan.errors import UserError

AHEAD = 4  # chunks for each worker that are handed out before the first of them is taken back
FEWER = "run the same again with more free memory, or on fewer cores (taskset -c 0-3 COMMAND)"
T = TypeVar("T")


class WorkerKilled(Exception):
    """Raised if a worker ends before it has returned its results."""


def num_cores() -> int:
    """Returns how many cores this process may use; the number of the machine's cores if the system does not tell."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        return os.process_cpu_count() or 1  # pyright: ignore
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


# ---------------------------------------------------------------------------------------------- in the worker


def serve(parent: Connection, work: Callable) -> None:
    """Receives chunks of jobs, and sends the list of their results, or the first exception that a job raises."""
    signal(SIGINT, SIG_IGN)  # Ctrl-C is the parent's to answer
    signal(SIGTERM, SIG_DFL)  # a forked worker has inherited the parent's handler
    threading.Thread(target=end_with_parent, daemon=True).start()
    while True:
        chunk = parent.recv()
        try:
            answer = [work(job) for job in chunk]
        except Exception as error:
            answer = portable(error)
        parent.send(answer)


def portable(error: Exception) -> Exception:
    """Returns an exception that can be pickled, with the traceback of this process as a note."""
    error.add_note(traceback.format_exc())
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError("".join(traceback.format_exception(error)))
    return error


def end_with_parent() -> None:
    """Waits for the end of the parent process, then ends this one."""
    parent = parent_process()
    assert parent is not None  # this runs in workers alone
    wait([parent.sentinel])
    os._exit(1)


# ---------------------------------------------------------------------------------------------- in the parent


class Worker:
    """A process that applies a function to jobs, and the connection to it."""

    def __init__(self, work: Callable, context: BaseContext) -> None:
        self.connection, other_end = context.Pipe()
        self.process: BaseProcess = context.Process(  # pyright: ignore (every context has it)
            target=serve, args=(other_end, work), daemon=True
        )
        self.process.start()
        other_end.close()  # so that the connection ends with the worker

    def results_of(self, chunk: list) -> list:
        """Returns the results of a chunk of jobs.

        Raises a job's exception, and WorkerKilled if the worker has ended.
        """
        try:
            self.connection.send(chunk)
            answer = self.connection.recv()
        except (EOFError, OSError) as error:
            raise WorkerKilled from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def end(self) -> None:
        """Kills the process at once, even if it is working."""
        self.process.kill()


@contextmanager
def in_parallel(
    work: Callable,
    jobs: Collection,
    chunksize: int = 1,
    num_workers: int | None = None,
    advice: str = FEWER,
    ahead: int = 0,
    context: BaseContext | None = None,
) -> Iterator[Iterator]:
    """Yields an iterator over the results of work(job) for each job, in order; raises UserError if a worker is killed.

    The number of jobs and results in memory is bounded: AHEAD chunks for each worker, or `ahead` chunks if that is
    more. If an error ends the block, the workers are killed at once. `work` must be picklable.
    """
    number = max(1, min(num_workers or num_cores(), -(-len(jobs) // chunksize)))
    context = context or get_context()
    workers: list[Worker] = []
    threads = ThreadPoolExecutor(number)  # one for each worker; none of them runs before all workers are forked
    try:
        for _ in range(number):
            workers.append(Worker(work, context))
        yield in_order(threads, workers, jobs, chunksize, max(ahead, AHEAD * number))
    except WorkerKilled as error:
        time.sleep(0.2)  # a signal to all processes of the group comes here too: it is heard first
        raise UserError(f"a worker was killed, out of memory perhaps; {advice}") from error
    finally:
        for worker in workers:
            worker.end()
        threads.shutdown(cancel_futures=True)
        for worker in workers:
            worker.process.join()
            worker.connection.close()


def in_order(
    threads: ThreadPoolExecutor, workers: list[Worker], jobs: Collection, chunksize: int, ahead: int
) -> Iterator:
    """Yields the results of all jobs in order, with `ahead` chunks in progress at a time."""
    idle: SimpleQueue[Worker] = SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def work_through(chunk: list) -> list:
        worker = idle.get()
        try:
            return worker.results_of(chunk)
        finally:
            idle.put(worker)

    remaining, begun = iter(jobs), deque()
    while True:
        while len(begun) < ahead and (chunk := list(islice(remaining, chunksize))):
            begun.append(threads.submit(work_through, chunk))
        if not begun:
            return
        first: Future = begun.popleft()
        yield from first.result()


# ---------------------------------------------------------------------------------------------- progress

Progress = Callable[[int, int], None]  # a callback (done, total) that library functions call as their work proceeds


def silent(*_: object) -> None:
    """Does nothing; the default of `report` and `progress` in library functions."""


class ProgressCounter:
    """Counts finished items, starting at `done`, and passes the count to a progress callback."""

    def __init__(self, progress: Progress, total: int, done: int = 0) -> None:
        self.progress, self.total, self.done = progress, total, done
        progress(done, total)

    def add(self, number: int = 1) -> None:
        """Adds to the number of finished items."""
        self.done += number
        self.progress(self.done, self.total)

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """Yields the items, and counts each of them when the next one is requested."""
        for item in items:
            yield item
            self.add()
