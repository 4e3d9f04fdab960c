"""cgan evaluate: how well a checkpoint draws scenes."""

import argparse
import json
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Print the measures of a checkpoint as JSON."""
    parser = argparse.ArgumentParser(prog="cgan evaluate", description="Measure a checkpoint on the built-in scenes.")
    parser.add_argument("checkpoint", type=Path, help="a .ckpt or .safetensors file")
    parser.add_argument("--num-images", type=int, default=2000, help="captions of each split")
    parser.add_argument("--joint", type=Path, help="joint encoder of R-precision; default: the starter weights")
    parser.add_argument("--seed", type=int, default=1234)
    options = parser.parse_args(arguments)
    from cgan.evaluation import SceneEvaluator
    from cgan.joint import JointEncoder
    from cgan.metrics.scenes import load_judge
    from cgan.retrieval import STARTER
    from cgan.sampling import TextToImage

    pipe = TextToImage.load(options.checkpoint)
    joint = JointEncoder.load(options.joint or STARTER)
    evaluator = SceneEvaluator(load_judge(), pipe.generator.resolution, options.num_images, options.seed, joint)
    report = evaluator(pipe.generator, pipe.text_encoder).metrics()
    print(json.dumps({name: round(value, 4) for name, value in report.items()}, indent=2))
