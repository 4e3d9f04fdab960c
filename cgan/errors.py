"""Errors that users see in one line, and exit statuses.

Imports nothing, so that commands without torch start at once.
"""

CTRL_C = 130  # the status of what Ctrl-C ends, as shells have it
REQUEUE = 75  # the status of a run that a signal has ended and that wants to go on; EX_TEMPFAIL of sysexits.h


class UserError(Exception):
    """A mistake that the user can correct, in one line: what, where, and what to do. Scripts show no traceback."""

    def __init__(self, message: object = "") -> None:
        super().__init__(without_traceback(str(message)))


class FirstProcessReports(Exception):
    """Ends a process that is not the first of its training, where the first one raises the UserError for all."""


def without_traceback(message: str) -> str:
    """Returns an error's message without the traceback that a DataLoader's worker process puts before it."""
    if not message.startswith("Caught ") or "DataLoader worker" not in message.split("\n")[0]:
        return message
    return message.rstrip().rpartition("\n")[2].partition(": ")[2]


def how_to_install(extra: str) -> str:
    """Returns the command that installs an optional extra of pyproject.toml; cgan itself is on no package index."""
    return f'pip install -e ".[{extra}]" from the checkout'
