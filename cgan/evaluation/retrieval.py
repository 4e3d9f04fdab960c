"""Recall@K of image-text retrieval as papers report it, on Karpathy's splits: COCO 1K and 5K, Flickr30k 1K.

VSE++ (Faghri et al. 2018) and CLIP (Radford et al. 2021) ask the same of the same pictures: each test picture with its
first five captions, a query is a hit at K if any of its positives is among the first K. COCO 1K is the mean over five
folds of 1000 consecutive pictures, COCO 5K all at once. CLIP puts "a photo of" before each caption.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cgan.config import load_config
from cgan.data.decoding import Stored, upright
from cgan.data.pictures import Entry, decode, with_captions
from cgan.data.records import printable
from cgan.data.sources import DataConfig, check_data, read_entries
from cgan.data.text_files import read_json
from cgan.evaluation.loop import digest
from cgan.evaluation.protocol import EvaluationReport, device_name, versions
from cgan.interfaces import Report, UserError, silent
from cgan.metrics.alignment import graded_retrieval, modality_gap
from cgan.metrics.clip import CLIPNetwork
from cgan.metrics.required_weights import clip_source
from cgan.metrics.retrieval import ImageTextRecall
from cgan.models.joint import JointEncoder
from cgan.models.weights_hash import hash_weights
from cgan.pixels import as_floats
from cgan.retrieval import joint_checkpoint_of
from cgan.workers import Progress

Decoded = TypeVar("Decoded", np.ndarray, Image.Image)
BATCH = 50
CAPTIONS_EACH = 5  # of a picture, as in papers, though some of COCO have six or seven
NOT_IN_FILES = ("scenes", "shards", "custom")
PROTOCOLS = {  # by data set and number of test pictures: the name of each protocol, and its folds
    ("coco", 5000): {"COCO 1K": 5, "COCO 5K": 1},
    ("flickr30k", 1000): {"Flickr30k 1K": 1},
    ("flickr8k", 1000): {"Flickr8k 1K": 1},
}
WAYS = ("image_to_text", "text_to_image")


class PairEncoder(ABC):
    """Encodes pictures and captions, and scores pairs of what it made of them."""

    name: str

    @abstractmethod
    def images(self, pictures: list[Path | Stored]) -> Tensor:
        """Returns pictures as vectors (B, F) on the CPU; raises UserError for one that can't be read."""

    @abstractmethod
    def captions(self, captions: list[str]) -> Tensor:
        """Returns captions as vectors (B, G) on the CPU."""

    @abstractmethod
    def score(self, images: Tensor, captions: Tensor) -> Tensor:
        """Returns the scores (B, N) of vectors of images (B, F) with those of captions (N, G)."""

    @abstractmethod
    def embeddings(self, vectors: Tensor) -> Tensor:
        """Returns the embeddings (N, E) in vectors of images or captions, in the space that both share."""

    @abstractmethod
    def spec(self) -> dict:
        """Returns what a protocol records of the encoder, JSON-able."""


class JointPairs(PairEncoder):
    """A joint encoder of cgan, on centre squares at its resolution; with co-attention where it has that."""

    def __init__(self, path: Path, device: torch.device) -> None:
        self.name, self.joint = str(path), JointEncoder.load(path).to(device)

    def images(self, pictures: list[Path | Stored]) -> Tensor:
        """Returns pictures as vectors; see PairEncoder."""
        decoded = [decode((picture, self.joint.resolution)) for picture in pictures]
        found = [usable(picture, *result) for picture, result in zip(pictures, decoded, strict=True)]
        images = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)  # (B, 3, H, W)
        return self.joint.image_vectors(as_floats(images)).float().cpu()

    def captions(self, captions: list[str]) -> Tensor:
        """Returns captions as vectors; see PairEncoder."""
        return self.joint.caption_vectors(captions).float().cpu()

    def score(self, images: Tensor, captions: Tensor) -> Tensor:
        """Returns the scores of vectors; see PairEncoder."""
        return self.joint.score_vectors(images, captions)

    def embeddings(self, vectors: Tensor) -> Tensor:
        """Returns the embeddings alone, without words and regions of co-attention."""
        return vectors[:, : self.joint.image.embedding_dim]

    def spec(self) -> dict:
        """Returns the file, the hash of its weights and the size of its pictures."""
        return {"joint": self.name, "weights": hash_weights(self.joint), "resolution": self.joint.resolution}


