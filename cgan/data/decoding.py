"""One picture from its file to pixels: upright, in RGB; or the reason why it can't be used."""

import errno
import math
import os
import re
import struct
import traceback
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import Image, ImageCms, ImageOps
from torchvision.transforms import v2

from cgan.data.records import printable
from cgan.interfaces import UserError

DECODING_VERSION = 2  # part of the cache's name: raise it when pixels or reasons change
SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"}
SUFFIXES |= {".avif", ".jp2", ".j2k", ".ppm", ".pgm", ".pnm", ".tga"}
UNREAD = {".heic", ".heif", ".jxl", ".svg", ".psd", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".eps", ".exr"}
DAMAGED = "damaged or not a picture"
MISSING = {errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EILSEQ}
MACHINE = {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ENODEV, errno.ENXIO}
MACHINE |= {errno.ETIMEDOUT, errno.ENOTCONN, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH}
LONG_CHUNKS = {b"tEXt", b"zTXt", b"iTXt", b"iCCP"}  # of PNG; Pillow refuses those of more than a megabyte
PNG = b"\x89PNG\r\n\x1a\n"
T = TypeVar("T")


class Stored(ABC):
    """A picture that is no file of its own but lies inside a larger one; it is opened as a Path is."""

    name: str

    @abstractmethod
    def open(self, mode: str) -> BinaryIO:
        """The picture's bytes; raises FileNotFoundError where there are none."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Something else when the picture has changed."""


class UnreadPixels(ValueError):
    """Pixels whose meaning is not known; the message is the reason."""


def upright(picture: Path | Stored) -> tuple[Image.Image | None, str]:
    """A picture as it is meant to be seen, in RGB, transparency on white; or None and the reason.

    Raises UserError where the machine is at fault and not the picture: no memory, a failing disk, too many open files.
    """
    content, reason = opened(picture, upright_pixels)
    try:
        return (None, reason) if content is None else (in_rgb(content), "")
    except UnreadPixels as error:
        return None, str(error)


def upright_size(picture: Path | Stored) -> tuple[tuple[int, int] | None, str]:
    """Width and height as seen, by the head of the file where that is enough; or None and the reason, as upright."""
    return opened(picture, size_as_seen)


def opened(picture: Path | Stored, look: Callable[[BinaryIO], T]) -> tuple[T | None, str]:
    """What look finds in the open file of a picture, and no reason; or None and the reason."""
    try:
        file = picture.open("rb")
    except PermissionError:
        return None, "without permission to read"
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        if isinstance(error, OSError) and not (isinstance(error, FileNotFoundError) or error.errno in MISSING):
            raise machine_fault(picture, error) from error
        return None, "missing"
    with file, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large, and read all the same
        try:
            return look(file), ""
        except Image.DecompressionBombError as error:
            return None, f"too large{in_megapixels(str(error))}"
        except MemoryError as error:
            raise machine_fault(picture, error) from error
        except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
            if isinstance(error, OSError) and error.errno in MACHINE:
                raise machine_fault(picture, error) from error
            if os.environ.get("CGAN_DEBUG", "0") not in ("", "0"):
                traceback.print_exception(error)
            return None, DAMAGED


def machine_fault(picture: Path | Stored, error: OSError | MemoryError) -> UserError:
    """The error for a picture that can't be read through no fault of its own."""
    name = printable(str(picture if isinstance(picture, Path) else picture.name))
    if isinstance(error, MemoryError):
        return UserError(f"{name}: not enough memory to decode it; use fewer workers, or take it out")
    return UserError(f"{name}: can't be read ({error.strerror or error}); the disk or the system is at fault")


def in_megapixels(message: str) -> str:
    """The size that Pillow's refusal names."""
    found = re.search(r"\((\d+) pixels\)", message)
    return f" ({int(found[1]) / 1e6:.0f} megapixels)" if found else ""


