"""cgan prepare: any data set into tar shards of resized pictures, or what is wrong with a data set."""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

from cgan.cli.parsing import Parser
from cgan.cli.unused import refuse_unused
from cgan.workers import num_cores

SHOWN = 50  # faults that are printed one by one

EXAMPLES = """examples:
  cgan prepare configs/gan/folder.yaml data.root=PICTURES --out SHARDS --size 256
  cgan prepare configs/gan/coco.yaml data.root=train2017 data.annotations=captions_train2017.json --out SHARDS
  cgan prepare --check SHARDS
  python train.py configs/gan/shards.yaml data.root=SHARDS
"""


def main(arguments: list[str]) -> None:
    """Write shards, or check a data set; raises UserError."""
    options = parser().parse_intermixed_args(arguments)
    if options.check:
        check(options)
    else:
        write(options)


def parser() -> argparse.ArgumentParser:
    result = Parser(
        prog="cgan prepare",
        description="Check and resize the pictures of a configuration's data set, and write them as tar shards.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("settings", nargs="*", help="CONFIG.yaml and key=value, as for train.py; or DIR")
    result.add_argument("--out", type=Path, help="the folder to write, or to go on with after an interruption")
    result.add_argument("--size", type=int, help="pixels of the shorter side; default: data.resolution")
    crops = ("center", "random", "none")
    result.add_argument("--crop", choices=crops, default="center", help="which square is kept; none keeps all")
    result.add_argument("--format", choices=("jpg", "png"), default="jpg", help="png keeps every pixel")
    result.add_argument("--quality", type=int, default=95, help="of JPEG, 1 to 100")
    result.add_argument("--shard-size", type=int, default=1000, help="pictures in a shard")
    result.add_argument("--workers", type=int, default=num_cores(), help="default: every core")
    result.add_argument("--check", action="store_true", help="say what is wrong with DIR, or with the settings' data")
    return result


def write(options: argparse.Namespace) -> None:
    """Shards of a configuration's pictures, with a line of progress."""
    from cgan.cli.progress import progress_bar
    from cgan.config import load_config
    from cgan.data.preparation import Options, prepare
    from cgan.data.sources import read_entries
    from cgan.interfaces import UserError

    config = load_config(options.settings).data
    check_options(options, config)
    size = options.size or config.resolution
    shape = Options(size, options.crop, options.format, options.quality, options.shard_size, config.seed)
    entries = read_entries(config, config.split)
    start = time.monotonic()
    try:
        with progress_bar("preparing", "pictures", len(entries)) as bar:
            manifest = prepare(entries, options.out, shape, options.workers, bar.advance)
    except KeyboardInterrupt:
        print(f"stopped; run the same again, and it goes on with what {options.out} holds")
        raise SystemExit(130) from None
    except OSError as error:
        what, why = error.filename or "the data", error.strerror or str(error)
        raise UserError(f"{what}: can't be read ({why}); run the same again, and it goes on") from error
    report(options.out, manifest, time.monotonic() - start)


def check_options(options: argparse.Namespace, config) -> None:
    """Raise UserError for what is wrong at first sight."""
    from cgan.data.sources import check_data
    from cgan.interfaces import UserError

    check_data(config)
    if config.source == "scenes":
        raise UserError("data.source=scenes: drawn by code, nothing to prepare; give a CONFIG.yaml of other pictures")
    if not options.check and options.out is None:
        raise UserError("--out is not given; name the folder to write the shards into")
    if options.size is not None and not 8 <= options.size <= 4096:
        raise UserError(f"--size {options.size}: give 8 to 4096 pixels")
    if not 1 <= options.quality <= 100:
        raise UserError(f"--quality {options.quality}: give 1 to 100")
    if options.shard_size < 1 or options.workers < 1:
        raise UserError("--shard-size and --workers: give at least 1")


def report(out: Path, manifest: dict, seconds: float) -> None:
    """What was written, what was left out, and the next command to type."""
    from cgan.data.pictures import Skipped, summary

    shards, megabytes = manifest["shards"], manifest["bytes"] / 1e6
    print(f"{manifest['samples']:,} pictures with {manifest['captions']:,} captions", end=" ")
    print(f"in {len(shards):,} shards of {out}, {megabytes:,.1f} MB, after {seconds:.1f} s")
    if manifest["skipped"]:
        reasons = summary([Skipped(*item) for item in manifest["skipped"]])
        print(f"skipped {len(manifest['skipped']):,}: {reasons}; {out / 'manifest.json'} names all")
    print(f"next: python train.py configs/gan/shards.yaml data.root={out} data.resolution={manifest['size']}")


def check(options: argparse.Namespace) -> None:
    """Print the faults of a data set; raises UserError when there are any."""
    from cgan.interfaces import UserError

    shape = "out", "size", "crop", "format", "quality", "shard_size"
    refuse_unused(options, parser(), shape, "with --check, which writes nothing")
    faults = 0
    for fault in found(options):
        faults += 1
        if faults <= SHOWN:
            print(fault)
    if faults > SHOWN:
        print(f"and {faults - SHOWN:,} more")
    if faults:
        raise UserError(f"{faults:,} things are wrong")
    print("nothing is wrong")


def found(options: argparse.Namespace) -> Iterator[str]:
    """The faults of shards, of a folder, or of the data set of a configuration."""
    from cgan.cli.progress import progress_bar
    from cgan.config import load_config
    from cgan.data.checking import check_entries, check_shards, unmentioned
    from cgan.data.preparation import MANIFEST, UNFINISHED
    from cgan.data.readers.folder import read_folder
    from cgan.data.shards import is_tar
    from cgan.data.sources import read_entries

    folder = Path(options.settings[0]) if len(options.settings) == 1 else None
    tars = sum(map(is_tar, folder.iterdir())) if folder is not None and folder.is_dir() else 0
    if folder is None or not folder.is_dir():
        config = load_config(options.settings).data
        check_options(options, config)
        entries = read_entries(config, config.split)
    elif tars or (folder / MANIFEST).is_file() or (folder / UNFINISHED).is_file():
        with progress_bar("checking", "shards", tars) as bar:
            yield from check_shards(folder, options.workers, bar.advance)
        return
    else:
        entries = read_folder(folder)
        yield from unmentioned(folder, entries)
    with progress_bar("checking", "pictures", len(entries)) as bar:
        yield from check_entries(entries, options.workers, bar.advance)
