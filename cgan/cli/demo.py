"""cgan demo: a page in the browser that samples, interpolates and finds the nearest training pictures."""

import argparse
import os
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path

from cgan.cli.parsing import Parser
from cgan.errors import UserError


def main(arguments: list[str]) -> None:
    """Serves the page until Ctrl-C; raises UserError for a mistake in the arguments, or where gradio is missing."""
    options = parser().parse_args(arguments)
    check(options)
    from cgan.sampling.weights import all_checkpoints

    checkpoints = all_checkpoints(options.checkpoint)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the temporary folder goes then as well
    with tempfile.TemporaryDirectory(prefix="cgan-demo-") as folder:
        prepare_gradio(Path(folder).resolve())
        from cgan.cli.progress import progress_bar
        from cgan.demo.backend import Backend
        from cgan.demo.page import serve

        with progress_bar("encoding", "pictures") as bar:
            backend = Backend(checkpoints, Path(folder).resolve(), options.images, bar)
            serve(backend, options.host, options.port, partial(print, flush=True))


def parser() -> argparse.ArgumentParser:
    """Returns the parser of `cgan demo`."""
    result = Parser(prog="cgan demo", description="Serve a page in the browser that generates pictures.")
    add = result.add_argument
    add("--checkpoint", type=Path, help="file, run directory, exported folder or owner/name on the hub, which the page "
        "offers first; then come those under runs/ and starter weights")  # fmt: skip
    add("--images", type=Path, metavar="DIR", help="pictures to search for the nearest; default: those of the run")
    add("--host", default="127.0.0.1", help="address to serve; 0.0.0.0: everyone who can reach this machine")
    add("--port", type=int, help="default: the first free one from 7860 on")
    return result


def check(options: argparse.Namespace) -> None:
    """Raises UserError for options out of range and for folders that do not exist."""
    if options.images is not None and not options.images.is_dir():
        raise UserError(f"--images={options.images}: no such folder; give the one that holds the pictures")
    if options.port is not None and not 1 <= options.port <= 65535:
        raise UserError(f"--port={options.port}: must be from 1 to 65535; leave it out to take a free one")


def prepare_gradio(folder: Path) -> None:
    """Sets what gradio reads when it is imported: no telemetry, and all of its files in one folder."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = os.environ["GRADIO_EXAMPLES_CACHE"] = str(folder)
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise UserError('the page needs gradio 6: pip install "gradio>=6"') from None
