"""A checkpoint and captions to pictures: the one sampler under everything. It needs no data set and no Lightning."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cgan.interfaces import TextEncoder, UserError
from cgan.networks.generator import GeneratorConfig, build_generator
from cgan.text import restore_text_encoder

Score = Callable[[Tensor, str], Tensor]  # how well images (B, 3, H, W) fit a caption, (B,)
PARTS = ("generator_ema.", "text_encoder.")


class TextToImage:
    """pipe(captions, seeds) -> pictures, uint8 (B, H, W, 3); a picture depends on its caption and seed alone."""

    def __init__(self, spec: dict, weights: dict[str, Tensor]) -> None:
        self.spec = spec
        self.text_encoder: TextEncoder = restore_text_encoder(spec["text"]).eval()
        config = GeneratorConfig(**spec["generator"])
        self.generator = build_generator(config, spec["resolution"], self.text_encoder.dim).eval()
        self.weights = {name: value for name, value in weights.items() if name.startswith(PARTS)}
        for prefix, network in zip(PARTS, (self.generator, self.text_encoder), strict=True):
            mine = {n.removeprefix(prefix): v for n, v in self.weights.items() if n.startswith(prefix)}
            network.load_state_dict(mine)

    @classmethod
    def load(cls, path: str | Path) -> "TextToImage":
        """From a training checkpoint (.ckpt) or exported weights (.safetensors); nothing in the file is executed."""
        path = Path(path)
        if not path.is_file():
            raise UserError(f"{path}: no such checkpoint; train one with `python train.py`")
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, "pt") as file:
                    weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                    return cls(json.loads(file.metadata()["sampler"]), weights)
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
            return cls(checkpoint["sampler"], checkpoint["state_dict"])
        except (SafetensorError, UnpicklingError, RuntimeError, KeyError, TypeError, ValueError, EOFError):
            raise UserError(f"{path}: damaged, or not a checkpoint of cgan; try another one") from None

    def save(self, path: str | Path, half: bool = False) -> None:
        """Export as safetensors, in half precision if asked, with the sampler's settings as JSON in its metadata."""
        path = Path(path)
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        weights = {name: (value.half() if half else value).contiguous() for name, value in self.weights.items()}
        save_file(weights, unfinished, metadata={"sampler": json.dumps(self.spec)})
        os.replace(unfinished, path)

    @torch.inference_mode()
    def __call__(self, captions: list[str], seeds: list[int], truncation: float = 1.0) -> np.ndarray:
        """Draw each caption with its seed; truncation below 1 brings noise nearer to zero: safer, less varied."""
        if any(not caption.strip() for caption in captions):
            raise UserError('a caption is empty; say what to draw, for instance "a dog on grass"')
        pictures = []
        for caption, seed in zip(captions, seeds, strict=True):
            noise = torch.randn(1, self.generator.config.noise_dim, generator=torch.Generator().manual_seed(seed))
            image = self.generator(noise * truncation, self.text_encoder([caption]))[0]
            pictures.append(((image + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy())
        return np.stack(pictures)

    def best_of(
        self, captions: list[str], seeds: list[int], num: int, score: Score, truncation: float = 1.0
    ) -> np.ndarray:
        """Like a call, but each picture is the best of num by `score`; the call's own is the first candidate."""
        chosen = []
        for caption, seed in zip(captions, seeds, strict=True):
            candidates = self([caption] * num, [seed + (k << 32) for k in range(num)], truncation)  # (num, H, W, 3)
            images = torch.from_numpy(candidates).permute(0, 3, 1, 2).float() / 127.5 - 1
            chosen.append(candidates[int(score(images, caption).argmax())])
        return np.stack(chosen)

    def unknown_words(self, captions: list[str]) -> list[str]:
        """Words of captions that training never saw."""
        return self.text_encoder.unknown_words(captions)
