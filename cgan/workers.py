"""Worker processes: a list is worked through on every usable core, and the results come in its order.

A worker ends with the process that started it, however that ends. Where a worker is killed, the work ends in one line.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from signal import SIG_DFL, SIG_IGN, SIGINT, SIGTERM, signal

from cgan.errors import UserError

AHEAD = 4  # chunks for each worker that are handed out before the first of them is taken back
FEWER = "run the same again with more free memory, or on fewer cores (taskset -c 0-3 COMMAND)"


def num_cores() -> int:
    """How many cores this process may use, where the system says; otherwise how many there are."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        return os.process_cpu_count() or 1
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


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
    """Gives the results of work(job) for each job, in order; raises UserError when a worker is killed.

    Only a bounded number of jobs and results exists at a time: AHEAD chunks for each worker, or `ahead` if it is more.
    When the block is left by an error, the workers end at once, in the midst of their work. `work` must be known to
    other processes by its name.
    """
    number = max(1, min(num_workers or num_cores(), -(-len(jobs) // chunksize)))
    context = context or get_context()
    ear, mouth = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(number, context, initializer=obey_parent, initargs=(ear,))
    try:
        yield in_order(pool, work, jobs, chunksize, max(ahead, AHEAD * number))
    except BrokenProcessPool:
        time.sleep(0.2)  # a signal to all processes of the group comes here too: it is heard first
        raise UserError(f"a worker was killed, out of memory perhaps; {advice}") from None
    except BaseException:
        mouth.send_bytes(b"end")  # nobody reads it: that it can be read is the sign, for all of them
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        ear.close()
        mouth.close()


def in_order(pool: ProcessPoolExecutor, work: Callable, jobs: Collection, chunksize: int, ahead: int) -> Iterator:
    """The results of all jobs, of which `ahead` chunks are under way at a time."""
    remaining, begun = iter(jobs), deque()
    while True:
        while len(begun) < ahead and (chunk := list(islice(remaining, chunksize))):
            begun.append(pool.submit(work_through, work, chunk))
        if not begun:
            return
        first: Future = begun.popleft()
        yield from first.result()


def work_through(work: Callable, chunk: list) -> list:
    return [work(job) for job in chunk]


def obey_parent(ear: Connection) -> None:
    """Ctrl-C is the parent's to answer; where the parent ends, or says so, its worker ends as well."""
    signal(SIGINT, SIG_IGN)
    signal(SIGTERM, SIG_DFL)  # a forked worker has inherited the parent's handler
    threading.Thread(target=end_with_parent, args=(ear,), daemon=True).start()


def end_with_parent(ear: Connection) -> None:
    wait([parent_process().sentinel, ear])
    os._exit(1)
