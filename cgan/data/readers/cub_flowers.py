"""Reads pictures with a text file of ten captions each (Reed et al. 2016): CUB-200-2011's birds and Oxford's flowers.

A split is a file NAME.txt in the root. Each of its lines names a picture or a class folder, as in Reed's
trainvalclasses.txt and testclasses.txt, whose classes are disjoint. CUB's own train and test are read from
train_test_split.txt.
"""

from pathlib import Path

from cgan.data.listing import files_below, is_picture, texts_by_stem, unread_pictures, unused_texts
from cgan.data.pictures import Entry, left_out
from cgan.data.readers.cub_labels import class_label, read_attributes
from cgan.data.readers.folder import with_text
from cgan.data.text_files import read_text
from cgan.interfaces import UserError

TEXTS = ("text", "text_c10", "../text", "../text_c10")  # beside images, as AttnGAN and as Reed name them


def read_cub(root: Path, split: str | None, labels: Path | None = None) -> list[Entry]:
    """Returns birds: images/001.Black_footed_Albatross/NAME.jpg with text/001.Black_footed_Albatross/NAME.txt.

    labels: CUB's folder attributes, whose attributes are labels beside the class. Raises UserError for missing folders
    and for splits that do not exist.
    """
    images = folder_in(root, ("images", "CUB_200_2011/images"))
    texts = folder_in(images.parent, TEXTS)
    list_file, files = images.parent / "images.txt", files_below(images)
    present = [file.relative_to(images).as_posix() for file in files if is_picture(file)]
    numbered = pairs_of(list_file) if list_file.is_file() else []
    names = [name for _, name in numbered] if list_file.is_file() else present
    attributes = read_attributes(labels, dict(numbered))
    text_of = texts_by_stem(files_below(texts))
    stems = [texts / Path(name).with_suffix("") for name in names]
    entries = [
        with_text(texts, images / name, text_of.get(stems[i]), name, i, bird_labels(name, attributes))
        for i, name in enumerate(names)
    ]
    if split is None:
        unlisted = [left_out(name, "not in images.txt") for name in sorted(set(present) - set(names))]
        return entries + unlisted + unread_pictures(images, files) + unused_texts(texts, text_of, set(stems))
    return chosen_by_file(root, images.parent, dict(zip(names, entries, strict=True)), split)


def read_flowers(root: Path, split: str | None) -> list[Entry]:
    """Returns flowers: jpg/image_00001.jpg with text_c10/class_00077/image_00001.txt.

    Raises UserError as read_cub does.
    """
    images, texts = folder_in(root, ("jpg",)), folder_in(root, TEXTS)
    files, texts_found = files_below(images), texts_by_stem(files_below(texts))
    text_of = {stem.name: file for stem, file in texts_found.items() if stem.parent.parent == texts}
    entries, used = {}, set()
    for i, file in enumerate(file for file in files if is_picture(file)):
        name, text = file.relative_to(images).as_posix(), text_of.get(file.stem)
        used |= {text.with_suffix("")} if text else set()
        labels = class_label(text.parent.name) if text else ()
        entries[f"{text.parent.name}/{name}" if text else name] = with_text(texts, file, text, name, i, labels)
    if split is None:
        unused = unused_texts(texts, {s: t for s, t in texts_found.items() if s.parent.parent == texts}, used)
        return [*entries.values(), *unread_pictures(images, files), *unused]
    return chosen_by_file(root, root, entries, split)


def bird_labels(name: str, attributes: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Returns the labels of a bird by the name of its picture: its class, and its attributes where they are read."""
    return class_label(Path(name).parent.name) + attributes.get(name, ())


def folder_in(root: Path, names: tuple[str, ...]) -> Path:
    """Returns the first of these subfolders that exists; raises UserError if none does."""
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise UserError(f"data.root={root}: has no folder {names[0]}; give the one that holds {' or '.join(names[:2])}")


def pairs_of(file: Path) -> list[tuple[str, str]]:
    """Returns the pairs of a number and a text on each line, as in CUB's images.txt.

    Raises UserError that names the line.
    """
    pairs = []
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        pair = line.split(maxsplit=1)
        if len(pair) not in (0, 2):
            raise UserError(f"{file}, line {number}: expected a number and a name")
        pairs += [(pair[0], pair[1].strip())] if pair else []
    return pairs


def chosen_by_file(root: Path, cub: Path, entries: dict[str, Entry], split: str) -> list[Entry]:
    """Returns the entries of a split; lines of its list that name no entry become entries that are left out.

    entries are by name. Raises UserError if there is no list of the split.
    """
    if (root / f"{split}.txt").is_file():
        return chosen_by_list(root / f"{split}.txt", entries)
    if split in ("train", "test") and (cub / "train_test_split.txt").is_file() and (cub / "images.txt").is_file():
        return chosen_by_side(cub, entries, "01"[split == "train"])
    if (root / split / "filenames.pickle").is_file():
        file = root / split / "filenames.pickle"
        raise UserError(f"{file}: pickles are not read, they can run code; write its names into {root / split}.txt")
    raise UserError(f"data.split={split}: there is no {split}.txt in {root}, with a class or a picture on each line")


def chosen_by_side(cub: Path, entries: dict[str, Entry], wanted: str) -> list[Entry]:
    """Returns the entries that CUB's train_test_split.txt marks with `wanted`, "1" for training or "0" for testing."""
    side = dict(pairs_of(cub / "train_test_split.txt"))
    side_of = {name: side.get(number) for number, name in pairs_of(cub / "images.txt")}
    chosen = [entry for name, entry in entries.items() if side_of.get(name) == wanted]
    lost = [name for name in entries if side_of.get(name) not in ("0", "1")]
    return chosen + [left_out(name, "on no side in train_test_split.txt") for name in lost]


def chosen_by_list(file: Path, entries: dict[str, Entry]) -> list[Entry]:
    """Returns the entries that the lines of a file name; lines that name none become entries that are left out."""
    wanted = [line.strip() for line in read_text(file).split("\n")]
    wanted_set, found = set(wanted), {called for name in entries for called in names_for(name)}
    chosen = [entry for name, entry in entries.items() if wanted_set & names_for(name)]
    typos = [(number, line) for number, line in enumerate(wanted, start=1) if line and line not in found]
    return chosen + [left_out(f"{file.name}, line {n}: {line}", "of no class or picture") for n, line in typos]


def names_for(name: str) -> set[str]:
    """Returns all names that a list may use for a picture: class/name.jpg, class/name, name.jpg, name, or its class."""
    path = Path(name)
    return {name, path.with_suffix("").as_posix(), path.name, path.stem, path.parent.as_posix()}
