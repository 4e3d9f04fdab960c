"""Builds the data set of a configuration: the built-in scenes, or pictures with captions that a reader returns."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cgan.data.cache import cache_folder
from cgan.interfaces import ImageTextDataset, UserError

if TYPE_CHECKING:
    from cgan.data.pictures import CaptionedPictures, Entry
    from cgan.data.scenes.dataset import Scenes
    from cgan.data.shards import ShardedPictures

RESOLUTIONS = (32, 64, 128, 256, 512)


Source = Literal["scenes", "folder", "coco", "karpathy", "flickr30k", "cub", "flowers", "datasets", "shards", "custom"]
SPLIT = ("karpathy", "cub", "flowers", "datasets", "shards")  # sources that data.split can choose from
LABELLED = ("coco", "karpathy", "cub")  # sources whose labels are in a file of their own
ANNOTATED = ("coco", "karpathy", "flickr30k")  # sources whose captions are in a file of their own


@dataclass
class DataConfig:
    """The data section of a configuration: which pictures and captions, at which resolution."""

    source: Source = "scenes"  # what the pictures and captions are read from; custom: a data set that is given in
    # Python
    root: str | None = None  # the folder of pictures, for all but scenes
    annotations: str | None = None  # the captions file of coco, karpathy and flickr30k
    split: str | None = None  # the published part to train on; for shards, a subfolder of root
    test_split: str | None = None  # the published part that test_images are taken from, instead of from training
    resolution: int = 64  # width and height of pictures, in pixels
    crop: Literal["center", "random"] = "center"  # how shards that are not square are cropped
    flip: bool = False  # mirror half of the pictures in each step; not where captions say left and right
    num_images: int = 20_000  # number of scenes to draw for training
    level: Literal["one", "two", "three"] = "one"  # number of objects in a scene; two stand in a relation, and three
    # are counted
    language: Literal["en", "zh"] = "en"  # language of the captions of scenes, English or Chinese; English only
    # with level three
    test_images: int = 0  # pictures held out to evaluate retrieval; for scenes, drawn in addition
    seed: int = 0  # seed of the scenes, of the choice of test pictures, and of random crops and flips
    labels: str | None = None  # the file or folder of labels: COCO's instances, or CUB's folder attributes
    label_captions: bool = False  # add a caption that lists a training picture's labels, such as: dog, animal


def check_data(config: DataConfig) -> None:
    """Raises UserError for settings that are wrong or do not fit together; opens no file."""
    if config.resolution not in RESOLUTIONS:
        raise UserError(f"data.resolution={config.resolution}: not a power of two from 32 to 512; 64 is a good start")
    if config.test_images < 0:
        raise UserError(f"data.test_images={config.test_images}: give a number of pictures to keep out, or 0")
    if config.source == "custom":
        raise UserError("data.source=custom: give the data set in Python, train(config, dataset=...)")
    if config.source != "scenes" and config.root is None:
        raise UserError(f"data.source={config.source}: data.root is not set; give it the folder of pictures")
    if config.source in ANNOTATED and config.annotations is None:
        raise UserError(f"data.source={config.source}: data.annotations is not set; give it the file of captions")
    if config.labels is not None:
        check_labels(config.source, Path(config.labels))
    if config.source not in SPLIT and (config.split or config.test_split):
        raise UserError(f"data.source={config.source}: has no splits; data.split works with {', '.join(SPLIT)}")
    if config.source != "shards" and config.crop == "random":
        raise UserError(f"data.source={config.source}: data.crop=random is for shards; cgan prepare makes them")
    if config.source == "scenes" and config.flip:
        raise UserError("data.source=scenes: data.flip would make captions of left and right wrong; leave it out")
    if config.source == "scenes" and config.language != "en":
        from cgan.data.scenes.levels import level_of

        level_of(config.level, config.language)  # raises where there are no such captions


def check_labels(source: Source, labels: Path) -> None:
    """Raises UserError where a source has no file of labels, or where there is none."""
    if source not in LABELLED:
        raise UserError(f"data.source={source}: data.labels is for {', '.join(LABELLED)}; other labels need no file")
    if not labels.exists():
        raise UserError(f"data.labels={labels}: no such file or folder; give COCO's instances or CUB's attributes")


def build_dataset(config: DataConfig, part: Literal["train", "test"] = "train") -> ImageTextDataset:
    """Returns the data set of a configuration: a sequence of Samples with `captions_of(index)`; raises UserError."""
    check_data(config)
    dataset = dataset_of(config, part)
    return dataset.with_label_captions() if config.label_captions and part == "train" else dataset


def dataset_of(config: DataConfig, part: Literal["train", "test"]) -> "Scenes | CaptionedPictures | ShardedPictures":
    """Returns the data set of a configuration, whose captions are those of its files; raises UserError."""
    from cgan.data.scenes.dataset import Scenes
    from cgan.data.scenes.levels import level_of

    if config.source == "scenes":
        level = level_of(config.level, config.language)
        if part == "train":
            return Scenes(config.num_images, config.resolution, config.seed, level=level)
        return Scenes(config.test_images, config.resolution, config.seed + 1_000_003, level=level)
    if config.test_split is None:
        return pictures_of(config, config.split).split(config.test_images, config.seed)[part == "test"]
    if part == "train":
        return pictures_of(config, config.split)
    test = pictures_of(config, config.test_split)
    return test if config.test_images >= len(test) else test.split(config.test_images, config.seed)[1]


def pictures_of(config: DataConfig, split: str | None) -> "CaptionedPictures | ShardedPictures":
    """Returns all usable pictures of a split, at the configured resolution; raises UserError."""
    from cgan.data.pictures import CaptionedPictures

    if config.source == "shards":
        from cgan.data.shards import ShardedPictures

        root = Path(config.root or "") / (split or "")
        return ShardedPictures(root, config.resolution, cache_folder(), config.crop, config.flip, config.seed)
    entries = read_entries(config, split)
    source = f"{config.annotations} with pictures in {config.root}" if config.annotations else str(config.root)
    return CaptionedPictures(entries, config.resolution, cache_folder(), source)


def read_entries(config: DataConfig, split: str | None) -> "list[Entry]":
    """Returns the pictures of a split as Entries; picture files are not opened. Raises UserError."""
    from cgan.data.readers.coco import read_coco
    from cgan.data.readers.cub_flowers import read_cub, read_flowers
    from cgan.data.readers.flickr30k import read_flickr30k
    from cgan.data.readers.folder import read_folder
    from cgan.data.readers.karpathy import read_karpathy
    from cgan.data.shards import read_shards

    root, annotations = Path(config.root or ""), Path(config.annotations or "")  # check_data has seen to both
    labels = None if config.labels is None else Path(config.labels)
    match config.source:
        case "folder":
            return read_folder(root)
        case "coco":
            return read_coco(root, annotations, labels)
        case "karpathy":
            return read_karpathy(root, annotations, split, labels)
        case "flickr30k":
            return read_flickr30k(root, annotations)
        case "cub":
            return read_cub(root, split, labels)
        case "flowers":
            return read_flowers(root, split)
        case "datasets":
            from cgan.data.readers.huggingface import read_datasets

            return read_datasets(root, split)
        case "shards":
            return read_shards(root / (split or ""), cache_folder())
        case unknown:
            raise ValueError(f"no folder holds pictures of data.source={unknown}")
