"""What a user can mend. It stands alone, so that a script says it, and its --help, without loading torch."""


class UserError(Exception):
    """A mistake that the user can mend, in one line: what, where, what to do. Scripts show no traceback."""
