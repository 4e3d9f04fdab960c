"""Each published layout, made on the spot, with the pictures and captions on which readers stumble."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cgan.data.sources import DataConfig, build_dataset
from cgan.interfaces import UserError

pytestmark = pytest.mark.usefixtures("cache")

CAPTIONS = {
    "plain.jpg": ['a red, "very" red thing', "red;\nand on a second line | with a bar", "it's #1"],
    "grey.jpg": ["grey"],
    "cmyk.jpg": ["for print"],
    "deep.png": ["16 bits"],
    "turned.jpg": ["white above"],
    "Käfer 日本.jpg": ["ein Käfer, 虫"],
    "cut.jpg": ["the end is missing"],
    "nothing.jpg": ["no byte"],
    "gone.jpg": ["no file"],
    "silent.jpg": ["", "  "],
}
COLOURS = {
    "plain.jpg": (255, 0, 0),
    "grey.jpg": (128, 128, 128),
    "cmyk.jpg": (0, 255, 255),
    "deep.png": (255, 255, 255),
}
COLOURS |= {"turned.jpg": (255, 255, 255), "Käfer 日本.jpg": (0, 0, 255)}  # of the upper left corner
BAD = {"cut.jpg": "damaged or not a picture", "nothing.jpg": "damaged or not a picture", "gone.jpg": "missing"}
BAD |= {"silent.jpg": "no caption"}
BIRDS, FLOWERS = "001.Black_footed_Albatross", "class_00077"


def write_pictures(folder):
    """All of CAPTIONS but gone.jpg, 40 px wide and 32 high."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 32), "red").save(folder / "plain.jpg", quality=95)
    Image.new("L", (40, 32), 128).save(folder / "grey.jpg")
    Image.new("CMYK", (40, 32), (255, 0, 0, 0)).save(folder / "cmyk.jpg", quality=95)
    Image.fromarray(np.full((32, 40), 65535, np.uint16)).save(folder / "deep.png")
    Image.new("RGB", (40, 32), "blue").save(folder / "Käfer 日本.jpg", quality=95)
    Image.new("RGB", (40, 32), "red").save(folder / "silent.jpg")
    (folder / "nothing.jpg").write_bytes(b"")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:900])
    turned = Image.new("RGB", (32, 40), "black")
    turned.paste("white", (0, 0, 16, 40))  # its left half; EXIF says to turn it clockwise, so that left is above
    exif = turned.getexif()
    exif[274] = 6
    turned.save(folder / "turned.jpg", exif=exif, quality=95)


def in_one_line(text):
    return text.replace("\n", " ")


def coco(root):
    write_pictures(root / "train2017")
    images = [{"id": 100 + i, "file_name": name, "height": 32, "width": 40} for i, name in enumerate(CAPTIONS)]
    rows = [(100 + i, text) for i, texts in enumerate(CAPTIONS.values()) for text in texts]
    annotations = [{"image_id": number, "id": i, "caption": text} for i, (number, text) in enumerate(reversed(rows))]
    content = {"info": {}, "licenses": [], "images": images, "annotations": annotations[::-1]}
    (root / "captions_train2017.json").write_text(json.dumps(content))
    return DataConfig("coco", str(root / "train2017"), str(root / "captions_train2017.json"))


def karpathy_images(names, **more):
    images = []
    for i, name in enumerate(names):
        sentences = [{"tokens": text.split(), "raw": text, "imgid": i, "sentid": 0} for text in CAPTIONS[name]]
        images.append({"imgid": i, "filename": name, "split": "train", "sentences": sentences, "sentids": [0], **more})
    return images


def karpathy_coco(root):
    write_pictures(root / "val2014")
    images = [{**image, "cocoid": 7 + i} for i, image in enumerate(karpathy_images(CAPTIONS, filepath="val2014"))]
    (root / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}))
    return DataConfig("karpathy", str(root), str(root / "dataset_coco.json"))


def karpathy_flickr30k(root):
    write_pictures(root / "flickr30k-images")
    content = {"images": karpathy_images(CAPTIONS), "dataset": "flickr30k"}
    (root / "dataset_flickr30k.json").write_text(json.dumps(content))
    return DataConfig("karpathy", str(root / "flickr30k-images"), str(root / "dataset_flickr30k.json"))


