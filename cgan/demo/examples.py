"""What the page offers to click on: names of weights, and examples of captions, pictures and questions."""

import base64
from collections.abc import Callable
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image

from cgan.data.scenes.attributes import ATTRIBUTES, Scene
from cgan.data.scenes.drawing import draw_scene
from cgan.figures.sheets import CAPTIONS, CHINESE_CAPTIONS

STARTERS = {
    "assets/scenes-64.safetensors": "Scenes with one object (starter weights)",
    "assets/emoji-128.safetensors": "Emoji (starter weights)",
    "assets/scenes-two-64.safetensors": "Scenes with two objects (starter weights)",
}
CHECKPOINTS = {"last.ckpt": "newest checkpoint", "best.ckpt": "best checkpoint"}
PAIR_CAPTIONS = (
    "a red dog to the left of a blue car on grass",
    "a white bird above a green tree",
    "an orange ball below a yellow fish at sea",
    "a purple house and a black cat in the snow",
    "a green car to the right of a red house at night",
    "a blue ball over a white cat by a brick wall",
)
EMOJI_CAPTIONS = (
    "face with tears of joy",
    "smiling face with sunglasses",
    "red apple",
    "strawberry",
    "unicorn",
    "robot",
    "light blue heart",
    "yellow heart",
)
RESOLUTION = 64  # pixels of the pictures


class PictureExample(NamedTuple):
    """A scene, and the new caption for it or the question about it."""

    scene: tuple[str, str, str, str, str]  # its object, colour, size, position and ground
    text: str


EDITS = (
    PictureExample(("dog", "red", "big", "centre", "grass"), "a blue dog"),
    PictureExample(("house", "white", "big", "left", "grass"), "a house at night"),
    PictureExample(("car", "yellow", "big", "right", "sand"), "a yellow fish"),
    PictureExample(("bird", "black", "big", "centre", "snow"), "a small bird"),
    PictureExample(("cat", "orange", "small", "left", "brick"), "a cat on the right"),
)
QUESTIONS = (
    PictureExample(("dog", "blue", "big", "centre", "sand"), "What colour is the dog?"),
    PictureExample(("cat", "black", "small", "left", "snow"), "Where is the cat?"),
    PictureExample(("bird", "white", "small", "right", "night sky"), "Which side is the bird on?"),
    PictureExample(("car", "green", "big", "centre", "brick"), "Is it a car or a house?"),
    PictureExample(("fish", "purple", "big", "left", "water"), "How big is it?"),
)


def title(label: str) -> str:
    """Returns what the page calls a checkpoint of a label such as NAME/last.ckpt."""
    folder, _, file = label.partition("/")
    if file in CHECKPOINTS:
        return f"Run {folder}, {CHECKPOINTS[file]}"
    return STARTERS.get(label, label)


def captions_for(unknown_words: Callable[[list[str]], list[str]]) -> tuple[str, ...]:
    """Returns the first example captions of which a model knows all words; none where there are no such."""
    for captions in (CAPTIONS, CHINESE_CAPTIONS, PAIR_CAPTIONS, EMOJI_CAPTIONS):
        if not unknown_words(list(captions)):
            return captions
    return ()


def caption_pairs(captions: tuple[str, ...]) -> list[tuple[str, str]]:
    """Returns pairs of example captions to go from and to."""
    return list(zip(captions[::2], captions[1::2], strict=False))


def picture_of(scene: tuple[str, str, str, str, str]) -> np.ndarray:
    """Returns the drawing of a scene, uint8 (RESOLUTION, RESOLUTION, 3), always the same."""
    indices = [values.index(value) for values, value in zip(ATTRIBUTES.values(), scene, strict=True)]
    return draw_scene(Scene(*indices), RESOLUTION, np.random.default_rng(0))


def as_data_url(picture: np.ndarray) -> str:
    """Returns a picture (H, W, 3) of uint8 as the URL of a PNG that holds it."""
    content = BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
