"""A tiny random CLIP, made on the spot."""

import json
from pathlib import Path

import torch
import transformers

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
COLOURS = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25]}  # unlike those of any CLIP


def save_clip(folder: Path, projection_dim: int = 12, halves_projection_dim: int = 12) -> str:
    """A tiny random CLIP in the published layout: letters as its pieces of words, pictures of 32 px in 16 patches."""
    torch.manual_seed(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    files = {"vocab": str(folder / "vocab.json"), "merges": str(folder / "merges.txt")}
    transformers.CLIPTokenizer(**files, model_max_length=77).save_pretrained(folder)
    text = SIZES | {"vocab_size": len(pieces), "bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 53}
    halves = {
        "text_config": text | {"projection_dim": halves_projection_dim},
        "vision_config": SIZES | {"image_size": 32, "patch_size": 8, "projection_dim": halves_projection_dim},
    }
    config = transformers.CLIPConfig(**halves, projection_dim=projection_dim)
    transformers.CLIPModel(config).save_pretrained(folder)
    processor().save_pretrained(folder)
    return str(folder)


def processor() -> transformers.CLIPImageProcessor:
    return transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, **COLOURS)