class CLIPPairs(PairEncoder):
    """A CLIP; its own processor resizes and crops whole pictures, as CLIP's authors do."""

    def __init__(self, source: str, device: torch.device) -> None:
        self.name, self.network = source, CLIPNetwork(source).to(device)

    def images(self, pictures: list[Path | Stored]) -> Tensor:
        """Returns pictures as vectors; see PairEncoder."""
        return self.network.embed_pictures([usable(picture, *upright(picture)) for picture in pictures]).cpu()

    def captions(self, captions: list[str]) -> Tensor:
        """Returns captions as vectors; see PairEncoder."""
        return self.network.embed_captions(captions).cpu()

    def score(self, images: Tensor, captions: Tensor) -> Tensor:
        """Returns the cosines of vectors; see PairEncoder."""
        return images @ captions.t()

    def embeddings(self, vectors: Tensor) -> Tensor:
        """Returns the vectors: they are nothing else."""
        return vectors

    def spec(self) -> dict:
        """Returns the folder or name, and the hash of the weights."""
        return self.network.spec()


def usable(picture: Path | Stored, content: Decoded | None, reason: str) -> Decoded:
    """Returns a decoded picture; raises UserError for one that could not be, as leaving it out would change values."""
    if content is None:
        raise UserError(f"{printable(str(picture))}: {reason}; the protocols need every picture of the split")
    return content


def encoder_named(name: str, device: torch.device) -> PairEncoder:
    """Returns a joint encoder (a file or a run directory), or a CLIP (a folder, or a name on the hub).

    Raises UserError where there is none of that name, or it is damaged.
    """
    path = Path(name).expanduser()
    if path.is_file() or path.suffix == ".safetensors" or (path / "joint.safetensors").is_file():
        return JointPairs(joint_checkpoint_of(path), device)
    if path.is_dir() and not (path / "config.json").is_file():
        raise UserError(f"{name}: holds neither joint.safetensors nor a CLIP; give a run directory or a CLIP's folder")
    return CLIPPairs(clip_source(name, fetch=True), device)


# ------------------------------------------------------------------------------------------------ pictures


class SearchedSplit(NamedTuple):
    """The pictures and captions of a split, in its order."""

    dataset: str  # its name in the file of Karpathy's splits, or the kind of source
    entries: list[Entry]
    captions: list[str]  # of all pictures, in their order
    owners: Tensor  # (N,) int64, the picture of each caption


def split_of(config: DataConfig, prompt: str) -> SearchedSplit:
    """Returns the split that is searched, test unless data.split names another; raises UserError.

    prompt: what becomes of each caption, such as "a photo of {}".
    """
    if config.source in NOT_IN_FILES:
        raise UserError(f"data.source={config.source}: retrieval is measured on pictures in files; such as karpathy")
    check_data(config)
    split = config.test_split or config.split or ("test" if config.source == "karpathy" else None)
    entries, skipped = with_captions(read_entries(config, split))
    if skipped or not entries:
        why = f"{skipped[0].name}: {skipped[0].reason}" if skipped else f"{config.root}: no pictures"
        raise UserError(f"{why}; the protocols need every picture of the split")
    name = config.source
    if config.source == "karpathy":
        name = read_json(Path(config.annotations or ""), "a file of Karpathy's splits").get("dataset") or name
    texts = [[prompt.format(text) for text in entry.captions[:CAPTIONS_EACH]] for entry in entries]
    owners = torch.tensor([i for i, some in enumerate(texts) for _ in some])
    return SearchedSplit(str(name), entries, [text for some in texts for text in some], owners)


def protocols_of(split: SearchedSplit, report: Report) -> dict[str, int]:
    """Returns the protocols that fit a split, with their folds; reports where they are not those of any paper."""
    count = len(split.entries)
    found = PROTOCOLS.get((split.dataset, count))
    if found is not None:
        return found
    report(f"{split.dataset}: {count:,} pictures are no protocol of a paper; {protocols_known()}")
    folds = {f"{split.dataset} {count // 5}, five folds": 5} if split.dataset == "coco" and count % 5 == 0 else {}
    return folds | {f"{split.dataset} {count}": 1}


def protocols_known() -> str:
    """Returns which pictures the protocols of papers ask for."""
    return ", ".join(f"{count:,} of {dataset} are" for dataset, count in PROTOCOLS)


# ------------------------------------------------------------------------------------------------ measuring


