"""examples/emoji.py on packages of a few emoji, as npm packs them."""

import importlib.util
import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from cgan.data.sources import DataConfig, build_dataset
from cgan.interfaces import UserError
from cgan.models.text.lstm import split_words
from helpers import ROOT

NAMES = {  # by code: name, group, short names, keywords
    "1F436": ("dog face", 3, ["dog", "dog_face"], ["animal", "pet", "puppy"]),
    "1F431": ("cat face", 3, "cat", ["animal", "pet", "kitten"]),
    "1F42D": ("mouse face", 3, "mouse", ["animal", "rodent"]),
    "1F63B": ("cat with heart eyes", 3, "heart_eyes_cat", ["love", "animal"]),
    "1F60D": ("dog with heart eyes", 3, "heart_eyes", ["crush", "animal"]),
    "1F63A": ("cat with eyes", 3, "smiley_cat", ["grin", "animal"]),
    "1F495": ("heart with eyes", 3, "hearts", ["romance", "animal"]),
    "2764-FE0F": ("red heart", 3, "heart", ["emotion", "animal"]),
    "1F468-1F3FD": None,  # a skin tone: no row of its own
    "1F1E6-1F1E8": ("Ascension Island", 9, "flag_ac", ["island"]),
}
GROUPS = {"groups": {"3": "animals-nature", "9": "flags"}, "subgroups": {"34": "animal-mammal", "98": "country-flag"}}


def pack(folder: Path, name: str, files: dict[str, object]) -> None:
    with tarfile.open(folder / name, "w:gz") as tar:
        for path, content in files.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            member = tarfile.TarInfo(f"package/{path}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def picture(colour: tuple) -> bytes:
    file, image = io.BytesIO(), Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    image.paste(colour, (8, 8, 24, 24))
    image.save(file, format="WEBP", lossless=True)
    return file.getvalue()


@pytest.fixture
def emoji(monkeypatch):
    spec = importlib.util.spec_from_file_location("emoji_example", ROOT / "examples" / "emoji.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "rasterise", lambda svg, size: picture((0, 0, 255, 255)))
    return module


@pytest.fixture
def packages(tmp_path):
    folder = tmp_path / "packages"
    folder.mkdir()
    rows = [
        {"label": row[0], "hexcode": code, "group": row[1], "subgroup": 98 if row[1] == 9 else 34, "tags": row[3]}
        for code, row in NAMES.items()
        if row
    ]
    messages = {
        "groups": [{"key": "animals-nature", "message": "animals & nature"}, {"key": "flags", "message": "flags"}]
    }
    short = {code: row[2] for code, row in NAMES.items() if row}
    data = {"en/data.json": rows, "en/messages.json": messages, "meta/groups.json": GROUPS}
    data |= {f"en/shortcodes/{name}.json": short for name in ("emojibase", "github", "iamcal")}
    pack(folder, "emojibase-data-17.0.0.tgz", data)
    red = picture((255, 0, 0, 255))
    pack(folder, "lobehub-fluent-emoji-3d-1.1.0.tgz", {f"assets/{code.lower()}.webp": red for code in NAMES})
    icons = {"width": 8, "height": 8, "icons": {"dog": {"body": "<path/>"}, "heart": {"body": "", "height": 9}}}
    chars = {"1f436": "dog", "2764": "heart", "1f999": "of-no-name"}
    pack(folder, "iconify-json-noto-1.2.9.tgz", {"icons.json": icons, "chars.json": chars})
    return folder


def gathered(emoji, out: Path, packages: Path) -> dict:
    return emoji.gather(out, packages, 64, sets=tuple(s for s in emoji.SETS if s.folder in ("noto", "fluent-3d")))


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_pictures_and_captions_are_a_folder_that_is_read(emoji, packages, tmp_path, monkeypatch):
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path / "cache"))
    assert gathered(emoji, tmp_path / "out", packages) == {"noto": 2, "fluent-3d": 8}  # no skin tone, no flag
    data = build_dataset(DataConfig("folder", str(tmp_path / "out"), resolution=64))
    image, captions = data[0].image, data[0].captions
    assert image[:, 0, 0].tolist() == [255, 255, 255] and image[2, 32, 32] > 200  # white around blue
    assert captions[:2] == ["dog face", "dog face, animals and nature"] and "dog" in captions
    assert Image.open(tmp_path / "out" / "fluent-3d" / "1f436.png").size == (64, 64)
    licences = (tmp_path / "out" / "LICENCES.md").read_text()
    assert "Apache-2.0" in licences and "Microsoft" in licences and "OpenMoji (" not in licences.split("names")[0]


def test_an_emoji_that_is_held_out_is_so_in_every_set_and_its_words_are_known(emoji, packages, tmp_path):
    gathered(emoji, tmp_path, packages)
    kept, heldout = rows_of(tmp_path / "metadata.jsonl"), rows_of(tmp_path / "heldout" / "metadata.jsonl")
    assert heldout and not {row["code"] for row in kept} & {row["code"] for row in heldout}
    known = {word for row in kept for caption in row["text"] for word in split_words(caption)}
    assert all(set(split_words(row["name"])) <= known and row["text"] == [row["name"]] for row in heldout)
    assert all((tmp_path / "heldout" / row["file_name"]).is_file() for row in heldout)


def test_no_training_caption_holds_a_held_out_word(emoji, packages, tmp_path):
    gathered(emoji, tmp_path, packages)
    kept, words = rows_of(tmp_path / "metadata.jsonl"), rows_of(tmp_path / "held-out-words.jsonl")
    known = {word for row in kept for caption in row["text"] for word in split_words(caption)}
    assert words and all(not set(split_words(row["text"])) & known for row in words)
    names = {row["name"]: row for row in kept}
    for row in words:
        assert row["file_names"] and all(row["text"] in names[name]["keywords"] for name in row["names"])


def test_the_same_command_writes_the_same_files(emoji, packages, tmp_path):
    for name in ("one", "two"):
        gathered(emoji, tmp_path / name, packages)
    files = [sorted(p.relative_to(tmp_path / n) for p in (tmp_path / n).rglob("*")) for n in ("one", "two")]
    assert files[0] == files[1]
    same = [p for p in files[0] if (tmp_path / "one" / p).is_file()]
    assert all((tmp_path / "one" / p).read_bytes() == (tmp_path / "two" / p).read_bytes() for p in same)


def test_mistakes_are_one_line(emoji, packages, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="--language xx: not one of en"):
        emoji.gather(tmp_path / "out", packages, 64, "xx", ())
    (packages / "iconify-json-noto-1.2.9.tgz").write_bytes(b"no tar")
    with pytest.raises(UserError, match="damaged; delete it"):
        gathered(emoji, tmp_path / "out", packages)
    (packages / "iconify-json-noto-1.2.9.tgz").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))  # without npm
    with pytest.raises(UserError, match="npm pack"):
        gathered(emoji, tmp_path / "out", packages)
    with pytest.raises(SystemExit, match="error: --sets: apple is not one of noto"):
        emoji.main([str(tmp_path), "--sets", "apple"])


def test_svg_is_drawn_on_white():
    pytest.importorskip("resvg_py", reason="the extra emoji is not installed")
    spec = importlib.util.spec_from_file_location("emoji_example", ROOT / "examples" / "emoji.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4"><path fill="#f00" d="M1 1h2v2H1z"/></svg>'
    drawn = module.picture_of(svg, 32)
    assert (
        drawn.size == (32, 32) and drawn.getpixel((0, 0)) == (255, 255, 255) and drawn.getpixel((16, 16)) == (255, 0, 0)
    )
