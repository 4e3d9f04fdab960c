"""What a user did wrong, and how a process may end; apart from all else, so that a command that needs no torch starts
at once."""

REQUEUE = 75  # the status of a run that a signal has ended and that wants to go on; EX_TEMPFAIL of sysexits.h


class UserError(Exception):
    """A mistake that the user can mend, in one line: what, where, what to do. Scripts show no traceback."""
