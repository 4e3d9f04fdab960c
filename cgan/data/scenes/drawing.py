"""Draws scenes of one object: eight objects in eight colours on six grounds, at any resolution."""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from cgan.data.scenes.attributes import COLOURS, GROUNDS, Scene

DRAWING_VERSION = 1  # part of the cache's name: raise it when a picture changes

Colour = tuple[int, int, int]
RGB: dict[str, Colour] = {
    "red": (214, 40, 40),
    "orange": (245, 130, 30),
    "yellow": (250, 212, 50),
    "green": (30, 130, 55),
    "blue": (40, 90, 210),
    "purple": (135, 55, 165),
    "white": (245, 245, 240),
    "black": (38, 38, 42),
}


class Brush:
    """Draws shapes given in the object's coordinates, x and y in [-1, 1] with y downwards.

    Rotates, mirrors and scales them.
    """

    def __init__(
        self, draw: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, turn: float, mirror: int
    ) -> None:
        self.draw, self.centre, self.radius, self.mirror = draw, centre, radius, mirror
        self.cos, self.sin = math.cos(turn), math.sin(turn)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Returns a point of the object's coordinates in pixels of the picture."""
        x *= self.mirror
        dx, dy = x * self.cos - y * self.sin, x * self.sin + y * self.cos
        return self.centre[0] + dx * self.radius, self.centre[1] + dy * self.radius

    def polygon(self, points, fill: Colour, line: Colour | None = None) -> None:
        """Fills a polygon and, with `line`, outlines it."""
        points = [self.at(*point) for point in points]
        self.draw.polygon(points, fill=fill)
        if line:
            width = max(1, round(self.radius * 0.09))
            self.draw.line([*points, points[0], points[1]], fill=line, width=width, joint="curve")

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour, line: Colour | None = None) -> None:
        """Fills an ellipse of centre (x, y) and radii (rx, ry) and, with `line`, outlines it."""
        angles = np.linspace(0, 2 * math.pi, 28, endpoint=False)
        self.polygon([(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles], fill, line)

    def line(self, points, fill: Colour, width: float) -> None:
        """Draws a line with round ends through points; width is relative to the object's radius."""
        points = [self.at(*point) for point in points]
        width = max(1, round(width * self.radius))
        self.draw.line(points, fill=fill, width=width, joint="curve")
        for x, y in points:
            self.draw.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], fill=fill)


class Paint(NamedTuple):
    """The colours that an object is drawn in."""

    main: Colour
    shade: Colour
    line: Colour


def scaled(colour: Colour, factor: float) -> Colour:
    """Returns a colour with every channel multiplied by a factor and clipped to 0 to 255."""
    red, green, blue = (int(min(255, max(0, c * factor))) for c in colour)
    return red, green, blue


def paint_of(colour: int, rng: np.random.Generator) -> Paint:
    """Returns a random variation of a colour, a darker shade, and an outline that contrasts with every ground."""
    base = np.array(RGB[COLOURS[colour]], float)
    main = scaled(tuple(base + rng.uniform(-9, 9, 3)), rng.uniform(0.93, 1.05))
    if COLOURS[colour] == "black":
        return Paint(main, (70, 70, 76), (128, 128, 136))
    if COLOURS[colour] == "white":
        return Paint(main, (206, 210, 216), (84, 88, 100))
    return Paint(main, scaled(main, 0.76), scaled(main, 0.45))


def eye(brush: Brush, x: float, y: float, size: float) -> None:
    """Draws an eye that looks to the right."""
    brush.ellipse(x, y, size, size, (255, 255, 255))
    brush.ellipse(x + size * 0.2, y, size * 0.55, size * 0.55, (15, 15, 20))


def draw_dog(brush: Brush, p: Paint, rng: np.random.Generator) -> None:
    """Draws a standing dog in side view; leg and tail positions are random."""
    step, tail = rng.uniform(-0.12, 0.12), rng.uniform(-0.75, -0.35)
    brush.line([(-0.62, 0.0), (-0.92, tail)], p.line, 0.24)
    brush.line([(-0.62, 0.0), (-0.92, tail)], p.main, 0.12)
    for x, dx, tone in ((-0.42, -step, p.shade), (0.38, step, p.shade), (-0.58, step, p.main), (0.22, -step, p.main)):
        brush.line([(x, 0.3), (x + dx, 0.85)], p.line, 0.3)
        brush.line([(x, 0.3), (x + dx, 0.85)], tone, 0.18)
    brush.ellipse(-0.12, 0.16, 0.66, 0.34, p.main, p.line)
    brush.ellipse(0.5, -0.3, 0.36, 0.34, p.main, p.line)
    brush.ellipse(0.84, -0.18, 0.25, 0.17, p.main, p.line)
    brush.ellipse(1.02, -0.24, 0.09, 0.08, (20, 18, 20))
    brush.ellipse(0.27, -0.2, 0.15, 0.36, p.shade, p.line)  # a hanging ear
    eye(brush, 0.6, -0.38, 0.11)


