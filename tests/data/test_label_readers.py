"""Labels in the published layouts, and labels that can't be read."""

import csv
import json

import pytest
from PIL import Image

from cgan.data.readers.cub_labels import attribute_label, class_label
from cgan.data.readers.folder import read_folder
from cgan.data.records import labels_from
from cgan.data.sources import DataConfig, build_dataset, check_data, read_entries
from cgan.interfaces import UserError

pytestmark = pytest.mark.usefixtures("cache")


def labels_by_caption(config: DataConfig) -> dict[str, tuple[str, ...]]:
    config.resolution = 32
    data = build_dataset(config)
    return {data.captions_of(i)[0]: data.labels_of(i) for i in range(len(data))}


def pictures(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32)).save(folder / name)


def test_labels_are_texts_and_whole_numbers_each_once():
    assert labels_from(["dog", " big   dog ", "dog", "", None], "cat", 7, 7.0, float("nan")) == (
        "dog", "big dog", "cat", "7",
    )  # fmt: skip
    assert labels_from(True, {"a": 1}, [["x"]], 1.5, None) == ()


# ------------------------------------------------------------------------------------------------ folders


def test_a_folders_labels_are_in_any_form_of_its_metadata(tmp_path):
    for form in ("jsonl", "csv", "parquet"):
        root = tmp_path / form
        pictures(root, "a.png", "b.png")
        columns = {"file_name": ["a.png", "b.png", "a.png"], "text": ["a dog", "a car", "it runs"]}
        lists = [["animal", "dog"], None, ["dog", "runs"]]
        groups = ["alive", "things", "alive"]
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        match form:
            case "jsonl":
                rows = [row | {"labels": x, "group": y} for row, x, y in zip(rows, lists, groups, strict=True)]
                (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
            case "csv":
                with (root / "metadata.csv").open("w", newline="") as file:
                    writer = csv.writer(file)
                    writer.writerow([*columns, "labels", "group"])
                    cells = ("; ".join(some or ()) for some in lists)
                    writer.writerows([*row.values(), x, y] for row, x, y in zip(rows, cells, groups, strict=True))
            case _:
                pyarrow = pytest.importorskip("pyarrow")
                from pyarrow import parquet

                parquet.write_table(
                    pyarrow.table({**columns, "labels": lists, "group": groups}), root / "metadata.parquet"
                )
        found = labels_by_caption(DataConfig("folder", str(root)))
        assert found == {"a dog": ("animal", "dog", "alive", "runs"), "a car": ("things",)}, form


def test_what_is_no_label_does_not_stop_a_folder(tmp_path):
    pictures(tmp_path, "a.png")
    row = {"file_name": "a.png", "text": "a dog", "labels": {"box": [1, 2]}, "tags": 3, "class": [["x"], "\ud800y"]}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row))
    (entry,) = read_folder(tmp_path)
    assert entry.captions == ["a dog"] and entry.labels == ("3", "\ud800y")


# ------------------------------------------------------------------------------------------------ COCO

CATEGORIES = [
    {"id": 1, "name": "person", "supercategory": "person"},
    {"id": 18, "name": "dog", "supercategory": "animal"},
]
INSTANCES = [(18, 100), (1, 100), (18, 100), (1, 102)]  # category, picture


def instances(file, categories=CATEGORIES, pairs=INSTANCES):
    rows = [{"id": i, "category_id": c, "image_id": n, "bbox": [0, 0, 1, 1]} for i, (c, n) in enumerate(pairs)]
    file.write_text(json.dumps({"images": [], "categories": categories, "annotations": rows}))
    return file


def coco(root) -> DataConfig:
    pictures(root, "0.png", "1.png", "2.png")
    images = [{"id": 100 + i, "file_name": f"{i}.png"} for i in range(3)]
    captions = [{"id": i, "image_id": 100 + i, "caption": f"picture {i}"} for i in range(3)]
    (root / "captions.json").write_text(json.dumps({"images": images, "annotations": captions}))
    return DataConfig("coco", str(root), str(root / "captions.json"))


def test_cocos_categories_and_supercategories_are_labels(tmp_path):
    config = coco(tmp_path)
    config.labels = str(instances(tmp_path / "instances_val.json"))
    expected = {"picture 0": ("dog", "animal", "person"), "picture 1": (), "picture 2": ("person",)}
    assert labels_by_caption(config) == expected
    config.labels = None
    assert set(labels_by_caption(config).values()) == {()}


def test_karpathys_pictures_find_their_categories_in_several_files(tmp_path):
    pictures(tmp_path, "0.png", "1.png")
    images = [
        {"imgid": i, "cocoid": 100 + 2 * i, "filename": f"{i}.png", "split": "train", "sentences": [{"raw": f"p {i}"}]}
        for i in range(2)
    ]
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}))
    (tmp_path / "annotations").mkdir()
    instances(tmp_path / "annotations" / "instances_train2014.json", pairs=INSTANCES[:3])
    instances(tmp_path / "annotations" / "instances_val2014.json", pairs=INSTANCES[3:])
    config = DataConfig("karpathy", str(tmp_path), str(tmp_path / "dataset_coco.json"))
    config.labels = str(tmp_path / "annotations")
    assert labels_by_caption(config) == {"p 0": ("dog", "animal", "person"), "p 1": ("person",)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG", "instances.json"),
        (b"", "instances.json"),
        (b"[]", "not a COCO instances file"),
        (b'{"categories": [{"id": 1}], "annotations": []}', r"categories\[0\]: no name"),
        (b'{"categories": [], "annotations": [{"image_id": 1}]}', r"annotations\[0\]: no category_id"),
        (b'{"categories": [], "annotations": [{"image_id": 1, "category_id": 3}]}', "category_id 3 is none of"),
    ],
)
def test_a_file_that_holds_no_categories_is_one_line(content, message, tmp_path):
    config = coco(tmp_path)
    (tmp_path / "instances.json").write_bytes(content)
    config.labels = str(tmp_path / "instances.json")
    with pytest.raises(UserError, match=message) as error:
        read_entries(config, None)
    assert "\n" not in str(error.value) and "instances.json" in str(error.value)


