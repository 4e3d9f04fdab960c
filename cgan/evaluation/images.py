"""Metrics of any images against real images and captions: the evaluation set, the metrics, and two anchors.

The anchors are measured by the same code: real images against other real images, and for each caption the training
image whose own caption is nearest.
"""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from cgan.data.pictures import CaptionedPictures, Skipped, summary, with_captions
from cgan.data.readers.coco import annotations_in, read_captions_file
from cgan.data.readers.folder import NoCaptions, read_folder
from cgan.data.records import id_from, kind_of, printable
from cgan.data.text_files import parse_json, read_text
from cgan.evaluation.loop import Pictures, device_of, digest, measure, of_dataset, of_files, of_generator, real_features
from cgan.evaluation.memorization import Training, diversity_of, memorization_of
from cgan.evaluation.spectra import spectrum_between_halves, spectrum_of
from cgan.interfaces import ImageTextDataset, TextEncoder, UserError
from cgan.metrics.features import FeatureNetwork, GivenFeatures, Inception, MatchingNetwork
from cgan.metrics.matching import CaptionScore, GeneratedRPrecision
from cgan.metrics.names import BY_DEFAULT, ON_FEATURES, ON_INCEPTION
from cgan.metrics.quality import PictureQuality
from cgan.models.generators.base import Generator
from cgan.models.joint import JointEncoder
from cgan.retrieval import embed_captions, nearest, pictures_in
from cgan.workers import Progress, silent

NUM_DISTRACTORS = 99
EXPECTED_IDS = "a list of caption ids, as JSON or one a line"
NUM_NEAREST = 32  # captions that are searched for one of another image


log = logging.getLogger(__name__)


class EvalSet(NamedTuple):
    """Captions to generate images of, and the real images to compare them with."""

    captions: list[str] | None
    reference: Pictures
    about: dict  # how the captions were chosen; JSON-able
    places: list[int] | None = None  # of each caption's own picture in its data set

    def texts(self) -> list[str]:
        """Returns the captions; raises ValueError if there are none."""
        if self.captions is None:
            raise ValueError("the evaluation set has no captions")
        return self.captions

    def own_places(self) -> list[int]:
        """Returns the index of each caption's own image in its data set; raises ValueError if it is not known."""
        if self.places is None:
            raise ValueError("the evaluation set has no record of the images that its captions belong to")
        return self.places


class Networks(NamedTuple):
    """The networks of metrics; None for each that is missing or not wanted."""

    features: FeatureNetwork | None = None  # Inception, or what stands in its place
    clip: MatchingNetwork | None = None
    matching: MatchingNetwork | None = None  # of R-precision

    def spec(self) -> dict:
        """Returns the spec of each network by its role, JSON-able; None for each that is absent."""
        return {name: None if network is None else network.spec() for name, network in self._asdict().items()}


# ------------------------------------------------------------------------------------------------ evaluation sets


def eval_set_of(dataset: ImageTextDataset, num_images: int, seed: int) -> EvalSet:
    """Returns num_images images of a data set, or all if it has fewer, with one caption each, chosen by the seed."""
    rng = np.random.default_rng([seed, 6])
    indices = sorted(rng.permutation(len(dataset))[:num_images].tolist())
    texts = [dataset.captions_of(i) for i in indices]
    captions = [some[rng.integers(len(some))] for some in texts]
    about = {"choice": "one of each picture, by the seed", "seed": seed, **counted(captions)}
    return EvalSet(captions, of_dataset(dataset, indices), about, indices)


def counted(captions: list[str]) -> dict:
    """Returns the number of captions and their hash, for the protocol."""
    return {"num_captions": len(captions), "sha256": digest(captions)}


