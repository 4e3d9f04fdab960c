"""How well a joint encoder matches images and captions: retrieval on any data, and agreement on scenes."""

import textwrap

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cgan.data.scenes.captions import mentioned_in
from cgan.data.scenes.dataset import Scenes
from cgan.figures.fonts import label as label_of
from cgan.interfaces import ImageTextDataset, Sample
from cgan.metrics.alignment import graded_retrieval, modality_gap
from cgan.metrics.retrieval import ImageTextRecall, duplicate_caption_ceiling
from cgan.models.joint import JointEncoder
from cgan.pixels import as_bytes, as_floats

BATCH = 100


def evaluate_joint(joint: JointEncoder, dataset: ImageTextDataset, num_folds: int = 1) -> dict[str, float]:
    """Returns Recall@1, 5, 10 and median rank both ways, with the ceilings that duplicate captions set.

    `modality_gap` is the distance of the mean directions of images and captions. Where images have labels, ndcg@10 both
    ways grades what is found by the number of labels that it shares with the query.

    On scenes of one object it adds these values. `agreement`: the share of images whose best caption is right in every
    attribute that it mentions. `agreement_others`: the same without an image's own captions among the candidates.
    `caption_accuracy`: the share of captions of the decoder that are right in all that they mention.
    `caption_mentions`: the mean number of the five attributes that these captions mention.
    """
    joint.eval()
    samples = [dataset[i] for i in range(len(dataset))]
    vectors = vectors_of(joint, samples)
    report = recalls(joint, vectors, samples, num_folds) | alignment(joint, vectors, samples, num_folds)
    if isinstance(dataset, Scenes) and dataset.level.name == "one":
        report |= agreement(joint, vectors, samples, torch.from_numpy(dataset.attributes))
        if joint.caption_decoder is not None:
            report |= caption_accuracy(joint, samples, torch.from_numpy(dataset.attributes))
    return report


def vectors_of(joint: JointEncoder, samples: list[Sample]) -> tuple[Tensor, Tensor]:
    """Returns vectors of the images, (N, F), and of all their captions, (M, G), on the CPU."""
    captions = [caption for sample in samples for caption in sample.captions]
    images = [joint.image_vectors(pictures_of(some)).cpu() for some in parts(samples)]
    texts = [joint.caption_vectors(some).cpu() for some in parts(captions)]
    return torch.cat(images), torch.cat(texts)


def pictures_of(samples: list[Sample]) -> Tensor:
    """Returns the images of samples, float32 (N, 3, H, W) in [-1, 1]."""
    return as_floats(torch.stack([sample.image for sample in samples]))


def parts(items: list) -> list[list]:
    """Returns the items in lists of at most BATCH."""
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]


def recalls(
    joint: JointEncoder, vectors: tuple[Tensor, Tensor], samples: list[Sample], num_folds: int
) -> dict[str, float]:
    """Returns recall and median rank both ways, and the ceilings of recall, by name."""
    captions = [caption for sample in samples for caption in sample.captions]
    owners = torch.tensor([i for i, sample in enumerate(samples) for _ in sample.captions])
    metric = ImageTextRecall(num_folds=num_folds, score=joint.score_vectors)
    metric.update(vectors[0], torch.arange(len(samples)), vectors[1], owners, torch.arange(len(captions)))
    report = {name: float(value) for name, value in metric.compute().items()}
    numbers = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
    ceiling = duplicate_caption_ceiling(torch.tensor([numbers[caption] for caption in captions]), owners)
    return report | {f"ceiling/{name}": value for name, value in ceiling.items()}


def alignment(
    joint: JointEncoder, vectors: tuple[Tensor, Tensor], samples: list[Sample], num_folds: int
) -> dict[str, float]:
    """Returns the modality gap and, where there are labels, graded retrieval both ways, by name."""
    owners = torch.tensor([i for i, sample in enumerate(samples) for _ in sample.captions])
    labels, dim = [sample.labels for sample in samples], joint.image.embedding_dim
    graded = graded_retrieval(joint.score_vectors, *vectors, labels, owners, num_folds=num_folds)
    return graded | {"modality_gap": modality_gap(*(x[:, :dim] for x in vectors))}


