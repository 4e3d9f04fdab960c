"""cgan cycle: draws a caption, describes the drawing, finds real pictures like it, and scores all three."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from cgan.cli.option_checks import refuse_unused
from cgan.cli.parsing import Parser, captions_in, warn
from cgan.errors import UserError
from cgan.files import check_writable_file

if TYPE_CHECKING:
    from cgan.evaluation.cycle import Cycle


def main(arguments: list[str]) -> None:
    """Writes a strip of pictures and a JSON file of scores, and prints them; raises UserError."""
    options = parser().parse_args(arguments)
    if options.images is not None:
        refuse_unused(options, parser(), ["num_images"], "with --images, which is searched whole")
    else:
        refuse_unused(options, parser(), ["captions"], "without --images, as scenes have captions")
    from cgan.cli.progress import progress_bar
    from cgan.evaluation.cycle import cycle

    path = output_path(options.out, options.prompt, options.seed)
    for file in (path, path.with_suffix(".json")):
        check_writable_file(file, "give another --out")
    captions = [] if options.captions is None else captions_in(options.captions)
    given = {"seed": options.seed, "checkpoint": options.checkpoint, "joint": options.joint, "images": options.images}
    with progress_bar("encoding", "pictures") as bar:
        given |= {"captions": captions, "top": options.top, "num_images": options.num_images}
        made = cycle(options.prompt, **given, report=warn, progress=bar)
    made.save(path)
    if options.json:
        print(json.dumps({"strip": str(path), **made.scores}, indent=2))
        return
    print("\n".join([*lines_of(made), f"strip: {path}", f"scores: {path.with_suffix('.json')}"]))


def parser() -> argparse.ArgumentParser:
    """Returns the parser of `cgan cycle`."""
    result = Parser(
        prog="cgan cycle",
        description="Draw a caption, describe the drawing, find real pictures like it, and score all three.",
    )
    add = result.add_argument
    add("prompt", help='what to draw, for instance "a dog on grass"')
    add("--seed", type=int, default=0, help="the same seed and prompt give the same drawing")
    add("--checkpoint", type=Path, help="file, run directory, exported folder or owner/name on the hub; "
        "default: the newest run, else starter weights")  # fmt: skip
    add("--joint", type=Path, help="joint.safetensors or a run directory that describes and searches; default: the "
        "checkpoint's, else starter weights")  # fmt: skip
    add("--images", type=Path, metavar="DIR", help="real pictures to search; default: training scenes")
    add("--num-images", type=int, default=2000, help="how many training scenes to search; default: 2000")
    add("--captions", type=Path, metavar="FILE", help="captions to choose from, one per line, for a joint encoder that "
        "can't write them")  # fmt: skip
    add("--top", type=int, default=4, help="how many real pictures to find; default: 4")
    add("--out", type=Path, help="a .png file for the strip, or a folder; the scores go next to it; default: cycles/")
    add("--json", action="store_true", help="print the scores as a JSON object")
    return result


def output_path(out: Path | None, prompt: str, seed: int) -> Path:
    """Returns the PNG file of a strip; raises UserError for another kind of file."""
    from cgan.sampling.naming import slug

    if out is None or out.is_dir() or not out.suffix:
        return (out or Path("cycles")) / f"{slug(prompt)}-{seed}.png"
    if out.suffix.lower() != ".png":
        raise UserError(f"--out={out}: strips are PNG files; give a name that ends in .png, or a folder")
    return out


def lines_of(made: "Cycle") -> list[str]:
    """Returns what was measured, a line or two for each of the three systems."""
    drawing, caption, retrieval = (made.scores[name] for name in ("drawing", "caption", "retrieval"))
    num = f"{retrieval['num_pictures']:,}"
    better = f"{drawing['rank_by_prompt'] - 1:,} of {num} real pictures fit it better"
    lines = [f"drawn      similarity {drawing['similarity']:.3f} with the prompt; {better}"]
    if "classifier_sees" in drawing:
        verdict = "as asked" if drawing["right"] else "not as asked"
        lines.append(f"           the scene classifier sees {drawing['classifier_sees']}: {verdict}")
    how = "written by the decoder" if caption["by"] == "decoder" else "the nearest caption"
    lines.append(f"caption    {caption['text']} ({how})")
    agrees = f"; names {caption['alike']} of {caption['attributes']} attributes alike" if "alike" in caption else ""
    lines.append(f"           similarity {caption['similarity']:.3f} with the drawing, "
                 f"{caption['similarity_to_prompt']:.3f} with the prompt{agrees}")  # fmt: skip
    lines.append(f"retrieved  from {retrieval['source']}\nrank  similarity  rank by prompt")
    for rank, one in enumerate(made.retrieved, start=1):
        true = {None: "", True: "  fits the prompt", False: "  does not fit the prompt"}[one.true_of_prompt]
        lines.append(f"{rank:4d}  {one.similarity:10.3f}  {one.rank_by_prompt:6,} of {num}  {one.name}{true}")
    return lines