def draw_cat(brush: Brush, p: Paint, rng: np.random.Generator) -> None:
    """Draws a sitting cat from the front; tail and ears are random."""
    curl = rng.uniform(-0.15, 0.2)
    tail = [(-0.4, 0.75), (-0.85, 0.65), (-0.95, 0.15 + curl), (-0.72, -0.15 + curl)]
    brush.line(tail, p.line, 0.25)
    brush.line(tail, p.main, 0.13)
    brush.ellipse(0.0, 0.4, 0.48, 0.54, p.main, p.line)  # a sitting body
    brush.ellipse(0.05, 0.52, 0.22, 0.32, p.shade)
    tilt = rng.uniform(-0.06, 0.06)
    for side in (-1, 1):
        brush.polygon([(side * 0.5, -0.42 + tilt), (side * 0.46, -1.0), (side * 0.1, -0.7)], p.main, p.line)
    brush.ellipse(0.0, -0.38, 0.52, 0.42, p.main, p.line)
    eye(brush, -0.21, -0.43, 0.12)
    eye(brush, 0.21, -0.43, 0.12)
    brush.polygon([(-0.07, -0.25), (0.07, -0.25), (0.0, -0.17)], (240, 130, 140))
    for side in (-1, 1):
        brush.line([(side * 0.2, -0.2), (side * 0.62, -0.24)], p.line, 0.05)


def draw_bird(brush: Brush, p: Paint, rng: np.random.Generator) -> None:
    """Draws a standing bird in side view; the wing is random."""
    wing = rng.uniform(-0.95, -0.35)
    brush.line([(-0.05, 0.4), (-0.08, 0.85)], (225, 140, 30), 0.08)
    brush.line([(0.15, 0.4), (0.16, 0.85)], (225, 140, 30), 0.08)
    brush.polygon([(-0.4, 0.05), (-1.0, -0.2), (-0.95, 0.25), (-0.4, 0.35)], p.shade, p.line)
    brush.ellipse(0.0, 0.15, 0.55, 0.38, p.main, p.line)
    brush.ellipse(0.5, -0.28, 0.29, 0.28, p.main, p.line)
    brush.polygon([(0.74, -0.38), (1.1, -0.24), (0.74, -0.12)], (250, 170, 30), (150, 90, 10))
    brush.polygon([(0.2, 0.05), (-0.3, wing), (-0.62, wing + 0.12), (-0.35, 0.22)], p.shade, p.line)
    eye(brush, 0.54, -0.34, 0.1)


def draw_fish(brush: Brush, p: Paint, rng: np.random.Generator) -> None:
    """Draws a fish in side view; the tail fin is random."""
    swing = rng.uniform(-0.12, 0.12)
    brush.polygon([(-0.4, 0.0), (-1.0, -0.48 + swing), (-0.82, swing), (-1.0, 0.48 + swing)], p.shade, p.line)
    brush.polygon([(-0.15, -0.35), (0.2, -0.78), (0.4, -0.3)], p.shade, p.line)
    brush.polygon([(-0.05, 0.35), (0.1, 0.7), (0.3, 0.3)], p.shade, p.line)
    brush.ellipse(0.2, 0.0, 0.74, 0.45, p.main, p.line)
    for x in (-0.2, 0.05):
        brush.line([(x, -0.25), (x + 0.09, 0.0), (x, 0.25)], p.shade, 0.08)
    eye(brush, 0.6, -0.12, 0.12)


def draw_tree(brush: Brush, p: Paint, rng: np.random.Generator) -> None:
    """Draws a tree; its crown is random."""
    brush.polygon([(-0.14, 0.2), (0.14, 0.2), (0.2, 0.95), (-0.2, 0.95)], (122, 78, 44), (70, 42, 22))
    spots = [(-0.42, 0.05, 0.38), (0.42, 0.05, 0.38), (-0.28, -0.45, 0.4), (0.3, -0.42, 0.4), (0.0, -0.66, 0.36)]
    spots = [(x + rng.uniform(-0.06, 0.06), y + rng.uniform(-0.06, 0.06), r) for x, y, r in spots]
    for x, y, r in spots:
        brush.ellipse(x, y, r + 0.07, r + 0.07, p.line)
    for x, y, r in [*spots, (0.0, -0.2, 0.45)]:
        brush.ellipse(x, y, r, r, p.main)
    for x, y, r in spots[:4]:
        brush.ellipse(x + 0.06, y + 0.1, r * 0.4, r * 0.28, p.shade)