def flickr30k_token(root):
    write_pictures(root / "flickr30k-images")
    lines = [f"{name}#{i}\t{in_one_line(t)}\n" for name, texts in CAPTIONS.items() for i, t in enumerate(texts)]
    (root / "results_20130124.token").write_text("".join(lines), encoding="utf-8")
    return DataConfig("flickr30k", str(root / "flickr30k-images"), str(root / "results_20130124.token"))


def flickr30k_csv(root):
    write_pictures(root / "flickr30k_images")
    lines = [f"{name}| {i}| {in_one_line(t)}\n" for name, texts in CAPTIONS.items() for i, t in enumerate(texts)]
    (root / "results.csv").write_text("image_name| comment_number| comment\n" + "".join(lines), encoding="utf-8")
    return DataConfig("flickr30k", str(root / "flickr30k_images"), str(root / "results.csv"))


def write_texts(folder):
    folder.mkdir(parents=True)
    for name, texts in CAPTIONS.items():
        (folder / name).with_suffix(".txt").write_text("\n".join(map(in_one_line, texts)) + "\n", encoding="utf-8")


def cub(root):
    home = root / "CUB_200_2011"
    write_pictures(home / "images" / BIRDS)
    write_texts(home / "text" / BIRDS)
    lines = [f"{i} {BIRDS}/{name}\n" for i, name in enumerate(CAPTIONS, start=1)]
    (home / "images.txt").write_text("".join(lines), encoding="utf-8")
    return DataConfig("cub", str(home))


def birds_of_attngan(root):
    write_pictures(root / "CUB_200_2011" / "images" / BIRDS)
    write_texts(root / "text" / BIRDS)
    return DataConfig("cub", str(root))


def flowers(root):
    write_pictures(root / "jpg")
    write_texts(root / "text_c10" / FLOWERS)
    return DataConfig("flowers", str(root))


def folder_jsonl(root):
    write_pictures(root)
    rows = [json.dumps({"file_name": name, "text": texts}, ensure_ascii=False) for name, texts in CAPTIONS.items()]
    (root / "metadata.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return DataConfig("folder", str(root))


def folder_csv(root):
    write_pictures(root)
    with (root / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("file_name", "text"), *((name, t) for name, texts in CAPTIONS.items() for t in texts)])
    return DataConfig("folder", str(root))


def folder_parquet(root):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    write_pictures(root)
    table = pyarrow.table({"file_name": list(CAPTIONS), "text": list(CAPTIONS.values())})
    parquet.write_table(table, root / "metadata.parquet")
    return DataConfig("folder", str(root))


def folder_sidecars(root):
    write_pictures(root)
    for name, texts in CAPTIONS.items():
        (root / name).with_suffix(".txt").write_text("\n".join(map(in_one_line, texts)), encoding="utf-8")
    return DataConfig("folder", str(root))


def saved_datasets(root):
    datasets = pytest.importorskip("datasets")
    write_pictures(root / "pictures")
    files = [root / "pictures" / name for name in CAPTIONS]
    pictures = [{"bytes": file.read_bytes(), "path": file.name} if file.is_file() else None for file in files]
    features = datasets.Features({"image": datasets.Image(), "captions": [datasets.Value("string")]})
    content = {"image": pictures, "captions": list(CAPTIONS.values())}
    datasets.Dataset.from_dict(content, features).save_to_disk(root / "saved")
    return DataConfig("datasets", str(root / "saved"))


LINES = [flickr30k_token, flickr30k_csv, cub, birds_of_attngan, flowers, folder_sidecars]  # a caption is a line
WALKED = [birds_of_attngan, flowers, folder_sidecars]  # known are the pictures that are there
JSONS = [coco, karpathy_coco, karpathy_flickr30k, folder_jsonl, folder_csv, folder_parquet, saved_datasets]


