"""python sample.py: captions to PNG files, or to an animation of the way from one to another."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from cgan.cli.parsing import Parser
from cgan.cli.unused import refuse_unused
from cgan.errors import UserError
from cgan.files import check_writable, check_writable_file
from cgan.resources import STARTER_GAN

MOST = 10_000  # pictures of a caption
ANIMATIONS, OTHERS = (".gif", ".mp4"), (".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".webm", ".avi", ".mov")


def main(arguments: list[str]) -> None:
    """Draw each caption and say where; raises UserError for a mistake in the arguments."""
    options = parser().parse_intermixed_args(arguments)
    check(options)
    from cgan.sampling.metadata import read_drawing

    drawing, about = (None, {}) if options.again is None else read_drawing(options.again)
    drawings = wanted(options) if drawing is None else [replace(drawing, batch_size=1, device=options.device)]
    for each in drawings:
        each.check()
    names = names_of(options)
    if names.suffix in ANIMATIONS and drawings[0].layout != "way":
        raise UserError(f"{options.again}: shows no way, so nothing can be animated; give --out a .png")
    pipe, checkpoint = opened(options, about)
    if drawings[0].negative is not None:
        pipe = pipe.away_from(drawings[0].negative, drawings[0].guidance)
    drawings[0].check_size(pipe.generator.resolution)
    judge = None if drawings[0].best_of == 1 else judge_of(options, checkpoint)
    made_with = {"checkpoint": {"file": label(checkpoint), "sha256": pipe.sha256}, **versions()}
    made_with["joint"] = judge and judge.about
    for line in differences(options, drawing, about, made_with):
        warn(line)
    check_out(names)
    write_all(pipe, drawings, judge, made_with, names, options)


def parser() -> argparse.ArgumentParser:
    result = Parser(prog="sample.py", description="Draw pictures from captions.")
    add = result.add_argument
    add("captions", nargs="*", help='what to draw, for instance "a dog on grass"')
    add("--captions", dest="caption_file", type=Path, metavar="FILE", help="more captions, one a line; - reads them in")
    add("--seed", type=int, default=0, help="the same seed and caption give the same picture")
    add("--num", type=int, default=1, help="pictures of each caption, side by side, of seed, seed + 1, ...")
    add("--truncation", type=float, default=1.0, help="below 1: safer and less varied")
    add("--negative", metavar="CAPTION", help='what not to draw, for instance "snow"')
    add("--guidance", type=float, help="how far from --negative: 0 not at all, much costs fit; default: 0.5")
    add("--checkpoint", type=Path, help="file, run directory, exported folder or owner/name on the hub; "
        "default: the newest run, else starter weights")  # fmt: skip
    add("--out", type=Path, help="a .png file, or a folder; .gif or .mp4 with --interpolate; default: samples/")
    layout = result.add_mutually_exclusive_group()
    layout.add_argument("--separate", action="store_true", help="a file for each picture")
    layout.add_argument("--grid", action="store_true", help="one file: a row for each caption, a column for each seed")
    layout.add_argument("--interpolate", type=int, metavar="N", help="N pictures from each caption to the next, in one")
    add("--between-seeds", type=int, nargs=2, metavar=("A", "B"), help="let the noise turn from seed A's to seed B's")
    add("--best-of", type=int, default=1, help="draw so many of each, keep the one that fits best")
    add("--joint", type=Path, help="joint.safetensors that judges --best-of; default: the run's, else starter weights")
    add("--again", type=Path, metavar="PICTURE", help="draw once more what a PNG or GIF says that it shows")
    add("--json", action="store_true", help="print a JSON object for each picture in place of the files' names")
    add("--batch-size", type=int, default=1, help="pictures at once: faster on a GPU, equal only up to rounding")
    add("--device", default="cpu", help="cpu, cuda, mps; the same on each up to rounding")
    return result


def check(options: argparse.Namespace) -> None:
    """Raise UserError for what is wrong at first sight, before anything is loaded."""
    given = bool(options.captions) or options.caption_file is not None
    if options.again is not None and (given or options.negative is not None):
        raise UserError("--again draws what its picture says; leave captions out, and --negative")
    if options.again is None and not given:
        raise UserError('nothing to draw; give a caption, for instance "a dog on grass", or --captions FILE')
    if not 1 <= options.num <= MOST:
        raise UserError(f"--num={options.num}: must be from 1 to {MOST:,}; for more, call again with another --seed")
    if options.guidance is not None and options.negative is None:
        raise UserError(f'--guidance={options.guidance}: away from what? give --negative "snow" as well')
    on_way = options.interpolate is not None or options.between_seeds is not None
    if on_way and (options.best_of != 1 or options.num != 1 or options.grid or options.separate):
        raise UserError("--interpolate draws one way in one file; leave --num, --best-of, --grid and --separate out")
    check_idle(options)
    suffix = "" if options.out is None or options.out.is_dir() else options.out.suffix.lower()
    if suffix in OTHERS:
        raise UserError(f"--out={options.out}: give a name in .png, for animations .gif or .mp4, or a folder")
    if suffix in ANIMATIONS and not on_way and options.again is None:
        raise UserError(f"--out={options.out}: only a way is animated; give --interpolate 24 and two captions")


def check_idle(options: argparse.Namespace) -> None:
    """Raise UserError for options that others make idle."""
    if options.again is not None:
        idle = "seed", "num", "truncation", "best_of", "separate", "grid", "interpolate", "between_seeds", "batch_size"
        refuse_unused(options, parser(), idle, "with --again, which draws what its picture says")
    elif options.best_of == 1:
        refuse_unused(options, parser(), ["joint"], "without --best-of")
    else:
        refuse_unused(options, parser(), ["batch_size"], "with --best-of, which draws one by one")
    if options.interpolate is not None or options.between_seeds is not None:
        refuse_unused(options, parser(), ["batch_size"], "on a way, which is drawn picture by picture")
    if options.between_seeds is not None:
        refuse_unused(options, parser(), ["seed"], "with --between-seeds")


def wanted(options: argparse.Namespace) -> list:
    """A Drawing for each file."""
    from cgan.sampling.metadata import Drawing
    from cgan.sampling.naming import cleaned

    captions = [cleaned(caption) for caption in captions_of(options)]
    seeds = list(range(options.seed, options.seed + options.num))
    one = Drawing(captions, seeds, "grid", options.truncation, options.best_of, 0, options.batch_size, options.device)
    if options.negative is not None:
        guidance = 0.5 if options.guidance is None else options.guidance
        one = replace(one, negative=cleaned(options.negative), guidance=guidance)
    if options.interpolate is not None or options.between_seeds is not None:
        if len(captions) == 1 and options.between_seeds is None:
            raise UserError("--interpolate needs two captions to go between, or --between-seeds A B")
        ends = options.between_seeds or [options.seed] * 2
        steps = 8 if options.interpolate is None else options.interpolate
        return [replace(one, layout="way", seeds=ends, steps=steps, batch_size=1)]
    if options.grid:
        return [one]
    each = [[seed] for seed in seeds] if options.separate else [seeds]
    return [replace(one, layout="row", captions=[c], seeds=some) for c in captions for some in each]


def captions_of(options: argparse.Namespace) -> list[str]:
    if options.caption_file is None:
        return options.captions
    from cgan.cli.retrieve import captions_in

    return options.captions + captions_in(options.caption_file)


def opened(options: argparse.Namespace, about: dict) -> tuple:
    """The sampler, and the file of its weights."""
    from cgan.sampling.pipeline import TextToImage
    from cgan.sampling.weights import find

    checkpoint = find(options.checkpoint) if options.checkpoint is not None else default_checkpoint(about)
    return TextToImage.load(checkpoint).to(options.device), checkpoint


def default_checkpoint(about: dict) -> Path:
    """The one of runs/ or the starter weights that a picture to draw again names, else the newest run's."""
    runs = sorted(Path("runs").glob("*/last.ckpt"), key=lambda p: p.stat().st_mtime)
    named = about.get("checkpoint", {}).get("file")
    for path in (*reversed(runs), *Path("runs").glob("*/best.ckpt"), STARTER_GAN):
        if label(path) == named:
            return path
    if not runs and not STARTER_GAN.is_file():
        raise UserError("no run with a checkpoint under runs/; train one with `python train.py`, or give --checkpoint")
    return runs[-1] if runs else STARTER_GAN


