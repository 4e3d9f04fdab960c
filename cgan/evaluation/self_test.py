"""Whether this machine computes metrics as the machine did on which the shipped values were computed.

Ten pictures of integer patterns go through the shipped networks, and fixed features through every distance. A linear
algebra library that takes another root, a network that lost a layer or a buffer that lost its shape shows here as a
number, before it shows as a FID that no paper has.
"""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cgan.evaluation.loop import JointNetwork
from cgan.evaluation.protocol import versions
from cgan.files import write_json
from cgan.metrics.clip import CLIPNetwork
from cgan.metrics.distances import frechet_distance, inception_score, kernel_distance, memorization
from cgan.metrics.features import Inception, SceneClassifierFeatures
from cgan.metrics.matching import CaptionScore
from cgan.metrics.neighbours import neighbourhoods
from cgan.metrics.required_weights import MissingWeights, clip_source, inception_weights
from cgan.metrics.retrieval import ImageTextRecall
from cgan.metrics.scenes import load_scene_classifier
from cgan.metrics.spectrum import SpectrumDistance
from cgan.models.joint import JointEncoder
from cgan.resources import STARTER_JOINT

EXPECTED = Path(__file__).with_suffix(".json")
NUM_PICTURES, SIZE = 10, 64
SHOWN = 6  # features of a picture whose values are kept
OF_NETWORKS, OF_ARITHMETIC = 1e-4, 1e-5  # tolerances: float32 on any device, float64
CAPTIONS = ["a big red dog on grass", "a small blue car on the left", "a yellow tree on snow", "a green ball"]


class Check(NamedTuple):
    """Numbers that were computed, and those that they must equal."""

    name: str
    expected: list[float]
    found: list[float]
    tolerance: float  # of the difference, relative to the expected number where that is above 1
    missing: str = ""  # why it could not be checked; empty if it was

    @property
    def difference(self) -> float:
        """The largest difference of a number, relative where the expected one is above 1; infinite for NaN."""
        if len(self.expected) != len(self.found) or not self.found:
            return math.inf
        return difference(self.worst)

    @property
    def worst(self) -> tuple[float, float]:
        """The expected and the found number that differ most; NaN where there is no such pair."""
        pairs = list(zip(self.expected, self.found, strict=False))
        return max(pairs, key=difference) if pairs else (math.nan, math.nan)

    @property
    def passed(self) -> bool:
        """Whether every number is within the tolerance; also True where nothing could be checked."""
        return bool(self.missing) or self.difference <= self.tolerance


def difference(pair: tuple[float, float]) -> float:
    """Returns the difference of the second number from the first, relative where that is above 1; infinite for NaN."""
    expected, found = pair
    found = abs(expected - found) / max(1.0, abs(expected))
    return math.inf if math.isnan(found) else found


# ------------------------------------------------------------------------------------------------ what is computed


