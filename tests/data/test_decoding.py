"""Pictures as people have them: modes, sizes and texts at which Pillow or a naive conversion stumbles."""

import errno
import io
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image, PngImagePlugin

from cgan.data import decoding
from cgan.data.decoding import DAMAGED, SUFFIXES, Stored, looks_like_picture, upright, upright_size
from cgan.interfaces import UserError

RAMP = np.linspace(0, 1, 40, dtype=np.float32)[None].repeat(4, axis=0)  # from black to white


def ends(picture: Image.Image) -> list[tuple[int, int, int]]:
    """The colours at the left and right end."""
    return [picture.getpixel((0, 0)), picture.getpixel((picture.width - 1, 0))]


@pytest.mark.parametrize(
    ("pixels", "name"),
    [
        (RAMP, "floats.tif"),
        (RAMP * 255, "floats to 255.tif"),
        ((RAMP * 65535).astype(np.uint16), "16 bits.tif"),
        ((RAMP * 65535).astype(np.int32), "32 bits.tif"),
        ((RAMP * 65535).astype(np.uint16), "16 bits.png"),
        ((RAMP * 255).astype(np.uint8), "8 bits.png"),
    ],
)
def test_a_ramp_from_black_to_white_is_one_in_any_kind_of_numbers(tmp_path, pixels, name):
    Image.fromarray(pixels).save(tmp_path / name)
    picture, reason = upright(tmp_path / name)
    grey = np.asarray(picture)[0, :, 0].astype(int)
    assert reason == "" and ends(picture) == [(0, 0, 0), (255, 255, 255)]
    assert np.abs(grey - RAMP[0] * 255).max() <= 1


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (RAMP * 4000, "pixels are floats beyond 0 to 1 or 0 to 255 (from 0 to 4000)"),
        (RAMP - 0.5, "pixels are floats beyond 0 to 1 or 0 to 255 (from -0.5 to 0.5)"),
        (RAMP * np.nan, "pixels are floats beyond 0 to 1 or 0 to 255 (from nan to nan)"),
        ((RAMP * 1e6).astype(np.int32), "pixels are integers beyond 0 to 65535 (from 0 to 1e+06)"),
    ],
)
def test_numbers_of_a_range_that_nobody_knows_are_left_out_with_the_range(tmp_path, pixels, reason):
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    assert upright(tmp_path / "a.tif") == (None, reason)


@pytest.mark.parametrize(
    ("mode", "colour", "name", "expected"),
    [
        ("1", 1, "a.png", (255, 255, 255)),
        ("LA", (0, 128), "a.png", (127, 127, 127)),
        ("RGBA", (255, 0, 0, 0), "a.png", (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), "a.tif", (255, 0, 0)),
        ("YCbCr", (76, 85, 255), "a.tif", (254, 0, 0)),
        ("LAB", (138, 209, 198), "a.tif", (251, 5, 4)),  # red; as Pillow stores it, a and b from 0 to 255
    ],
)
def test_every_mode_becomes_rgb_on_white(tmp_path, mode, colour, name, expected):
    Image.new(mode, (8, 8), colour).save(tmp_path / name)
    if mode == "YCbCr" and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("older versions of Pillow can't read the YCbCr that they write")
    picture, reason = upright(tmp_path / name)
    assert reason == "" and picture.mode == "RGB"
    assert np.abs(np.subtract(picture.getpixel((4, 4)), expected)).max() <= 2


def test_a_palette_with_transparency_is_on_white(tmp_path):
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.save(tmp_path / "a.png", transparency=1)
    assert upright(tmp_path / "a.png")[0].getpixel((4, 4)) == (255, 255, 255)


def png_with_long_text(file: Path, after_pixels: bool) -> None:
    """Red, with 2 MB of compressed text, as tools that draw pictures put into them."""
    info = PngImagePlugin.PngInfo()
    info.add(b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * 2**21), after_pixels)
    Image.new("RGB", (40, 30), "red").save(file, pnginfo=info)


@pytest.mark.parametrize("after_pixels", [False, True])
def test_a_png_with_more_text_than_pillow_takes_is_used(tmp_path, after_pixels):
    png_with_long_text(tmp_path / "a.png", after_pixels)
    assert ends(upright(tmp_path / "a.png")[0]) == [(255, 0, 0)] * 2
    assert upright_size(tmp_path / "a.png") == ((40, 30), "")