def label(path: Path) -> str:
    """A file's name with its folder's, which is a run's name."""
    return f"{path.absolute().parent.name}/{path.name}"


class Judge:
    """judge(images, caption) -> how well images (B, 3, H, W) fit, (B,), by a joint encoder."""

    def __init__(self, path: Path) -> None:
        from cgan.evaluation.loop import resized
        from cgan.models.joint import JointEncoder
        from cgan.models.weights_hash import hash_weights

        self.joint, self.resized = JointEncoder.load(path), resized
        self.about = {"file": label(path), "sha256": hash_weights(self.joint)}

    def __call__(self, images, caption: str):
        return self.joint.scores(self.resized(images, self.joint.resolution), [caption])[:, 0]


def judge_of(options: argparse.Namespace, checkpoint: Path) -> Judge:
    """By --joint, the joint encoder beside the checkpoint, or the starter's."""
    from cgan.resources import STARTER_JOINT

    beside = checkpoint.with_name("joint.safetensors")
    return Judge(options.joint or (beside if beside.is_file() else STARTER_JOINT))


def versions() -> dict[str, str]:
    import torch

    import cgan

    return {"cgan": cgan.__version__, "torch": torch.__version__}


def differences(options: argparse.Namespace, drawing, about: dict, made_with: dict) -> Iterator[str]:
    """Why a picture that is drawn again will not be the same."""
    if drawing is None:
        return
    for part in ("checkpoint", "joint"):
        was, now = (x.get(part) or {} for x in (about, made_with))
        if was.get("sha256") != now.get("sha256"):
            option = "--checkpoint" if part == "checkpoint" else "--joint"
            yield (f"{options.again} was drawn by other weights, {short(was)}; these are {short(now)}, so the picture "
                   f"differs; give them by {option}")  # fmt: skip
    if drawing.batch_size > 1 or drawing.device != options.device:
        yield (f"{options.again} was drawn on {drawing.device} in batches of {drawing.batch_size}, now on "
               f"{options.device} one by one; it is the same up to rounding")  # fmt: skip


