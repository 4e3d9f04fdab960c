"""Every metric, measured by one of several processes.

Of three processes the last one gets no picture, as happens where there are fewer pictures than processes.
"""

import json
import os
from pathlib import Path

import numpy as np
import torch
from torch import distributed
from torchmetrics import MetricCollection

from cgan.data.scenes.attributes import sample_scene
from cgan.data.scenes.dataset import Scenes
from cgan.data.scenes.drawing import draw_scene
from cgan.evaluation import loop, scenes
from cgan.evaluation.images import between_halves, other_captions
from cgan.evaluation.loop import JointNetwork, measure, of_dataset, real_features
from cgan.evaluation.scenes import SceneEvaluator, SceneReading
from cgan.metrics.clip import CLIPNetwork
from cgan.metrics.features import Inception, SceneClassifierFeatures
from cgan.metrics.matching import CaptionScore, GeneratedRPrecision
from cgan.metrics.quality import PictureQuality
from cgan.metrics.retrieval import ImageTextRecall
from cgan.metrics.scenes import load_scene_classifier
from cgan.models.generators.base import GeneratorConfig
from cgan.models.generators.modulated import ModulatedGenerator
from cgan.models.joint import JointEncoder
from cgan.models.text.lstm import LSTMConfig, LSTMTextEncoder, Vocabulary
from cgan.resources import STARTER_JOINT
from helpers.forked import meet

COUNT = 53


class AnyScene(ModulatedGenerator):
    """Draws a real scene, of which the noise alone decides; its caption may be wrong."""

    def __init__(self) -> None:
        super().__init__(GeneratorConfig(noise_dim=4, style_dim=4, width=4, max_channels=4), 64, 8)

    def forward(self, noise, text):
        rngs = [np.random.default_rng(abs(int(z * 1e6))) for z in noise[:, 0]]
        pictures = [draw_scene(sample_scene(rng, "seen"), 64, rng) for rng in rngs]
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 127.5 - 1


def on_pictures(inception: Path, clip: str) -> dict[str, float]:
    """By the loop that all pictures go through; a third of the captions is wrong, so that no share is 1."""
    fake, real = (of_dataset(Scenes(COUNT, 64, seed)) for seed in (1, 2))
    captions = [fake_caption(i) for i in range(COUNT)]
    classifier, joint = load_scene_classifier(), JointNetwork(JointEncoder.load(STARTER_JOINT))
    networks = Inception(inception, num_features=64), SceneClassifierFeatures(classifier)
    measures = ("fid", "kid", "prdc", "mifid")
    metrics = {n.name or "inception": PictureQuality(n, real_features(n, real), measures) for n in networks}
    metrics["clip_score"] = CaptionScore(CLIPNetwork(clip))
    others = other_captions(captions, list(range(COUNT)), 20, seed=0)
    metrics["r_precision"] = GeneratedRPrecision(joint, captions, torch.from_numpy(others))
    metrics["reading"] = SceneReading(classifier)
    floor = between_halves(real_features(networks[1], real), "floor", {"fid", "kid", "prdc"}, seed=0)
    return floor | measure(fake._replace(captions=captions), MetricCollection(metrics, compute_groups=False))


def fake_caption(i: int) -> str:
    caption = Scenes(COUNT, 64, 1).captions_of(i)[0]
    return caption if i % 3 else caption.replace("a ", "a red ", 1)


def recalls() -> dict[str, float]:
    rng = torch.Generator().manual_seed(0)
    images, captions = torch.randn(COUNT, 8, generator=rng), torch.randn(COUNT, 8, generator=rng)
    captions, metric = images + captions, ImageTextRecall()
    for places in loop.shares(COUNT, batch=5):
        metric.update(images[places], places, captions[places], places, places)
    return {name: float(value) for name, value in metric.compute().items()}


def on_scenes() -> dict[str, float]:
    evaluator = SceneEvaluator(
        load_scene_classifier(), 64, num_images=2 * COUNT, joint=JointEncoder.load(STARTER_JOINT)
    )
    text = LSTMTextEncoder(LSTMConfig(dim=8, embedding_dim=4), Vocabulary(["dog"])).eval()
    return {f"scenes/{name}": value for name, value in evaluator(AnyScene().eval(), text).metrics().items()}


def shares_of_two(count: int, batch: int = 64):
    """As the shares of cgan.evaluation.loop, but only the first two processes have any."""
    rank = distributed.get_rank()
    return iter((torch.arange(rank, count, 2) if rank < 2 else torch.arange(0)).split(batch))


def measured(rank: int, world: int, inception: Path, clip: str, folder: Path) -> None:
    """Writes what the process of this rank found into folder."""
    os.environ |= {"CGAN_CACHE": str(folder / f"cache{world}"), "CUDA_VISIBLE_DEVICES": ""}
    if world > 1:
        meet(rank, world, folder)
    if world == 3:
        loop.shares = scenes.shares = shares_of_two
    values = on_pictures(inception, clip) | recalls() | on_scenes()
    (folder / f"{world}-{rank}.json").write_text(json.dumps(values))
    if distributed.is_initialized():
        distributed.destroy_process_group()