def pictures() -> Tensor:
    """Returns ten pictures of integer patterns, uint8 (10, 3, 64, 64), the same on every machine."""
    n, c, y, x = np.indices((NUM_PICTURES, 3, SIZE, SIZE))
    waves = (x * (3 + n) + y * (5 + 2 * c) + (x * y * (1 + n % 3)) // 16) % 256
    discs = ((x - 20 - 2 * n) ** 2 + (y - 32) ** 2 < (60 + 40 * n)) * (255 - 80 * c)
    return torch.from_numpy(np.where(discs > 0, discs, waves // 2).astype(np.uint8))


def fixed_features(count: int, dim: int, shift: int) -> Tensor:
    """Returns features (count, dim) in float64 by integer arithmetic, the same on every machine."""
    n, f = np.indices((count, dim))
    numbers = ((n * 7919 + f * 104_729 + n * f * 31 + n**2 * f % 65_537 + shift * 611) * 48_271) % 1009
    return torch.from_numpy(numbers / 1009 + shift * 0.1 * (f % 3))


def of_pictures() -> dict[str, list[float]]:
    """Returns the first numbers of the shipped networks' features of the ten pictures and of captions, by name."""
    joint = JointNetwork(JointEncoder.load(STARTER_JOINT))
    with torch.no_grad():
        return {
            "joint encoder, pictures": first_of(joint.once(pictures())),
            "joint encoder, captions": first_of(joint.embed_captions(CAPTIONS)),
            "scene classifier, pictures": first_of(SceneClassifierFeatures(load_scene_classifier()).once(pictures())),
        }


def first_of(features: Tensor) -> list[float]:
    """Returns the shape and, of each row of features (B, F), the first SHOWN numbers and the length, in one list."""
    rows = torch.cat([features[:, :SHOWN], features.norm(dim=1, keepdim=True)], dim=1).double()
    return [float(size) for size in features.shape] + rows.flatten().tolist()


def of_arithmetic() -> dict[str, list[float]]:
    """Returns every distance of fixed features, by name; thin ones are fewer than their dimensions, as 2048 often are.

    The matrix root of the Fréchet distance is then of a singular matrix, on which libraries differ most.
    """
    fake, real = fixed_features(70, 16, 1), fixed_features(60, 16, 0)
    thin = fixed_features(12, 48, 1), fixed_features(10, 48, 0)
    found = {
        "Frechet distance": [frechet_distance(fake, real)],
        "Frechet distance, singular": [frechet_distance(*thin)],
        "Frechet distance to itself": [frechet_distance(real, real)],
        "kernel distance": [float(kernel_distance(fake, real))],
        "prdc": [float(value) for value in neighbourhoods(fake, real).values()],
        "Inception score": [float(inception_score(6 * real))],
        "MIFID": [float(value) for value in memorization(fake, real).values()],
    }
    return found | {"Recall@K": recalls(fake[:30], real[:30] + fake[:30]), "spectrum": spectra(pictures())}


def spectra(images: Tensor) -> list[float]:
    """Returns the lattice and the spectral distance of five images, uint8 (10, 3, R, R), against the other five."""
    metric = SpectrumDistance(images.shape[-1])
    metric.update(images[:5], real=True)
    metric.update(images[5:])
    return [float(value) for value in metric.compute().values()]


def recalls(images: Tensor, captions: Tensor) -> list[float]:
    """Returns Recall@K and median ranks, both ways, of as many images (N, E) as captions."""
    metric, ids = ImageTextRecall(), torch.arange(len(images))
    metric.update(images, ids, captions, ids, ids)
    return [float(value) for value in metric.compute().values()]


def computed() -> dict[str, list[float]]:
    """Returns all that is compared with shipped values, by name."""
    return of_pictures() | of_arithmetic()


# ------------------------------------------------------------------------------------------------ the comparison


def self_test(inception: Path | None = None, clip: str | None = None) -> list[Check]:
    """Returns every check; Inception and CLIP are checked where their weights are, without shipped values.

    inception, clip: as for evaluate(). Raises UserError for weights that are damaged.
    """
    shipped = json.loads(EXPECTED.read_text(encoding="utf-8"))
    found, tolerances = computed(), dict.fromkeys(of_names(), OF_NETWORKS)
    same = float(hashlib.sha256(pictures().numpy().tobytes()).hexdigest() == shipped["pictures"])
    checks = [Check("ten pictures, their bytes", [1.0], [same], 0.0)]
    for name in {**shipped["values"], **found}:
        numbers = shipped["values"].get(name, []), found.get(name, [])
        checks.append(Check(name, *numbers, tolerances.get(name, OF_ARITHMETIC)))
    return [*checks, of_inception(inception), of_clip(clip)]


def of_names() -> list[str]:
    """Returns the names of the checks of networks, whose tolerance is that of float32."""
    return [f"{network}, {what}" for network in ("joint encoder", "scene classifier")
            for what in ("pictures", "captions")]  # fmt: skip


def of_inception(weights: Path | None) -> Check:
    """Returns the check of Inception's features against torch-fidelity's own network, on the same weights."""

    def check() -> tuple[list[float], list[float]]:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        file = inception_weights(weights)
        with torch.no_grad():
            (theirs,) = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(file))(pictures())
            return first_of(theirs), first_of(Inception(file).once(pictures()))

    return unless_missing("Inception, torch-fidelity", check)


def of_clip(source: str | None) -> Check:
    """Returns the check of the CLIP score against the cosines that transformers' own model gives."""

    def check() -> tuple[list[float], list[float]]:
        network, images = CLIPNetwork(clip_source(source)), pictures()[: len(CAPTIONS)]
        score = CaptionScore(network)
        pixels = network.processor(images=list(images), return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            score.update(images, CAPTIONS)
            output = network.model(
                pixel_values=pixels, **network.tokenizer(CAPTIONS, padding=True, return_tensors="pt")
            )
            cosines = (output.image_embeds * output.text_embeds).sum(dim=1)
        return [max(0.0, float(100 * cosines.mean()))], [float(score.compute())]

    return unless_missing("CLIP score, transformers", check)


def unless_missing(name: str, check: Callable[[], tuple[list[float], list[float]]]) -> Check:
    """Returns the check of expected and found numbers; one that says why, where weights are not on this machine."""
    try:
        expected, found = check()
    except MissingWeights as error:
        return Check(name, [], [], OF_NETWORKS, str(error))
    return Check(name, expected, found, OF_NETWORKS)


def write_expected(path: Path = EXPECTED) -> None:
    """Writes the shipped values anew, as this machine computes them: after a change of networks or of what is computed.

    The file says by which versions; compare it with the one before.
    """
    sha256 = hashlib.sha256(pictures().numpy().tobytes()).hexdigest()
    rounded = {name: [round(value, 9) for value in values] for name, values in computed().items()}
    write_json(path, {"versions": versions(), "pictures": sha256, "values": rounded})
