"""cgan export: a checkpoint to a small file of weights for sampling."""

import argparse
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Write the averaged generator and its text encoder as safetensors."""
    options = parser().parse_args(arguments)
    from cgan.interfaces import UserError
    from cgan.sampling import TextToImage

    if options.out.suffix != ".safetensors":
        raise UserError(f"{options.out}: the file to write must end in .safetensors")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    TextToImage.load(options.checkpoint).save(options.out, half=True)
    print(options.out)


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="cgan export", description="Write what sampling needs as safetensors.")
    result.add_argument("checkpoint", type=Path, help="the last.ckpt of a run")
    result.add_argument("out", type=Path, help="the .safetensors file to write")
    return result
