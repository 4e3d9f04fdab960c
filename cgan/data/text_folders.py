"""Pictures and folders of ten-line texts beside them (Reed et al. 2016): CUB-200-2011's birds, Oxford's flowers.

A split is NAME.txt in the root: each line a class folder, such as Reed's trainvalclasses.txt with classes disjoint from
those of testclasses.txt, or a picture. Of CUB, train and test also stand in its own train_test_split.txt.
"""

from pathlib import Path

from cgan.data.folder import SUFFIXES
from cgan.data.pictures import Entry
from cgan.interfaces import UserError

TEXTS = ("text", "text_c10", "../text", "../text_c10")  # beside images, as AttnGAN and as Reed name them


def read_cub(root: Path, split: str | None) -> list[Entry]:
    """Birds: images/001.Black_footed_Albatross/NAME.jpg and text/001.Black_footed_Albatross/NAME.txt."""
    images = folder_in(root, ("images", "CUB_200_2011/images"))
    texts = folder_in(images.parent, TEXTS)
    list_file = images.parent / "images.txt"
    names = [name for _, name in pairs_of(list_file)] if list_file.is_file() else names_in(images)
    captions = [lines_of(texts / Path(name).with_suffix(".txt")) for name in names]
    entries = [Entry(images / name, captions[i], i) for i, name in enumerate(names)]
    chosen = chosen_by_file(root, images.parent, names, split)
    return [entry for entry, name in zip(entries, names, strict=True) if name in chosen]


def read_flowers(root: Path, split: str | None) -> list[Entry]:
    """Flowers: jpg/image_00001.jpg and text_c10/class_00077/image_00001.txt."""
    images, texts = folder_in(root, ("jpg",)), folder_in(root, TEXTS)
    text_of = {file.stem: file for file in sorted(texts.glob("*/*.txt"))}
    entries, names = [], []
    for i, name in enumerate(names_in(images)):
        text = text_of.get(Path(name).stem)
        entries.append(Entry(images / name, lines_of(text) if text else [], i))
        names.append(f"{text.parent.name}/{name}" if text else name)
    chosen = chosen_by_file(root, root, names, split)
    return [entry for entry, name in zip(entries, names, strict=True) if name in chosen]


def folder_in(root: Path, names: tuple[str, ...]) -> Path:
    """The first of these folders that is there."""
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise UserError(f"data.root={root}: has no folder {names[0]}; give the one that holds {' or '.join(names[:2])}")


def names_in(images: Path) -> list[str]:
    files = (file for file in images.rglob("*") if file.suffix.lower() in SUFFIXES)
    return sorted(file.relative_to(images).as_posix() for file in files)


def lines_of(text: Path) -> list[str]:
    """The captions of a text, one a line; none when it is missing."""
    return text.read_text(encoding="utf-8", errors="replace").split("\n") if text.is_file() else []


def pairs_of(file: Path) -> list[tuple[str, str]]:
    """Lines of a number and something, as in CUB's images.txt."""
    pairs = [line.split(maxsplit=1) for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    if any(len(pair) != 2 for pair in pairs):
        raise UserError(f"{file}: each line must be a number and a name")
    return [(number, name.strip()) for number, name in pairs]


def chosen_by_file(root: Path, cub: Path, names: list[str], split: str | None) -> set[str]:
    """The names that belong to a split."""
    if split is None:
        return set(names)
    if (root / f"{split}.txt").is_file():
        wanted = {line.strip() for line in (root / f"{split}.txt").read_text(encoding="utf-8").split("\n")}
        return {name for name in names if wanted & names_for(name)}
    if split in ("train", "test") and (cub / "train_test_split.txt").is_file() and (cub / "images.txt").is_file():
        side = dict(pairs_of(cub / "train_test_split.txt"))
        return {name for number, name in pairs_of(cub / "images.txt") if side.get(number) == "01"[split == "train"]}
    if (root / split / "filenames.pickle").is_file():
        file = root / split / "filenames.pickle"
        raise UserError(f"{file}: pickles are not read, they can run code; write its names into {root / split}.txt")
    raise UserError(f"data.split={split}: there is no {split}.txt in {root}, with a class or a picture on each line")


def names_for(name: str) -> set[str]:
    """What a list may call a picture: class/name.jpg, class/name, name.jpg, name, or its class."""
    path = Path(name)
    return {name, path.with_suffix("").as_posix(), path.name, path.stem, path.parent.as_posix()}
