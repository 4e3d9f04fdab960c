"""What is asked to end ends, with the status to requeue on, whatever it is doing."""

import os
import signal
import subprocess
import sys
import time

import pytest

from helpers import ROOT

START = """
import atexit, ctypes, time
import cgan.cli.signals as signals

def wait():
    print("ready", flush=True)
    time.sleep(600)

class Wait:
    def __del__(self):
        wait()

signals.GRACE = 0.2
signals.leave_when_asked()
"""
WAYS = {
    "asleep": "wait()",
    "in a finalizer that loses exceptions": "Wait(); wait()",
    "waiting on its way out": "atexit.register(wait); wait()",
    "in a library": "print('ready', flush=True); [ctypes.CDLL(None).pause() for _ in range(99)]",
    "where all exceptions are caught": "try: wait()\nexcept BaseException: wait()",
}
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("way", WAYS)
def test_a_signal_ends_a_process_with_the_status_to_requeue_on(way, number):
    command = [sys.executable, "-c", START + WAYS[way]]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=ENVIRONMENT) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        process.send_signal(number)
        process.communicate(timeout=300)
    assert process.returncode == 75


def test_a_training_heeds_signals_before_it_loads_anything_large():
    code = """if True:
        import sys
        import cgan.cli.signals as signals
        signals.leave_when_asked = lambda: sys.exit(3 if {"torch", "omegaconf"} & set(sys.modules) else 4)
        from cgan.cli.train import main
        main(["nowhere.yaml"])"""
    assert subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT).returncode == 4
