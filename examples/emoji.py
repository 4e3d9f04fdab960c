"""Gathers emoji of openly licensed sets, with captions, into a folder that `cgan` trains on.

    pip install -e ".[emoji]"
    python examples/emoji.py EMOJI                    # fetches the packages with npm pack, 128 px
    python train.py configs/gan/emoji.yaml data.root=EMOJI

Into EMOJI go PNG files, a folder for each set, and

    metadata.jsonl         file_name, text (the captions: name, name and group, name and keywords, short names, rare
                           keywords), and what they come from: code, name, short_names, keywords, group, set
    heldout/               the same of 100 emoji that metadata.jsonl has in no set; text is the name. Each word of it
                           stands in two other names or more, so that the words are known and their combination is not
    held-out-words.jsonl   text (a keyword of which no caption of metadata.jsonl holds any word, such as "puppy"), names
                           (of the emoji that it means, at most five), file_names (their pictures in metadata.jsonl)
    LICENCES.md            whose work the pictures are

The same command writes the same files.

Left out are skin tones (half of all pictures, and the same captions but for one word), flags of countries and regions
(captions that name no thing in the picture), components of emoji, and trademarks.
"""

import argparse
import io
import json
import random
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from cgan.errors import UserError, how_to_install
from cgan.files import make_folder, write_text
from cgan.models.text.lstm import split_words

NAMES = "emojibase-data@17.0.0"  # names, short names, keywords and groups, by Unicode's CLDR (MIT)
SHORT_NAMES = ("emojibase", "github", "iamcal")  # files of short names in it
NUM_HELDOUT, MOST_MEANINGS = 100, 5  # emoji kept out of training; emoji that one held-out word may mean
WORD_SHARE = 3  # of so many emoji one loses its keywords to the held-out words
SEED = 0
LEFT_OUT = {"component", "country-flag", "subdivision-flag", "brand", "flags", "regional-indicator"}


class Emoji(NamedTuple):
    """What is called how; a code is its code points without U+FE0F, as in 1F636-200D-1F32B."""

    code: str
    name: str
    short_names: list[str]
    keywords: list[str]
    group: str


class EmojiSet(NamedTuple):
    """Drawings of one style, and the package that they come in."""

    folder: str
    package: str
    title: str
    author: str
    licence: str
    read: Callable[["Package"], Iterator[tuple[str, bytes | str]]]  # codes, each with a picture file or an SVG


class Package:
    """A .tgz that `npm pack` has fetched; its files are read by their paths inside it."""

    def __init__(self, path: Path) -> None:
        with tarfile.open(path) as tar:
            members = [member for member in tar.getmembers() if member.isfile()]
            opened = {m.name.partition("/")[2]: tar.extractfile(m) for m in members}
            self.files = {name: file.read() for name, file in opened.items() if file is not None}

    def json(self, name: str):
        """Returns a file of JSON."""
        return json.loads(self.files[name])

    def below(self, folder: str, suffix: str) -> Iterator[tuple[str, bytes]]:
        """Yields the files of a folder with a suffix, by their names without it."""
        for name, content in sorted(self.files.items()):
            if name.startswith(folder) and name.endswith(suffix):
                yield name.removeprefix(folder).removesuffix(suffix), content


# ---------------------------------------------------------------------------------------------- sets


def code_of(text: str) -> str:
    """Returns a code in one spelling: upper case, without the mark of colour U+FE0F."""
    return text.upper().replace("-FE0F", "")


def of_iconify(package: Package) -> Iterator[tuple[str, str]]:
    """Yields the SVG of each emoji of an Iconify package, where drawings lie in one file of JSON."""
    icons = package.json("icons.json")
    for code, name in sorted(package.json("chars.json").items()):
        if name in icons["icons"]:
            icon = {"left": 0, "top": 0, "width": icons["width"], "height": icons["height"], **icons["icons"][name]}
            box = " ".join(str(icon[side]) for side in ("left", "top", "width", "height"))
            yield code_of(code), f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">{icon["body"]}</svg>'


