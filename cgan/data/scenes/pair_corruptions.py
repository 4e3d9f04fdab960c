"""Corrupted pictures of two objects that are not both recognisable, to train the classifier of two objects."""

import numpy as np
from PIL import Image, ImageDraw

from cgan.data.scenes.attributes import COLOURS, OBJECTS
from cgan.data.scenes.corruptions import LOPSIDED, blurred, warped
from cgan.data.scenes.drawing import RGB, draw_ground
from cgan.data.scenes.two_objects import Pair, draw_pair, draw_things, places_of

PAIR_KINDS = ("blurred", "warped", "half", "missing", "blobs", "averaged", "faded", "empty")


def spoil_pair(kind: str, pair: Pair, resolution: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a corrupted picture of a pair, uint8 (H, W, 3), with its ground, and in most kinds with its colours."""
    picture = draw_pair(pair, resolution, rng)
    match kind:
        case "blurred":
            return as_bytes(blurred(picture, rng.uniform(2.0, 4.5)))
        case "warped":
            return as_bytes(warped(picture, rng))
        case "half":  # one of the two is spoilt
            return half_of(picture, pair, rng)
        case "missing":
            keep = int(rng.integers(2))
            thing = (pair.other, pair.other_colour) if keep else (pair.object, pair.colour)
            return draw_things([thing], [places_of(pair.layout, rng)[keep]], pair.ground, resolution, rng)
        case "blobs":
            return blobs(pair, resolution, rng)
        case "averaged":
            one, other = rng.choice(LOPSIDED, 2, replace=False).tolist()
            pair = pair._replace(object=one, other=other)
            return as_bytes(np.mean([draw_pair(pair, resolution, rng) for _ in range(rng.integers(4, 9))], axis=0))
        case "faded":  # ghosts of several objects
            others = [draw_pair(other_objects(pair, rng), resolution, rng) for _ in range(3)]
            return as_bytes(np.mean([picture, *others], axis=0))
        case "empty":
            ground = draw_ground(pair.ground, resolution * 3, rng)
            return np.asarray(ground.resize((resolution, resolution), Image.Resampling.BOX))
    raise ValueError(kind)


def as_bytes(picture: np.ndarray) -> np.ndarray:
    """Returns a picture as uint8, rounded and clipped."""
    return picture.round().clip(0, 255).astype(np.uint8)


def other_objects(pair: Pair, rng: np.random.Generator) -> Pair:
    """Returns the pair with two other objects."""
    one, other = ((number + int(rng.integers(1, len(OBJECTS)))) % len(OBJECTS) for number in (pair.object, pair.other))
    return pair._replace(object=one, other=other)


def half_of(picture: np.ndarray, pair: Pair, rng: np.random.Generator) -> np.ndarray:
    """Returns a picture that is blurred or warped around one of the two objects."""
    spoilt = blurred(picture, rng.uniform(2.5, 4.5)) if rng.random() < 0.5 else warped(picture, rng)
    size = len(picture)
    places = np.mgrid[0:size, 0:size][0 if pair.layout else 1] / size  # y or x
    side = (places - 0.5) * (1 if rng.random() < 0.5 else -1)
    mask = np.clip(0.5 + side * size / 4, 0, 1)[:, :, None]
    return as_bytes(picture * (1 - mask) + spoilt * mask)


def blobs(pair: Pair, resolution: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a picture with a patch of the right colour in place of each object."""
    size = resolution * 3
    picture = draw_ground(pair.ground, size, rng)
    draw, angles = ImageDraw.Draw(picture), np.linspace(0, 2 * np.pi, 40, endpoint=False)
    for colour, (x, y) in zip((pair.colour, pair.other_colour), places_of(pair.layout, rng), strict=True):
        waves = sum(rng.normal() * 0.14 / (k - 1) * np.cos(k * angles + rng.uniform(0, 6.3)) for k in range(2, 6))
        radius = np.clip(rng.uniform(0.6, 1.0) + waves, 0.25, 1.2) * 0.2 * size
        curve = [(x * size + r * np.cos(a), y * size + r * np.sin(a)) for a, r in zip(angles, radius, strict=True)]
        tone = RGB[COLOURS[colour]]
        draw.polygon(curve, fill=tone, outline=tuple(int(c * rng.uniform(0.4, 0.9)) for c in tone), width=3)
    small = np.asarray(picture.resize((resolution, resolution), Image.Resampling.BOX))
    return small if rng.random() < 0.4 else as_bytes(blurred(small, rng.uniform(0.4, 2.0)))
