"""cgan sample: generates PNG files from captions, or an animation between captions or seeds."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cgan.cli.option_checks import refuse_unused
from cgan.cli.parsing import Parser, captions_in, warn
from cgan.errors import UserError

if TYPE_CHECKING:
    from cgan.sampling.naming import OutputPaths
    from cgan.sampling.pipeline import TextToImage, present_device
    from cgan.sampling.request import SamplingRequest
    from cgan.sampling.reranker import Reranker

MAX_NUM = 10_000  # pictures of a caption
ANIMATIONS, OTHERS = (".gif", ".mp4"), (".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".webm", ".avi", ".mov")
FIXED_BY_PICTURE = (
    "seed", "num", "truncation", "best_of", "separate", "grid", "interpolate", "between_seeds", "batch_size", "keep",
)  # fmt: skip


def main(arguments: list[str]) -> None:
    """Samples pictures and prints where they are; raises UserError for a mistake in the arguments."""
    options = parser().parse_intermixed_args(arguments)
    check(options)
    from cgan.sampling import writing
    from cgan.sampling.pipeline import TextToImage
    from cgan.sampling.request import read_request
    from cgan.sampling.weights import default_checkpoint, find, passed_over

    options.device = present_device() if options.device == "auto" else options.device
    before, about = (None, {}) if options.again is None else read_request(options.again)
    requests = requests_of(options) if before is None else [replace(before, batch_size=1, device=options.device)]
    for request in requests:
        request.check()
    first, paths = requests[0], output_paths(options)
    if paths.suffix in ANIMATIONS and first.layout != "interpolation":
        raise UserError(f"{options.again}: is not an interpolation, so it can't be animated; give --out a .png")
    named = about.get("checkpoint", {}).get("file")
    checkpoint = default_checkpoint(named) if options.checkpoint is None else find(options.checkpoint)
    if options.checkpoint is None and options.again is None and (run := passed_over(checkpoint)):
        warn(f"{run} has no checkpoint to sample from yet; these are the starter weights")
    pipe = TextToImage.load(checkpoint).to(options.device)
    if options.compile:
        pipe.compile(options.batch_size)
    if first.negative is not None:
        pipe = pipe.away_from(first.negative, first.guidance)
    first.check_size(pipe.generator.resolution)
    pipe, requests = from_sources(pipe, requests, options)
    reranker = None if first.best_of == 1 else reranker_of(options.joint, checkpoint)
    facts = writing.provenance(pipe, checkpoint, reranker and reranker.about)
    if options.again is not None:
        for line in writing.differences(options.again, about, first, facts):
            warn(line)
    writing.check_output(paths)
    for line in writing.vocabulary_warnings(pipe, [c for request in requests for c in request.all_captions]):
        warn(line)
    for path, request in writing.write_pictures(pipe, requests, paths, facts, reranker):
        for line in json_lines(path, request, pipe) if options.json else [str(path)]:
            print(line, flush=True)


def parser() -> argparse.ArgumentParser:
    """Returns the parser of `cgan sample`."""
    result = Parser(prog="cgan sample", description="Generate pictures from captions.")
    add = result.add_argument
    add("captions", nargs="*", help='what to show, for instance "a dog on grass"')
    add("--captions", dest="caption_file", type=Path, metavar="FILE", help="more captions, one a line; -: stdin")
    add("--seed", type=int, default=0, help="the same seed and caption give the same picture")
    add("--num", type=int, default=1, help="pictures per caption, side by side: seed, seed + 1, ...")
    add("--truncation", type=float, default=1.0, help="below 1: safer and less varied")
    add("--negative", metavar="CAPTION", help='what not to show, for instance "snow"')
    add("--guidance", type=float, help="how strongly to avoid --negative; more fits captions less; default: 0.5")
    add("--from", dest="sources", action="append", default=[], metavar="PICTURE", help="redraw this picture: the "
        "caption says what changes, the rest stays; give it twice to blend two")  # fmt: skip
    add("--keep", type=float, default=1.0, metavar="0..1", help="how much of --from stays: 0 ignores it; default: 1")
    add("--posterior", type=Path, metavar="FILE", help="written by `cgan posterior`, for --from; default: the one "
        "next to the checkpoint, or in it")  # fmt: skip
    add("--checkpoint", type=Path, help="file, run directory, exported folder or owner/name on the hub; "
        "default: the newest run, else starter weights")  # fmt: skip
    add("--out", type=Path, help="a .png file, or a folder; .gif or .mp4 with --interpolate; default: samples/")
    layout = result.add_mutually_exclusive_group()
    layout.add_argument("--separate", action="store_true", help="a file for each picture")
    layout.add_argument("--grid", action="store_true", help="one file: a row for each caption, a column for each seed")
    layout.add_argument("--interpolate", type=int, metavar="N", help="N pictures from each caption to the next, in one")
    add("--between-seeds", type=int, nargs=2, metavar=("A", "B"), help="interpolate the noise from seed A to seed B")
    add("--best-of", type=int, default=1, help="sample N candidates for each, keep the best match", metavar="N")
    add("--joint", type=Path, help="joint.safetensors that ranks --best-of; default: the run's, else starter weights")
    add("--again", type=Path, metavar="PICTURE", help="sample the captions and seeds stored in a PNG or GIF again")
    add("--json", action="store_true", help="print a JSON object for each picture instead of file names")
    add("--batch-size", type=int, default=1, help="pictures at once: faster on a GPU, equal only up to rounding")
    add("--device", default="cpu", help="cpu, cuda, mps, or auto; the same on each up to rounding")
    add("--compile", action="store_true", help="use torch.compile: pays off for thousands of pictures")
    return result


def check(options: argparse.Namespace) -> None:
    """Raises UserError for options that do not fit together, before anything is loaded."""
    given = bool(options.captions) or options.caption_file is not None
    if options.again is not None and (given or options.negative is not None):
        raise UserError("--again takes captions from its picture; leave captions out, and --negative")
    if options.again is None and not given:
        raise UserError('no caption; give one, for instance "a dog on grass", or --captions FILE')
    if not 1 <= options.num <= MAX_NUM:
        raise UserError(f"--num={options.num}: must be from 1 to {MAX_NUM:,}; for more, call again with another --seed")
    if options.guidance is not None and options.negative is None:
        raise UserError(f'--guidance={options.guidance}: away from what? give --negative "snow" as well')
    check_sources(options)
    interpolated = is_interpolated(options)
    if interpolated and (options.best_of != 1 or options.num != 1 or options.grid or options.separate):
        raise UserError("--interpolate writes one file; leave --num, --best-of, --grid and --separate out")
    check_unused(options)
    suffix = "" if options.out is None or options.out.is_dir() else options.out.suffix.lower()
    if suffix in OTHERS:
        raise UserError(f"--out={options.out}: give a name in .png, for animations .gif or .mp4, or a folder")
    if suffix in ANIMATIONS and not interpolated and options.again is None:
        raise UserError(f"--out={options.out}: only interpolations move; give --interpolate 24 and two captions")


def from_sources(
    pipe: "TextToImage", requests: "list[SamplingRequest]", options: argparse.Namespace
) -> "tuple[TextToImage, list[SamplingRequest]]":
    """Returns the pipeline that starts from the source pictures, and requests that name them; both as they are without.

    Raises UserError for pictures that can't be read, or that are not those of --again.
    """
    before = requests[0].sources
    files = options.sources or [source["file"] for source in before]
    if not files:
        return pipe, requests
    if not options.sources and "" in files:
        raise UserError(
            f"{options.again}: was made from {of_other_content(before)}, not from a file; give it by --from"
        )
    if options.posterior is not None:
        pipe.inverter(options.posterior)
    pipe = pipe.starting_from(files, requests[0].keep)
    sources = [source.about() for source in pipe.sources]
    if before and [source["sha256"] for source in before] != [source["sha256"] for source in sources]:
        raise UserError(f"{options.again}: was made from {of_other_content(before)}; give that one by --from")
    return pipe, [replace(request, sources=sources) for request in requests]


def of_other_content(sources: list[dict[str, str]]) -> str:
    """Returns the names of source pictures and the beginnings of their hashes, made printable."""
    from cgan.sampling.naming import cleaned

    return cleaned(
        " and ".join(f"{source['file'][:100] or 'a picture'} (sha256 {source['sha256'][:12]})" for source in sources)
    )


def check_sources(options: argparse.Namespace) -> None:
    """Raises UserError for options of source pictures that do not fit together."""
    if len(options.sources) > 2:
        raise UserError(f"{len(options.sources)} pictures by --from: give one, or two to blend")
    if not options.sources:
        if options.again is None:
            refuse_unused(options, parser(), ["posterior"], "without --from")
        refuse_unused(options, parser(), ["keep"], "without --from")


def is_interpolated(options: argparse.Namespace) -> bool:
    """Returns whether pictures between captions or seeds are asked for."""
    return options.interpolate is not None or options.between_seeds is not None


def check_unused(options: argparse.Namespace) -> None:
    """Raises UserError for options that others make idle."""
    if options.again is not None:
        refuse_unused(options, parser(), FIXED_BY_PICTURE, "with --again, which takes it from its picture")
    elif options.best_of == 1:
        refuse_unused(options, parser(), ["joint"], "without --best-of")
    else:
        refuse_unused(options, parser(), ["batch_size"], "with --best-of, which samples one by one")
    if is_interpolated(options):
        refuse_unused(options, parser(), ["batch_size"], "in an interpolation, which is sampled picture by picture")
    if options.between_seeds is not None:
        refuse_unused(options, parser(), ["seed"], "with --between-seeds")


def requests_of(options: argparse.Namespace) -> "list[SamplingRequest]":
    """Returns a request for each file."""
    from cgan.sampling.naming import cleaned
    from cgan.sampling.request import SamplingRequest

    from_file = [] if options.caption_file is None else captions_in(options.caption_file)
    captions = [cleaned(caption) for caption in options.captions + from_file]
    seeds = list(range(options.seed, options.seed + options.num))
    size = options.batch_size
    one = SamplingRequest(captions, seeds, "grid", options.truncation, options.best_of, 0, size, options.device)
    one = replace(one, keep=options.keep)
    if options.negative is not None:
        guidance = 0.5 if options.guidance is None else options.guidance
        one = replace(one, negative=cleaned(options.negative), guidance=guidance)
    if is_interpolated(options):
        if len(captions) == 1 and options.between_seeds is None and len(options.sources) < 2:
            raise UserError("--interpolate needs two captions, two pictures by --from, or --between-seeds A B")
        ends = options.between_seeds or [options.seed] * 2
        steps = 8 if options.interpolate is None else options.interpolate
        return [replace(one, layout="interpolation", seeds=ends, steps=steps, batch_size=1)]
    if options.grid:
        return [one]
    each = [[seed] for seed in seeds] if options.separate else [seeds]
    return [replace(one, layout="row", captions=[c], seeds=some) for c in captions for some in each]


def reranker_of(joint: Path | None, checkpoint: Path) -> "Reranker":
    """Returns the Reranker of --joint, of the joint encoder beside the checkpoint, or of the starter weights."""
    from cgan.retrieval import joint_checkpoint_of
    from cgan.sampling.reranker import Reranker, joint_encoder_for

    return Reranker(joint_encoder_for(checkpoint) if joint is None else joint_checkpoint_of(joint))


def output_paths(options: argparse.Namespace) -> "OutputPaths":
    """Returns the OutputPaths that name the files; pictures sampled with --again replace none."""
    from cgan.sampling.naming import OutputPaths, slug

    out = options.out
    if out is None and options.again is not None:
        suffix = ".gif" if options.again.suffix.lower() == ".gif" else ".png"
        out = Path("samples") / f"{slug(options.again.stem)}-again{suffix}"
    suffix = "" if out is None or out.is_dir() else out.suffix.lower()
    return OutputPaths(out, suffix if suffix in ANIMATIONS else ".png")


def json_lines(path: Path, request: "SamplingRequest", pipe: "TextToImage") -> Iterator[str]:
    """Yields an object of --json for each picture in a file, or one for an interpolation."""
    shared = {"path": str(path), "truncation": request.truncation, "checkpoint": pipe.sha256}
    shared |= {"negative": request.negative, "guidance": request.guidance}
    shared |= {"sources": request.sources, "keep": request.keep} if request.sources else {}
    if request.layout == "interpolation":
        words = pipe.unknown_words(request.all_captions)
        yield json.dumps({**shared, "captions": request.captions, "seeds": request.seeds, "unknown_words": words})
        return
    for row, caption in enumerate(request.captions):
        words = pipe.unknown_words([caption] if request.negative is None else [caption, request.negative])
        for column, seed in enumerate(request.seeds):
            position = {"caption": caption, "seed": seed, "row": row, "column": column}
            yield json.dumps({**shared, **position, "unknown_words": words})
