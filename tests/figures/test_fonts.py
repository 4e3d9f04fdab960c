import numpy as np
import pytest
from PIL import ImageFont

from cgan.data.scenes.captions import mentioned_in
from cgan.figures import fonts
from cgan.figures.fonts import NO_FONT, has, label
from cgan.figures.sheets import CAPTIONS, CHINESE_CAPTIONS, example_captions, titled
from cgan.models.text.lstm import Vocabulary


@pytest.fixture
def no_other_fonts(monkeypatch):
    """As on a machine on which nothing but Pillow's own font is installed."""
    fonts.file_with.cache_clear()
    monkeypatch.setattr(fonts, "installed", list)
    yield
    fonts.file_with.cache_clear()


def test_pillow_s_own_font_has_latin_letters_and_no_others():
    own = ImageFont.load_default(10)
    assert all(has(own, letter) for letter in "aZ09 ,?") and not any(has(own, letter) for letter in "狗дあ개ä")


@pytest.mark.parametrize("text", CAPTIONS)
def test_english_stays_in_pillow_s_own_font(text):
    said, font = label(text)
    assert said == text and font.getname() == ImageFont.load_default(10).getname()


def test_letters_that_it_has_not_are_taken_from_an_installed_font():
    said, font = label("собака on grass")  # Cyrillic, which DejaVu Sans has
    assert said == "собака on grass" and font.getname()[0] == "DejaVu Sans"


def test_without_a_font_chinese_captions_of_scenes_are_shown_in_english(no_other_fonts):
    assert label("一只红色的小狗在草地上")[0] == "a small red dog on grass"
    assert [mentioned_in(label(caption)[0]) for caption in CHINESE_CAPTIONS] == list(map(mentioned_in, CAPTIONS))


def test_without_a_font_other_captions_lose_their_letters_or_say_so(no_other_fonts):
    assert label("一只狗在公园里")[0] == NO_FONT and label("a 狗 dog")[0] == "a dog"


@pytest.mark.parametrize("caption", ["一只狗在公园里", "一只狗在草地上", "a dog 狗", "собака"])
def test_a_strip_never_shows_a_box(no_other_fonts, caption):
    row = np.zeros((8, 256, 3), np.uint8)
    strip = titled(row, caption)[:-8]
    assert (strip == titled(row, label(caption)[0])[:-8]).all() and strip.min() < 128


def test_a_font_that_has_chinese_is_used_and_lines_are_not_longer_than_the_row():
    said, font = label("一只狗在草地上" * 20)
    if said == NO_FONT or not font.path:
        pytest.skip("no font with Chinese is installed")
    strip = titled(np.zeros((8, 256, 3), np.uint8), "一只狗在草地上" * 20)[:-8]
    assert (strip[:, -3:] == 255).all()


def test_models_that_know_chinese_show_chinese():
    known = {caption: Vocabulary.of(captions) for caption, captions in (("en", CAPTIONS), ("zh", CHINESE_CAPTIONS))}
    for name, expected in (("en", CAPTIONS), ("zh", CHINESE_CAPTIONS)):
        vocabulary = known[name]
        unknown = [w for c in (CAPTIONS if name == "zh" else CHINESE_CAPTIONS) for w in vocabulary.words_of(c)]
        assert unknown
        shown = example_captions(
            lambda captions, v=vocabulary: [w for c in captions for w in v.words_of(c) if w not in v.index]
        )
        assert shown == list(expected)
    assert example_captions(lambda captions: []) == list(CAPTIONS)  # an encoder that knows every word