def of_openmoji(package: Package) -> Iterator[tuple[str, str]]:
    """Yields the SVG of each emoji of OpenMoji."""
    for name, content in package.below("color/svg/", ".svg"):
        yield code_of(name), content.decode()


def of_fluent(package: Package) -> Iterator[tuple[str, bytes]]:
    """Yields the WebP file of each emoji of Fluent, at 256 px."""
    for name, content in package.below("assets/", ".webp"):
        yield code_of(name), content


SETS = (
    EmojiSet("noto", "@iconify-json/noto@1.2.9", "Noto Emoji", "Google Inc", "Apache-2.0", of_iconify),
    EmojiSet("twemoji", "@iconify-json/twemoji@1.2.5", "Twemoji", "Twitter, Inc and other contributors", "CC-BY-4.0",
             of_iconify),
    EmojiSet("openmoji", "openmoji@17.0.0", "OpenMoji", "the OpenMoji project", "CC-BY-SA-4.0", of_openmoji),
    EmojiSet("fluent-flat", "@iconify-json/fluent-emoji-flat@1.2.6", "Fluent Emoji, flat", "Microsoft Corporation",
             "MIT", of_iconify),
    EmojiSet("fluent-3d", "@lobehub/fluent-emoji-3d@1.1.0", "Fluent Emoji, 3D", "Microsoft Corporation", "MIT",
             of_fluent),
)  # fmt: skip


def opened(package: str, folder: Path) -> Package:
    """Returns a package out of a folder, into which `npm pack` fetches it where it is missing; raises UserError."""
    name, _, version = package.rpartition("@")
    path = folder / f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
    if not path.is_file():
        command = ["npm", "pack", "--silent", package]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError) as error:
            raise UserError(f"{path}: not there, and `{' '.join(command)}` failed; run it in {folder}") from error
    try:
        return Package(path)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise UserError(f"{path}: damaged; delete it, and it is fetched again ({error})") from error


# ---------------------------------------------------------------------------------------------- names


def all_emoji(names: Package, openmoji: Package | None, language: str) -> dict[str, Emoji]:
    """Returns emoji by their codes: Unicode's in a language, and in English OpenMoji's own; raises UserError."""
    if f"{language}/data.json" not in names.files:
        known = sorted(name.removesuffix("/data.json") for name in names.files if name.count("/data.json"))
        raise UserError(f"--language {language}: not one of {', '.join(known)}")
    groups, subgroups = (names.json("meta/groups.json")[key] for key in ("groups", "subgroups"))
    spoken = {group["key"]: group["message"] for group in names.json(f"{language}/messages.json")["groups"]}
    short = [names.json(f"en/shortcodes/{name}.json") for name in SHORT_NAMES] if language == "en" else []
    found = {}
    for row in names.json(f"{language}/data.json"):
        if "group" not in row or {groups[str(row["group"])], subgroups[str(row["subgroup"])]} & LEFT_OUT:
            continue
        code, group = code_of(row["hexcode"]), spoken[groups[str(row["group"])]]
        mine = [name for table in short for name in in_list(table.get(row["hexcode"]))]
        found[code] = Emoji(code, row["label"], in_words(mine), row.get("tags", []), group.replace(" & ", " and "))
    if openmoji is not None and language == "en":
        found = {**own_of_openmoji(openmoji), **found}
    return found


def own_of_openmoji(openmoji: Package) -> dict[str, Emoji]:
    """Returns the emoji that OpenMoji has drawn beyond Unicode's, without brands and flags."""
    found = {}
    for row in openmoji.json("data/openmoji.json"):
        if row["group"].startswith("extras") and row["subgroups"] not in LEFT_OUT:
            keywords = [k.strip() for k in f"{row['tags']},{row['openmoji_tags']}".split(",") if k.strip()]
            group = row["subgroups"].replace("-", " ")
            found[code_of(row["hexcode"])] = Emoji(code_of(row["hexcode"]), row["annotation"], [], keywords, group)
    return found


def in_list(names: str | list[str] | None) -> list[str]:
    """Returns one name, several or none as a list."""
    return [names] if isinstance(names, str) else list(names or [])


