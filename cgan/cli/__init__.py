"""What the scripts call; a user's mistake ends here as one line."""

import sys
from collections.abc import Callable

from cgan.errors import UserError


def run(command: Callable[[list[str]], None]) -> None:
    """Run a command on the process's arguments; a UserError is printed and ends the process with status 1."""
    try:
        command(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
