import json

import numpy as np
import pytest
from PIL import Image

from cgan.data.pictures import summary
from cgan.data.sources import DataConfig, build_dataset, check_data
from cgan.interfaces import UserError


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder with three good pictures: wide red, tall green, square blue."""
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, size, colour in (("red", (60, 40), "red"), ("green", (40, 60), "lime"), ("blue", (32, 32), "blue")):
        Image.new("RGB", size, colour).save(folder / f"{name}.png")
    return folder


def folder_data(root):
    return build_dataset(DataConfig(source="folder", root=str(root), resolution=32))


def write_jsonl(root, rows):
    (root / "metadata.jsonl").write_text("\n".join(json.dumps({"file_name": n, "text": t}) for n, t in rows))


def test_jsonl_gives_each_picture_with_all_of_its_captions(root):
    write_jsonl(root, [("red.png", "a red thing"), ("green.png", ["green", "lime"]), ("red.png", "red again")])
    data = folder_data(root)
    assert [data.captions_of(i) for i in range(2)] == [["a red thing", "red again"], ["green", "lime"]]
    assert data[0].image.shape == (3, 32, 32)
    assert data[0].image[:, 16, 16].tolist() == [255, 0, 0]


def test_csv_captions_may_hold_commas_quotes_and_line_breaks(root):
    (root / "metadata.csv").write_text('file_name,text\nred.png,"red, ""very"" red\nindeed"\nblue.png,blau für König\n')
    data = folder_data(root)
    assert data.captions_of(0) == ['red, "very" red\nindeed'] and data.captions_of(1) == ["blau für König"]


def test_each_line_of_a_text_file_is_a_caption_of_the_picture_beside_it(root):
    (root / "blue.txt").write_text("a blue square\nblue\n\n")
    data = folder_data(root)
    assert len(data) == 1 and data.captions_of(0) == ["a blue square", "blue"]
    assert summary(data.skipped) == "2 no caption (such as green.png)"


def test_bad_pictures_are_skipped_and_counted_by_reason(root):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "cut.jpg")
    (root / "cut.jpg").write_bytes((root / "cut.jpg").read_bytes()[:800])
    (root / "nothing.png").write_bytes(b"")
    write_jsonl(root, [(n, "x") for n in ("red.png", "cut.jpg", "nothing.png", "gone.png")] + [("blue.png", " ")])
    data = folder_data(root)
    reasons = {name: reason for name, reason in data.skipped}
    assert len(data) == 1 and reasons == {
        "cut.jpg": "damaged or not a picture",
        "nothing.png": "damaged or not a picture",
        "gone.png": "missing",
        "blue.png": "no caption",
    }


def test_pictures_that_are_not_rgb_become_rgb(root):
    Image.new("L", (32, 32), 255).save(root / "grey.png")
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(root / "cmyk.jpg")
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(root / "clear.png")
    Image.fromarray(np.full((32, 32), 65535, np.uint16)).save(root / "deep.png")
    write_jsonl(root, [(name, "x") for name in ("grey.png", "cmyk.jpg", "clear.png", "deep.png")])
    data = folder_data(root)
    corners = [data[i].image[:, 0, 0].tolist() for i in range(4)]
    assert np.abs(np.array(corners) - [[255, 255, 255], [255, 0, 0], [255, 255, 255], [255, 255, 255]]).max() < 6


def test_a_rotated_photograph_stands_upright(root):
    picture = Image.new("RGB", (40, 40), "black")
    picture.paste("white", (0, 0, 40, 20))  # its stored upper half is white; EXIF says turn it by 180 degrees
    exif = picture.getexif()
    exif[274] = 3
    picture.save(root / "turned.png", exif=exif)
    write_jsonl(root, [("turned.png", "x")])
    image = folder_data(root)[0].image
    assert image[0, 2, 16] == 0 and image[0, 29, 16] == 255


def test_decoded_pictures_are_kept_and_a_damaged_cache_is_made_anew(root, tmp_path):
    write_jsonl(root, [("red.png", "x"), ("gone.png", "y")])
    first = folder_data(root)
    image = first[0].image
    (kept,) = (tmp_path / "cache").glob("pictures-*.npy")
    kept.write_bytes(b"damaged")
    again = folder_data(root)
    assert (image == again[0].image).all() and again.skipped == first.skipped


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("metadata.jsonl", '{"file_name": "red.png", "text": "x"}\nnot json', "line 2"),
        ("metadata.jsonl", '{"file": "red.png"}', "line 1"),
        ("metadata.csv", "path,caption\nred.png,x\n", "file_name and text"),
        ("metadata.csv", "file_name,text\nred.png,\n", "no usable picture"),
        ("unrelated.md", "", "no captions"),
    ],
)
def test_a_caption_file_that_is_no_use_is_one_line(root, name, content, said):
    (root / name).write_text(content)
    with pytest.raises(UserError) as error:
        folder_data(root)
    assert said in str(error.value) and "\n" not in str(error.value)


def coco_file(root, annotations):
    images = [{"id": 7, "file_name": "red.png"}, {"id": 9, "file_name": "blue.png"}]
    (root / "captions.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return DataConfig(source="coco", root=str(root), annotations=str(root / "captions.json"), resolution=32)


def test_coco_pictures_keep_their_id_and_all_captions(root):
    captions = [{"image_id": 7, "caption": "red"}, {"image_id": 9, "caption": "blue"}, {"image_id": 7, "caption": "R"}]
    data = build_dataset(coco_file(root, captions))
    assert [(s.image_id, s.captions) for s in (data[0], data[1])] == [(7, ["red", "R"]), (9, ["blue"])]


def test_a_coco_picture_without_captions_is_skipped(root):
    data = build_dataset(coco_file(root, [{"image_id": 7, "caption": "red"}]))
    assert len(data) == 1 and summary(data.skipped) == "1 no caption (such as blue.png)"


def some_pictures(root, number):
    """A data set of that many pictures, each with its number for a caption and for a red value."""
    for i in range(number):
        Image.new("RGB", (32, 32), (i, 0, 0)).save(root / f"{i}.png")
    write_jsonl(root, [(f"{i}.png", str(i)) for i in range(number)])
    return DataConfig(source="folder", root=str(root), resolution=32)


def numbers_of(data) -> list[int]:
    """Of the pictures, by their captions; the pixels must say the same."""
    numbers = [int(data.captions_of(i)[0]) for i in range(len(data))]
    assert [int(data[i].image[0, 0, 0]) for i in range(len(data))] == numbers
    return numbers


def test_test_pictures_are_kept_out_of_training(root):
    config = some_pictures(root, 20)
    config.test_images = 6
    train, test = (numbers_of(build_dataset(config, part)) for part in ("train", "test"))
    assert len(train) == 14 and len(test) == 6 and sorted(train + test) == list(range(20))


def test_the_choice_of_test_pictures_depends_on_the_seed_alone(root):
    config = some_pictures(root, 20)
    data = build_dataset(config)
    one, same, other = (numbers_of(data.split(6, seed)[1]) for seed in (0, 0, 1))
    assert one == same != other and numbers_of(data) == list(range(20))  # the data set itself is left whole


def test_a_picture_keeps_its_id_in_either_part(root):
    captions = [{"image_id": 7, "caption": "red"}, {"image_id": 9, "caption": "blue"}]
    config = coco_file(root, captions)
    config.test_images = 1
    parts = [build_dataset(config, part) for part in ("train", "test")]
    assert sorted((s.image_id, s.captions[0]) for part in parts for s in (part[0],)) == [(7, "red"), (9, "blue")]


@pytest.mark.parametrize("number", [3, 4, -1])
def test_a_test_set_that_leaves_nothing_to_train_on_is_one_line(root, number):
    config = some_pictures(root, 3)
    config.test_images = number
    with pytest.raises(UserError, match=f"data.test_images={number}: ") as error:
        build_dataset(config)
    assert "\n" not in str(error.value)


def test_scenes_to_test_on_are_not_those_of_training(tmp_path, monkeypatch):
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path))
    config = DataConfig(num_images=12, test_images=5, resolution=32, seed=3)
    train, test = (build_dataset(config, part) for part in ("train", "test"))
    assert len(train) == 12 and len(test) == 5
    assert not any((test[i].image == train[j].image).all() for i in range(5) for j in range(12))


@pytest.mark.parametrize("content", ["[]", "{", '{"images": []}', '{"images": [{}], "annotations": []}'])
def test_a_file_that_is_not_coco_is_one_line(root, content):
    config = coco_file(root, [])
    (root / "captions.json").write_text(content)
    with pytest.raises(UserError, match="not a COCO captions file|no usable picture"):
        build_dataset(config)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (DataConfig(resolution=48), "power of two"),
        (DataConfig(resolution=1024), "power of two"),
        (DataConfig(source="folder"), "data.root is not set"),
        (DataConfig(source="coco", root="x"), "data.annotations is not set"),
    ],
)
def test_a_data_set_that_cannot_be_is_refused_at_the_door(config, said):
    with pytest.raises(UserError, match=said):
        check_data(config)


@pytest.mark.parametrize("source", ["folder", "coco"])
def test_a_missing_folder_is_one_line(source, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        build_dataset(DataConfig(source=source, root=str(tmp_path / "nowhere"), annotations="x.json"))