def test_labels_that_are_not_there_or_not_for_a_source_are_one_line(tmp_path):
    config = coco(tmp_path)
    config.labels = str(tmp_path / "gone.json")
    with pytest.raises(UserError, match=r"gone.json: no such file or folder"):
        check_data(config)
    config.labels = str(tmp_path)  # a folder without instances
    with pytest.raises(UserError, match=r"give instances_train2017.json"):
        read_entries(config, None)
    with pytest.raises(UserError, match="data.labels is for coco, karpathy, cub"):
        check_data(DataConfig("folder", str(tmp_path), labels="x"))


# ------------------------------------------------------------------------------------------------ birds and flowers


def birds(root) -> DataConfig:
    names = ["001.Black_footed_Albatross/Albatross_0046_18.jpg", "012.Yellow_headed_Blackbird/Blackbird_0003_8337.jpg"]
    for i, name in enumerate(names):
        pictures(root / "images", name)
        text = (root / "text" / name).with_suffix(".txt")
        text.parent.mkdir(parents=True)
        text.write_text(f"bird {i}\n")
    (root / "images.txt").write_text(f"1 {names[0]}\n2 {names[1]}\n")
    (root / "attributes").mkdir()
    (root / "attributes.txt").write_text("1 has_bill_shape::curved_(up_or_down)\n2 has_wing_color::blue\n")
    lines = ["1 1 1 4 2.5", "1 2 1 2 2.5", "2 1 0 4 1", "2 2 1 3 0 1.509", ""]  # a line of CUB's has one field more
    (root / "attributes" / "image_attribute_labels.txt").write_text("\n".join(lines))
    return DataConfig("cub", str(root))


def test_birds_have_their_class_and_if_asked_their_certain_attributes(tmp_path):
    config = birds(tmp_path)
    assert labels_by_caption(config) == {"bird 0": ("black footed albatross",), "bird 1": ("yellow headed blackbird",)}
    config.labels = str(tmp_path / "attributes")
    assert labels_by_caption(config) == {
        "bird 0": ("black footed albatross", "bill shape curved (up or down)"),
        "bird 1": ("yellow headed blackbird", "wing color blue"),
    }


def test_names_of_classes_and_attributes_become_words():
    assert class_label("195.Carolina_Wren") == ("carolina wren",) and class_label("images") == ("images",)
    assert class_label("class_00077") == ("class 00077",)
    assert attribute_label("has_primary_color::light_brown") == "primary color light brown"


@pytest.mark.parametrize("gone", ["attributes.txt", "images.txt", "attributes/image_attribute_labels.txt"])
def test_attributes_without_their_files_are_one_line(gone, tmp_path):
    config = birds(tmp_path)
    config.labels = str(tmp_path / "attributes")
    (tmp_path / gone).unlink()
    with pytest.raises(UserError, match=gone.rpartition("/")[2]) as error:
        read_entries(config, None)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("line", ["1 1 1", "1 99 1 4 1", "1 1 1 sure 0", "\x89PNG"])
def test_a_line_of_attributes_that_is_none_is_named(line, tmp_path):
    config = birds(tmp_path)
    config.labels = str(tmp_path / "attributes")
    (tmp_path / "attributes" / "image_attribute_labels.txt").write_text(f"1 1 1 4 2.5\n{line}\n")
    with pytest.raises(UserError, match="image_attribute_labels.txt, line 2: expected"):
        read_entries(config, None)


def test_flowers_have_their_class(tmp_path):
    pictures(tmp_path / "jpg", "image_00001.jpg")
    text = tmp_path / "text_c10" / "class_00077" / "image_00001.txt"
    text.parent.mkdir(parents=True)
    text.write_text("a flower\n")
    assert labels_by_caption(DataConfig("flowers", str(tmp_path))) == {"a flower": ("class 00077",)}


# ------------------------------------------------------------------------------------------------ datasets


def test_columns_of_the_datasets_library_may_be_numbered_classes(tmp_path):
    datasets = pytest.importorskip("datasets")
    kind = datasets.ClassLabel(names=["dog", "cat"])
    features = datasets.Features(
        {"image": datasets.Image(), "text": datasets.Value("string"), "label": kind,
         "labels": [kind], "group": datasets.Value("string")}
    )  # fmt: skip
    content = {
        "image": [{"bytes": b"x", "path": None}] * 2, "text": ["one", "two"], "label": [1, None],
        "labels": [[0, 1], []], "group": ["pets", None],
    }  # fmt: skip
    datasets.Dataset.from_dict(content, features).save_to_disk(tmp_path / "saved")
    entries = read_entries(DataConfig("datasets", str(tmp_path / "saved")), None)
    assert [entry.labels for entry in entries] == [("dog", "cat", "pets"), ()]