def draw_house(brush: Brush, p: Paint, rng: np.random.Generator) -> None:
    """Draws a house from the front; its width and the height of its roof are random."""
    top, wide = rng.uniform(-1.0, -0.8), rng.uniform(0.64, 0.76)
    brush.polygon([(0.3, -0.9), (0.48, -0.9), (0.48, -0.3), (0.3, -0.3)], p.shade, p.line)
    brush.polygon([(-wide, -0.15), (wide, -0.15), (wide, 0.85), (-wide, 0.85)], p.main, p.line)
    brush.polygon([(-wide - 0.2, -0.12), (0.0, top), (wide + 0.2, -0.12)], p.shade, p.line)
    brush.polygon([(-0.14, 0.3), (0.16, 0.3), (0.16, 0.85), (-0.14, 0.85)], (112, 72, 44), p.line)
    for x in (-0.44, 0.44):
        brush.polygon([(x - 0.14, 0.06), (x + 0.14, 0.06), (x + 0.14, 0.36), (x - 0.14, 0.36)], (255, 236, 160), p.line)


def draw_car(brush: Brush, p: Paint, rng: np.random.Generator) -> None:
    """Draws a car in side view; the length of its cabin is random."""
    back, front = rng.uniform(-0.62, -0.5), rng.uniform(0.3, 0.45)
    brush.polygon([(back - 0.12, 0.0), (back + 0.1, -0.48), (front - 0.05, -0.48), (front + 0.22, 0.0)], p.main, p.line)
    glass = (190, 225, 240)
    brush.polygon([(back + 0.06, -0.02), (back + 0.19, -0.37), (-0.12, -0.37), (-0.12, -0.02)], glass)
    brush.polygon([(0.0, -0.02), (0.0, -0.37), (front - 0.1, -0.37), (front + 0.07, -0.02)], glass)
    body = [(-0.98, 0.06), (-0.9, -0.06), (0.8, -0.04), (1.0, 0.14), (1.0, 0.48), (-0.98, 0.48)]
    brush.polygon(body, p.main, p.line)
    brush.line([(-0.85, 0.36), (0.88, 0.36)], p.shade, 0.1)
    brush.ellipse(0.9, 0.18, 0.09, 0.08, (255, 240, 150))
    for x in (-0.55, 0.55):
        brush.ellipse(x, 0.5, 0.27, 0.27, (25, 25, 30), (95, 95, 100))
        brush.ellipse(x, 0.5, 0.11, 0.11, (185, 185, 190))


def draw_ball(brush: Brush, p: Paint, rng: np.random.Generator) -> None:
    """Draws a ball with two curved seams, whose bend is random."""
    brush.ellipse(0.0, 0.1, 0.8, 0.8, p.main, p.line)
    bend = rng.uniform(0.1, 0.34)
    for side in (-1, 1):
        arc = [(side * (bend + 0.25 * t * t), 0.1 + 0.6 * t) for t in np.linspace(-0.9, 0.9, 9)]
        brush.line(arc, p.shade, 0.1)
    brush.ellipse(-0.3, -0.25, 0.17, 0.13, scaled(p.main, 1.35) if max(p.main) > 60 else (150, 150, 155))


DRAWERS = (draw_dog, draw_cat, draw_bird, draw_fish, draw_tree, draw_house, draw_car, draw_ball)


def gradient(size: int, top: Colour, bottom: Colour) -> np.ndarray:
    """Returns a vertical gradient between two colours, float (size, size, 3)."""
    t = np.linspace(0, 1, size)[:, None, None]
    return np.broadcast_to(np.array(top) * (1 - t) + np.array(bottom) * t, (size, size, 3)).copy()