def eval_set_of_ids(dataset: CaptionedPictures, annotations: Path, caption_ids: list[int | str]) -> EvalSet:
    """Returns COCO's captions of fixed ids and all images of the data set; raises UserError for a missing id."""
    rows = {row.caption_id: row for row in annotations_in(read_captions_file(annotations), annotations)}
    known = {entry.image_id: place for place, entry in enumerate(dataset.entries)}
    for number in caption_ids:
        if number not in rows or not rows[number].captions:
            raise UserError(f"{annotations}: holds no caption {number}; give the file that the ids were chosen from")
        if rows[number].image_id not in known:
            raise UserError(f"{annotations}: picture {rows[number].image_id} of caption {number} is not in data.root")
    captions = [rows[number].captions[0] for number in caption_ids]
    about = {"choice": "fixed ids", "ids": digest(caption_ids), **counted(captions)}
    return EvalSet(captions, of_dataset(dataset), about, [known[rows[number].image_id] for number in caption_ids])


def fixed_caption_ids(annotations: Path, count: int, seed: int = 0) -> list[int | str]:
    """Returns the ids, sorted, of one caption for each of `count` images of a COCO captions file, chosen by the seed.

    `fixed_caption_ids(captions_val2014.json, 30_000)` is the list of FID-30k; write it with json.dumps and keep it.
    Raises UserError for a caption without an id, or too few images.
    """
    captions: dict[int, list[int | str]] = {}
    for row in annotations_in(read_captions_file(annotations), annotations):
        if row.caption_id is None:
            raise UserError(f"{annotations}: holds a caption without an id; they are needed to name captions by")
        if row.captions:
            captions.setdefault(row.image_id, []).append(row.caption_id)
    rng, images = np.random.default_rng([seed, 7]), sorted(captions)
    if count > len(images):
        raise UserError(f"{annotations}: captions of {len(images)} pictures, {count} are asked for")
    chosen = [sorted(captions[images[i]], key=in_order) for i in rng.permutation(len(images))[:count]]
    return sorted((ids[rng.integers(len(ids))] for ids in chosen), key=in_order)


def in_order(caption_id: int | str) -> tuple[bool, int | str]:
    """Returns a key that sorts numbers before texts."""
    return isinstance(caption_id, str), caption_id


def read_caption_ids(file: Path) -> list[int | str]:
    """Returns the ids of a file, a JSON list or one id per line; raises UserError for a bad or empty file."""
    if not file.is_file():
        raise UserError(f"{file}: no such file; `cgan evaluate --write-captions {file} --data ...` writes one")
    text = read_text(file)
    given = parse_json(text, str(file), EXPECTED_IDS) if text.lstrip().startswith("[") else text.split()
    found = [id_from(number) for number in given]
    ids = [caption_id for caption_id in found if caption_id is not None]
    if not ids or len(ids) < len(found):
        wrong = f"; {kind_of(given[found.index(None)])} is no id" if found else "; there is none"
        raise UserError(f"{file}: expected {EXPECTED_IDS}{wrong}")
    return ids


def pictures_of_folder(folder: Path, resolution: int | None) -> Pictures:
    """Returns the images of a folder, each with its first caption if all have captions; raises UserError.

    Captions that can't be read, or that only some images have, are not used; a warning is logged.
    """
    files, unread = pictures_in(folder)
    paths = [folder / file.name for file in files]
    if unread:
        log.warning("%s: not measured: %s", folder, summary(unread))
    try:
        entries = read_folder(folder)
    except NoCaptions:
        return of_files(paths, resolution)
    except UserError as error:
        log.warning("%s; the captions of %s are not used", error, folder)
        return of_files(paths, resolution)
    described = {entry.picture: entry.captions[0] for entry in with_captions(entries)[0]}
    captions = [described.get(path, "") for path in paths]
    if not all(captions):
        log.warning("%s", partly_captioned(folder, paths, captions, with_captions(entries)[1]))
    return of_files(paths, resolution, captions if all(captions) else None)


