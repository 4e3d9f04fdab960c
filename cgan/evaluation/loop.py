"""Images of a generator, a data set or a folder, and the loop that measures them.

With several processes each measures its share; the metrics gather their states when they are computed.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors
from torchvision.transforms.v2.functional import resize

from cgan.data.cache import HINT, cache_folder, mark_used
from cgan.data.decoding import DECODING_VERSION, upright, upright_size
from cgan.data.pictures import CaptionedPictures, decode, fingerprint
from cgan.data.records import printable
from cgan.data.scenes.dataset import Scenes
from cgan.data.scenes.drawing import DRAWING_VERSION
from cgan.data.shards import ShardedPictures
from cgan.files import CannotWrite, replacing_stream
from cgan.interfaces import ImageTextDataset, TextEncoder, UserError
from cgan.metrics.features import FeatureNetwork, MatchingNetwork, features_of
from cgan.models.generators.base import Generator
from cgan.models.joint import JointEncoder
from cgan.pixels import as_bytes, as_floats
from cgan.workers import Progress, silent

BATCH = 64
log = logging.getLogger(__name__)


class Pictures(NamedTuple):
    """Images by their indices, and their description for the protocol."""

    count: int
    load: Callable[[Tensor], Tensor]  # places (B,) -> uint8 (B, 3, H, W)
    about: dict  # JSON-able; equal where the pictures are
    captions: list[str] | None = None  # of each


def of_generator(
    generator: Generator,
    text_encoder: TextEncoder,
    captions: list[str],
    seed: int,
    truncation: float = 1.0,
    about: dict | None = None,
) -> Pictures:
    """Returns a generated image of each caption; it depends on the caption, its index, their number and the seed."""
    noise = noise_of(generator, len(captions), seed) * truncation
    load = partial(generate, generator, text_encoder, captions, noise)
    description = {"seed": seed, "truncation": truncation, "resolution": generator.resolution}
    return Pictures(len(captions), load, {**(about or {}), **description}, captions)


def noise_of(generator: Generator, count: int, seed: int) -> Tensor:
    """Returns standard normal noise (count, Z) by the seed, on the CPU."""
    return torch.randn(count, generator.config.noise_dim, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def generate(
    generator: Generator, text_encoder: TextEncoder, captions: list[str], noise: Tensor, places: Tensor
) -> Tensor:
    """Returns generated images, uint8 (B, 3, H, W), of captions at indices (B,), on the device of the generator."""
    device = device_of(generator)
    with torch.autocast(device.type, enabled=False):
        text = text_encoder([captions[i] for i in places.tolist()])
        return as_bytes(generator(noise[places].to(device), text))


def of_dataset(
    dataset: ImageTextDataset, indices: list[int] | None = None, captions: list[str] | None = None
) -> Pictures:
    """Returns the images of a data set at the indices, or all of them; captions: one for each image."""
    indices = list(range(len(dataset))) if indices is None else indices

    def load(places: Tensor) -> Tensor:
        return torch.stack([dataset[indices[i]].image for i in places.tolist()])

    return Pictures(len(indices), load, {**identity(dataset, indices), "num_images": len(indices)}, captions)


def identity(dataset: ImageTextDataset, indices: list[int]) -> dict:
    """Returns a description, JSON-able, that identifies images of a data set and their preparation."""
    if isinstance(dataset, Scenes):
        description = {"source": "scenes", "drawing": DRAWING_VERSION, "seed": dataset.seed, "split": dataset.split}
        level = {} if dataset.level.name == "one" else {"level": dataset.level.name}
        return {**description, **level, "resolution": dataset.resolution, "pictures": digest(indices)}
    if not isinstance(dataset, CaptionedPictures | ShardedPictures):
        return {"source": "custom", "pictures": pixels_digest(dataset, indices)}
    description = {"preparation": crop(dataset.resolution), "decoding": DECODING_VERSION}
    if isinstance(dataset, CaptionedPictures):
        return description | {"pictures": digest([fingerprint(dataset.entries[i].picture) for i in indices])}
    shards = [fingerprint(x) for x in dataset.shards]
    return description | {"pictures": digest([shards, dataset.rows[indices].tolist()])}


def pixels_digest(dataset: ImageTextDataset, indices: list[int]) -> str:
    """Returns the SHA-256 of the pixels of images, for a data set of the user's own."""
    found = hashlib.sha256()
    for i in indices:
        found.update(dataset[i].image.numpy().tobytes())
    return found.hexdigest()


