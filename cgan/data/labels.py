"""Labels of pictures, such as classes and keywords: all of a data set numbered, and as words of a caption."""

from array import array
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from cgan.interfaces import ImageTextDataset, LabelledDataset


def labels_of(dataset: ImageTextDataset, index: int) -> tuple[str, ...]:
    """Returns the labels of a picture; its pixels are read only where the data set has no labels_of."""
    return dataset.labels_of(index) if isinstance(dataset, LabelledDataset) else dataset[index].labels


def has_labels(dataset: ImageTextDataset) -> bool:
    """Returns whether any picture has a label."""
    return any(labels_of(dataset, index) for index in range(len(dataset)))


def with_label_caption(captions: list[str], labels: Sequence[str]) -> list[str]:
    """Returns captions and, where there are labels, one more caption that lists them."""
    return [*captions, ", ".join(labels)] if labels else captions


def multi_hot(labels: Tensor, num_labels: int) -> Tensor:
    """Returns 1 for each label of a picture and 0 else, float32 (B, num_labels), from a LabelTable's places (B, L)."""
    found = torch.zeros(len(labels), num_labels + 1, device=labels.device)
    return found.scatter_(1, labels.where(labels >= 0, num_labels), 1.0)[:, :num_labels]


class LabelTable:
    """The labels of a data set, each once in the order in which they first come, and each picture's places in them."""

    def __init__(self, labels_of_pictures: Iterable[Sequence[str]]) -> None:
        places: dict[str, int] = {}
        rows, starts = array("q"), array("q", [0])
        for labels in labels_of_pictures:
            rows.extend(places.setdefault(label, len(places)) for label in labels)
            starts.append(len(rows))
        self.places = places
        self.rows, self.starts = np.frombuffer(rows, np.int64), np.frombuffer(starts, np.int64)  # (T,) and (N + 1,)
        self.most = int(np.diff(self.starts).max(initial=0))  # L, labels of one picture

    @classmethod
    def of(cls, dataset: ImageTextDataset) -> "LabelTable":
        """Returns the table of a data set."""
        return cls(labels_of(dataset, index) for index in range(len(dataset)))

    def __len__(self) -> int:
        """The number of different labels."""
        return len(self.places)

    def at(self, indices: Sequence[int]) -> Tensor:
        """Returns the places of some pictures' labels among all labels, (B, L) int64, padded by -1."""
        starts, ends = self.starts[indices], self.starts[1:][indices]
        found = starts[:, None] + np.arange(self.most)  # (B, L), places in self.rows
        known = self.rows[found.clip(max=len(self.rows) - 1)]
        return torch.from_numpy(np.where(found < ends[:, None], known, -1))

    def of_labels(self, labels: Iterable[Sequence[str]]) -> Tensor:
        """Returns the places of given labels, as `at` does; labels that are not in the table are left out."""
        rows = [[self.places[label] for label in some if label in self.places][: self.most] for some in labels]
        padded = [row + [-1] * (self.most - len(row)) for row in rows]
        return torch.tensor(padded, dtype=torch.int64).reshape(len(padded), self.most)
