"""Measures what a model draws for words that no caption of its training holds, such as "puppy" for the dog face.

    python examples/emoji_words.py EMOJI runs/emoji --judge runs/other/joint.safetensors

EMOJI is the folder that examples/emoji.py wrote. Each line of its held-out-words.jsonl holds a word and the names of
the emoji that it means. The model draws a picture for each word. The judge, a joint encoder of another seed than the
one that the model was trained with, ranks 100 names by how well they fit the picture: one that the word means, and
those of 99 other words. The script prints the share of pictures whose own name comes first (chance is 0.01), and the
same for the names themselves, which are captions of the training.
"""

import argparse
import json
from pathlib import Path

import torch

from cgan import JointEncoder, TextToImage
from cgan.errors import UserError
from cgan.pixels import as_floats

NUM_CHOICES, BATCH = 100, 32


def read_words(folder: Path) -> list[tuple[str, list[str]]]:
    """Returns the held-out words of a folder, each with the names of the emoji that it means."""
    path = folder / "held-out-words.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: no such file; `python examples/emoji.py {folder}` writes it")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row["text"], row["names"]) for row in rows]


@torch.no_grad()
def draw(pipe: TextToImage, captions: list[str]) -> torch.Tensor:
    """Returns images (N, 3, H, W) in [-1, 1], one for each caption, with seeds 0, 1, 2, ..."""
    pixels = torch.from_numpy(pipe.sample(captions, list(range(len(captions))), batch_size=BATCH))
    return as_floats(pixels.movedim(-1, 1))


@torch.no_grad()
def scores(judge: JointEncoder, images: torch.Tensor, names: list[list[str]]) -> torch.Tensor:
    """Returns how well each image fits the best of each word's names, (N, N)."""
    pictures = torch.cat([judge.embed_images(part) for part in images.split(BATCH)])
    flat = [name for group in names for name in group]
    captions = torch.cat([judge.embed_captions(flat[i : i + 256]) for i in range(0, len(flat), 256)])
    parts = (pictures @ captions.T).split([len(group) for group in names], dim=1)
    return torch.stack([part.amax(dim=1) for part in parts], dim=1)


def precision(scores: torch.Tensor, names: list[list[str]], seed: int = 0) -> float:
    """Returns the share of images whose own word's score beats those of 99 others that mean something else."""
    generator, hits = torch.Generator().manual_seed(seed), 0
    for i, row in enumerate(scores):
        order = torch.randperm(len(names), generator=generator).tolist()
        others = [j for j in order if not set(names[i]) & set(names[j])][: NUM_CHOICES - 1]
        hits += bool(row[i] > row[others].max())
    return hits / len(names)


def main() -> None:
    """Prints the R-precision of words and of names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="what examples/emoji.py wrote")
    parser.add_argument("model", help="a run, a checkpoint or exported weights")
    parser.add_argument("--judge", required=True, help="joint.safetensors of a run with another seed")
    options = parser.parse_args()
    words = read_words(options.folder)
    pipe, judge = TextToImage.from_pretrained(options.model), JointEncoder.load(options.judge).eval()
    names = [meant for _, meant in words]
    for kind, captions in (("words", [word for word, _ in words]), ("names", [meant[0] for meant in names])):
        share = precision(scores(judge, draw(pipe, captions), names), names)
        print(f"{kind}: {len(captions)} captions, r_precision 1 of {NUM_CHOICES} {share:.3f}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