@torch.no_grad()
def evaluate_retrieval(
    encoder: str,
    data: Sequence[str],
    prompt: str = "{}",
    report: Report = silent,
    progress: Progress = silent,
) -> EvaluationReport:
    """Measures Recall@1, 5, 10 and median ranks, both ways, by every protocol that fits the data.

    Adds ndcg@10 both ways, graded by shared labels, where the pictures have labels, and modality_gap of all of them.

    encoder: a joint encoder (a file or a run directory), or a CLIP (a folder or a name on the hub).
    data: the data set, as load_config takes it: data.source=karpathy data.root=DIR data.annotations=FILE.
    prompt: what becomes of each caption; {} stands for it. CLIP's own rows take "a photo of {}".
    report: gets what is measured by what. progress: gets the numbers of pictures done and in all.

    Returns metrics in [0, 1] such as "COCO 5K/text_to_image/recall@1". Raises UserError for a mistake in the arguments,
    for a picture that can't be read, and for files that are missing or damaged.
    """
    if prompt.count("{}") != 1 or prompt.count("{") != 1 or prompt.count("}") != 1:
        raise UserError(f"prompt={prompt}: must hold {{}} once, for the caption; such as 'a photo of {{}}'")
    config = load_config(list(data)).data
    split = split_of(replace(config, crop="center", flip=False), prompt)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pairs = encoder_named(encoder, device)
    report(
        f"measuring retrieval of {len(split.entries):,} pictures and {len(split.captions):,} captions by {pairs.name}"
    )
    folds, pictures = protocols_of(split, report), [entry.picture for entry in split.entries]
    images = []
    for start in range(0, len(pictures), BATCH):
        images.append(pairs.images(pictures[start : start + BATCH]))
        progress(min(start + BATCH, len(pictures)), len(pictures))
    texts = [pairs.captions(split.captions[i : i + BATCH]) for i in range(0, len(split.captions), BATCH)]
    vectors, labels = (torch.cat(images), torch.cat(texts)), [entry.labels for entry in split.entries]
    metrics = {"modality_gap": modality_gap(*(pairs.embeddings(x) for x in vectors))}
    for protocol, num_folds in folds.items():
        found = recalls(pairs, *vectors, split.owners, num_folds)
        found |= graded_retrieval(pairs.score, *vectors, labels, split.owners, num_folds=num_folds)
        metrics |= {f"{protocol}/{name}": value for name, value in found.items()}
    about = {"dataset": split.dataset, "pictures": len(pictures), "captions": len(split.captions), "prompt": prompt}
    about |= {"names": digest([entry.name for entry in split.entries]), "texts": digest(split.captions)}
    protocol = {"versions": versions(), "device": device_name(device), "encoder": pairs.spec(), "split": about}
    return EvaluationReport(metrics, {}, protocol | {"folds": folds})


def recalls(pairs: PairEncoder, images: Tensor, texts: Tensor, owners: Tensor, num_folds: int) -> dict[str, float]:
    """Returns recalls, median ranks, and rsum, the sum of the six recalls in percent, by name."""
    metric = ImageTextRecall(num_folds=num_folds, score=pairs.score)
    metric.update(images, torch.arange(len(images)), texts, owners, torch.arange(len(texts)))
    found = {name: float(value) for name, value in metric.compute().items()}
    return found | {"rsum": 100 * sum(value for name, value in found.items() if "recall@" in name)}


def as_rows(report: EvaluationReport, name: str) -> str:
    """Returns the values as the rows of a paper's table, in Markdown: recalls in percent, then median ranks, rsum.

    Where the pictures have labels, nDCG@10 in percent follows.
    """
    columns = [f"{way}/{value}" for way in WAYS for value in ("recall@1", "recall@5", "recall@10", "median_rank")]
    shown = [f"{way} {value}" for way in ("i2t", "t2i") for value in ("R@1", "R@5", "R@10", "Med r")]
    columns, shown = [*columns, "rsum"], [*shown, "rsum"]
    if any("/ndcg@" in name for name in report.metrics):
        columns, shown = [*columns, *(f"{way}/ndcg@10" for way in WAYS)], [*shown, "i2t nDCG@10", "t2i nDCG@10"]
    lines = [f"| encoder | protocol | {' | '.join(shown)} |", "|---" * (len(shown) + 2) + "|"]
    for protocol in report.protocol["folds"]:
        values = {column: report.metrics[f"{protocol}/{column}"] for column in columns}
        cells = [f"{100 * value if '@' in key else value:.1f}" for key, value in values.items()]
        lines.append(f"| {name} | {protocol} | {' | '.join(cells)} |")
    return "\n".join(lines)
