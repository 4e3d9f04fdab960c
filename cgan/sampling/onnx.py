"""Exports the generator as ONNX, and compares its images with PyTorch's if onnxruntime is installed."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cgan.errors import UserError, how_to_install
from cgan.interfaces import TextFeatures
from cgan.sampling.pipeline import TextToImage

TOLERANCE = 1e-3  # of images in [-1, 1]
NAMES = ("noise", "sentence", "words", "mask")


class PlainGenerator(nn.Module):
    """The generator with tensors as its only inputs."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, noise: Tensor, *text: Tensor) -> Tensor:
        """Returns images (B, 3, H, W) of noise (B, Z).

        Text is the sentence and, where the generator uses them, words and mask.
        """
        sentence, words, mask = text if len(text) == 3 else (text[0], None, None)
        return self.generator(noise, TextFeatures(sentence, words, mask))  # pyright: ignore (a generator without words)


def write_onnx(pipe: TextToImage, path: Path) -> str:
    """Writes the generator for any batch size, and returns a message about the difference of its images from PyTorch's.

    Raises UserError if packages are missing, or if the difference is above TOLERANCE.
    """
    try:
        import onnx  # noqa: F401 (what torch.onnx needs)
        import onnxscript  # noqa: F401
    except ImportError:
        raise UserError(f"--onnx needs other packages: {how_to_install('onnx')}") from None
    inputs = inputs_of(pipe, 2)
    program, names = traced(pipe, inputs), axes_of(inputs, "batch", "length")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "# The axis name")  # that inputs share one
        torch.onnx.export(
            program, f=path, dynamo=True, external_data=False, verbose=False,
            input_names=NAMES[: len(inputs)], output_names=["images"], dynamic_shapes=names,
        )  # fmt: skip
    return compared(pipe, path)


def axes_of(inputs: tuple[Tensor, ...], batch: Any, length: Any) -> tuple[dict[int, Any], tuple[dict[int, Any], ...]]:
    """Returns the axes of PlainGenerator's inputs whose sizes may vary, by number: batch and, of words, length."""
    text = {0: batch}, {0: batch, 1: length}, {0: batch, 1: length}
    return {0: batch}, text[: len(inputs) - 1]


def traced(pipe: TextToImage, inputs: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    """Returns the generator as a program for any batch size and, where it uses them, any number of words.

    torch.onnx would trace a module by itself, but then fixes these sizes silently if the module does not allow others.
    """
    axes = axes_of(inputs, torch.export.Dim("batch"), torch.export.Dim("length"))
    return torch.export.export(PlainGenerator(pipe.generator).eval(), inputs, dynamic_shapes=axes)


def inputs_of(pipe: TextToImage, num: int) -> tuple[Tensor, ...]:
    """Returns the generator's inputs for `num` pictures of one caption."""
    text = pipe.encode(["a dog on grass"] * num)
    noise = pipe.noise(list(range(num)))
    inputs = (noise, *text) if pipe.generator.config.uses_words else (noise, text.sentence)
    return tuple(x.clone() for x in inputs)  # inference tensors can't be traced


def compared(pipe: TextToImage, path: Path) -> str:
    """Returns a message with the largest difference of ONNX's images from PyTorch's, for an untraced batch size.

    Raises UserError if the difference is above TOLERANCE.
    """
    try:
        import onnxruntime
    except ImportError:
        return f"{path.name}: not compared with PyTorch's, since onnxruntime is not installed"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = inputs_of(pipe, 3)
    (images,) = session.run(None, {name: x.numpy() for name, x in zip(NAMES, inputs, strict=False)})
    with torch.inference_mode():
        expected = PlainGenerator(pipe.generator)(*inputs)
    error = float((torch.from_numpy(images) - expected).abs().max())
    if error > TOLERANCE:
        raise UserError(f"{path.name}: its images differ by {error:.2g}, more than {TOLERANCE}; leave --onnx out")
    return f"{path.name}: its images differ from PyTorch's by {error:.1g} at most"
