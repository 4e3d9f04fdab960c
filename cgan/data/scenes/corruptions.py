"""Corrupted pictures of scenes: the object is not recognisable, although its colour, position and ground are right.

The scene classifier is trained to reject them, so that it does not accept what generators produce early in training.
"""

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from cgan.data.scenes.attributes import COLOURS, OBJECTS, Scene
from cgan.data.scenes.drawing import RGB, draw_ground, draw_scene

KINDS = ("blurred", "scrambled", "blob", "checkerboard", "averaged", "warped", "empty", "chimera", "faded")

LOPSIDED = [OBJECTS.index(name) for name in ("dog", "bird", "fish", "car")]  # unlike their mirror image


def spoil(kind: str, scene: Scene, resolution: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a corrupted picture of a scene, uint8 (H, W, 3), with its ground, and in most kinds with its colour."""
    picture = draw_scene(scene, resolution, rng)
    match kind:
        case "blurred":
            return mixed(picture, blurred(picture, rng.uniform(3.0, 6.0) * radius_of(scene)), scene, rng)
        case "scrambled":
            return scrambled(picture, scene, rng)
        case "blob":
            return blob(scene, resolution, rng)
        case "checkerboard":
            return checkerboard(scene, resolution, rng)
        case "averaged":
            scene = scene._replace(object=int(rng.choice(LOPSIDED)))
            others = [draw_scene(scene, resolution, rng) for _ in range(rng.integers(4, 9))]
            return np.mean(others, axis=0).round().astype(np.uint8)
        case "warped":
            return mixed(picture, warped(picture, rng), scene, rng)
        case "empty":
            return empty(scene, resolution, rng)
        case "chimera":
            return chimera(scene, resolution, rng)
        case "faded":  # a ghost of several objects
            others = [draw_scene(other_object(scene, rng), resolution, rng) for _ in range(3)]
            return np.mean([picture, *others], axis=0).round().astype(np.uint8)
    raise ValueError(kind)


def radius_of(scene: Scene) -> float:
    """Returns the radius of the scene's object, relative to that of a large object."""
    return (0.6, 1.0)[scene.size]


def window(scene: Scene, size: int) -> np.ndarray:
    """Returns a soft mask (H, W, 1) in [0, 1] of the area around the object."""
    y, x = np.mgrid[0:size, 0:size] / size
    distance = np.hypot(x - (0.27, 0.5, 0.73)[scene.position], y - 0.6) / (0.46 * radius_of(scene))
    return np.clip(4 * (1 - distance), 0, 1)[:, :, None]


def mixed(picture: np.ndarray, spoilt: np.ndarray, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Returns a picture that is corrupted around the object only, or everywhere."""
    mask = window(scene, len(picture)) if rng.random() < 0.6 else 1.0
    return (picture * (1 - mask) + spoilt * mask).round().astype(np.uint8)


def blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Returns a picture after a Gaussian blur; sigma is in pixels of a 64 px picture."""
    from torchvision.transforms.v2.functional import gaussian_blur

    sigma = sigma * len(picture) / 64
    image = torch.from_numpy(picture.copy()).permute(2, 0, 1).float()
    size = 2 * min(int(2.5 * sigma), len(picture) // 2 - 1) + 1
    return gaussian_blur(image, [size, size], [sigma, sigma]).permute(1, 2, 0).numpy()


def scrambled(picture: np.ndarray, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Returns a picture in which the tiles around the object are shuffled."""
    size, result = len(picture), picture.copy()
    half = 0.3 * radius_of(scene) * size
    tiles = int(rng.integers(3, 6))
    side = max(2, int(2 * half / tiles))
    left = int(np.clip((0.27, 0.5, 0.73)[scene.position] * size - half, 0, size - side * tiles))
    top = int(np.clip(0.6 * size - half, 0, size - side * tiles))
    places = [(top + side * i, left + side * j) for i in range(tiles) for j in range(tiles)]
    for (y, x), k in zip(places, rng.permutation(len(places)), strict=True):
        v, u = places[k]
        result[y : y + side, x : x + side] = picture[v : v + side, u : u + side]
    return result


def warped(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a picture that is displaced by a smooth random field, so that its shapes look melted."""
    size = len(picture)
    coarse = torch.from_numpy(rng.normal(size=(1, 2, int(rng.integers(6, 10)), int(rng.integers(6, 10)))))
    field = F.interpolate(coarse, (size, size), mode="bicubic").permute(0, 2, 3, 1) * rng.uniform(0.18, 0.28)
    steps = (torch.arange(size, dtype=torch.float64) + 0.5) / size * 2 - 1
    grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)[None] + field
    image = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].double()
    moved = F.grid_sample(image, grid, padding_mode="reflection", align_corners=False)
    return moved[0].permute(1, 2, 0).numpy()


def empty(scene: Scene, resolution: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a picture of the ground without an object."""
    ground = draw_ground(scene.ground, resolution * 3, rng)
    return np.asarray(ground.resize((resolution, resolution), Image.Resampling.BOX))


def outline(scene: Scene, size: int, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Returns the points of a random smooth closed curve around the object's position."""
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    radius = np.full(48, rng.uniform(0.6, 0.95))
    for wave in range(2, 6):
        radius += rng.normal() * 0.16 / (wave - 1) ** 0.5 * np.cos(wave * angles + rng.uniform(0, 6.3))
    radius = np.clip(radius, 0.25, 1.2) * (0.175, 0.29)[scene.size] * size
    wide = rng.uniform(0.7, 1.3)
    x, y = (0.27, 0.5, 0.73)[scene.position] * size, 0.6 * size
    return [(x + wide * r * np.cos(a), y + r * np.sin(a)) for a, r in zip(angles, radius, strict=True)]


def blob(scene: Scene, resolution: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a picture with a patch of the object's colour and size, with random shades and dots inside."""
    size = resolution * 3
    picture = draw_ground(scene.ground, size, rng)
    draw, main = ImageDraw.Draw(picture), np.array(RGB[COLOURS[scene.colour]])
    dark = tuple(int(c) for c in main * rng.uniform(0.35, 0.8))
    curve = outline(scene, size, rng)
    draw.polygon(curve, fill=tuple(int(c) for c in main), outline=dark, width=int(rng.integers(1, 6)))
    for _ in range(rng.integers(0, 7)):
        x, y = np.mean([curve[rng.integers(48)], curve[rng.integers(48)]], axis=0)
        r, tone = size * rng.uniform(0.01, 0.05), (dark, (255, 255, 255), (20, 20, 25))[rng.integers(3)]
        draw.ellipse([x - r, y - r * rng.uniform(0.5, 1), x + r, y + r], fill=tone)
    small = np.asarray(picture.resize((resolution, resolution), Image.Resampling.BOX))
    return small if rng.random() < 0.4 else blurred(small, rng.uniform(0.4, 2.0)).round().astype(np.uint8)


def checkerboard(scene: Scene, resolution: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a picture with a patch of the object's colour under a grid of light and dark pixels."""
    picture = blob(scene, resolution, rng).astype(float)
    period = int(rng.integers(1, 4))
    rows, columns = np.mgrid[0:resolution, 0:resolution] // period
    grid = ((rows + columns) % 2 * 2 - 1)[:, :, None] * rng.uniform(10, 40)
    return (picture + grid * window(scene, resolution)).clip(0, 255).round().astype(np.uint8)


def other_object(scene: Scene, rng: np.random.Generator) -> Scene:
    """Returns the scene with another object."""
    return scene._replace(object=(scene.object + int(rng.integers(1, len(OBJECTS)))) % len(OBJECTS))


def chimera(scene: Scene, resolution: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a picture of half of the object joined to half of another one, cut through the middle at any angle."""
    seed = int(rng.integers(2**31))
    one, other = (
        draw_scene(s, resolution, np.random.default_rng(seed)).astype(float) for s in (scene, other_object(scene, rng))
    )
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:resolution, 0:resolution] / resolution
    side = (x - (0.27, 0.5, 0.73)[scene.position]) * np.cos(angle) + (y - 0.6) * np.sin(angle)
    mask = np.clip(0.5 + side * resolution / 4, 0, 1)[:, :, None]
    return (one * mask + other * (1 - mask)).round().astype(np.uint8)


def slightly_changed(images: Tensor, generator: torch.Generator) -> Tensor:
    """Returns pictures (B, 3, H, W) that stay recognisable, with a little blur, noise, contrast and distortion.

    They teach the scene classifier to rely on shapes, and to accept the small artefacts of a good generator.
    """
    n, size = len(images), images.shape[-1]

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, 1, 1, generator=generator)

    coarse = torch.randn(n, 2, 7, 7, generator=generator) * uniform(0.0, 0.03)
    field = F.interpolate(coarse, (size, size), mode="bicubic").permute(0, 2, 3, 1)
    steps = (torch.arange(size) + 0.5) / size * 2 - 1
    grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1) + field
    images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    soft = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    images = torch.lerp(images, soft, uniform(-0.3, 0.9))
    images = images * uniform(0.9, 1.1) + uniform(-0.06, 0.06)
    return (images + torch.randn(images.shape, generator=generator) * uniform(0, 0.06)).clamp(-1, 1)
