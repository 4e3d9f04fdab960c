"""The accuracy of scenes of three objects: their kinds, how many there are of each, their colours, and the ground."""

import torch
from torch import Tensor

from cgan.data.scenes.three_objects import TRIO_ATTRIBUTES
from cgan.metrics.parts import PartAccuracy
from cgan.metrics.scenes import Reading

NUM_VALUES = tuple(len(values) for values in TRIO_ATTRIBUTES.values())
PARTS = ("three_object_accuracy", "objects", "counts", "colour_binding", "ground")


class ThreeObjectAccuracy(PartAccuracy):
    """Five shares of images: everything right, the right kinds, right counts, colours on their objects, right ground.

    three_object_accuracy and objects are shares of all images. counts and colour_binding count images that show the
    kinds that the caption names and no others, colour_binding only where the caption names a colour; ground counts
    images whose caption names a ground. update takes the captions' Groups, (B, 7), whose kinds must differ.
    """

    def __init__(self) -> None:
        super().__init__(PARTS, compared)


def compared(reading: Reading, mentioned: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Returns for each of PARTS which images are right and which images count, both (B,) bool.

    mentioned: (B, 7), the captions' Groups. Where the objects stand does not matter.
    """
    kinds, colours, ground = reading.values[:, 0:6:2], reading.values[:, 1:6:2], reading.values[:, 6]  # (B, 3) twice
    groups = mentioned[:, :6].view(-1, 2, 3)  # count, kind and colour of each
    counts, named, named_colours = groups.unbind(dim=2)  # (B, 2)
    members = (kinds[:, None] == named[:, :, None]) & (named[:, :, None] >= 0)  # (B, group, place)
    numbers = members.sum(dim=2)  # (B, 2)
    shown = ((numbers > 0) | (named < 0)).all(dim=1) & (numbers.sum(dim=1) == kinds.shape[1])
    objects = reading.recognisable & shown
    counted = ((numbers == counts) | (counts < 0)).all(dim=1)
    fits = (colours[:, None] == named_colours[:, :, None]) | (named_colours[:, :, None] < 0)
    coloured = (fits | ~members).all(dim=2).all(dim=1)
    on_ground, names_ground = (ground == mentioned[:, 6]) | (mentioned[:, 6] < 0), mentioned[:, 6] >= 0
    return [
        (objects & counted & coloured & on_ground, torch.ones_like(objects)),
        (objects, torch.ones_like(objects)),
        (counted, objects),
        (coloured, objects & (named_colours >= 0).any(dim=1)),
        (on_ground, names_ground),
    ]
