"""A Hugging Face Space: the demo page, with the starter weights that come with cgan. Run by `python app.py`."""

import os
import tempfile
from functools import partial
from pathlib import Path

from safetensors import safe_open

from cgan.cli.demo import prepare_gradio
from cgan.resources import STARTER_GAN, shipped
from cgan.sampling.weights import label

HOST, PORT = "0.0.0.0", 7860  # where a Space expects the page


def starter_weights() -> dict[str, Path]:
    """Returns the generators that come with cgan, by label; that of scenes with one object first."""
    files = sorted(shipped("assets", STARTER_GAN.name).parent.glob("*.safetensors"))
    found = [STARTER_GAN, *(file for file in files if file != STARTER_GAN and is_generator(file))]
    return {label(file): file for file in found}


def is_generator(file: Path) -> bool:
    """Returns whether exported weights are a generator's, and not those of a classifier or a joint encoder."""
    with safe_open(file, "pt") as weights:
        return any(name.startswith("generator_ema.") for name in weights.keys())  # noqa: SIM118


def main(folder: Path) -> None:
    """Serves the page, with its files in a folder, until the process ends."""
    prepare_gradio(folder)
    from cgan.demo.backend import Backend
    from cgan.demo.page import serve

    serve(Backend(starter_weights(), folder), HOST, int(os.environ.get("PORT", PORT)), partial(print, flush=True))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="cgan-space-") as temporary:
        main(Path(temporary).resolve())
