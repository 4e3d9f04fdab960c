"""Processes that have imported torch and Lightning when they begin.

A new interpreter spends seconds on these imports, and the tests start dozens. multiprocessing's fork server imports
once; each process is a fork of it. A script runs there as Python would run it: in a session of its own, with an
environment, a folder, an output and a status of its own.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest import mock

from torch import distributed
from torch.multiprocessing import start_processes

from helpers import ROOT

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["cgan.training.run", "cgan.sampling.pipeline", "helpers.forked"])
ITS_PATH = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}  # for the server, which the first process starts


def run(script: str, arguments: list[str], cwd: Path, environment: dict[str, str], outputs: list[str]) -> None:
    """What a forked process does."""
    os.setsid()
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    multiprocessing.set_start_method(None, force=True)  # the usual one, for workers of the script
    sys.argv = [script, *arguments]
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out


def in_processes(count: int, function: Callable, *arguments: object) -> None:
    """Calls function(rank, *arguments) in so many processes at once; raises the exception of one that fails."""
    whole = function, dict(os.environ), arguments
    with mock.patch.dict(os.environ, ITS_PATH):
        start_processes(call, whole, nprocs=count, start_method="forkserver")


def call(rank: int, function: Callable, environment: dict[str, str], arguments: tuple) -> None:
    """What one of several processes does, in the environment of now, not that of the server's start."""
    os.environ.clear()
    os.environ.update(environment)
    multiprocessing.set_start_method(None, force=True)  # otherwise its own workers would start another fork server
    function(rank, *arguments)


def stat_of(number: int | str) -> list[str]:
    """What Linux tells of a process after its name; nothing where it has ended."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def state_of(number: int | str) -> str:
    """The letter of a process: T where it has been stopped, Z where it has ended."""
    return (stat_of(number) or "Z")[0]


def cpu_seconds(number: int) -> float:
    """What a process has computed until now, which other processes do not prolong; 0 where it has ended."""
    return sum(map(int, stat_of(number)[11:13])) / os.sysconf("SC_CLK_TCK")


def meet(rank: int, count: int, folder: Path) -> None:
    """Connects so many processes by gloo: over a file, as a port that is free now may be taken by another process."""
    place = f"file://{folder}/meeting-of-{count}"
    distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=count)


def empty_file() -> str:
    """The path of a new empty file."""
    number, path = tempfile.mkstemp(prefix="cgan-")
    os.close(number)
    return path


class Forked:
    """A script that runs; it has those methods of subprocess.Popen that the tests use."""

    def __init__(self, script: Path, *arguments: str, cwd: Path, environment: Mapping[str, str]) -> None:
        self.outputs = [empty_file() for _ in ("stdout", "stderr")]
        self.written: list[str] = []
        whole = str(script), list(arguments), cwd, dict(environment), self.outputs
        self.process = SERVER.Process(target=run, args=whole)
        with mock.patch.dict(os.environ, ITS_PATH):
            self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid
        atexit.register(self.kill)  # multiprocessing would wait for what a failed test has left

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for the end; returns stdout and stderr, or raises subprocess.TimeoutExpired."""
        self.process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(self.process.name, timeout or 0)
        for path in map(Path, self.outputs):
            self.written.append(path.read_text())
            path.unlink()
        self.outputs = []
        return self.written[0], self.written[1]
