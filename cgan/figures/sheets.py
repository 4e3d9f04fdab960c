"""Lays out pictures on a page under their captions, and writes PNG files with metadata, and animations."""

import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from cgan.errors import UserError
from cgan.figures.fonts import label
from cgan.files import replacing

CAPTIONS = (
    "a small red dog on grass",
    "a big blue car on sand, to the right",
    "an orange cat in the snow",
    "a white bird at night",
    "a yellow fish on water",
    "a purple house in front of a brick wall",
    "a green tree on grass, on the left",
    "a black ball on sand",
)
CHINESE_CAPTIONS = (  # CAPTIONS in Chinese
    "一只红色的小狗在草地上",
    "沙地上有一辆蓝色的大汽车，在右边",
    "雪地里有一只橙色的猫",
    "夜空下有一只白色的鸟",
    "水面上有一条黄色的鱼",
    "砖墙前有一座紫色的房子",
    "左边的草地上有一棵绿色的树",
    "一个黑色的球在沙地上",
)
FRAMES_PER_SECOND = 12
LINE = 13  # pixels that a line of a strip is high


def titled(row: np.ndarray, caption: str, most_lines: int = 3) -> np.ndarray:
    """Returns a row of pictures, uint8 (H, W, 3), below a strip with its caption, cut after most_lines lines.

    Where no installed font has the caption's letters, the strip shows what `label` gives instead.
    """
    text, font = label(caption[:1000])
    widest = max([font.getlength("n"), *(font.getlength(letter) for letter in set(text))])
    letters = max(8, int((row.shape[1] - 6) / widest))
    lines = textwrap.wrap(text, letters, max_lines=most_lines, placeholder="...") or [""]
    strip = Image.new("RGB", (row.shape[1], LINE * len(lines)), "white")
    for i, line in enumerate(lines):
        ImageDraw.Draw(strip).text((3, 1 + LINE * i), line, fill="black", font=font)
    return np.concatenate([np.asarray(strip), row])


def example_captions(unknown_words: Callable[[list[str]], list[str]]) -> list[str]:
    """Returns captions of scenes, in Chinese where a model knows all words of these and not those in English."""
    knows_chinese = not unknown_words(list(CHINESE_CAPTIONS)) and bool(unknown_words(list(CAPTIONS)))
    return list(CHINESE_CAPTIONS if knows_chinese else CAPTIONS)


def grid(pictures: list[np.ndarray], captions: list[str]) -> np.ndarray:
    """Returns a page, uint8 (H, W, 3), of a row for each caption, with the same number of pictures in each row."""
    num = len(pictures) // len(captions)
    rows = [np.concatenate(pictures[i * num : (i + 1) * num], axis=1) for i in range(len(captions))]
    return np.concatenate([titled(row, caption) for row, caption in zip(rows, captions, strict=True)])


def save_png(picture: np.ndarray, path: Path, about: str | None = None) -> None:
    """Writes a picture, uint8 (H, W, 3), as a PNG with `about` in its text chunk "cgan"; raises CannotWrite."""
    chunks = PngInfo()
    if about is not None:
        chunks.add_text("cgan", about)
    with replacing(path) as unfinished:
        Image.fromarray(picture).save(unfinished, format="PNG", pnginfo=chunks)


def save_animation(frames: Iterable[np.ndarray], path: Path, about: str) -> None:
    """Writes frames, uint8 (H, W, 3) each, as .gif, or as .mp4 if imageio is installed; raises UserError."""
    with replacing(path) as unfinished:
        if path.suffix.lower() == ".mp4":
            write_film(list(frames), unfinished)
            return
        first, *others = [Image.fromarray(frame) for frame in frames]
        pace = {"duration": 1000 // FRAMES_PER_SECOND, "loop": 0}
        first.save(unfinished, format="GIF", save_all=True, append_images=others, comment=about.encode(), **pace)


def write_film(frames: list[np.ndarray], path: Path) -> None:
    """Writes frames as MP4 to a path with any suffix.

    ffmpeg takes the format from the suffix, so it writes film.mp4 in a temporary folder, which is then copied.
    """
    with TemporaryDirectory() as folder:
        film = Path(folder) / "film.mp4"
        imageio().imwrite(film, frames, extension=".mp4", fps=FRAMES_PER_SECOND)
        path.write_bytes(film.read_bytes())


def imageio():
    """Returns the optional library that writes films; raises UserError if it is not installed."""
    try:
        import imageio.v3
        import imageio_ffmpeg  # noqa: F401 (what imageio writes films with)
    except ImportError:
        raise UserError('.mp4 needs imageio: pip install "imageio[ffmpeg]", or give --out a .gif') from None
    return imageio.v3