def agreement(
    joint: JointEncoder, vectors: tuple[Tensor, Tensor], samples: list[Sample], attributes: Tensor
) -> dict[str, float]:
    """Returns the share of images whose best caption is right: of all captions, and of other images' captions."""
    captions = [caption for sample in samples for caption in sample.captions]
    owners = torch.tensor([i for i, sample in enumerate(samples) for _ in sample.captions])
    mentioned, agrees, agrees_others = torch.tensor([mentioned_in(caption) for caption in captions]), 0, 0
    for start in range(0, len(samples), BATCH):
        rows = torch.arange(start, min(start + BATCH, len(samples)))
        scores = joint.score_vectors(vectors[0][rows], vectors[1])
        agrees += agree(mentioned[scores.argmax(dim=1)], attributes[rows]).sum()
        others = scores.masked_fill(owners[None, :] == rows[:, None], float("-inf"))
        agrees_others += agree(mentioned[others.argmax(dim=1)], attributes[rows]).sum()
    return {"agreement": float(agrees / len(samples)), "agreement_others": float(agrees_others / len(samples))}


def agree(mentioned: Tensor, attributes: Tensor) -> Tensor:
    """Returns whether every mentioned attribute (B, 5), -1 where absent, is the true one (B, 5): (B,) bool."""
    return ((mentioned == attributes) | (mentioned < 0)).all(dim=1)


def caption_accuracy(joint: JointEncoder, samples: list[Sample], attributes: Tensor) -> dict[str, float]:
    """Returns the share of the decoder's captions that are right, and the mean number of attributes they mention."""
    written = [text for some in parts(samples) for text in joint.captions_of(pictures_of(some))]
    mentioned = torch.tensor([mentioned_in(caption) for caption in written])
    right = agree(mentioned, attributes) & (mentioned[:, 0] >= 0)  # a caption without an object counts as wrong
    return {
        "caption_accuracy": float(right.float().mean()),
        "caption_mentions": float((mentioned >= 0).float().sum(dim=1).mean()),
    }


def reconstruction_sheet(joint: JointEncoder, samples: list[Sample], scale: int = 2) -> np.ndarray:
    """Returns an image, uint8 (H, W, 3), of a row for each sample: the image, its reconstructions, and captions.

    The reconstructions start from the latents of the image and of its first caption. Without a picture or caption
    decoder their images or captions are left out.
    """
    joint.eval()
    images, captions = pictures_of(samples), [sample.captions[0] for sample in samples]
    with torch.no_grad():
        embeddings = joint.image(images.to(joint.device)).embedding, joint.text(captions).sentence
    columns = [images] + ([joint.redraw(e).cpu() for e in embeddings] if joint.picture_decoder is not None else [])
    rows = torch.cat(columns, dim=3).permute(0, 2, 3, 1)  # (N, H, columns W, 3)
    lines = [captions]
    if joint.caption_decoder is not None:
        lines += [joint.greedy_decode(e) for e in embeddings]
    return sheet(as_bytes(rows).numpy(), lines, scale)


LABELS = ("its caption", "written from the picture", "written from the caption")


def sheet(rows: np.ndarray, lines: list[list[str]], scale: int) -> np.ndarray:
    """Returns a page, uint8 (H, W, 3), with images (N, h, w, 3) on the left and lines of text on the right of each."""
    height, width = rows.shape[1] * scale, rows.shape[2] * scale
    page = Image.new("RGB", (width + 520, len(rows) * (height + 4)), "white")
    draw, small = ImageDraw.Draw(page), ImageFont.load_default(size=11)
    for i, row in enumerate(rows):
        top = i * (height + 4)
        page.paste(Image.fromarray(row).resize((width, height), Image.Resampling.BOX), (0, top))
        for j, (label, texts) in enumerate(zip(LABELS, lines, strict=False)):
            y = top + 4 + j * (height // 3)
            draw.text((width + 12, y), label, fill="grey", font=small)
            text, font = label_of(texts[i], 15)
            draw.text((width + 12, y + 14), textwrap.shorten(text, 66, placeholder=" ..."), fill="black", font=font)
    return np.asarray(page)
