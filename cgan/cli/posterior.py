"""cgan posterior: fits to a frozen generator what finds the noise of pictures, so that captions can edit them."""

import argparse
from pathlib import Path

from cgan.cli.parsing import Parser
from cgan.errors import UserError
from cgan.files import check_writable_file
from cgan.ranges import Range, check_number, check_seed

SIZES = {"generated": Range(1), "latents": Range(0), "images": Range(0), "readings": Range(0)}
SIZES |= {"batch_size": Range(2), "hidden_dim": Range(1)}
PRIOR_SIZES = {"prior_images": Range(1), "prior_dim": Range(1)}


def main(arguments: list[str]) -> None:
    """Fits a posterior, writes it and prints where; raises UserError for a mistake in the arguments."""
    options = parser().parse_intermixed_args(arguments)
    check(options)
    from cgan.config import load_config
    from cgan.data.sources import build_dataset
    from cgan.models.joint import JointEncoder
    from cgan.retrieval import joint_checkpoint_of
    from cgan.sampling.inversion import save_inverter
    from cgan.sampling.pipeline import TextToImage
    from cgan.sampling.reranker import joint_encoder_for
    from cgan.sampling.weights import POSTERIOR, find
    from cgan.training.posterior_fit import PosteriorFitConfig, fit_posterior

    checkpoint = find(options.checkpoint)
    out = options.out or checkpoint.with_name(POSTERIOR)
    check_writable_file(out, "give another --out")
    if options.prior is not None:
        check_writable_file(options.prior, "give another --prior")
    pipe = TextToImage.load(checkpoint)
    joint = joint_encoder_for(checkpoint) if options.joint is None else joint_checkpoint_of(options.joint)
    data = load_config([*options.data, f"data.resolution={pipe.generator.resolution}"]).data
    config = PosteriorFitConfig(seed=options.seed, **{name: getattr(options, name) for name in SIZES})
    image_encoder = JointEncoder.load(joint).image
    start = None if options.init is None else pipe.inverter(options.init)
    dataset, report = build_dataset(data), lambda message: print(message, flush=True)
    inverter = fit_posterior(pipe, image_encoder, dataset, config, start, report)
    save_inverter(inverter, out, pipe.sha256, half=not options.full)
    print(out)
    if options.prior is not None:
        from cgan.training.prior_fit import PriorFitConfig, fit_prior

        wanted = PriorFitConfig(images=options.prior_images, hidden_dim=options.prior_dim, seed=options.seed)
        fit_prior(pipe, inverter, dataset, wanted, report).save(options.prior, half=not options.full)
        print(options.prior)


def parser() -> argparse.ArgumentParser:
    """Returns the parser of `cgan posterior`."""
    result = Parser(prog="cgan posterior", description="Fit what cgan sample --from needs to edit pictures.")
    add = result.add_argument
    add("checkpoint", type=Path, help="the frozen generator: file, run directory or exported folder")
    add(
        "data", nargs="*", metavar="CONFIG.yaml|key=value", help="its training data, as for cgan train; default: scenes"
    )
    add("--joint", type=Path, help="joint.safetensors with its features; default: the run's, else starter weights")
    add("--generated", type=int, default=6_000, help="generated pictures, whose noise is known")
    add("--latents", type=int, default=64_000, help="training on these, repeats included")
    add("--images", type=int, default=4_000, help="training on real pictures, which are redrawn")
    add("--readings", type=int, default=96_000, help="training on captions of edits, which are completed")
    add("--batch-size", type=int, default=32, help="pictures per step")
    add("--hidden-dim", type=int, default=192, help="hidden units per layer")
    add("--seed", type=int, default=0)
    add("--init", type=Path, metavar="FILE", help="weights of a posterior to continue from")
    add("--full", action="store_true", help="weights in float32; default: half")
    add("--out", type=Path, metavar="FILE", help="default: posterior.safetensors next to the checkpoint")
    add("--prior", type=Path, metavar="FILE", help="also fit a new latent prior, and write the weights with it there")
    add("--prior-images", type=int, default=600_000, help="training of it, repeats included")
    add("--prior-dim", type=int, default=384, help="hidden units per layer of it")
    return result


def check(options: argparse.Namespace) -> None:
    """Raises UserError for numbers out of range and for a file of another kind."""
    check_seed(f"--seed={options.seed}", options.seed)
    for name, allowed in (SIZES | PRIOR_SIZES).items():
        check_number(f"--{name.replace('_', '-')}={getattr(options, name)}", getattr(options, name), allowed)
    for name, path in (("out", options.out), ("prior", options.prior)):
        if path is not None and path.suffix != ".safetensors":
            raise UserError(f"--{name}={path}: give it a name that ends in .safetensors")
