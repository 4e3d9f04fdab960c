"""What a user did wrong; apart from all else, so that a command that needs no torch starts at once."""


class UserError(Exception):
    """A mistake that the user can mend, in one line: what, where, what to do. Scripts show no traceback."""
