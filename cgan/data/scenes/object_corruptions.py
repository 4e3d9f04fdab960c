"""Corrupted pictures of several objects that are not all recognisable, to train the classifier of such scenes."""

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from cgan.data.scenes.arrangements import Arrangement, draw_arrangement
from cgan.data.scenes.attributes import COLOURS, OBJECTS
from cgan.data.scenes.corruptions import LOPSIDED, blurred, warped
from cgan.data.scenes.drawing import RGB, draw_ground

OBJECT_KINDS = ("blurred", "warped", "half", "missing", "blobs", "averaged", "faded", "empty")
Arrange = Callable[[Any, np.random.Generator], Arrangement]  # of a scene, at positions that vary


def spoil_objects(arrange: Arrange, kind: str, scene: Any, resolution: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a corrupted picture of a scene, uint8 (H, W, 3), with its ground, and in most kinds with its colours."""
    arrangement = arrange(scene, rng)
    picture = draw_arrangement(arrangement, resolution, rng)
    match kind:
        case "blurred":
            return as_bytes(blurred(picture, rng.uniform(2.0, 4.5)))
        case "warped":
            return as_bytes(warped(picture, rng))
        case "half":  # one of the objects is spoilt
            return one_spoilt(picture, arrangement.places, rng)
        case "missing":
            return draw_arrangement(without_one(arrangement, rng), resolution, rng)
        case "blobs":
            return blobs(arrangement, resolution, rng)
        case "averaged":
            kinds = rng.permutation(LOPSIDED)[: len(arrangement.things)].tolist()
            things = [(kind, colour) for kind, (_, colour) in zip(kinds, arrangement.things, strict=True)]
            return mean_of([things] * int(rng.integers(4, 9)), arrange, scene, resolution, rng)
        case "faded":  # ghosts of several objects
            ghosts = [other_objects(arrangement.things, rng) for _ in range(3)]
            return mean_of([arrangement.things, *ghosts], arrange, scene, resolution, rng)
        case "empty":
            ground = draw_ground(arrangement.ground, resolution * 3, rng)
            return np.asarray(ground.resize((resolution, resolution), Image.Resampling.BOX))
    raise ValueError(kind)


def as_bytes(picture: np.ndarray) -> np.ndarray:
    """Returns a picture as uint8, rounded and clipped."""
    return picture.round().clip(0, 255).astype(np.uint8)


def mean_of(
    versions: list[list[tuple[int, int]]], arrange: Arrange, scene: Any, resolution: int, rng: np.random.Generator
) -> np.ndarray:
    """Returns the mean of one picture for each version of a scene's objects, each at positions of its own."""
    arrangements = [arrange(scene, rng)._replace(things=things) for things in versions]
    return as_bytes(np.mean([draw_arrangement(one, resolution, rng) for one in arrangements], axis=0))


def other_objects(things: list[tuple[int, int]], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Returns objects of other kinds in the same colours."""
    return [((kind + int(rng.integers(1, len(OBJECTS)))) % len(OBJECTS), colour) for kind, colour in things]


def without_one(arrangement: Arrangement, rng: np.random.Generator) -> Arrangement:
    """Returns an arrangement without one of its objects."""
    lost = int(rng.integers(len(arrangement.things)))
    things, places = ([x for i, x in enumerate(values) if i != lost] for values in arrangement[:2])
    return arrangement._replace(things=things, places=places)


def one_spoilt(picture: np.ndarray, places: list[tuple[float, float]], rng: np.random.Generator) -> np.ndarray:
    """Returns a picture that is blurred or warped where one of the objects is nearer than the others."""
    spoilt = blurred(picture, rng.uniform(2.5, 4.5)) if rng.random() < 0.5 else warped(picture, rng)
    size, chosen = len(picture), int(rng.integers(len(places)))
    y, x = np.mgrid[0:size, 0:size] / size
    distances = np.stack([np.hypot(x - u, y - v) for u, v in places])
    nearer = np.delete(distances, chosen, axis=0).min(axis=0) - distances[chosen]
    mask = np.clip(0.5 + nearer * size / 8, 0, 1)[:, :, None]
    return as_bytes(picture * (1 - mask) + spoilt * mask)


def blobs(arrangement: Arrangement, resolution: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a picture with a patch of the right colour in place of each object."""
    size, scale = resolution * 3, float(np.mean(arrangement.radii))
    picture = draw_ground(arrangement.ground, size, rng)
    draw, angles = ImageDraw.Draw(picture), np.linspace(0, 2 * np.pi, 40, endpoint=False)
    for (_, colour), (x, y) in zip(arrangement.things, arrangement.places, strict=True):
        waves = sum(rng.normal() * 0.14 / (k - 1) * np.cos(k * angles + rng.uniform(0, 6.3)) for k in range(2, 6))
        radius = np.clip(rng.uniform(0.6, 1.0) + waves, 0.25, 1.2) * scale * size
        curve = [(x * size + r * np.cos(a), y * size + r * np.sin(a)) for a, r in zip(angles, radius, strict=True)]
        tone = RGB[COLOURS[colour]]
        draw.polygon(curve, fill=tone, outline=tuple(int(c * rng.uniform(0.4, 0.9)) for c in tone), width=3)
    small = np.asarray(picture.resize((resolution, resolution), Image.Resampling.BOX))
    return small if rng.random() < 0.4 else as_bytes(blurred(small, rng.uniform(0.4, 2.0)))
