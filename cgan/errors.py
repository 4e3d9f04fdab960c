"""What a user did wrong; apart from all else, so that a command that needs no torch starts at once."""


class UserError(Exception):
    """A mistake that the user can mend, in one line: what, where, what to do. Scripts show no traceback."""


def how_to_install(extra: str) -> str:
    """What to type for an optional part of pyproject.toml; cgan is on no package index."""
    return f'pip install -e ".[{extra}]" from the checkout'
