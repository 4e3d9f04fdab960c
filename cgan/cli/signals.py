"""Handles signals outside of training steps, where there is nothing to save. It does not import torch."""

import multiprocessing
import os
import signal
import sys
import threading
import time

from cgan.errors import REQUEUE

GRACE = 5.0  # seconds in which a process that was asked to end may do so by itself
ASKED = (signal.SIGTERM, signal.SIGUSR1)


class Asked:
    """Records whether a signal has arrived, and whether this process handles it."""

    before = prepared = False


def leave_when_asked() -> None:
    """Let SIGTERM and SIGUSR1 end this process with status 75 from now on, at the latest after GRACE seconds."""
    Asked.before = False
    for number in ASKED:
        signal.signal(number, leave)
    if not Asked.prepared:
        Asked.prepared = True
        os.register_at_fork(after_in_child=die_when_asked)
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)  # hears also while the main thread waits in C
        threading.Thread(target=watch, args=(reading,), daemon=True).start()


def leave(*_) -> None:
    """End by SystemExit, so that files are tidied up; asked twice, at once."""
    if Asked.before:
        end_now()
    Asked.before = True
    sys.exit(REQUEUE)


def watch(signals: int) -> None:
    """End this process where the SystemExit is lost, or something waits for ever on the way out."""
    while heard := os.read(signals, 1):
        if signal.getsignal(heard[0]) is leave:
            time.sleep(GRACE)
            end_now()


def end_now() -> None:
    """Ends the children of this process, and then itself, at once."""
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(REQUEUE)


def die_when_asked() -> None:
    """Let a forked process end at once on a signal, unlike the process that it was forked from.

    A pool ends its workers by SIGTERM, and would wait for ever for one that lost the SystemExit of a handler.
    """
    signal.set_wakeup_fd(-1)
    for number in ASKED:
        signal.signal(number, signal.SIG_DFL)
