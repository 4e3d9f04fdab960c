"""Decodes a picture file to pixels, upright and in RGB, or returns the reason why it can't be used."""

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
    """A picture inside a larger file, such as a tar; it has the method `open` of a Path."""

    name: str

    @abstractmethod
    def open(self, mode: str) -> BinaryIO:
        """Returns the picture's bytes as a file; raises FileNotFoundError if there is none."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Returns a text that changes when the picture changes."""


class UnreadPixels(ValueError):
    """Raised for pixels whose range of values is unknown; the message is the reason."""


def upright(picture: Path | Stored) -> tuple[Image.Image | None, str]:
    """Returns a picture rotated by its EXIF data, in RGB with transparency on white; or None and the reason.

    Raises UserError if the machine is at fault and not the picture: no memory, a failing disk, too many open files.
    """
    content, reason = opened(picture, upright_pixels)
    try:
        return (None, reason) if content is None else (in_rgb(content), "")
    except UnreadPixels as error:
        return None, str(error)


def upright_size(picture: Path | Stored) -> tuple[tuple[int, int] | None, str]:
    """Returns width and height after rotation by EXIF, from the file's header if that is enough; or None and a reason.

    Raises UserError as `upright` does.
    """
    return opened(picture, size_as_seen)


def opened(picture: Path | Stored, look: Callable[[BinaryIO], T]) -> tuple[T | None, str]:
    """Returns look(file) of a picture's open file, with an empty reason; or None and the reason why it can't be used.

    Raises UserError as `upright` does.
    """
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
    """Returns the error for a picture that can't be read although the picture itself may be intact."""
    name = printable(str(picture if isinstance(picture, Path) else picture.name))
    if isinstance(error, MemoryError):
        return UserError(f"{name}: not enough memory to decode it; use fewer workers, or take it out")
    return UserError(f"{name}: can't be read ({error.strerror or error}); the disk or the system is at fault")


def in_megapixels(message: str) -> str:
    """Returns the size in megapixels that Pillow's message gives in pixels, in brackets.

    An empty text if it gives none.
    """
    found = re.search(r"\((\d+) pixels\)", message)
    return f" ({int(found[1]) / 1e6:.0f} megapixels)" if found else ""


def upright_pixels(file: BinaryIO) -> Image.Image:
    """Returns a decoded picture, rotated by its EXIF data.

    If Pillow refuses a PNG because of its text chunks, the picture is decoded without them. Raises Pillow's errors.
    """
    try:
        return turned(file)
    except ValueError:
        file.seek(0)
        if file.read(len(PNG)) != PNG:
            raise
        return turned(BytesIO(without_long_chunks(file.read())))


def turned(file: BinaryIO) -> Image.Image:
    """Returns a decoded picture, rotated by its EXIF data; raises Pillow's errors."""
    with Image.open(file) as content:
        content.load()
        return ImageOps.exif_transpose(content)


def size_as_seen(file: BinaryIO) -> tuple[int, int]:
    """Returns width and height after rotation by EXIF.

    Only the header is read, except for a PNG, which is decoded, as its EXIF data may be at its end.
    """
    if file.read(len(PNG)) == PNG:
        file.seek(0)
        return upright_pixels(file).size
    file.seek(0)
    with Image.open(file) as content:
        width, height = content.size
        turned_in_head = content.format != "TIFF" and content.getexif().get(274, 1) in (
            5,
            6,
            7,
            8,
        )  # never of TIFF
        return (height, width) if turned_in_head else (width, height)


def without_long_chunks(content: bytes) -> bytes:
    """Returns a PNG without text chunks and colour profiles; `content` is the file without its signature."""
    kept, start = [PNG], 0
    while start + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, start)
        if kind not in LONG_CHUNKS:
            kept.append(content[start : start + 12 + size])
        start += 12 + size
    return b"".join(kept)


def looks_like_picture(head: bytes) -> bool:
    """Returns whether any of Pillow's decoders accepts a file by its first bytes, at least 16 of them.

    TGA files have no such signature, so they are not recognised.
    """
    Image.init()
    return any(accept is not None and accepts(accept, head) for _, accept in Image.OPEN.values())


def accepts(accept: Callable[[bytes], object], head: bytes) -> bool:
    """Returns whether one decoder of Pillow accepts a file by its first bytes."""
    try:
        return bool(accept(head))
    except (IndexError, struct.error, SyntaxError):  # of a head that is too short
        return False


def square(picture: Image.Image, size: int, place: float = 0.5) -> Image.Image:
    """Returns the largest square of a picture, resized with antialiasing to `size` x `size` pixels.

    place is the position of the square along the longer side: 0 is the left or upper end, 1 the right or lower end.
    """
    width, height = picture.size
    side = min(height, width)
    top, left = round((height - side) * place), round((width - side) * place)
    if height != width:
        picture = v2.functional.crop(picture, top, left, side, side)  # pyright: ignore (typed for tensors alone)
    return v2.functional.resize(picture, [size, size], antialias=True)  # pyright: ignore


def in_rgb(picture: Image.Image) -> Image.Image:
    """Returns a picture of any of Pillow's modes in RGB, with transparency on white.

    Raises UnreadPixels if the range of its values is unknown.
    """
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
    """Returns grey values as uint8: floats from 0 to 1 or from 0 to 255, integers from 0 to 65535.

    Raises UnreadPixels.
    """
    low, high = float(pixels.min()), float(pixels.max())
    whites = (1.0, 255.0) if mode == "F" else (65535.0,)
    white = next((white for white in whites if high <= white), None)
    if white is None or low < 0 or not math.isfinite(low + high):
        what = "floats" if mode == "F" else "integers"
        expected = "0 to 1 or 0 to 255" if mode == "F" else "0 to 65535"
        raise UnreadPixels(f"pixels are {what} beyond {expected} (from {low:g} to {high:g})")
    scaled = pixels / (white / 255)
    return (scaled.round() if mode == "F" else scaled).astype(np.uint8)
