"""A Hugging Face Space: the demo page, with the starter weights that come with cgan. Run by `python app.py`."""

import os
import tempfile
from functools import partial
from pathlib import Path

from cgan.cli.demo import prepare_gradio
from cgan.sampling.weights import label, starter_generators

HOST, PORT = "0.0.0.0", 7860  # where a Space expects the page


def starter_weights() -> dict[str, Path]:
    """Returns the generators that come with cgan, by label; that of scenes with one object first."""
    return {label(file): file for file in starter_generators()}


def main(folder: Path) -> None:
    """Serves the page, with its files in a folder, until the process ends."""
    prepare_gradio(folder)
    from cgan.demo.backend import Backend
    from cgan.demo.page import serve

    serve(Backend(starter_weights(), folder), HOST, int(os.environ.get("PORT", PORT)), partial(print, flush=True))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="cgan-space-") as temporary:
        main(Path(temporary).resolve())
