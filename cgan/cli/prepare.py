"""cgan prepare: writes a data set as tar shards of resized pictures, or prints what is wrong with it."""

import argparse
import time
from pathlib import Path

from cgan.cli.option_checks import refuse_unused
from cgan.cli.parsing import Parser
from cgan.errors import CTRL_C, UserError
from cgan.workers import num_cores

MAX_SHOWN = 50  # faults that are printed one by one

EXAMPLES = """examples:
  cgan prepare configs/gan/folder.yaml data.root=PICTURES --out SHARDS --size 256
  cgan prepare configs/gan/coco.yaml data.root=train2017 data.annotations=captions_train2017.json --out SHARDS
  cgan prepare --check SHARDS
  cgan train configs/gan/shards.yaml data.root=SHARDS
"""


def main(arguments: list[str]) -> None:
    """Writes shards, or checks a data set; raises UserError."""
    options = parser().parse_intermixed_args(arguments)
    if options.check:
        check(options)
    else:
        write(options)


def parser() -> argparse.ArgumentParser:
    """Returns the parser of `cgan prepare`."""
    result = Parser(
        prog="cgan prepare",
        description="Check and resize the pictures of a configuration's data set, and write them as tar shards.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("settings", nargs="*", help="CONFIG.yaml and key=value, as for train.py; or DIR")
    add("--out", type=Path, help="the folder to write, or to continue after an interruption")
    add("--size", type=int, help="pixels of the shorter side; default: data.resolution")
    crops = ("center", "random", "none")
    add("--crop", choices=crops, default="center", help="which square is kept; none keeps all")
    add("--format", choices=("jpg", "png"), default="jpg", help="png is lossless")
    add("--quality", type=int, default=95, help="JPEG quality, 1 to 100")
    add("--shard-size", type=int, default=1000, help="pictures per shard")
    add("--workers", type=int, default=num_cores(), help="default: every core")
    add("--check", action="store_true", help="print what is wrong with DIR, or with the settings' data")
    return result


def write(options: argparse.Namespace) -> None:
    """Writes shards, with a progress bar, and prints what is in them and the next command to type."""
    from cgan.cli.progress import progress_bar
    from cgan.config import load_config
    from cgan.data.pictures import summary
    from cgan.data.preparation import check_prepared, prepare

    config, start = load_config(options.settings).data, time.monotonic()
    check_prepared(config)
    if options.out is None:
        raise UserError("--out is not given; name the folder to write the shards into")
    try:
        with progress_bar("preparing", "pictures") as bar:
            done = prepare(config, options.out, size=options.size, crop=options.crop, format=options.format,
                           quality=options.quality, shard_size=options.shard_size, num_workers=options.workers,
                           progress=bar)  # fmt: skip
    except KeyboardInterrupt:
        print(f"stopped; run the same again, and it goes on with what {options.out} holds")
        raise SystemExit(CTRL_C) from None
    print(f"{done.num_pictures:,} pictures with {done.num_captions:,} captions", end=" ")
    print(f"in {done.num_shards:,} shards of {options.out}, {done.num_bytes / 1e6:,.1f} MB", end=", ")
    print(f"after {time.monotonic() - start:.1f} s")
    if done.skipped:
        listed = f"{options.out / 'manifest.json'} names all"
        print(f"skipped {len(done.skipped):,}: {summary(done.skipped)}; {listed}")
    print(f"next: cgan train configs/gan/shards.yaml data.root={options.out} data.resolution={done.size}")


def check(options: argparse.Namespace) -> None:
    """Prints the faults of a data set; raises UserError when there are any."""
    from cgan.cli.progress import progress_bar
    from cgan.config import load_config
    from cgan.data.checking import check_dataset

    unused = "out", "size", "crop", "format", "quality", "shard_size"
    refuse_unused(options, parser(), unused, "with --check, which writes nothing")
    folder = Path(options.settings[0]) if len(options.settings) == 1 else None
    source = folder if folder is not None and folder.is_dir() else load_config(options.settings).data
    num_faults = 0
    with progress_bar("checking", "files") as bar:
        for fault in check_dataset(source, num_workers=options.workers, progress=bar):
            num_faults += 1
            if num_faults <= MAX_SHOWN:
                print(fault)
    if num_faults > MAX_SHOWN:
        print(f"and {num_faults - MAX_SHOWN:,} more")
    if num_faults:
        raise UserError(f"{num_faults:,} things are wrong")
    print("nothing is wrong")
