"""Training of the scene classifier, on scenes and on images in which nobody would recognise the object."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, assert_never

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import resize

from cgan.data.scenes.attributes import Split
from cgan.data.scenes.corruptions import KINDS, slightly_changed, spoil
from cgan.data.scenes.dataset import ONE, Level
from cgan.data.scenes.levels import LevelName
from cgan.data.scenes.object_corruptions import OBJECT_KINDS, spoil_objects
from cgan.data.scenes.three_objects import THREE, arrange_trio
from cgan.data.scenes.two_objects import TWO, arrange_pair
from cgan.files import write_bytes, write_json
from cgan.interfaces import Report, silent
from cgan.machine import cpu_has_bfloat16
from cgan.metrics.scenes import METADATA, SceneClassifier, SceneClassifierConfig
from cgan.metrics.three_objects import NUM_VALUES as TRIO_VALUES
from cgan.metrics.two_objects import NUM_VALUES as PAIR_VALUES
from cgan.pixels import as_floats
from cgan.sampling.pipeline import TextToImage
from cgan.workers import in_parallel

SIZE, BATCH_SIZE = 64, 128  # pixels of the images; images of a training step
NUM_YOUNG_TEST = 400  # images of each young checkpoint in the table of errors


class Task(NamedTuple):
    """The training task of the classifier of a level."""

    level: Level
    kinds: tuple[str, ...]  # of unrecognisable images
    spoil: Callable[..., np.ndarray]  # (kind, scene, size, rng) -> an unrecognisable image, uint8 (size, size, 3)
    num_values: tuple[int, ...]  # of each attribute


class Examples(NamedTuple):
    """Images with their true attributes and kinds."""

    images: Tensor  # (N, 3, 64, 64) uint8
    values: Tensor  # (N, attributes) int64: the scenes
    kinds: list[str]  # "real", or the kind of an unrecognisable image


class TrainedSceneClassifier(NamedTuple):
    """A classifier in evaluation mode, and its shares of right answers by kind of test image."""

    classifier: SceneClassifier
    table: dict[str, float]  # shares in [0, 1]


def train_scene_classifier(
    level: LevelName = "one",
    *,
    num_images: int = 30_000,
    images: int = 600_000,
    young: Sequence[Path] = (),
    young_images: int = 1500,
    test_images: int = 3600,
    seed: int = 0,
    report: Report = silent,
) -> TrainedSceneClassifier:
    """Trains a scene classifier on the CPU, and measures it on images that it has not seen.

    level: scenes of one, two or three objects.
    num_images: number of real scenes to draw, and of unrecognisable ones.
    images: number of images seen in training, at least 128.
    young: checkpoints of generators early in their training, whose images are to be rejected.
    young_images: number of images of each of them.
    test_images: number of images of each sort in the table of errors.
    report: is called with a line after drawing, and now and then with the loss.
    """
    with torch.random.fork_rng(devices=[]):  # the caller's random state stays as it is
        torch.manual_seed(seed)
        examples = draw_examples(["real"] * num_images + spoilt_kinds(num_images, level), level, seed)
        report(f"drew {len(examples.kinds)} images")
        for checkpoint in young:
            examples = with_young(examples, young_pictures(checkpoint, young_images, seed, level))
        classifier = fit_classifier(examples, task_of(level).num_values, images // BATCH_SIZE, seed, report)
    return TrainedSceneClassifier(classifier, table_of_errors(classifier, level, test_images, young, seed + 1))


def save_scene_classifier(classifier: SceneClassifier, table: dict[str, float], path: Path) -> None:
    """Writes weights in half precision, and next to them the table as JSON; raises CannotWrite."""
    weights = {name: value.half().contiguous() for name, value in classifier.state_dict().items()}
    write_bytes(path, save(weights, metadata={METADATA: json.dumps(asdict(classifier.config))}))
    write_json(path.with_suffix(".json"), table)


# ------------------------------------------------------------------------------------------------ examples


def task_of(level: LevelName) -> Task:
    """Returns the scenes, corruptions and attributes of a level."""
    match level:
        case "one":
            return Task(ONE, KINDS, spoil, SceneClassifierConfig().num_values)
        case "two":
            return Task(TWO, OBJECT_KINDS, partial(spoil_objects, arrange_pair), PAIR_VALUES)
        case "three":
            return Task(THREE, OBJECT_KINDS, partial(spoil_objects, arrange_trio), TRIO_VALUES)
        case unknown:
            assert_never(unknown)


def spoilt_kinds(num_images: int, level: LevelName) -> list[str]:
    """Returns num_images kinds of unrecognisable images, each kind in turn."""
    kinds = task_of(level).kinds
    return [kinds[i % len(kinds)] for i in range(num_images)]


def draw_example(job: tuple[str, LevelName, int, int, Split | None]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Returns an image of a kind, uint8 (64, 64, 3), and its scene; without a split, a tenth of scenes is held out.

    job: kind, level, seed, index and split; the same job gives the same image.
    """
    kind, level, seed, index, split = job
    task, rng = task_of(level), np.random.default_rng([seed, 77, index])
    scene = task.level.sample(rng, split or ("heldout" if rng.random() < 0.1 else "seen"))
    return (task.level.draw(scene, SIZE, rng) if kind == "real" else task.spoil(kind, scene, SIZE, rng)), scene