def short(weights: dict) -> str:
    from cgan.sampling.naming import cleaned

    return cleaned(f"{str(weights.get('file'))[:100]} ({str(weights.get('sha256'))[:12]})")


def warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr)


def drawn(pipe, drawings: list, judge: Callable | None) -> Iterator:
    """The pictures of all drawings, one after another, uint8 (H, W, 3)."""
    first = drawings[0]
    if first.layout == "way":
        from cgan.sampling.interpolation import frames

        yield from frames(pipe, first.captions, first.seeds, first.steps, first.truncation)
        return
    pairs = [(caption, seed) for drawing in drawings for caption in drawing.captions for seed in drawing.seeds]
    if judge is None:
        captions, seeds = ([pair[i] for pair in pairs] for i in (0, 1))
        yield from pipe.stream(captions, seeds, first.truncation, first.batch_size)
    else:
        for caption, seed in pairs:
            yield pipe.best_of([caption], [seed], first.best_of, judge, first.truncation)[0]


def write_all(pipe, drawings: list, judge: Judge | None, made_with: dict, names, options: argparse.Namespace) -> None:
    """Each file as soon as its pictures are there."""
    from cgan.figures.sheets import save_animation, save_png

    said = list(dict.fromkeys(said for each in drawings for said in each.said))
    unknown = pipe.unknown_words(said)
    if unknown:
        warn(f"the model never saw {listed(unknown)}")
    warn_of_unread(pipe.unread(said))
    pictures, animated = drawn(pipe, drawings, judge), names.suffix in ANIMATIONS
    for each in drawings:
        path = names.of(each.captions, each.seeds[0])
        about = each.to_json(**made_with)
        try:
            save_animation(pictures, path, about) if animated else save_png(each.page(pictures), path, about)
        except OSError as error:
            raise UserError(f"{path}: can't be written ({error.strerror or error}); give another place") from None
        for line in lines(path, each, pipe, options):
            print(line, flush=True)


def warn_of_unread(captions: list[str], most: int = 3) -> None:
    """Say of which captions no word is known, so that their pictures show nothing of them."""
    if captions:
        shown = ", ".join(f"'{caption[:40]}'" for caption in captions[:most])
        more = f" and {len(captions) - most} more captions" if len(captions) > most else ""
        warn(f"the model knows no word of {shown}{more}; the picture shows nothing of it")


def check_out(names) -> None:
    """Try to write where the files will be; raises UserError before anything is drawn."""
    if names.named is not None:
        check_writable_file(names.named, "give another place")
    else:
        check_writable(names.folder, "give another place")


def names_of(options: argparse.Namespace):
    """What names the files; a picture that is drawn again stands beside the other ones, and replaces none."""
    from cgan.sampling.naming import Names, slug

    out = options.out
    if out is None and options.again is not None:
        suffix = ".gif" if options.again.suffix.lower() == ".gif" else ".png"
        out = Path("samples") / f"{slug(options.again.stem)}-again{suffix}"
    animated = out is not None and out.suffix.lower() in ANIMATIONS and not out.is_dir()
    return Names(out, out.suffix.lower() if animated else ".png")


def listed(words: list[str], most: int = 10) -> str:
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ("the word " if len(words) == 1 else "the words ") + ", ".join(f"'{w[:40]}'" for w in words[:most]) + more


def lines(path: Path, drawing, pipe, options: argparse.Namespace) -> Iterator[str]:
    """What is said of a file: its name, or with --json an object for each picture in it."""
    if not options.json:
        yield str(path)
        return
    shared = {"path": str(path), "truncation": drawing.truncation, "checkpoint": pipe.sha256}
    shared |= {"negative": drawing.negative, "guidance": drawing.guidance}
    if drawing.layout == "way":
        words = pipe.unknown_words(drawing.said)
        yield json.dumps({**shared, "captions": drawing.captions, "seeds": drawing.seeds, "unknown_words": words})
        return
    for row, caption in enumerate(drawing.captions):
        words = pipe.unknown_words([caption] if drawing.negative is None else [caption, drawing.negative])
        for column, seed in enumerate(drawing.seeds):
            place = {"caption": caption, "seed": seed, "row": row, "column": column}
            yield json.dumps({**shared, **place, "unknown_words": words})