def crop(resolution: int) -> str:
    """Returns a description, for the protocol, of how images are cropped and resized to a resolution."""
    return f"centre square, antialiased bilinear to {resolution} px"


def digest(content: object) -> str:
    """Returns the SHA-256 of JSON-able content, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def of_files(paths: list[Path], resolution: int | None = None, captions: list[str] | None = None) -> Pictures:
    """Returns images of files, unchanged, or their centre squares at a resolution; raises UserError."""
    if resolution is None:
        check_sizes(paths)
    about = {
        "source": os.path.commonpath([path.absolute().parent for path in paths]),
        "preparation": "none" if resolution is None else crop(resolution),
        "decoding": DECODING_VERSION,
        "pictures": digest([fingerprint(path) for path in paths]),
        "num_images": len(paths),
    }
    return Pictures(len(paths), partial(read, paths, resolution), about, captions)


def read(paths: list[Path], resolution: int | None, places: Tensor) -> Tensor:
    """Returns the images at indices (B,), uint8 (B, 3, H, W); raises UserError if one can't be read."""
    pictures = [decoded(paths[i], resolution) for i in places.tolist()]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def decoded(path: Path, resolution: int | None) -> np.ndarray:
    """Returns an image, uint8 (H, W, 3); raises UserError if it can't be read, as skipping it would change values."""
    if resolution is not None:
        picture, reason = decode((path, resolution))
    else:
        picture, reason = upright(path)
    if picture is None:
        raise unusable(path, reason)
    return np.array(picture)


def unusable(path: Path, reason: str) -> UserError:
    """Returns the error for an image that can't be read."""
    return UserError(f"{printable(str(path))}: {reason}; mend it, or take it out of the folder")


def check_sizes(paths: list[Path]) -> None:
    """Raises UserError for images of several sizes, after rotation by EXIF, and for one that can't be read."""
    first: tuple[Path, tuple[int, int]] | None = None
    for path in paths:
        found, reason = upright_size(path)
        if found is None:
            raise unusable(path, reason)
        first = first or (path, found)
        if found != first[1]:
            sizes = f"{first[0].name} {first[1][0]}x{first[1][1]}, {path.name} {found[0]}x{found[1]}"
            raise UserError(f"{path.parent}: pictures of several sizes ({sizes}); give --resolution 256 or so")


# ------------------------------------------------------------------------------------------------ the loop


def num_processes() -> int:
    """Returns the number of processes that measure together, 1 without torch.distributed."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def shares(count: int, batch: int = BATCH) -> Iterator[Tensor]:
    """Yields batches of the indices, (B,), that this process measures; all processes together take each once.

    A process without indices gets one empty batch: metrics gather from all processes, so each needs an update.
    """
    first = distributed.get_rank() if num_processes() > 1 else 0
    return iter(torch.arange(first, count, num_processes()).split(batch))


@torch.no_grad()
def measure(
    pictures: Pictures, metrics: MetricCollection, device: torch.device | str = "cpu", progress: Progress = silent
) -> dict[str, float]:
    """Returns all metrics of all images, by name; every process calls it, and gets the same values.

    Metrics and their networks are on the device during the call, and on the CPU afterwards.
    """
    with placed(metrics, device):
        metrics.reset()
        feed(pictures, metrics, device, progress)
        return {name: float(value) for name, value in metrics.compute().items()}


@contextmanager
def placed(network: nn.Module, device: torch.device | str) -> Iterator[None]:
    """Moves a network to a device, and back to the CPU on exit, so that a training has the GPU memory for itself."""
    network.to(device)
    try:
        yield
    finally:
        network.to("cpu")


def feed(
    pictures: Pictures, metrics: MetricCollection, device: torch.device | str, progress: Progress = silent
) -> None:
    """Updates the metrics with this process's share of the images."""
    done = 0
    for places in shares(pictures.count):
        images = loaded(pictures, places, device)
        texts = None if pictures.captions is None else [pictures.captions[i] for i in places.tolist()]
        metrics.update(images=images, captions=texts, ids=places)
        done += len(places) * num_processes()
        progress(min(done, pictures.count), pictures.count)


def loaded(pictures: Pictures, places: Tensor, device: torch.device | str) -> Tensor:
    """Returns images on a device, uint8 (B, 3, H, W); for no indices an empty batch of 1 x 1 pixels."""
    if len(places) == 0:
        return torch.zeros(0, 3, 1, 1, dtype=torch.uint8, device=device)
    return pictures.load(places).to(device)


