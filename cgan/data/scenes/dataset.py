"""The data set of generated scenes: picture i and its captions are functions of the seed, the split and i alone."""

import copy
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cgan.data.cache import cache_folder, made_once, mapped, num_rows_at_once, write_array
from cgan.data.labels import with_label_caption
from cgan.data.scenes.attributes import Scene, Split, labels_of_scene, sample_scene
from cgan.data.scenes.captions import describe
from cgan.data.scenes.drawing import DRAWING_VERSION, draw_scene
from cgan.interfaces import Sample
from cgan.pixels import rows_at
from cgan.workers import in_parallel

CAPTIONS_PER_SCENE = 5


def rng_of(seed: int, split: Split, index: int) -> np.random.Generator:
    """Returns the random number generator of the scene at an index."""
    return np.random.default_rng([seed, split == "heldout", index])


class Level(NamedTuple):
    """The kind of scenes: how they are sampled, drawn and described by a tuple of attributes each."""

    name: str
    scene: Callable[..., Any]  # Scene, Pair or Trio, of its attributes
    sample: Callable[[np.random.Generator, Split], Any]
    draw: Callable[[Any, int, np.random.Generator], np.ndarray]
    describe: Callable[[Any, np.random.Generator], str]
    labels: Callable[[Any], tuple[str, ...]]  # words for what is in a scene, each once
    language: str = "en"  # of the descriptions and labels


ONE = Level("one", Scene, sample_scene, draw_scene, describe, labels_of_scene)


def draw_indexed(level: Level, seed: int, split: Split, resolution: int, index: int) -> np.ndarray:
    """Returns picture `index` of a data set, uint8 (resolution, resolution, 3)."""
    rng = rng_of(seed, split, index)
    return level.draw(level.sample(rng, split), resolution, rng)


class Scenes(Dataset):
    """Scenes with captions.

    Picture i is a function of (seed, split, i) alone, and is rendered once into a cache file.
    """

    def __init__(
        self,
        num_images: int,
        resolution: int,
        seed: int = 0,
        split: Split = "seen",
        cache: Path | None = None,
        level: Level = ONE,
    ) -> None:
        self.resolution, self.seed, self.level = resolution, seed, level
        self.split: Split = split
        scenes = [level.sample(rng_of(seed, split, i), split) for i in range(num_images)]
        self.attributes = np.array(scenes, dtype=np.int64)  # (N, attributes)
        self.captions: dict[int, list[str]] = {}  # those described so far
        self.label_captions = False  # whether the labels of a scene are one more caption of it
        self.pictures = self.drawn(cache or cache_folder())

    def drawn(self, cache: Path) -> np.ndarray:
        """Returns the pictures, uint8 (N, H, W, 3), as a memory map of the cache file.

        They are rendered if it does not exist.
        """
        level = "" if self.level.name == "one" else f"-{self.level.name}"
        key = f"{DRAWING_VERSION}{level}-{self.seed}-{self.split}-{len(self.attributes)}-{self.resolution}"
        path = cache / f"scenes-{hashlib.sha256(key.encode()).hexdigest()[:12]}.npy"
        shape = (len(self.attributes), self.resolution, self.resolution, 3)
        return made_once(path, partial(mapped, path, np.uint8, shape), partial(self.draw_into, path, shape))

    def draw_into(self, path: Path, shape: tuple[int, ...]) -> np.ndarray:
        """Renders all pictures into a cache file, in parallel on all cores, and returns its memory map.

        Raises CannotWrite.
        """
        draw = partial(draw_indexed, self.level, self.seed, self.split, self.resolution)
        with in_parallel(draw, range(shape[0]), num_rows_at_once(3 * self.resolution**2)) as pictures:
            return write_array(path, np.uint8, shape, (picture[None] for picture in pictures))

    def __len__(self) -> int:
        return len(self.attributes)

    def __getitem__(self, index: int) -> Sample:
        image = torch.from_numpy(np.array(self.pictures[index])).permute(2, 0, 1)
        return Sample(image, self.captions_of(index), index, self.labels_of(index))

    def images_at(self, indices: list[int]) -> Tensor:
        """Returns the pictures of some indices, (n, 3, H, W) uint8, read at once."""
        return rows_at(self.pictures, indices)

    def image_ids_at(self, indices: list[int]) -> list[int]:
        """Returns the ids of the pictures of some indices."""
        return indices

    def captions_of(self, index: int) -> list[str]:
        """Returns the captions of a scene without reading its pixels."""
        if index not in self.captions:
            rng = np.random.default_rng([self.seed, self.split == "heldout", index, 1])
            scene = self.scene_at(index)
            captions = [self.level.describe(scene, rng) for _ in range(CAPTIONS_PER_SCENE)]
            labels = self.level.labels(scene) if self.label_captions else ()
            self.captions[index] = with_label_caption(captions, labels)
        return self.captions[index]

    def labels_of(self, index: int) -> tuple[str, ...]:
        """Returns the labels of a scene: the words of its attributes, whether or not a caption mentions them."""
        return self.level.labels(self.scene_at(index))

    def scene_at(self, index: int) -> Any:
        """Returns the Scene, Pair or Trio at an index."""
        return self.level.scene(*self.attributes[index].tolist())

    def with_label_captions(self) -> "Scenes":
        """Returns the data set with the labels of each scene as one more caption of it."""
        more = copy.copy(self)
        more.captions, more.label_captions = {}, True
        return more