@pytest.mark.parametrize("layout", [*JSONS, *LINES], ids=lambda layout: layout.__name__)
def test_a_published_layout_is_read_with_all_its_awkward_pictures_and_captions(layout, tmp_path):
    config = layout(tmp_path / "data")
    config.resolution = 32
    data = build_dataset(config)
    expected = {name: texts for name, texts in CAPTIONS.items() if name not in BAD}
    if layout in LINES:
        expected = {name: [in_one_line(text) for text in texts] for name, texts in expected.items()}
    samples = [data[i] for i in range(len(data))]
    assert sorted(s.captions for s in samples) == sorted(expected.values())
    assert [data.captions_of(i) for i in range(len(data))] == [s.captions for s in samples]
    assert len({s.image_id for s in samples}) == len(samples)
    for sample in samples:
        name = next(name for name, texts in expected.items() if texts == sample.captions)
        corner = sample.image[:, 2, 2].float().numpy()
        assert np.abs(corner - COLOURS[name]).max() < 8, name
    reasons = {Path(name).name: reason for name, reason in data.skipped}
    bad = dict(BAD)
    if layout in WALKED:
        del bad["gone.jpg"]
        bad["gone.txt"] = "captions of no picture"
    rows = {name: f"row {i}" for i, name in enumerate(CAPTIONS)} if layout is saved_datasets else {}
    assert reasons == {rows.get(name, name): reason for name, reason in bad.items()}


def with_splits(root):
    """Five pictures of COCO in four splits."""
    write_pictures(root / "val2014")
    images = karpathy_images(["plain.jpg", "grey.jpg", "cmyk.jpg", "deep.png", "turned.jpg"], filepath="val2014")
    for image, split in zip(images, ("train", "restval", "val", "test", "test"), strict=True):
        image["split"] = split
    (root / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}))
    return DataConfig("karpathy", str(root), str(root / "dataset_coco.json"), resolution=32)


def first_captions(data):
    return [data.captions_of(i)[0] for i in range(len(data))]


def test_karpathys_training_split_may_take_restval_in(tmp_path):
    config = with_splits(tmp_path)
    config.split = "train+restval"
    assert first_captions(build_dataset(config)) == [CAPTIONS["plain.jpg"][0], "grey"]


def test_test_pictures_can_be_those_of_a_published_split(tmp_path):
    config = with_splits(tmp_path)
    config.split, config.test_split, config.test_images = "train", "test", 1000
    train, test = (first_captions(build_dataset(config, part)) for part in ("train", "test"))
    assert train == [CAPTIONS["plain.jpg"][0]] and test == ["16 bits", "white above"]


def test_a_split_that_is_not_there_is_one_line_that_names_those_that_are(tmp_path):
    config = with_splits(tmp_path)
    config.split = "dev"
    with pytest.raises(UserError, match="restval, test, train, val$"):
        build_dataset(config)


def test_a_coco_picture_that_is_listed_twice_counts_once(tmp_path):
    config = coco(tmp_path)
    config.resolution = 32
    content = json.loads((tmp_path / "captions_train2017.json").read_text())
    content["images"].append(content["images"][0])
    (tmp_path / "captions_train2017.json").write_text(json.dumps(content))
    data = build_dataset(config)
    assert ("plain.jpg", "with the id of another picture") in data.skipped and len(data) == 6


def test_the_row_of_flickr30k_that_lacks_a_bar_keeps_its_caption(tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "2199200615.jpg")
    rows = "2199200615.jpg| 3| A dog runs across grass .\n2199200615.jpg| 4   A dog runs across the grass .\n"
    (tmp_path / "results.csv").write_text("image_name| comment_number| comment\n" + rows)
    data = build_dataset(DataConfig("flickr30k", str(tmp_path), str(tmp_path / "results.csv"), resolution=32))
    assert data.captions_of(0) == ["A dog runs across grass .", "A dog runs across the grass ."]


def two_species(root):
    """An albatross and a blackbird in CUB's layout, the first for training."""
    home = root / "CUB_200_2011"
    names = ["001.Black_footed_Albatross/Albatross_0046_18.jpg", "012.Yellow_headed_Blackbird/Blackbird_0003_8337.jpg"]
    for i, name in enumerate(names):
        for folder in ("images", "text"):
            (home / folder / name).parent.mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(home / "images" / name)
        (home / "text" / name).with_suffix(".txt").write_text(f"bird {i}\n")
    (home / "images.txt").write_text(f"1 {names[0]}\n2 {names[1]}\n")
    (home / "train_test_split.txt").write_text("1 1\n2 0\n")
    (home / "testclasses.txt").write_text("001.Black_footed_Albatross\n")
    (home / "some.txt").write_text("012.Yellow_headed_Blackbird/Blackbird_0003_8337\n")
    return DataConfig("cub", str(home), resolution=32)