def partly_captioned(folder: Path, paths: list[Path], captions: list[str], skipped: list[Skipped]) -> str:
    """Returns a message why the captions of a folder are not used: some images have none."""
    without = [path for path, caption in zip(paths, captions, strict=True) if not caption]
    example = printable(str(without[0].relative_to(folder)))
    why = f"; left out: {summary(skipped)}" if skipped else ""
    total = f"{len(without)} of {len(paths)} pictures have none"
    return f"{folder}: its captions are not used, as {total} (such as {example}){why}"


# ------------------------------------------------------------------------------------------------ metrics


class PictureEvaluator:
    """evaluator(generator, text_encoder) -> values by name; evaluator.of(pictures, device) for any pictures.

    Every process calls it, measures its share, and gets the same values. wanted: some of the table's NAMES; those
    without a network are left out. more: further metrics, which are updated with images, captions and ids. training:
    the images that the generator was trained on, without which there is no memorization.
    """

    def __init__(
        self,
        eval_set: EvalSet,
        networks: Networks,
        wanted: Iterable[str] = BY_DEFAULT,
        seed: int = 1234,
        more: dict[str, Metric] | None = None,
        training: Training | None = None,
    ) -> None:
        self.eval_set, self.networks, self.wanted, self.seed = eval_set, networks, set(wanted), seed
        self.more, self.prepared, self.training = dict(more or {}), None, training

    def __call__(
        self, generator: Generator, text_encoder: TextEncoder, truncation: float = 1.0, progress: Progress = silent
    ) -> dict[str, float]:
        """Returns the values of images that a generator, in evaluation mode, makes of the captions of the set."""
        pictures = of_generator(generator, text_encoder, self.eval_set.texts(), self.seed, truncation)
        found = self.of(pictures, device_of(generator), progress)
        return found | self.diversity(generator, text_encoder, truncation)

    def diversity(self, generator: Generator, text_encoder: TextEncoder, truncation: float = 1.0) -> dict[str, float]:
        """Returns how much images of a caption differ from seed to seed; empty where memorization is not measured."""
        if self.training is None or "memorization" not in self.wanted:
            return {}
        captions, reference = self.eval_set.texts(), self.eval_set.reference
        more = reference, self.networks.features, self.seed + 1, truncation
        return diversity_of(generator, text_encoder, captions, *more)

    def of(
        self, pictures: Pictures, device: torch.device | str = "cpu", progress: Progress = silent
    ) -> dict[str, float]:
        """Returns the values of any images; images with captions must be in the order of the evaluation set."""
        metrics = MetricCollection({**self.metrics(device, progress)}, compute_groups=False)
        return measure(pictures, metrics, device, progress)

    def metrics(self, device: torch.device | str = "cpu", progress: Progress = silent) -> dict[str, Metric]:
        """Returns the metrics by name; the first call computes the features of real images, unless they are cached."""
        if self.prepared is None:
            quality, on_pixels = self.quality(device, progress), self.on_pixels(device, progress)
            self.prepared = {**quality, **on_pixels, **self.matching(), **self.more}
        return self.prepared

    def on_pixels(self, device: torch.device | str, progress: Progress) -> dict[str, Metric]:
        """Returns the metrics that compare images with real ones without a network, or with one as well as without."""
        found: dict[str, Metric] = {}
        if "spectrum" in self.wanted:
            found["spectrum"] = spectrum_of(self.eval_set.reference)
        if "memorization" in self.wanted and self.training is not None:
            features, reference = self.networks.features, self.eval_set.reference
            found["memorization"] = memorization_of(self.training, reference, features, device, progress)
        return found

    def measures(self) -> set[str]:
        """Returns those wanted metrics that the features of a network allow: some need Inception itself."""
        network = self.networks.features
        allowed = ON_INCEPTION if isinstance(network, Inception) else ON_FEATURES
        return self.wanted & set(allowed)

    def quality(self, device: torch.device | str, progress: Progress) -> dict[str, Metric]:
        """Returns the metrics that compare images with real images."""
        network = self.networks.features
        if network is None or not self.measures():
            return {}
        real = real_features(network, self.eval_set.reference, device, progress)
        return {"quality": PictureQuality(network, real, self.measures())}

    def matching(self) -> dict[str, Metric]:
        """Returns the metrics that compare images with their captions."""
        (_, clip, matching), found = self.networks, {}
        if clip is not None and "clip_score" in self.wanted:
            found["clip_score"] = CaptionScore(clip)
        if matching is not None and "r_precision" in self.wanted:
            captions = self.eval_set.texts()
            others = other_captions(captions, self.eval_set.own_places(), NUM_DISTRACTORS, self.seed)
            found[r_precision_by(matching)] = GeneratedRPrecision(matching, captions, torch.from_numpy(others))
        return found

    def floor(self, device: torch.device | str = "cpu") -> dict[str, float]:
        """Returns the values of a random half of the real images against the other half."""
        network = self.networks.features
        found = spectrum_between_halves(self.eval_set.reference, self.seed) if "spectrum" in self.wanted else {}
        if network is None or not self.measures():
            return found
        features = real_features(network, self.eval_set.reference, device)
        return found | between_halves(features, network.name, self.measures() & set(ON_FEATURES), self.seed)

    def of_real(self, pictures: Pictures, device: torch.device | str = "cpu") -> dict[str, float]:
        """Returns the values of the captions' own images, by the metrics that compare images with captions."""
        of_captions = {*self.matching(), *self.more}
        metrics = {name: metric for name, metric in self.metrics(device).items() if name in of_captions}
        return measure(pictures, MetricCollection({**metrics}, compute_groups=False), device) if metrics else {}


