"""Pictures with captions: the built-in scenes, or files."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch.utils.data import Dataset

from cgan.interfaces import UserError

RESOLUTIONS = (32, 64, 128, 256, 512)


@dataclass
class DataConfig:
    source: Literal["scenes", "folder", "coco"] = "scenes"
    root: str | None = None  # the folder of pictures, for folder and coco
    annotations: str | None = None  # COCO's captions file
    resolution: int = 64
    num_images: int = 20_000  # scenes to draw
    test_images: int = 0  # pictures kept out of training, by which retrieval is judged; of scenes, drawn beside them
    seed: int = 0  # of the scenes, and of the choice of test pictures


def cache_folder() -> Path:
    """Where drawn and decoded pictures are kept: $CGAN_CACHE, or ~/.cache/cgan."""
    return Path(os.environ.get("CGAN_CACHE", "~/.cache/cgan")).expanduser()


def check_data(config: DataConfig) -> None:
    """Raise UserError for what is wrong at first sight."""
    if config.resolution not in RESOLUTIONS:
        raise UserError(f"data.resolution={config.resolution}: not a power of two from 32 to 512; 64 is a good start")
    if config.test_images < 0:
        raise UserError(f"data.test_images={config.test_images}: give a number of pictures to keep out, or 0")
    if config.source != "scenes" and config.root is None:
        raise UserError(f"data.source={config.source}: data.root is not set; give it the folder of pictures")
    if config.source == "coco" and config.annotations is None:
        raise UserError("data.source=coco: data.annotations is not set; give it COCO's captions file")


def build_dataset(config: DataConfig, part: Literal["train", "test"] = "train") -> Dataset:
    """The data set of a configuration: a sequence of Samples with `captions_of(index)`; raises UserError."""
    from cgan.data.coco import read_coco
    from cgan.data.folder import read_folder
    from cgan.data.pictures import CaptionedPictures
    from cgan.data.scenes import Scenes

    check_data(config)
    match config.source:
        case "scenes" if part == "train":
            return Scenes(config.num_images, config.resolution, config.seed)
        case "scenes":
            return Scenes(config.test_images, config.resolution, config.seed + 1_000_003)
        case "folder":
            entries, source = read_folder(Path(config.root)), config.root
        case "coco":
            entries, source = read_coco(Path(config.root), Path(config.annotations)), config.annotations
    pictures = CaptionedPictures(entries, config.resolution, cache_folder(), source)
    return pictures.split(config.test_images, config.seed)[part == "test"]
