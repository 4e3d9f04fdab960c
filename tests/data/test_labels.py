import json
from itertools import islice

import pytest
import torch
from PIL import Image

from cgan.data.labels import LabelTable, has_labels, labels_of, multi_hot, with_label_caption
from cgan.data.loading import Reading, endless_loader
from cgan.data.readers.folder import read_folder
from cgan.data.scenes.captions import mentioned_in
from cgan.data.scenes.dataset import Scenes
from cgan.data.scenes.levels import level_of
from cgan.data.sources import DataConfig, build_dataset
from cgan.interfaces import Sample
from helpers.pictures import shards_of

pytestmark = pytest.mark.usefixtures("cache")

LABELS = (("dog", "animal"), (), ("car",), ("animal", "cat", "small"))


def words_at(table: LabelTable, places: torch.Tensor) -> list[tuple[str, ...]]:
    names = list(table.places)
    return [tuple(names[place] for place in row if place >= 0) for row in places.tolist()]


def test_a_table_gives_each_picture_its_labels_padded_to_one_length():
    table = LabelTable(LABELS)
    places = table.at([3, 1, 0])
    assert len(table) == 5 and places.shape == (3, 3) and words_at(table, places) == [LABELS[3], (), LABELS[0]]
    again = table.of_labels([("cat", "unheard of"), ()])
    assert words_at(table, again) == [("cat",), ()] and again.shape == (2, 3)
    hot = multi_hot(places, len(table))
    assert hot.tolist() == [[float(name in LABELS[i]) for name in table.places] for i in (3, 1, 0)]


def test_pictures_without_any_label_make_an_empty_table():
    table = LabelTable([(), ()])
    assert table.at([1, 0]).shape == (2, 0) and table.of_labels([("x",)]).shape == (1, 0)
    assert multi_hot(table.at([0]), 0).shape == (1, 0)


def test_labels_are_one_more_caption_in_their_order():
    assert with_label_caption(["a dog"], LABELS[0]) == ["a dog", "dog, animal"]
    assert with_label_caption(["a dog"], ()) == ["a dog"]


# ------------------------------------------------------------------------------------------------ data sets


def folder_of_labels(root, number: int = 8):
    """Pictures with one or two captions; every third has no label."""
    root.mkdir()
    rows = []
    for i in range(number):
        Image.new("RGB", (40, 32), (20 * i, 0, 0)).save(root / f"{i}.png")
        labels = {} if i % 3 == 2 else {"keywords": [f"n{i % 4}", f"half {i // 4}"], "group": "dark"}
        rows.append({"file_name": f"{i}.png", "text": [f"picture {i}", f"no. {i}"][: 1 + i % 2], **labels})
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return [() if i % 3 == 2 else (f"n{i % 4}", f"half {i // 4}", "dark") for i in range(number)]


def of_source(source: str, tmp_path):
    expected = folder_of_labels(tmp_path / "pictures")
    if source == "shards":
        shards_of(tmp_path / "pictures", tmp_path / "shards")
    root = tmp_path / ("shards" if source == "shards" else "pictures")
    return DataConfig(source, str(root), resolution=32), expected


@pytest.mark.parametrize("source", ["folder", "shards"])
def test_labels_come_from_a_folder_through_its_cache_and_through_shards(source, tmp_path):
    config, expected = of_source(source, tmp_path)
    for _ in range(2):  # decoded, and from the cache
        data = build_dataset(config)
        assert [data[i].labels for i in range(8)] == [data.labels_of(i) for i in range(8)] == expected
    train, test = data.split(3, seed=0)
    assert {train.labels_of(i) for i in range(5)} | {test.labels_of(i) for i in range(3)} == set(expected)


def test_new_labels_of_pictures_in_the_cache_are_seen(tmp_path):
    config, expected = of_source("folder", tmp_path)
    build_dataset(config)
    file = tmp_path / "pictures" / "metadata.jsonl"
    file.write_text(file.read_text().replace('"group": "dark"', '"group": "light"'))
    changed = [tuple(label.replace("dark", "light") for label in labels) for labels in expected]
    assert [build_dataset(config).labels_of(i) for i in range(8)] == changed