@pytest.mark.parametrize(
    ("split", "kept"),
    [(None, ["bird 0", "bird 1"]), ("train", ["bird 0"]), ("test", ["bird 1"]), ("testclasses", ["bird 0"])]
    + [("some", ["bird 1"])],
)
def test_birds_are_split_by_their_own_file_by_classes_or_by_a_list(tmp_path, split, kept):
    config = two_species(tmp_path)
    config.split = split
    assert first_captions(build_dataset(config)) == kept


def test_attngans_pickled_lists_are_refused_in_one_line(tmp_path):
    config = two_species(tmp_path)
    config.split = "unseen"
    (tmp_path / "CUB_200_2011" / "unseen").mkdir()
    (tmp_path / "CUB_200_2011" / "unseen" / "filenames.pickle").write_bytes(b"")
    with pytest.raises(UserError, match="pickles are not read.*unseen.txt$"):
        build_dataset(config)


def test_flowers_are_split_by_classes(tmp_path):
    config = flowers(tmp_path)
    config.resolution, config.split = 32, "trainvalclasses"
    (tmp_path / "trainvalclasses.txt").write_text(f"class_00001\n{FLOWERS}\n")
    assert len(build_dataset(config)) == 6
    (tmp_path / "trainvalclasses.txt").write_text("class_00001\n")
    with pytest.raises(UserError, match="no usable picture"):
        build_dataset(config)


def test_a_line_separator_within_a_caption_ends_no_line(tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    row = json.dumps({"file_name": "a.png", "text": "one\u2028two\x85three"}, ensure_ascii=False)
    (tmp_path / "metadata.jsonl").write_text(row + "\n", encoding="utf-8")
    assert build_dataset(DataConfig("folder", str(tmp_path), resolution=32)).captions_of(0) == ["one\u2028two\x85three"]


def test_datasets_in_splits_and_imagefolders_are_read(tmp_path):
    datasets = pytest.importorskip("datasets")
    for split in ("train", "test"):
        (tmp_path / "folder" / split).mkdir(parents=True)
        Image.new("RGB", (32, 32), "red").save(tmp_path / "folder" / split / "a.png")
        row = json.dumps({"file_name": "a.png", "text": f"of {split}"})
        (tmp_path / "folder" / split / "metadata.jsonl").write_text(row)
    datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "folder")).save_to_disk(str(tmp_path / "saved"))
    for name in ("folder", "saved"):
        config = DataConfig("datasets", str(tmp_path / name), split="test", resolution=32)
        assert first_captions(build_dataset(config)) == ["of test"]
        config.split = None
        with pytest.raises(UserError, match="data.split=None: .* has the splits train, test"):
            build_dataset(config)


@pytest.mark.parametrize(("source", "package"), [("datasets", "datasets"), ("folder", "pyarrow")])
def test_an_optional_package_that_is_missing_is_one_line(tmp_path, monkeypatch, source, package):
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "metadata.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=f"needs .*pip install {package}") as error:
        build_dataset(DataConfig(source, str(tmp_path)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "content", "said"),
    [
        ("karpathy", '{"images": [{}]}', "not a file of Karpathy's splits"),
        ("karpathy", "[", "not a file of Karpathy's splits"),
        ("flickr30k", "a.jpg#0 no tab", "line 1: expected"),
        ("coco", '{"images": [{"sentences": []}], "dataset": "coco"}', "not a COCO captions file"),
    ],
)
def test_a_captions_file_of_another_kind_is_one_line(tmp_path, source, content, said):
    (tmp_path / "captions").write_text(content)
    with pytest.raises(UserError, match=said) as error:
        build_dataset(DataConfig(source, str(tmp_path), str(tmp_path / "captions")))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", ["karpathy", "flickr30k", "cub", "flowers", "datasets", "shards"])
def test_a_folder_that_is_not_there_is_one_line(tmp_path, source):
    pytest.importorskip("datasets") if source == "datasets" else None
    with pytest.raises(UserError, match=r"data\.root=.*(no such folder|has no folder)"):
        build_dataset(DataConfig(source, str(tmp_path / "nowhere"), "captions.json"))


def test_a_split_of_a_source_that_has_none_is_one_line(tmp_path):
    with pytest.raises(UserError, match="data.source=folder: has no splits"):
        build_dataset(DataConfig("folder", str(tmp_path), split="train"))
