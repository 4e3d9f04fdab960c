"""Draws the picture at the top of the README: scenes and emoji side by side, from the starter weights.

    python examples/starter_picture.py assets/starters.png

Each row is a caption, with the seeds 0, 1, 2, ...; none is chosen.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cgan import TextToImage
from cgan.errors import UserError
from cgan.figures.fonts import label
from cgan.figures.sheets import CAPTIONS, save_png

EMOJI_CAPTIONS = ("face with tears of joy", "strawberry", "sunflower", "yellow heart")
NEW = {"yellow heart": " (a caption that was not in the training)"}
SCENES = ("assets/scenes-64.safetensors", CAPTIONS[:7], 6, 24)  # weights, captions, seeds, height of a strip
EMOJI = ("assets/emoji-128.safetensors", EMOJI_CAPTIONS, 4, 26)
GAP, FONT_SIZE = 14, 15


def row(pictures: np.ndarray, caption: str, strip: int) -> np.ndarray:
    """Returns pictures (N, H, W, 3) side by side below a strip with their caption."""
    text, font = label(caption + NEW.get(caption, ""), FONT_SIZE)
    title = Image.new("RGB", (pictures.shape[0] * pictures.shape[2], strip), "white")
    ImageDraw.Draw(title).text((2, strip // 2), text, fill="black", font=font, anchor="lm")
    return np.concatenate([np.asarray(title), np.concatenate(list(pictures), axis=1)])


def panel(weights: str, captions: tuple[str, ...], num_seeds: int, strip: int) -> np.ndarray:
    """Returns a row for each caption, drawn by some weights, uint8 (H, W, 3)."""
    pipe, seeds = TextToImage.from_pretrained(weights), list(range(num_seeds))
    return np.concatenate([row(pipe.sample([each] * num_seeds, seeds), each, strip) for each in captions])


def picture() -> np.ndarray:
    """Returns both panels side by side, uint8 (H, W, 3)."""
    scenes, emoji = panel(*SCENES), panel(*EMOJI)
    gap = np.full((len(scenes), GAP, 3), 255, np.uint8)
    return np.concatenate([scenes, gap, emoji], axis=1)


def main() -> None:
    """Writes the picture and prints its path."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path, help="a .png file")
    out = parser.parse_args().out
    save_png(picture(), out)
    print(out)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