def upright_pixels(file: BinaryIO) -> Image.Image:
    """Decoded, and turned as its EXIF says. Of a PNG whose text Pillow refuses, the pixels without the text."""
    try:
        return turned(file)
    except ValueError:
        file.seek(0)
        if file.read(len(PNG)) != PNG:
            raise
        return turned(BytesIO(without_long_chunks(file.read())))


def turned(file: BinaryIO) -> Image.Image:
    """Decodes a picture, and turns it as its EXIF data says."""
    with Image.open(file) as content:
        content.load()
        return ImageOps.exif_transpose(content)


def size_as_seen(file: BinaryIO) -> tuple[int, int]:
    """By the head alone, but of a PNG, whose EXIF may stand at the end, by its pixels."""
    if file.read(len(PNG)) == PNG:
        file.seek(0)
        return upright_pixels(file).size
    file.seek(0)
    with Image.open(file) as content:
        width, height = content.size
        turned_in_head = content.format != "TIFF" and content.getexif().get(274, 1) in (5, 6, 7, 8)  # TIFF says it so
        return (height, width) if turned_in_head else (width, height)


def without_long_chunks(content: bytes) -> bytes:
    """A PNG without texts and colour profiles, from what follows its signature."""
    kept, start = [PNG], 0
    while start + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, start)
        if kind not in LONG_CHUNKS:
            kept.append(content[start : start + 12 + size])
        start += 12 + size
    return b"".join(kept)


def looks_like_picture(head: bytes) -> bool:
    """Whether any decoder of Pillow would try a file that begins so, with 16 bytes or more; TGA has no such mark."""
    Image.init()
    return any(accept is not None and accepts(accept, head) for _, accept in Image.OPEN.values())


def accepts(accept: Callable[[bytes], object], head: bytes) -> bool:
    """Whether a decoder of Pillow would try a file that begins so."""
    try:
        return bool(accept(head))
    except (IndexError, struct.error, SyntaxError):  # of a head that is too short
        return False


def square(picture: Image.Image, size: int, place: float = 0.5) -> Image.Image:
    """The largest square, at a place from 0, the left or upper end, to 1, the other; resized to size with antialias."""
    width, height = picture.size
    side = min(height, width)
    top, left = round((height - side) * place), round((width - side) * place)
    if height != width:
        picture = v2.functional.crop(picture, top, left, side, side)  # pyright: ignore (typed for tensors alone)
    return v2.functional.resize(picture, [size, size], antialias=True)  # pyright: ignore


def in_rgb(picture: Image.Image) -> Image.Image:
    """Any mode of Pillow as RGB, transparency on white; raises UnreadPixels where the numbers' range is not known."""
    mode = picture.mode
    if mode == "F" or mode.startswith("I"):
        picture = Image.fromarray(in_bytes(np.asarray(picture, dtype=np.float64), mode))
    elif mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")  # pyright: ignore (no None, as not in place)
    elif mode in ("RGBa", "La"):  # colours multiplied by their transparency
        picture = picture.convert({"RGBa": "RGBA", "La": "LA"}[mode])
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("RGB")


def in_bytes(pixels: np.ndarray, mode: str) -> np.ndarray:
    """Grey values as bytes: floats from 0 to 1 or from 0 to 255, integers from 0 to 65535; raises UnreadPixels."""
    low, high = float(pixels.min()), float(pixels.max())
    whites = (1.0, 255.0) if mode == "F" else (65535.0,)
    white = next((white for white in whites if high <= white), None)
    if white is None or low < 0 or not math.isfinite(low + high):
        what = "floats" if mode == "F" else "integers"
        expected = "0 to 1 or 0 to 255" if mode == "F" else "0 to 65535"
        raise UnreadPixels(f"pixels are {what} beyond {expected} (from {low:g} to {high:g})")
    scaled = pixels / (white / 255)
    return (scaled.round() if mode == "F" else scaled).astype(np.uint8)
