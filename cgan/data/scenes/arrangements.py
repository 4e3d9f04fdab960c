"""Several objects at their positions on a ground, drawn one after another."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from cgan.data.scenes.attributes import GROUNDS
from cgan.data.scenes.drawing import DRAWERS, Brush, draw_ground, paint_of, shadow


class Arrangement(NamedTuple):
    """Objects with their positions; lengths are fractions of the picture's size."""

    things: list[tuple[int, int]]  # indices of the kind and colour of each object
    places: list[tuple[float, float]]  # the centre (x, y) of each object
    ground: int
    radii: tuple[float, float]  # the least and the largest radius of an object


def draw_arrangement(arrangement: Arrangement, resolution: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a picture of objects in their colours at their positions, uint8 (resolution, resolution, 3).

    Pose, tone, light and size vary with rng.
    """
    things, places, ground, radii = arrangement
    size = resolution * 3 if resolution <= 128 else resolution * 2
    picture = draw_ground(ground, size, rng)
    for (object_, colour), (x, y) in zip(things, places, strict=True):
        centre, radius = (x * size, y * size), size * rng.uniform(*radii)
        if GROUNDS[ground] not in ("night sky", "brick"):
            shadow(picture, centre, radius)
        brush = Brush(ImageDraw.Draw(picture), centre, radius, rng.uniform(-0.1, 0.1), int(rng.choice([-1, 1])))
        DRAWERS[object_](brush, paint_of(colour, rng), rng)
    return np.asarray(picture.resize((resolution, resolution), Image.Resampling.BOX))
