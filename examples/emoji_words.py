"""Measures what a model draws for words and names that no caption of its training holds.

    python examples/emoji_words.py EMOJI runs/emoji --judge runs/other/joint.safetensors

EMOJI is the folder that examples/emoji.py wrote. Each line of its held-out-words.jsonl holds a word and the names of
the emoji that it means. The model draws a picture for each word. The judge, a joint encoder of another seed than the
one that the model was trained with, ranks 100 names by how well they fit the picture: one that the word means, and
those of 99 other words. The script prints the share of pictures whose own name comes first (chance is 0.01), and the
same for the names themselves, which are captions of the training.

A word is held out alone, such as "puppy" for the dog face. The names in EMOJI/heldout consist of known words: their
emoji are in no set of the training. The model draws four pictures for each of them, and the judge ranks all of these
names. The last line is the judge's result for the real pictures in EMOJI/heldout.
"""

import argparse
import json
from pathlib import Path

import torch
from torchvision.transforms.v2.functional import resize

from cgan import JointEncoder, TextToImage
from cgan.data.pictures import decode
from cgan.errors import UserError
from cgan.pixels import as_floats

NUM_CHOICES, BATCH, NUM_SEEDS = 100, 32, 4


def read_words(folder: Path) -> list[tuple[str, list[str]]]:
    """Returns the held-out words of a folder, each with the names of the emoji that it means."""
    path = folder / "held-out-words.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: no such file; `python examples/emoji.py {folder}` writes it")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row["text"], row["names"]) for row in rows]


def read_heldout(folder: Path) -> tuple[list[Path], list[str]]:
    """Returns the pictures of emoji that no set has in training, and the name of each."""
    path = folder / "heldout" / "metadata.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: no such file; `python examples/emoji.py {folder}` writes it")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [path.parent / row["file_name"] for row in rows], [row["name"] for row in rows]


def draw(pipe: TextToImage, captions: list[str]) -> torch.Tensor:
    """Returns images (N, 3, H, W) in [-1, 1], one for each caption, with seeds 0, 1, 2, ..."""
    pixels = torch.from_numpy(pipe.sample(captions, list(range(len(captions))), batch_size=BATCH))
    return as_floats(pixels.movedim(-1, 1))


def read_pictures(files: list[Path], resolution: int) -> torch.Tensor:
    """Returns images (N, 3, H, W) in [-1, 1] of files; raises UserError where one can't be read."""
    decoded = [decode((file, resolution)) for file in files]
    for file, (picture, reason) in zip(files, decoded, strict=True):
        if picture is None:
            raise UserError(f"{file}: {reason}; delete the folder and make it anew with examples/emoji.py")
    return as_floats(torch.stack([torch.tensor(picture) for picture, _ in decoded]).movedim(-1, 1))


@torch.no_grad()
def scores(judge: JointEncoder, images: torch.Tensor, names: list[list[str]]) -> torch.Tensor:
    """Returns how well each image (N, 3, H, W) fits the best name of each of M groups, (N, M)."""
    if images.shape[-1] != judge.resolution:
        images = resize(images, [judge.resolution] * 2, antialias=True)
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


def precision_among_all(scores: torch.Tensor, own: list[int]) -> float:
    """Returns the share of images (N) whose best of all M scores is that of their own index."""
    return (scores.argmax(dim=1) == torch.tensor(own)).double().mean().item()


def show(kind: str, share: float, count: int) -> None:
    """Prints a line of the result."""
    print(f"{kind}: {count} pictures, r_precision 1 of {NUM_CHOICES} {share:.3f}", flush=True)


def main() -> None:
    """Prints the R-precision of words, of names, and of names of emoji that were held out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="what examples/emoji.py wrote")
    parser.add_argument("model", help="a run, a checkpoint or exported weights")
    parser.add_argument("--judge", required=True, help="joint.safetensors of a run with another seed")
    options = parser.parse_args()
    words, (files, shown) = read_words(options.folder), read_heldout(options.folder)
    pipe, judge = TextToImage.from_pretrained(options.model), JointEncoder.load(options.judge).eval()
    names = [meant for _, meant in words]
    for kind, captions in (("words", [word for word, _ in words]), ("names", [meant[0] for meant in names])):
        show(kind, precision(scores(judge, draw(pipe, captions), names), names), len(captions))
    heldout = sorted(set(shown))
    drawn, real = draw(pipe, heldout * NUM_SEEDS), read_pictures(files, judge.resolution)
    for kind, images, of in (("held-out names", drawn, heldout * NUM_SEEDS), ("their real pictures", real, shown)):
        found = scores(judge, images, [[name] for name in heldout])
        show(kind, precision_among_all(found, [heldout.index(name) for name in of]), len(images))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