def test_a_damaged_png_with_a_long_text_is_damaged(tmp_path):
    png_with_long_text(tmp_path / "a.png", False)
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-60])
    assert upright(tmp_path / "a.png") == (None, DAMAGED)


def test_a_picture_larger_than_pillow_allows_is_said_to_be_large(tmp_path, monkeypatch):
    Image.new("L", (3000, 1000)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    for look in (upright, upright_size):
        assert look(tmp_path / "a.png") == (None, "too large (3 megapixels)")


def test_a_picture_of_which_pillow_only_warns_is_used(tmp_path, monkeypatch):
    Image.new("L", (3000, 1000)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2_000_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert upright(tmp_path / "a.png")[0].size == (3000, 1000)


class Failing(Stored):
    """A picture that can't be opened, or not be read to its end."""

    name = "a.jpg"

    def __init__(self, error: Exception, content: bytes | None = None) -> None:
        self.error, self.content = error, content

    def open(self, mode):
        if self.content is None:
            raise self.error
        file = io.BytesIO(self.content)
        file.read = self.read
        return file

    def read(self, size=-1):
        raise self.error

    def fingerprint(self):
        return ""


FULL_TABLE = OSError(errno.EMFILE, "Too many open files")
FAILING_DISK = OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize(
    ("error", "content", "said"),
    [
        (FULL_TABLE, None, "a.jpg: can't be read .Too many open files"),
        (FAILING_DISK, None, "a.jpg: can't be read .Input/output error"),
        (FULL_TABLE, b"", "a.jpg: can't be read .Too many open files"),
        (FAILING_DISK, b"", "a.jpg: can't be read .Input/output error"),
        (MemoryError(), b"", "a.jpg: not enough memory to decode it"),
    ],
)
def test_a_fault_of_the_machine_is_no_damage_of_the_picture(error, content, said):
    with pytest.raises(UserError, match=said) as raised:
        upright(Failing(error, content))
    assert raised.value.__cause__ is error


def test_a_fault_of_the_content_is_damage():
    for error in (OSError("image file is truncated"), SyntaxError("broken"), OSError(errno.EINVAL, "seek")):
        assert upright(Failing(error, b"")) == (None, DAMAGED)


def test_a_bug_in_our_own_code_is_no_damage(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")

    def wrong(picture):
        raise TypeError("a bug")

    monkeypatch.setattr(decoding, "in_rgb", wrong)
    with pytest.raises(TypeError, match="a bug"):
        upright(tmp_path / "a.png")


def test_the_cause_of_damage_is_shown_on_request(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.png").write_bytes(b"broken")
    monkeypatch.setenv("CGAN_DEBUG", "1")
    assert upright(tmp_path / "a.png") == (None, DAMAGED)
    assert "UnidentifiedImageError" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["none.png", "x" * 300 + ".png", "a\0b.png", "file/a.png", "."])
def test_what_is_no_file_is_missing(tmp_path, name):
    (tmp_path / "file").write_text("")
    assert upright(tmp_path / name) == (None, "missing")


def test_every_suffix_that_is_taken_for_a_picture_has_a_decoder():
    assert SUFFIXES <= set(Image.registered_extensions())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_size_is_that_of_the_picture_as_seen(tmp_path, kind):
    exif = Image.Exif()
    exif[274] = 6  # turned by a quarter
    Image.new("RGB", (40, 30)).save(tmp_path / "a", kind, exif=exif)
    assert upright_size(tmp_path / "a") == (upright(tmp_path / "a")[0].size, "") == ((30, 40), "")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "JPEG2000", "PPM"])
def test_the_first_bytes_of_a_picture_tell_that_it_is_one(kind):
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, kind)
    assert looks_like_picture(content.getvalue()[:64])


@pytest.mark.parametrize("content", [b"", b"\xff", b"broken", b"<!DOCTYPE html><html>", b"{}", bytes(64)])
def test_the_first_bytes_of_something_else_tell_so(content):
    assert not looks_like_picture(content)