def draw_ground(ground: int, size: int, rng: np.random.Generator) -> Image.Image:
    """Returns a picture of a ground, which fills the lower part or all of it.

    Its texture is coarse and survives downscaling.
    """
    name, horizon = GROUNDS[ground], rng.uniform(0.26, 0.38) * size
    skies = {"grass": ((130, 195, 245), (205, 232, 250)), "sand": ((110, 190, 240), (225, 240, 245))}
    skies |= {"snow": ((160, 180, 205), (214, 224, 236)), "water": ((250, 205, 160), (252, 232, 205))}
    skies |= {"night sky": ((10, 12, 44), (48, 46, 110)), "brick": ((172, 84, 62), (150, 70, 52))}
    picture = Image.fromarray(gradient(size, *skies[name]).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    match name:
        case "night sky":
            draw_night(draw, size, rng)
        case "brick":
            draw_bricks(draw, size, rng)
        case _:
            draw_land(draw, name, size, horizon, rng)
    light = rng.uniform(0.9, 1.06)
    return picture.point(lambda value: min(255, int(value * light)))  # pyright: ignore (value is a number)


def draw_night(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator) -> None:
    """Draws stars and a moon."""
    for x, y, r in zip(rng.random(26), rng.random(26), rng.uniform(0.006, 0.013, 26), strict=True):
        draw.ellipse([(x - r) * size, (y - r) * size, (x + r) * size, (y + r) * size], fill=(255, 250, 205))
    x, y, r = rng.choice([0.14, 0.86]) * size, 0.14 * size, 0.085 * size
    draw.ellipse([x - r, y - r, x + r, y + r], fill=(252, 244, 190))


def draw_bricks(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator) -> None:
    """Draws the joints of a brick wall."""
    rows, shift, mortar = 7, rng.random(), max(1, round(size * 0.016))
    for row in range(rows + 1):
        y = (row - shift) * size / rows
        for column in range(-1, 5):
            x = (column + 0.5 * (row % 2) + shift) * size / 4
            tone = scaled((178, 86, 64), rng.uniform(0.88, 1.1))
            draw.rectangle([x, y, x + size / 4, y + size / rows], fill=tone, outline=(214, 196, 180), width=mortar)


def draw_land(draw: ImageDraw.ImageDraw, name: str, size: int, horizon: float, rng: np.random.Generator) -> None:
    """Draws grass, sand, snow or water below the horizon."""
    tones = {"grass": (112, 182, 68), "sand": (232, 204, 140), "snow": (240, 245, 250), "water": (52, 140, 190)}
    tone, phase = tones[name], rng.uniform(0, 2 * math.pi)
    swell = 0.0 if name == "water" else rng.uniform(0.015, 0.04) * size
    xs = np.linspace(0, size, 24)
    edge = [(x, horizon + swell * math.sin(phase + 5 * x / size)) for x in xs]
    draw.polygon([*edge, (size, size), (0, size)], fill=tone)
    for depth in np.linspace(0.12, 0.92, 6):
        y = horizon + depth * (size - horizon) + rng.uniform(-0.02, 0.02) * size
        draw_detail(draw, name, tone, y, size, rng)


def draw_detail(
    draw: ImageDraw.ImageDraw, name: str, tone: Colour, y: float, size: int, rng: np.random.Generator
) -> None:
    """Draws one detail of the land: a blade of grass, a wave, a grain or a glint."""
    wide, start = 0.02 * size, rng.uniform(0, 0.2) * size
    for x in np.arange(start, size, 0.22 * size):
        match name:
            case "grass":
                for lean in (-1, 0, 1):
                    tip = (x + lean * wide, y - 2.2 * wide)
                    draw.line([(x, y), tip], fill=scaled(tone, 0.72), width=max(1, round(size * 0.014)))
            case "water":
                draw.arc([x, y, x + 7 * wide, y + 3 * wide], 200, 340, fill=(170, 220, 240), width=max(1, size // 64))
            case "sand":
                draw.ellipse([x, y, x + wide, y + wide * 0.7], fill=scaled(tone, 0.82))
            case "snow":
                draw.ellipse([x, y, x + 5 * wide, y + wide], fill=(216, 226, 240))
            case unknown:
                raise ValueError(f"no detail is drawn on {unknown}")


def draw_scene(scene: Scene, resolution: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a picture of a scene, uint8 (resolution, resolution, 3); pose, tone, light and position vary with rng."""
    size = resolution * 3 if resolution <= 128 else resolution * 2
    picture = draw_ground(scene.ground, size, rng)
    radius = size * (0.175, 0.29)[scene.size] * rng.uniform(0.94, 1.06)
    x = (0.27, 0.5, 0.73)[scene.position] + rng.uniform(-0.03, 0.03)
    centre = (x * size, (0.6 + rng.uniform(-0.03, 0.03)) * size)
    if GROUNDS[scene.ground] not in ("night sky", "brick"):
        shadow(picture, centre, radius)
    brush = Brush(ImageDraw.Draw(picture), centre, radius, rng.uniform(-0.1, 0.1), int(rng.choice([-1, 1])))
    DRAWERS[scene.object](brush, paint_of(scene.colour, rng), rng)
    return np.asarray(picture.resize((resolution, resolution), Image.Resampling.BOX))


def shadow(picture: Image.Image, centre: tuple[float, float], radius: float) -> None:
    """Darkens the ground below an object."""
    x, y = centre[0], centre[1] + 0.88 * radius
    mask = Image.new("L", picture.size)
    ImageDraw.Draw(mask).ellipse([x - radius, y - 0.14 * radius, x + radius, y + 0.16 * radius], fill=80)
    picture.paste((25, 30, 45), mask=mask.filter(ImageFilter.BoxBlur(radius * 0.06)))