def r_precision_by(network: MatchingNetwork) -> str:
    """Returns the name of R-precision by a network; the joint encoder adds no prefix."""
    return "r_precision" if network.name == "joint" else f"{network.name}/r_precision"


def between_halves(features: Tensor, name: str, measures: set[str], seed: int) -> dict[str, float]:
    """Returns the values of a random half of real features (N, F), taken as generated, against the other half."""
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
    one, other = features[order].tensor_split(2)
    network = GivenFeatures(features.shape[1], name)
    metric = PictureQuality(network, one, measures, sync_on_compute=False)  # every process has all of the features
    metric.update(other, torch.arange(len(other)))
    return {name: float(value) for name, value in metric.compute().items()}


def other_captions(captions: list[str], places: list[int], count: int, seed: int) -> np.ndarray:
    """Returns for each caption the indices of random captions of other images and other texts, (N, count) int64.

    places (N,): the image of each caption. Raises UserError if a caption has fewer than `count` of them.
    """
    rng, texts = np.random.default_rng([seed, 8]), np.unique(captions, return_inverse=True)[1]
    images, rows = np.asarray(places), []
    for text, image in zip(texts, images, strict=True):
        candidates = np.flatnonzero((texts != text) & (images != image))
        if len(candidates) < count:
            raise UserError(f"r_precision: needs {count} other captions of each, one has {len(candidates)}")
        rows.append(rng.choice(candidates, count, replace=False))
    return np.stack(rows)


def nearest_training_pictures(
    joint: JointEncoder, eval_set: EvalSet, dataset: ImageTextDataset, same: bool
) -> Pictures:
    """Returns for each caption the training image of the nearest caption, by embeddings of the joint encoder.

    same: the evaluation set is taken from this data set, so that a caption's own image is skipped.
    """
    texts = [(caption, i) for i in range(len(dataset)) for caption in dataset.captions_of(i)]
    owners = np.array([i for _, i in texts])
    points = embed_captions(joint, [caption for caption, _ in texts])
    found = owners[nearest(embed_captions(joint, eval_set.texts()), points, NUM_NEAREST)[1]]  # (N, NUM_NEAREST)
    if same:
        foreign = found != np.asarray(eval_set.own_places())[:, None]
        found = np.take_along_axis(found, foreign.argmax(axis=1)[:, None], axis=1)
    return of_dataset(dataset, found[:, 0].tolist(), eval_set.captions)