class Collected(Metric):
    """Collects the features of all images in their order, (N, F), from all processes."""

    features: list[Tensor]  # each (B, F); one tensor after the processes' states are gathered
    ids: list[Tensor]  # each (B,) int64
    full_state_update = False

    def __init__(self, network: FeatureNetwork) -> None:
        super().__init__()
        self.network = network
        self.add_state("features", [], dist_reduce_fx="cat")
        self.add_state("ids", [], dist_reduce_fx="cat")

    def update(self, images: Tensor, ids: Tensor) -> None:
        """Adds images, uint8 (B, 3, H, W), with their indices (B,); B may be 0."""
        features = features_of(self.network, images)
        self.features.append(features)
        self.ids.append(ids.to(features.device))

    def compute(self) -> Tensor:
        """Returns the features (N, F), sorted by index."""
        return dim_zero_cat(self.features)[dim_zero_cat(self.ids).argsort()]


def real_features(
    network: FeatureNetwork, pictures: Pictures, device: torch.device | str = "cpu", progress: Progress = silent
) -> Tensor:
    """Returns features of real images, (N, F) on the CPU, cached under a key of images, preparation and network.

    Every process calls it. If any process lacks them, all compute them again, each its share; then the network is on
    the CPU.
    """
    path = cache_folder() / f"features-{digest([pictures.about, network.spec()])[:16]}.npy"
    found = stored(path, (pictures.count, network.num_features))
    cached = everywhere(found is not None, device)
    if found is None or not cached:
        metrics = MetricCollection({"features": Collected(network)}, compute_groups=False)
        with placed(metrics, device), torch.no_grad():
            feed(pictures, metrics, device, progress)
            found = metrics.compute()["features"].cpu()
        store(path, found)
    return found


def everywhere(here: bool, device: torch.device | str) -> bool:
    """Returns whether a condition holds in all processes; every process calls it."""
    if num_processes() == 1:
        return here
    return all(bool(flag) for flag in gather_all_tensors(torch.tensor(int(here), device=device)))


def stored(path: Path, shape: tuple[int, int]) -> Tensor | None:
    """Returns features from a file; None if it is missing, damaged, or not finite float32 of the shape."""
    try:
        features = np.load(path)
    except (OSError, ValueError, EOFError):
        return None
    mark_used(path)
    usable = features.shape == shape and features.dtype == np.float32 and np.isfinite(features).all()
    return torch.from_numpy(features) if usable else None


def store(path: Path, features: Tensor) -> None:
    """Writes features to the cache, with a warning if that fails; several processes may do so at once."""
    try:
        with replacing_stream(path, HINT) as stream:
            np.save(stream, features.float().numpy())
    except CannotWrite as error:
        log.warning("%s; the features are computed again the next time", error)


# ------------------------------------------------------------------------------------------------ the joint encoder


class JointNetwork(MatchingNetwork):
    """The joint encoder as a network of metrics; it uses the similarity alone, without co-attention."""

    name = "joint"

    def __init__(self, joint: JointEncoder) -> None:
        super().__init__()
        self.joint, self.num_features = joint.eval(), joint.image.embedding_dim

    def forward(self, images: Tensor) -> Tensor:
        """Returns embeddings, float32 (B, E), of images, uint8 (B, 3, H, W), resized to the encoder's resolution."""
        with torch.autocast(images.device.type, enabled=False):
            return self.placed().embed_images(resized(as_floats(images), self.joint.resolution)).float()

    def embed_captions(self, captions: list[str]) -> Tensor:
        """Returns embeddings, float32 (B, E), of captions."""
        joint = self.placed()
        with torch.autocast(joint.device.type, enabled=False):
            return joint.embed_captions(captions).float()

    def placed(self) -> JointEncoder:
        """Returns the joint encoder, all of it on the device of its first weights."""
        return self.joint.to(device_of(self.joint))


def resized(images: Tensor, resolution: int) -> Tensor:
    """Returns images (B, 3, H, W) resized to (B, 3, resolution, resolution), antialiased."""
    return images if images.shape[-1] == resolution else resize(images, [resolution, resolution], antialias=True)


def device_of(network: nn.Module) -> torch.device:
    """Returns the device of a network's weights."""
    return next(network.parameters()).device
