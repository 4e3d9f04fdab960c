"""What the parts of cgan hand to one another.

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
    """Captions as numbers."""

    sentence: Tensor  # (B, D)
    words: Tensor  # (B, L, D)
    mask: Tensor  # (B, L) bool, True where there is a word


class ImageFeatures(NamedTuple):
    """Pictures as numbers."""

    embedding: Tensor  # (B, E) in the latent shared with captions
    maps: list[Tensor]  # each (B, C, H, W), finest first


class ImageTextDataset(Protocol):
    """A data set of Samples: what `build_dataset` returns, and what a user may pass in its place."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...

    def captions_of(self, index: int) -> list[str]:
        """The captions of a picture, which is not decoded for it."""
        ...


class ImageEncoder(nn.Module, ABC):
    """Pictures (B, 3, H, W) in [-1, 1] to ImageFeatures; every image encoder of the project keeps this contract."""

    embedding_dim: int  # E
    map_channels: list[int]  # C of each map

    @abstractmethod
    def forward(self, images: Tensor) -> ImageFeatures:
        """Encode pictures of any one resolution from 32 px."""

    @abstractmethod
    def map_sizes(self, resolution: int) -> list[int]:
        """H = W of each map of pictures of a resolution."""


class TextEncoder(nn.Module, ABC):
    """Captions to TextFeatures; every text encoder of the project keeps this contract."""

    dim: int  # D of the features
    max_words: int = 77  # L of the longest captions, such as CLIP's

    @abstractmethod
    def forward(self, captions: list[str]) -> TextFeatures:
        """Encode captions; the features of one do not depend on the others in the list."""

    @abstractmethod
    def unknown_words(self, captions: list[str]) -> list[str]:
        """The words of captions that the encoder never saw in training, each once, in order."""

    @abstractmethod
    def spec(self) -> dict:
        """All that restore_text_encoder needs to build this encoder again, weights apart; JSON-able."""
