"""The types and contracts by which the parts of cgan exchange pictures, captions and features.

Letters of shapes: B batch, L words, D text dimensions, E dimensions of the latent shared by pictures and captions,
C channels, H and W height and width, Z noise dimensions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from cgan.errors import UserError as UserError
from cgan.workers import silent as silent

Report = Callable[[str], None]  # takes the messages of a library function, a line each; print is one


class Sample(NamedTuple):
    """One picture of a data set with all of its captions."""

    image: Tensor  # (3, H, W) uint8
    captions: list[str]  # at least one
    image_id: int  # pairs of the same picture share it


class Batch(NamedTuple):
    """Pictures with one caption each."""

    images: Tensor  # (B, 3, H, W): uint8 from the loader; in [-1, 1] once they are on the device
    captions: list[str]  # B
    image_ids: Tensor  # (B,) int64; equal ids are the same picture


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

    @abstractmethod
    def forward(self, captions: list[str]) -> TextFeatures:
        """Returns TextFeatures of captions; the features of a caption do not depend on the others in the list."""

    @abstractmethod
    def unknown_words(self, captions: list[str]) -> list[str]:
        """Returns the words of captions that were not in the training captions, each once, in order."""

    @abstractmethod
    def spec(self) -> dict:
        """Returns JSON-able settings by which restore_text_encoder builds this encoder again, without its weights."""
