"""What `cgan evaluate` does on scenes of two objects, which their own judge alone measures."""

import argparse
import math
from dataclasses import asdict, replace

import torch

import cgan
from cgan.cli.evaluate import parser
from cgan.cli.unused import refuse_unused
from cgan.config import DataConfig
from cgan.evaluation.images import counted
from cgan.evaluation.loop import of_generator
from cgan.evaluation.report import NUM_SCENES, told, versions
from cgan.evaluation.scenes import FEWEST
from cgan.evaluation.two_objects import TwoObjectEvaluator
from cgan.interfaces import UserError
from cgan.metrics.features import weights_hash
from cgan.metrics.scenes import SceneJudge, load_judge
from cgan.resources import PAIR_CLASSIFIER
from cgan.sampling.pipeline import TextToImage


def two_object_report(options: argparse.Namespace, asked: list[str] | None, data: DataConfig) -> dict:
    """Metrics, anchors and protocol, JSON-able; raises UserError."""
    check(options, asked)
    pipe = TextToImage.from_pretrained(options.checkpoint).to("cuda" if torch.cuda.is_available() else "cpu")
    if not any(x.startswith("data.resolution=") for x in options.data):
        data = replace(data, resolution=pipe.generator.resolution)
    judge, count = pair_judge(), options.num_images or NUM_SCENES
    evaluator = TwoObjectEvaluator(judge, data.resolution, count, options.seed, options.truncation)
    with told("measuring") as tell:
        metrics = evaluator(pipe.generator, pipe.text_encoder, tell)
        anchors = {"real_of_captions": known(evaluator.of_real(pipe.device, tell))} if options.anchors else {}
    about = protocol(pipe, judge, evaluator, options)
    about["reference"] = {"source": "scenes", "level": "two", "num_images": count, "data": asdict(data)}
    return {"metrics": known(metrics), "anchors": anchors, "protocol": about}


def check(options: argparse.Namespace, asked: list[str] | None) -> None:
    unfit = set(asked or ()) - {"scenes"}
    if unfit:
        raise UserError(
            f"--metrics: {', '.join(sorted(unfit))} is not for data.level=two; give scenes, or leave it out"
        )
    idle = "captions", "inception", "resize", "clip", "joint"
    refuse_unused(options, parser(), idle, "with data.level=two, which its own judge measures")
    if options.checkpoint is None:
        raise UserError("--images with data.level=two: only a checkpoint's pictures are measured; give one")
    if options.num_images is not None and options.num_images < FEWEST:
        raise UserError(f"--num-images={options.num_images}: take at least {FEWEST}, better {NUM_SCENES}")


def pair_judge() -> SceneJudge:
    if not PAIR_CLASSIFIER.is_file():
        hint = "the judge of two objects is not there; train it by `cgan judge --level two`"
        raise UserError(f"{PAIR_CLASSIFIER}: {hint}")
    return load_judge(PAIR_CLASSIFIER)


def known(values: dict[str, float]) -> dict[str, float]:
    """Without shares of nothing, such as that of relations where no picture shows both objects."""
    return {name: value for name, value in values.items() if not math.isnan(value)}


def protocol(pipe: TextToImage, judge: SceneJudge, evaluator: TwoObjectEvaluator, options: argparse.Namespace) -> dict:
    """All that somebody needs to find the same numbers."""
    seen = evaluator.captions["seen"]
    pictures = of_generator(pipe.generator, pipe.text_encoder, seen, options.seed, options.truncation)
    hashes = {name: weights_hash(getattr(pipe, name)) for name in ("generator", "text_encoder")}
    return {
        "versions": {"cgan": cgan.__version__, **versions()},
        "device": torch.cuda.get_device_name() if pipe.device.type == "cuda" else "cpu",
        "pictures": {"source": str(options.checkpoint), **pictures.about, "num_images": len(seen), "weights": hashes},
        "captions": {split: counted(captions) for split, captions in evaluator.captions.items()},
        "networks": {"judge": weights_hash(judge)},
        "seed": options.seed,
        "command": " ".join(["cgan", "evaluate", *options.arguments]),
    }