def draw_examples(kinds: list[str], level: LevelName, seed: int, split: Split | None = None) -> Examples:
    """Returns an image of each kind, drawn by several processes."""
    jobs, context = [(kind, level, seed, i, split) for i, kind in enumerate(kinds)], get_context("spawn")
    with in_parallel(draw_example, jobs, 64, context=context) as results:  # forks inherit torch's threads, and hang
        pairs = list(results)
    images = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2).contiguous()
    return Examples(images, torch.tensor([scene for _, scene in pairs]), kinds)


def with_young(examples: Examples, images: Tensor) -> Examples:
    """Returns the examples, followed by images, uint8 (N, 3, 64, 64), of a generator early in its training."""
    values = torch.zeros(len(images), examples.values.shape[1], dtype=examples.values.dtype)
    kinds = [*examples.kinds, *["young"] * len(images)]
    return Examples(torch.cat([examples.images, images]), torch.cat([examples.values, values]), kinds)


def young_pictures(checkpoint: Path, count: int, seed: int, level_name: LevelName) -> Tensor:
    """Returns images that a checkpoint generates for captions of random scenes, uint8 (count, 3, 64, 64)."""
    level, rng = task_of(level_name).level, np.random.default_rng([seed, 78])
    captions = [level.describe(level.sample(rng, "seen"), rng) for _ in range(count)]
    images = TextToImage.load(checkpoint).sample(captions, [(seed * 1_000_003 + i) % 2**32 for i in range(count)])
    images = torch.from_numpy(images).permute(0, 3, 1, 2)
    return resize(images, [SIZE, SIZE], antialias=True).contiguous()


# ------------------------------------------------------------------------------------------------ training


def fit_classifier(
    examples: Examples, num_values: tuple[int, ...], steps: int, seed: int, report: Report
) -> SceneClassifier:
    """Returns a new classifier, trained by AdamW with a one-cycle learning rate, in evaluation mode.

    Its networks compute in bfloat16 where the CPU has it.
    """
    classifier = SceneClassifier(SceneClassifierConfig(num_values=num_values)).to(memory_format=torch.channels_last)
    recognisable = torch.tensor([kind == "real" for kind in examples.kinds])
    generator, fast = torch.Generator().manual_seed(seed), cpu_has_bfloat16()
    optimizer = torch.optim.AdamW(classifier.parameters(), 2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps, pct_start=0.1)
    for step in range(steps):
        rows = torch.randint(len(examples.images), (BATCH_SIZE,), generator=generator)
        images = slightly_changed(as_floats(examples.images[rows]), generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            loss = classification_loss(classifier, images, examples.values[rows], recognisable[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            report(f"step {step} of {steps}: loss {loss.item():.4f}")
    return classifier.eval()


def classification_loss(classifier: SceneClassifier, images: Tensor, values: Tensor, recognisable: Tensor) -> Tensor:
    """Returns the cross-entropy of recognisability, plus 0.2 times that of each attribute on recognisable images."""
    logits, score, _ = classifier(images.contiguous(memory_format=torch.channels_last))
    loss = F.binary_cross_entropy_with_logits(score.float(), recognisable.float())
    for head, target in zip(logits, values.t(), strict=True):
        loss = loss + 0.2 * F.cross_entropy(head[recognisable].float(), target[recognisable])
    return loss


# ------------------------------------------------------------------------------------------------ the test


def table_of_errors(
    classifier: SceneClassifier, level: LevelName, num_images: int, young: Sequence[Path], seed: int
) -> dict[str, float]:
    """Returns accuracy on new real scenes, and the share of each unrecognisable kind that is rejected."""
    examples = draw_examples(["real"] * num_images + spoilt_kinds(num_images, level), level, seed)
    reading = classifier.read(as_floats(examples.images))
    real = torch.tensor([kind == "real" for kind in examples.kinds])
    right = (reading.values == examples.values).all(dim=1)
    table = {
        "real: all attributes right and recognisable": share((right & reading.recognisable)[real]),
        "real: all attributes right": share(right[real]),
        "real: recognisable": share(reading.recognisable[real]),
    }
    rejected = defaultdict(list)
    for kind, recognised in zip(examples.kinds, reading.recognisable.tolist(), strict=True):
        if kind != "real":
            rejected[kind].append(not recognised)
    table |= {f"rejected: {kind}": share(torch.tensor(answers)) for kind, answers in rejected.items()}
    for checkpoint in young:
        images = as_floats(young_pictures(checkpoint, NUM_YOUNG_TEST, seed, level))
        table[f"rejected: pictures of {checkpoint.stem}"] = share(~classifier.read(images).recognisable)
    return table


def share(answers: Tensor) -> float:
    """Returns the share of answers (N,) that are true, in [0, 1], rounded to four digits."""
    return round(float(answers.float().mean()), 4)
