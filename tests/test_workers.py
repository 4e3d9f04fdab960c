import os
import signal
import struct
import time
from multiprocessing import active_children
from multiprocessing.connection import Connection

import pytest

from cgan.errors import UserError
from cgan.workers import AHEAD, in_parallel, num_cores


def squared(number):
    return number * number


def killed_at_five(number):
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def slow(number):
    time.sleep(600 if number else 0)
    return number


def killed_in_the_midst_of_its_answer(number):
    def send_half(connection, content):
        connection._send(struct.pack("!i", len(content)) + bytes(content)[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    Connection._send_bytes = send_half  # in this worker alone
    return bytes(1000)


class NotPortable(Exception):
    def __init__(self, one, other):
        super().__init__("not portable")


def not_portable(number):
    raise NotPortable(1, 2)


def wrong(number):
    raise UserError(f"{number} is wrong")


class Counted(list):
    """Numbers that know how many of them were asked for."""

    def __iter__(self):
        self.asked = 0
        for number in range(len(self)):
            self.asked += 1
            yield number


def test_results_come_in_the_order_of_the_jobs():
    with in_parallel(squared, range(100), 7, num_workers=3) as results:
        assert list(results) == [number * number for number in range(100)]


def test_no_jobs_are_no_results():
    with in_parallel(squared, []) as results:
        assert list(results) == []


def test_a_bounded_number_of_jobs_is_under_way():
    jobs = Counted([None] * 10_000)
    with in_parallel(squared, jobs, 5, num_workers=2) as results:
        next(results)
        assert jobs.asked == 5 * 2 * AHEAD
        assert sum(1 for _ in results) == 9_999


def test_a_killed_worker_is_one_line_and_leaves_none_behind():
    with pytest.raises(UserError, match="a worker was killed, out of memory perhaps; use fewer") as error:
        with in_parallel(killed_at_five, range(10), 1, num_workers=2, advice="use fewer") as results:
            list(results)
    assert "\n" not in str(error.value) and not active_children()


def test_a_worker_that_is_killed_while_it_hands_over_a_result_hangs_nothing():
    start = time.monotonic()
    with pytest.raises(UserError, match="a worker was killed"):
        with in_parallel(killed_in_the_midst_of_its_answer, [1, 2], 1, 2) as results:
            list(results)
    assert time.monotonic() - start < 300


@pytest.mark.parametrize("reason", [SystemExit, KeyboardInterrupt, ValueError])
def test_workers_end_at_once_where_the_work_is_given_up(reason):
    start = time.monotonic()
    with pytest.raises(reason):
        with in_parallel(slow, range(4), 1, num_workers=2) as results:
            next(results)
            raise reason
    assert time.monotonic() - start < 300 and not active_children()


def test_the_error_of_a_job_is_raised():
    with pytest.raises(UserError, match="0 is wrong"):
        with in_parallel(wrong, range(9), 2, num_workers=2) as results:
            list(results)


def test_an_error_that_can_not_be_handed_over_is_told_with_its_place():
    with pytest.raises(RuntimeError, match="(?s)in not_portable.*not portable"):
        with in_parallel(not_portable, range(2), 1) as results:
            list(results)


def test_only_the_cores_that_this_process_may_use_are_counted(monkeypatch):
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert num_cores() == 1


def test_devices_and_threads_are_counted_by_the_cores_that_may_be_used(monkeypatch):
    from cgan.benchmarks.race import environment
    from cgan.training.processes import num_devices

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for module in ("cgan.training.processes", "cgan.benchmarks.race"):
        monkeypatch.setattr(f"{module}.num_cores", lambda: 3)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert num_devices("3") == 3 and environment(1)["OMP_NUM_THREADS"] == "3"
    with pytest.raises(UserError, match="this process may use 3"):
        num_devices("4")