def test_shards_without_labels_stay_what_they_were(tmp_path):
    folder_of_labels(tmp_path / "pictures")
    file = tmp_path / "pictures" / "metadata.jsonl"
    rows = [json.loads(line) for line in file.read_text().split("\n")]
    file.write_text("\n".join(json.dumps({name: row[name] for name in ("file_name", "text")}) for row in rows))
    assert not any(entry.labels for entry in read_folder(tmp_path / "pictures"))
    shards_of(tmp_path / "pictures", tmp_path / "shards")
    assert b'"labels"' not in (tmp_path / "shards" / "shard-00000.tar").read_bytes()


@pytest.mark.parametrize("source", ["folder", "shards", "scenes"])
def test_the_words_of_labels_are_a_caption_of_training_pictures_alone(source, tmp_path):
    config = DataConfig(num_images=4, resolution=32)
    if source != "scenes":
        config, _ = of_source(source, tmp_path)
    config.test_images = 2
    plain = build_dataset(config)
    before = [plain.captions_of(i) for i in range(len(plain))]
    config.label_captions = True
    train, test = build_dataset(config), build_dataset(config, "test")
    for i, captions in enumerate(before):
        labels = plain.labels_of(i)
        assert train.captions_of(i) == train[i].captions == [*captions, *([", ".join(labels)] if labels else [])]
    assert [plain.captions_of(i) for i in range(len(plain))] == before
    assert not any(", ".join(test.labels_of(i)) in test.captions_of(i) for i in range(2) if test.labels_of(i))


# ------------------------------------------------------------------------------------------------ scenes


@pytest.mark.parametrize("level", ["one", "two"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_scene_has_its_attributes_as_labels(level, language, tmp_path):
    scenes = Scenes(6, 32, cache=tmp_path, level=level_of(level, language))
    for i in range(6):
        labels = scenes.labels_of(i)
        assert scenes[i].labels == labels and len(set(labels)) == len(labels) >= 5
        if level == "one":  # the words say all of it
            assert mentioned_in(" ".join(labels)) == tuple(scenes.attributes[i].tolist())


def test_a_scene_of_two_objects_keeps_colours_with_their_objects(tmp_path):
    scenes = Scenes(1, 32, cache=tmp_path, level=level_of("two"))
    scenes.attributes[0] = [0, 1, 2, 4, 0, 1]
    assert scenes.labels_of(0) == ("orange dog", "blue bird", "dog", "orange", "bird", "blue", "beside", "sand")


# ------------------------------------------------------------------------------------------------ loader


@pytest.mark.parametrize(("kind", "num_workers"), [("scenes", 0), ("pictures", 2), ("shards", 0), ("samples", 0)])
def test_a_batch_has_the_labels_of_its_pictures(kind, num_workers, tmp_path):
    if kind in ("scenes", "samples"):
        data = Scenes(8, 32, cache=tmp_path)
        data = [data[i] for i in range(8)] if kind == "samples" else data
    else:
        data = build_dataset(of_source("folder" if kind == "pictures" else kind, tmp_path)[0])
    table = LabelTable.of(data)
    expected = {data[i].image_id: labels_of(data, i) for i in range(8)}
    for batch in islice(endless_loader(data, 4, 0, num_workers, reading=Reading(labels=table)), 3):
        assert words_at(table, batch.labels) == [expected[number] for number in batch.image_ids.tolist()]
    assert next(iter(endless_loader(data, 4, 0))).labels is None


def test_a_damaged_picture_brings_the_labels_of_the_one_in_its_place(tmp_path):
    folder_of_labels(tmp_path / "pictures")
    shards_of(tmp_path / "pictures", tmp_path / "shards", format="jpg")
    tar = tmp_path / "shards" / "shard-00000.tar"
    data = build_dataset(DataConfig("shards", str(tmp_path / "shards"), resolution=32))
    place = data.index[data.rows[0]]
    content = bytearray(tar.read_bytes())
    start = int(place["picture start"])
    content[start : start + int(place["picture size"])] = bytes(int(place["picture size"]))
    tar.write_bytes(content)
    table = LabelTable.of(data)
    batch = next(iter(endless_loader(data, 8, 0, reading=Reading(labels=table))))
    assert batch.image_ids.tolist().count(1) == 2  # picture 1 stands in for picture 0
    by_id = {data[i].image_id: data[i].labels for i in range(1, 8)}
    assert words_at(table, batch.labels) == [by_id[number] for number in batch.image_ids.tolist()]


def test_a_users_own_samples_have_labels_or_none():
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    assert not has_labels([Sample(image, ["a dog"], 0)]) and has_labels([Sample(image, ["a dog"], 0, ("dog",))])