def in_words(short_names: list[str]) -> list[str]:
    """Returns short names with spaces in place of underscores, each once, without those that hold no letter."""
    spelled = dict.fromkeys(name.replace("_", " ").replace("-", " ") for name in short_names)
    return [name for name in spelled if any(letter.isalpha() for letter in name)]


# ---------------------------------------------------------------------------------------------- held out


def choose_heldout(emoji: dict[str, Emoji], count: int) -> set[str]:
    """Returns the codes of at most `count` emoji, each word of whose names two others in training have as well."""
    holders = Counter(word for each in emoji.values() for word in set(split_words(each.name)))
    codes, chosen = sorted(emoji), set()
    random.Random(SEED).shuffle(codes)
    for code in codes:
        words = set(split_words(emoji[code].name))
        if len(chosen) < min(count, len(emoji) // 4) and len(words) > 1 and all(holders[word] > 2 for word in words):
            chosen.add(code)
            holders.subtract(words)
    return chosen


def choose_words(training: list[Emoji]) -> dict[str, list[str]]:
    """Returns keywords that no training caption may hold, each with the names of the emoji that it means.

    They are those keywords, of a third of the emoji, of which no word is in any name or group, and which mean at most
    MOST_MEANINGS emoji.
    """
    kept = {word for emoji in training for word in split_words(f"{emoji.name} {emoji.group}")}
    names: dict[str, list[str]] = {}
    for emoji in training:
        for keyword in dict.fromkeys([*emoji.keywords, *emoji.short_names]):
            names.setdefault(keyword.casefold(), []).append(emoji.name)
    fit = {k for k, found in names.items() if 0 < len(found) <= MOST_MEANINGS and is_apart(k, kept)}
    chosen = random.Random(SEED).sample(range(len(training)), len(training) // WORD_SHARE)
    lost = [k.casefold() for i in sorted(chosen) for k in [*training[i].keywords, *training[i].short_names]]
    return {keyword: names[keyword] for keyword in sorted(fit & set(lost))}


def is_apart(keyword: str, kept: set[str]) -> bool:
    """Returns whether a keyword has words, and none of them is among others."""
    words = set(split_words(keyword))
    return bool(words) and not words & kept and any(letter.isalpha() for letter in keyword)


def captions_of(emoji: Emoji, heldout: set[str], meanings: Counter) -> list[str]:
    """Returns the captions of an emoji: its name alone, with its group and with keywords, short names, rare keywords.

    Captions that hold a held-out word are left out. A keyword of more than MOST_MEANINGS emoji is no caption by itself.
    """
    keywords = [keyword for keyword in emoji.keywords if not heldout & set(split_words(keyword))]
    rare = [keyword for keyword in keywords if meanings[keyword.casefold()] <= MOST_MEANINGS]
    captions = [emoji.name, f"{emoji.name}, {emoji.group}", ", ".join([emoji.name, *keywords[:4]])]
    captions += [name for name in emoji.short_names if not heldout & set(split_words(name))]
    return list(dict.fromkeys([*captions, *rare]))


# ---------------------------------------------------------------------------------------------- pictures


def rasterise(svg: str, size: int) -> bytes:
    """Returns a PNG of an SVG on white; raises UserError where resvg_py is missing."""
    try:
        import resvg_py
    except ImportError:
        raise UserError(f"drawing SVG needs resvg_py; {how_to_install('emoji')}") from None
    return resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, background="white", skip_system_fonts=True)


def picture_of(content: bytes | str, size: int) -> Image.Image:
    """Returns a picture in RGB of size x size pixels, with what is transparent in white."""
    file = rasterise(content, size) if isinstance(content, str) else content
    picture = Image.open(io.BytesIO(file)).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    picture = white.convert("RGB")
    side = max(picture.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square if side == size else square.resize((size, size), Image.Resampling.LANCZOS)


# ---------------------------------------------------------------------------------------------- the folder


def gather(out: Path, packages: Path, size: int, language: str = "en", sets: tuple[EmojiSet, ...] = SETS) -> Counter:
    """Writes pictures, captions, held-out words and licences; returns the number of pictures of each set."""
    held = {each.folder: opened(each.package, packages) for each in sets}
    emoji = all_emoji(opened(NAMES, packages), held.get("openmoji"), language)
    drawn = {each.folder: dict(each.read(held[each.folder])) for each in sets}
    emoji = {code: each for code, each in sorted(emoji.items()) if any(code in found for found in drawn.values())}
    heldout = choose_heldout(emoji, NUM_HELDOUT)
    training = [each for code, each in emoji.items() if code not in heldout]
    words = choose_words(training)
    lost = {word for keyword in words for word in split_words(keyword)}
    meanings = Counter(keyword.casefold() for each in training for keyword in each.keywords)
    rows: dict[bool, list[dict]] = {False: [], True: []}
    for each in sets:
        for folder in (out, out / "heldout"):
            make_folder(folder / each.folder)
        for code in sorted(emoji.keys() & drawn[each.folder].keys()):
            folder = out / "heldout" if code in heldout else out
            name = f"{each.folder}/{code.lower()}.png"
            picture_of(drawn[each.folder][code], size).save(folder / name, format="PNG")
            captions = [emoji[code].name] if code in heldout else captions_of(emoji[code], lost, meanings)
            about = emoji[code]._asdict() | {"set": each.folder}
            rows[code in heldout].append({"file_name": name, "text": captions, **about})
    write_rows(out / "metadata.jsonl", rows[False])
    write_rows(out / "heldout" / "metadata.jsonl", rows[True])
    write_rows(out / "held-out-words.jsonl", [word_row(word, names, rows[False]) for word, names in words.items()])
    counts = Counter(row["set"] for part in rows.values() for row in part)
    write_text(out / "LICENCES.md", licences(sets, counts, size))
    return counts


def write_rows(path: Path, rows: list[dict]) -> None:
    """Writes a line of JSON for each row."""
    make_folder(path.parent)
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def word_row(word: str, names: list[str], rows: list[dict]) -> dict:
    """Returns a row of held-out-words.jsonl: a caption, the names that it means, and their training pictures."""
    return {"text": word, "names": names, "file_names": [row["file_name"] for row in rows if row["name"] in names]}


def licences(sets: tuple[EmojiSet, ...], counts: Counter, size: int) -> str:
    """Returns LICENCES.md: whose work the pictures are, under which licence, and what was changed."""
    lines = [
        "# Licences of these pictures\n",
        f"Each picture was drawn on white at {size} x {size} pixels and is otherwise unchanged.\n",
    ]
    for each in sets:
        url = "https://spdx.org/licenses/" + each.licence + ".html"
        lines.append(f"- `{each.folder}/` ({counts[each.folder]} pictures): {each.title} by {each.author}, licence "
                     f"{each.licence} ({url}), from the npm package {each.package}.")  # fmt: skip
    lines.append(f"- names, short names and keywords: the npm package {NAMES} (MIT), after Unicode's CLDR "
                 "(Unicode-3.0); OpenMoji's own emoji by OpenMoji (CC-BY-SA-4.0).")  # fmt: skip
    lines.append("\nPictures of OpenMoji that are passed on stay under its licence (share alike).\n")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Reads the command line, gathers, and prints a count for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to write")
    parser.add_argument("--packages", type=Path, help="the folder of npm's .tgz files (OUT/packages)")
    parser.add_argument("--size", type=int, default=128, help="pixels (128)")
    parser.add_argument("--language", default="en", help="of the captions, such as zh, ja, ko or de (en)")
    parser.add_argument("--sets", default=",".join(each.folder for each in SETS), help="some of %(default)s")
    options = parser.parse_args(arguments)
    try:
        wanted = options.sets.split(",")
        unknown = set(wanted) - {each.folder for each in SETS}
        if unknown:
            raise UserError(f"--sets: {', '.join(sorted(unknown))} is not one of {', '.join(s.folder for s in SETS)}")
        sets = tuple(each for each in SETS if each.folder in wanted)
        counts = gather(options.out, options.packages or options.out / "packages", options.size, options.language, sets)
    except UserError as error:
        sys.exit(f"error: {error}")
    print(f"{sum(counts.values())} pictures: " + ", ".join(f"{name} {count}" for name, count in counts.items()))


if __name__ == "__main__":
    main()
