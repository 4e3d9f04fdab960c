"""Images of a generator, a data set or a folder, and the loop by which all of them are measured.

With several processes each measures its share; the metrics gather what they need when they are computed.
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
from cgan.data.scenes.one_object import DRAWING_VERSION, Scenes
from cgan.data.shards import ShardedPictures
from cgan.files import CannotWrite, replacing_stream
from cgan.interfaces import TextEncoder, UserError
from cgan.metrics.features import FeatureNetwork, MatchingNetwork, features_of
from cgan.models.generators.base import Generator
from cgan.models.joint import JointEncoder
from cgan.pixels import as_bytes, as_floats

BATCH = 64
log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]  # takes the numbers of images that are done and to be done


class Pictures(NamedTuple):
    """Images by their places, and their description for the protocol."""

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
    """A picture of each caption; a picture depends on the captions' number, its place and the seed."""
    noise = noise_of(generator, len(captions), seed) * truncation
    load = partial(generate, generator, text_encoder, captions, noise)
    description = {"seed": seed, "truncation": truncation, "resolution": generator.resolution}
    return Pictures(len(captions), load, {**(about or {}), **description}, captions)


def noise_of(generator: Generator, count: int, seed: int) -> Tensor:
    """Standard normal noise (count, Z) by the seed, on the CPU."""
    return torch.randn(count, generator.config.noise_dim, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def generate(
    generator: Generator, text_encoder: TextEncoder, captions: list[str], noise: Tensor, places: Tensor
) -> Tensor:
    """Generate the images of some captions as bytes, on the generator's device, outside autocast."""
    device = device_of(generator)
    with torch.autocast(device.type, enabled=False):
        text = text_encoder([captions[i] for i in places.tolist()])
        return as_bytes(generator(noise[places].to(device), text))


def of_dataset(dataset, indices: list[int] | None = None, captions: list[str] | None = None) -> Pictures:
    """Some pictures of a data set, all unless indices are given."""
    indices = list(range(len(dataset))) if indices is None else indices

    def load(places: Tensor) -> Tensor:
        return torch.stack([dataset[indices[i]].image for i in places.tolist()])

    return Pictures(len(indices), load, {**identity(dataset, indices), "num_images": len(indices)}, captions)


def identity(dataset, indices: list[int]) -> dict:
    """What tells these pictures of the data set from others, and how they were prepared."""
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


def pixels_digest(dataset, indices: list[int]) -> str:
    """The SHA-256 of the pixels of some images, for a data set of the user's own."""
    found = hashlib.sha256()
    for i in indices:
        found.update(dataset[i].image.numpy().tobytes())
    return found.hexdigest()


def crop(resolution: int) -> str:
    """How images are brought to a resolution, in words for the protocol."""
    return f"centre square, antialiased bilinear to {resolution} px"


def digest(content: object) -> str:
    """The SHA-256 of what json.dumps takes, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def of_files(paths: list[Path], resolution: int | None = None, captions: list[str] | None = None) -> Pictures:
    """Pictures as they are, or their middle squares at a resolution; raises UserError."""
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
    """The images at some places, uint8 (B, 3, H, W); raises UserError."""
    pictures = [decoded(paths[i], resolution) for i in places.tolist()]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def decoded(path: Path, resolution: int | None) -> np.ndarray:
    """uint8 (H, W, 3); raises UserError, as a picture left out would change what is measured."""
    if resolution is not None:
        picture, reason = decode((path, resolution))
    else:
        picture, reason = upright(path)
    if picture is None:
        raise unusable(path, reason)
    return np.array(picture)


def unusable(path: Path, reason: str) -> UserError:
    """The mistake of an image that can't be read."""
    return UserError(f"{printable(str(path))}: {reason}; mend it, or take it out of the folder")


def check_sizes(paths: list[Path]) -> None:
    """Raise UserError for pictures of several sizes, as they are seen, and for one that can't be read."""
    first, size = None, None
    for path in paths:
        found, reason = upright_size(path)
        if found is None:
            raise unusable(path, reason)
        if size is None:
            first, size = path, found
        if found != size:
            sizes = f"{first.name} {size[0]}x{size[1]}, {path.name} {found[0]}x{found[1]}"
            raise UserError(f"{path.parent}: pictures of several sizes ({sizes}); give --resolution 256 or so")


# ------------------------------------------------------------------------------------------------ the loop


def num_processes() -> int:
    """The number of processes that measure together, 1 where there is one alone."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def shares(count: int, batch: int = BATCH) -> Iterator[Tensor]:
    """The places that this process takes, batch by batch; all processes together take each once.

    A process for which there are none takes one batch of no places: metrics gather from all, so each needs an update.
    """
    first = distributed.get_rank() if num_processes() > 1 else 0
    return iter(torch.arange(first, count, num_processes()).split(batch))


def no_progress(done: int, total: int) -> None:
    """The Progress of library functions by default: drops the numbers."""


@torch.no_grad()
def measure(
    pictures: Pictures, metrics: MetricCollection, device: torch.device | str = "cpu", progress: Progress = no_progress
) -> dict[str, float]:
    """Compute all metrics of all images; every process calls it, and gets the same values.

    Metrics and their networks are on the device meanwhile, and on the CPU afterwards.
    """
    with placed(metrics, device):
        metrics.reset()
        feed(pictures, metrics, device, progress)
        return {name: float(value) for name, value in metrics.compute().items()}


@contextmanager
def placed(network: nn.Module, device: torch.device | str) -> Iterator[None]:
    """A network on a device while it is used, then on the CPU: a training needs the GPU's memory for itself."""
    network.to(device)
    try:
        yield
    finally:
        network.to("cpu")


def feed(
    pictures: Pictures, metrics: MetricCollection, device: torch.device | str, progress: Progress = no_progress
) -> None:
    """Update the metrics with this process's share of the images."""
    done = 0
    for places in shares(pictures.count):
        images = loaded(pictures, places, device)
        texts = None if pictures.captions is None else [pictures.captions[i] for i in places.tolist()]
        metrics.update(images=images, captions=texts, ids=places)
        done += len(places) * num_processes()
        progress(min(done, pictures.count), pictures.count)


def loaded(pictures: Pictures, places: Tensor, device: torch.device | str) -> Tensor:
    """Pictures on a device, uint8 (B, 3, H, W); no places give none, of 1 x 1, which every metric takes."""
    if len(places) == 0:
        return torch.zeros(0, 3, 1, 1, dtype=torch.uint8, device=device)
    return pictures.load(places).to(device)


class Collected(Metric):
    """The features of all pictures in their order, (N, F), gathered from all processes."""

    full_state_update = False

    def __init__(self, network: FeatureNetwork) -> None:
        super().__init__()
        self.network = network
        self.add_state("features", [], dist_reduce_fx="cat")
        self.add_state("ids", [], dist_reduce_fx="cat")

    def update(self, images: Tensor, ids: Tensor) -> None:
        features = features_of(self.network, images)
        self.features.append(features)
        self.ids.append(ids.to(features.device))

    def compute(self) -> Tensor:
        return dim_zero_cat(self.features)[dim_zero_cat(self.ids).argsort()]


def real_features(
    network: FeatureNetwork, pictures: Pictures, device: torch.device | str = "cpu", progress: Progress = no_progress
) -> Tensor:
    """Features of real pictures (N, F) on the CPU, kept in the cache under a key of pictures, preparation and network.

    Every process calls it; where one has them not, all compute them anew, each its share, and the network is on the CPU
    afterwards.
    """
    path = cache_folder() / f"features-{digest([pictures.about, network.spec()])[:16]}.npy"
    found = stored(path, (pictures.count, network.num_features))
    if not everywhere(found is not None, device):
        metrics = MetricCollection({"features": Collected(network)}, compute_groups=False)
        with placed(metrics, device), torch.no_grad():
            feed(pictures, metrics, device, progress)
            found = metrics.compute()["features"].cpu()
        store(path, found)
    return found


def everywhere(here: bool, device: torch.device | str) -> bool:
    """Whether something is true in all processes."""
    if num_processes() == 1:
        return here
    return all(bool(flag) for flag in gather_all_tensors(torch.tensor(int(here), device=device)))


def stored(path: Path, shape: tuple[int, int]) -> Tensor | None:
    """Features from a file, unless it is missing, damaged or holds something else."""
    try:
        features = np.load(path)
    except (OSError, ValueError, EOFError):
        return None
    mark_used(path)
    usable = features.shape == shape and features.dtype == np.float32 and np.isfinite(features).all()
    return torch.from_numpy(features) if usable else None


def store(path: Path, features: Tensor) -> None:
    """Keep features in the cache, where it can be written; several processes may do it at once."""
    try:
        with replacing_stream(path, HINT) as stream:
            np.save(stream, features.float().numpy())
    except CannotWrite as error:
        log.warning("%s; the features are computed again the next time", error)


# ------------------------------------------------------------------------------------------------ the joint encoder


class JointNetwork(MatchingNetwork):
    """The joint encoder as a network of metrics: by similarity alone, without co-attention."""

    name = "joint"

    def __init__(self, joint: JointEncoder) -> None:
        super().__init__()
        self.joint, self.num_features = joint.eval(), joint.image.embedding_dim

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            return self.placed().embed_images(resized(as_floats(images), self.joint.resolution)).float()

    def embed_captions(self, captions: list[str]) -> Tensor:
        joint = self.placed()
        with torch.autocast(joint.device.type, enabled=False):
            return joint.embed_captions(captions).float()

    def placed(self) -> JointEncoder:
        """Lightning knows a module's device only when the module itself was moved, not what holds it."""
        return self.joint.to(device_of(self.joint))


def resized(images: Tensor, resolution: int) -> Tensor:
    """Images (B, 3, H, W) resized to (B, 3, resolution, resolution), antialiased."""
    return images if images.shape[-1] == resolution else resize(images, [resolution, resolution], antialias=True)


def device_of(network: nn.Module) -> torch.device:
    """The device of a network's weights."""
    return next(network.parameters()).device
