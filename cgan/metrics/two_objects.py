"""The accuracy of scenes of two objects: the objects, their colours, and the relation between them."""

import torch
from torch import Tensor

from cgan.metrics.parts import PartAccuracy
from cgan.metrics.scenes import Reading

NUM_VALUES = (8, 8, 8, 8, 2, 6)  # of object and colour of the first and of the second, layout, ground
PARTS = ("two_object_accuracy", "objects", "colour_binding", "relation")


class TwoObjectAccuracy(PartAccuracy):
    """Four shares of images: everything right, both objects found, colours on the right objects, relation right.

    two_object_accuracy and objects are shares of all images. colour_binding counts images in which both objects are
    found and whose caption names a colour, relation those whose caption names a relation.
    update takes the captions' Pairs, (B, 6).
    """

    def __init__(self) -> None:
        super().__init__(PARTS, compared)


def compared(reading: Reading, mentioned: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Returns for each of PARTS which images are right and which images count, both (B,) bool.

    The order of the objects matters only if the caption names a layout.
    """
    straight = reading.values
    turned = straight[:, [2, 3, 0, 1, 4, 5]]
    in_order = (straight[:, [0, 2]] == mentioned[:, [0, 2]]).all(dim=1)
    found = reading.recognisable & (in_order | (turned[:, [0, 2]] == mentioned[:, [0, 2]]).all(dim=1))
    seen = torch.where(in_order[:, None], straight, turned)  # the objects in the caption's order
    fits = (seen == mentioned) | (mentioned < 0)
    colours, stated = fits[:, [1, 3]].all(dim=1), mentioned[:, 4] >= 0
    relation = ~stated | (in_order & fits[:, 4])
    everything = found & colours & relation & fits[:, 5]
    coloured = (mentioned[:, [1, 3]] >= 0).any(dim=1)
    all_of_them = torch.ones_like(found)
    return [(everything, all_of_them), (found, all_of_them), (colours, found & coloured), (relation, found & stated)]
