"""The types and contracts by which the parts of cgan exchange pictures, captions and features.

Letters of shapes: B batch, L words, D text dimensions, E dimensions of the latent shared by pictures and captions,
C channels, H and W height and width, Z noise dimensions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from cgan.errors import UserError as UserError
from cgan.workers import silent as silent

Report = Callable[[str], None]  # takes the messages of a library function, a line each; print is one
T = TypeVar("T")


def map_tensors(change: Callable[[Tensor], Tensor], tree: T) -> T:
    """Returns nested NamedTuples with `change` applied to each tensor; all else in them stays as it is."""
    if isinstance(tree, Tensor):
        return change(tree)  # pyright: ignore[reportReturnType] -- T is a Tensor here
    return type(tree)(*(map_tensors(change, part) for part in tree)) if isinstance(tree, tuple) else tree


class Sample(NamedTuple):
    """One picture of a data set with all of its captions."""

    image: Tensor  # (3, H, W) uint8
    captions: list[str]  # at least one
    image_id: int  # pairs of the same picture share it
    labels: tuple[str, ...] = ()  # classes, categories, keywords: words that several pictures may share, each once


class Tokens(NamedTuple):
    """Captions as the numbers that a text encoder reads, made on the host."""

    ids: Tensor  # (B, L) int64
    mask: Tensor  # (B, L) bool, True where there is a word or a piece of one


Tokenizer = Callable[[list[str]], Tokens]  # the tensors are on the CPU; it can be sent to another process


class Batch(NamedTuple):
    """Pictures with one caption each.

    The loader adds what a step would otherwise make on the host: the fields from caption_ids on. A batch made by hand
    may leave them out.
    """

    images: Tensor  # (B, 3, H, W): uint8 from the loader; in [-1, 1] once they are on the device
    captions: list[str]  # B
    image_ids: Tensor  # (B,) int64; equal ids are the same picture
    caption_ids: Tensor | None = None  # (B,) int64; equal ids are the same words
    caption_rows: Tensor | None = None  # (B,) int64: places of the captions among all texts of the data set
    tokens: Tokens | None = None  # of the captions, for the text encoder
    words: Tokens | None = None  # of the captions, for the caption decoder
    labels: Tensor | None = None  # (B, L) int64: places of a picture's labels among all of the data set's, then -1

    def to(self, device: torch.device) -> "Batch":
        """Returns the batch with all tensors on a device; copies from pinned memory do not wait."""
        return map_tensors(lambda x: x.to(device, non_blocking=device.type == "cuda"), self)

    def pin_memory(self) -> "Batch":
        """Returns the batch with all tensors in pinned memory, from which a GPU copies without the host."""
        return map_tensors(Tensor.pin_memory, self)


class TextFeatures(NamedTuple):
    """The features of captions: one vector of each caption, and one of each of its words."""

    sentence: Tensor  # (B, D)
    words: Tensor  # (B, L, D)
    mask: Tensor  # (B, L) bool, True where there is a word


class ImageFeatures(NamedTuple):
    """The features of pictures: one vector of each picture, and feature maps."""

    embedding: Tensor  # (B, E) in the latent shared with captions
    maps: list[Tensor]  # each (B, C, H, W), finest first


class ImageTextDataset(Protocol):
    """A data set of Samples: the type that `build_dataset` returns, and that a user may pass instead."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...

    def captions_of(self, index: int) -> list[str]:
        """Returns the captions of a picture without reading its pixels."""
        ...


@runtime_checkable
class StoredPictures(Protocol):
    """A data set whose pictures lie decoded in memory or in a memory map, and are the same whenever they are read.

    A loader reads a whole batch of it at once, and may hold all of it on a GPU. A user's data set may be one.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...

    def captions_of(self, index: int) -> list[str]:
        """The captions of a picture."""
        ...

    def images_at(self, indices: list[int]) -> Tensor:
        """Returns the pictures of some indices as a new tensor, (n, 3, H, W) uint8."""
        ...

    def image_ids_at(self, indices: list[int]) -> list[int]:
        """Returns the ids of the pictures of some indices."""
        ...


@runtime_checkable
class LabelledDataset(Protocol):
    """A data set that knows the labels of its pictures without reading their pixels."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...

    def labels_of(self, index: int) -> tuple[str, ...]:
        """Returns the labels of a picture, which are those of its Sample; empty where it has none."""
        ...


class ImageEncoder(nn.Module, ABC):
    """Maps pictures (B, 3, H, W) in [-1, 1] to ImageFeatures; the base class of all image encoders."""

    embedding_dim: int  # E
    map_channels: list[int]  # C of each map

    @abstractmethod
    def forward(self, images: Tensor) -> ImageFeatures:
        """Returns ImageFeatures of pictures of any one resolution from 32 px."""

    @abstractmethod
    def map_sizes(self, resolution: int) -> list[int]:
        """Returns the height and width H = W of each map, for pictures of a resolution in pixels."""


class TextEncoder(nn.Module, ABC):
    """Maps captions to TextFeatures; the base class of all text encoders."""

    dim: int  # D of the features
    max_words: int = 77  # L of the longest captions, such as CLIP's

    @abstractmethod
    def forward(self, captions: list[str]) -> TextFeatures:
        """Returns TextFeatures of captions, on the device of the encoder's weights, where it makes all of its tensors.

        The features of a caption do not depend on the others in the list.
        """

    def make_tokenizer(self) -> Tokenizer | None:
        """Returns what turns captions into the Tokens of `encode_tokens`; None where the encoder reads captions alone.

        The loader calls it in its workers, so that a training step makes no tensor on the host.
        """
        return None

    def encode_tokens(self, tokens: Tokens) -> TextFeatures:
        """Returns the features of captions that the tokenizer has read, without waiting for the device."""
        raise NotImplementedError("an encoder with a tokenizer must have encode_tokens")

    def num_weights(self) -> int:
        """Returns the number of weights but for embeddings, which tells how much work a word is."""
        return num_weights(self)

    @abstractmethod
    def unknown_words(self, captions: list[str]) -> list[str]:
        """Returns the words of captions that were not in the training captions, each once, in order."""

    @abstractmethod
    def spec(self) -> dict:
        """Returns JSON-able settings by which restore_text_encoder builds this encoder again, without its weights."""


def num_weights(network: nn.Module) -> int:
    """Returns the number of a network's weights but for embeddings, of which an input needs a few alone."""
    layers = (layer for layer in network.modules() if not isinstance(layer, nn.Embedding))
    return sum(weight.numel() for layer in layers for weight in layer.parameters(recurse=False))
