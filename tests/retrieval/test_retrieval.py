import json
import os
import re
import time
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from cgan.cli.retrieve import main
from cgan.data.pictures import decode
from cgan.figures.contact_sheet import contact_sheet
from cgan.interfaces import UserError
from cgan.models.encoders.resnet import ImageEncoderConfig
from cgan.models.joint import JointConfig, JointEncoder
from cgan.models.text.lstm import LSTMConfig, Vocabulary
from cgan.retrieval import (
    DamagedIndex,
    EmbeddingIndex,
    File,
    Origin,
    embed_picture,
    embedding,
    joint_checkpoint_of,
    nearest,
    open_index,
    search,
)
from cgan.retrieval import index as index_module

COLOURS = ("red", "lime", "blue", "white", "orange", "purple")


def save_joint(path, seed=0):
    """A tiny joint encoder that has learned nothing."""
    torch.manual_seed(seed)
    image, text = ImageEncoderConfig(width=4, embedding_dim=16), LSTMConfig(dim=16, embedding_dim=8)
    config = JointConfig(image=image, text=text, picture_weight=0, caption_weight=0)
    joint = JointEncoder(config, Vocabulary.of(["a red blue car on grass"]), resolution=32)
    joint.save(path)
    return path


@pytest.fixture
def checkpoint(tmp_path):
    return save_joint(tmp_path / "joint.safetensors")


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Six pictures, one of them in a folder of its own, and work in the folder above."""
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for i, colour in enumerate(COLOURS):
        picture = Image.new("RGB", (40 + i, 36), colour)
        picture.paste("black", (5 * i, 4, 5 * i + 9, 20))
        picture.save(folder / ("more" if i == 3 else "") / f"{colour}.png")
    return folder


@pytest.fixture
def encoded(monkeypatch) -> list[str]:
    """Names of the pictures that were decoded for an index from now on."""
    names = []
    monkeypatch.setattr(index_module, "decode", lambda job: names.append(job[0].name) or decode(job))
    return names


def true_scores(checkpoint, folder, query) -> dict[str, float]:
    """Of each picture, one at a time."""
    joint = JointEncoder.load(checkpoint)
    scores = {}
    for path in folder.rglob("*.png"):
        image = torch.from_numpy(decode((path, 32))[0].copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        scores[path.name] = float(joint.embed_images(image)[0] @ query(joint))
    return scores


def table(text: str) -> list[tuple[float, str]]:
    """Score and name of each row of a printed table."""
    return [(float(m[1]), m[2]) for m in re.finditer(r"^ *\d+ +(-?\d+\.\d{3})  (.+)$", text, re.MULTILINE)]


def cut_off(folder, name):
    Image.effect_noise((64, 64), 50).save(folder / name)
    (folder / name).write_bytes((folder / name).read_bytes()[:200])


def error_of(*arguments) -> str:
    with pytest.raises(UserError) as caught:
        main([str(argument) for argument in arguments])
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------------------------------------- search


def test_search_finds_what_sorting_all_inner_products_finds(monkeypatch):
    monkeypatch.setattr(search, "LARGEST_BLOCK", 1500)  # three queries at a time
    rng = np.random.default_rng(0)
    points, queries = (rng.standard_normal((n, 16), dtype=np.float32) for n in (500, 10))
    scores, rows = search.nearest_by_numpy(queries, points, 7)
    expected = queries.astype(float) @ points.T.astype(float)
    assert (rows == np.argsort(-expected, axis=1)[:, :7]).all()
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1)[:, :7], rtol=1e-5)


def test_faiss_finds_the_same():
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    points, queries = (rng.standard_normal((n, 16), dtype=np.float32) for n in (500, 10))
    for one, other in zip(nearest(queries, points, 7), search.nearest_by_numpy(queries, points, 7), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_a_search_for_more_than_there_is_finds_all():
    scores, rows = nearest(torch.eye(3), np.eye(3, dtype=np.float32), 10)
    assert scores.shape == (3, 3) and rows[:, 0].tolist() == [0, 1, 2]


def test_a_hundred_thousand_pictures_are_searched_in_half_a_second_of_a_core():
    points = np.random.default_rng(0).standard_normal((100_000, 128), dtype=np.float32)
    index = EmbeddingIndex(points, [File("x.png", 0, 0)] * len(points), Origin("", ""))
    times = []
    for row in (0, 1, 2):
        start = time.process_time()  # other processes don't prolong it
        assert index.search(points[row : row + 1], 10)[1][0, 0] == row
        times.append(time.process_time() - start)
    assert min(times[1:]) < 0.5


# ---------------------------------------------------------------------------------------------- index


def test_an_index_comes_back_from_its_file(tmp_path):
    files = [File("ä.png", 3, 10**18 + 1), File("more/\udcff.png", 2**40, 5)]  # the second name is no UTF-8
    index = EmbeddingIndex(np.array([[1, 2], [3, 4]], dtype=np.float32), files, Origin("/here", "abc"))
    index.save(tmp_path / "new" / "x.safetensors")
    again = EmbeddingIndex.load(tmp_path / "new" / "x.safetensors")
    assert (again.embeddings == index.embeddings).all()
    assert (again.files, again.origin) == (files, index.origin)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.safetensors"]


def test_a_folder_is_encoded_once(pictures, checkpoint, encoded):
    joint = JointEncoder.load(checkpoint)
    first = open_index(joint, checkpoint, pictures)
    assert sorted(encoded) == sorted(f"{colour}.png" for colour in COLOURS)
    again = open_index(joint, checkpoint, pictures)
    assert len(encoded) == len(COLOURS) and (again.embeddings == first.embeddings).all()


def test_progress_is_told_to_the_last_picture_and_nothing_is_printed(pictures, checkpoint, capfd, monkeypatch):
    heard, joint = [], JointEncoder.load(checkpoint)
    monkeypatch.setattr("cgan.retrieval.index.BATCH_SIZE", 2)
    open_index(joint, checkpoint, pictures, progress=lambda *numbers: heard.append(numbers))
    assert heard == [(done, len(COLOURS)) for done in (*range(0, len(COLOURS), 2), len(COLOURS))]
    assert capfd.readouterr() == ("", "")


def test_only_new_and_changed_pictures_are_encoded_anew(pictures, checkpoint, encoded):
    joint = JointEncoder.load(checkpoint)
    open_index(joint, checkpoint, pictures)
    encoded.clear()
    (pictures / "red.png").unlink()
    Image.new("RGB", (40, 40), "cyan").save(pictures / "a new one.png")
    os.utime(pictures / "blue.png", ns=(1, 1))
    index = open_index(joint, checkpoint, pictures)
    assert sorted(encoded) == ["a new one.png", "blue.png"]
    scores = true_scores(checkpoint, pictures, lambda joint: joint.embed_captions(["a car"])[0])
    found = dict(zip((file.name.split("/")[-1] for file in index.files), index.embeddings, strict=True))
    query = joint.embed_captions(["a car"])[0].numpy()
    assert {name: pytest.approx(float(row @ query), abs=1e-5) for name, row in found.items()} == scores


def test_another_checkpoint_or_folder_makes_an_index_anew(pictures, checkpoint, encoded, tmp_path):
    said, path = [], tmp_path / "i.safetensors"
    other = save_joint(tmp_path / "other.safetensors", seed=1)
    for file, folder in ((checkpoint, pictures), (other, pictures), (other, pictures / "more")):
        index = open_index(JointEncoder.load(file), file, folder, path, said.append)
    assert said == [f"{path}: made with another checkpoint; made anew", f"{path}: made with another folder; made anew"]
    assert len(encoded) == 2 * len(COLOURS) + 1 and len(index) == 1


@pytest.mark.parametrize("content", [b"", b"not an index", None])
def test_a_damaged_index_is_made_anew(content, pictures, checkpoint, tmp_path):
    said, path, joint = [], tmp_path / "i.safetensors", JointEncoder.load(checkpoint)
    open_index(joint, checkpoint, pictures, path)
    path.write_bytes(path.read_bytes()[:-9] if content is None else content)
    open_index(joint, checkpoint, pictures, path, said.append)
    assert said == [f"{path}: damaged; made anew"]
    assert len(EmbeddingIndex.load(path)) == len(COLOURS)


def test_weights_are_never_overwritten_by_an_index(pictures, checkpoint):
    before = checkpoint.read_bytes()
    said = error_of("a car", "--images", pictures, "--checkpoint", checkpoint, "--index", checkpoint)
    assert "something else" in said and checkpoint.read_bytes() == before


def test_where_no_index_can_be_written_the_search_goes_on(pictures, checkpoint, tmp_path):
    said = []
    (tmp_path / "file").write_text("not a folder")
    index = open_index(JointEncoder.load(checkpoint), checkpoint, pictures, tmp_path / "file" / "i", said.append)
    assert len(index) == len(COLOURS) and "can't be written" in said[0]


# ---------------------------------------------------------------------------------------------- command


def test_a_caption_finds_pictures_by_score(pictures, checkpoint, capsys):
    main(["a red car", "--images", "pictures", "--checkpoint", str(checkpoint), "--out", "sheet.png", "--top", "4"])
    scores = true_scores(checkpoint, pictures, lambda joint: joint.embed_captions(["a red car"])[0])
    found = table(capsys.readouterr().out)
    assert [name.split("/")[-1] for _, name in found] == sorted(scores, key=scores.get, reverse=True)[:4]
    assert [score for score, _ in found] == pytest.approx(sorted(scores.values(), reverse=True)[:4], abs=1e-3)
    assert Image.open("sheet.png").format == "PNG"


def test_each_caption_has_its_sheet_and_sheets_are_never_searched(pictures, checkpoint, capsys, monkeypatch):
    monkeypatch.chdir(pictures)
    for _ in range(2):
        main(["--images", ".", "a red car", "A zebra!", "--checkpoint", str(checkpoint)])
        said = capsys.readouterr()
        assert len(table(said.out)) == 2 * len(COLOURS) and "'zebra'" in said.err
    sheets = ["retrieved-sheets/a-red-car.png", "retrieved-sheets/a-zebra-1.png"]
    assert re.findall("sheet: (.+)", said.out) == sheets and all(map(os.path.isfile, sheets))


def test_a_picture_finds_itself_first(pictures, checkpoint, capsys):
    main(["--image", "pictures/more/white.png", "--images", "pictures", "--checkpoint", str(checkpoint)])
    assert table(capsys.readouterr().out)[0] == (1.0, "pictures/more/white.png")


def test_a_picture_finds_its_captions_by_score(pictures, checkpoint, capsys):
    captions = ["a red car", "blue", "grass on a car"]
    (pictures / "captions").write_text("\n\n".join([*captions, "  blue "]))
    picture = pictures / "red.png"
    main(["--image", str(picture), "--captions", str(pictures / "captions"), "--checkpoint", str(checkpoint)])
    joint = JointEncoder.load(checkpoint)
    embedding = torch.from_numpy(embed_picture(joint, picture)[0])
    scores = {caption: float(joint.embed_captions([caption])[0] @ embedding) for caption in captions}
    assert [caption for _, caption in table(capsys.readouterr().out)] == sorted(scores, key=scores.get, reverse=True)


def test_unreadable_pictures_are_skipped_and_counted(pictures, checkpoint, capsys):
    cut_off(pictures, "bad.jpg")
    cut_off(pictures, "worse.jpg")
    main(["a car", "--images", "pictures", "--checkpoint", str(checkpoint)])
    said = capsys.readouterr()
    assert len(table(said.out)) == len(COLOURS)
    assert said.err == "warning: skipped 2 damaged or not a picture (such as bad.jpg)\n"


def test_a_folder_of_damaged_pictures_is_one_line(pictures, checkpoint):
    cut_off(pictures / "more", "bad.jpg")
    (pictures / "more/white.png").unlink()
    assert "1 damaged" in error_of("a car", "--images", pictures / "more", "--checkpoint", checkpoint)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("car --images nowhere", "nowhere: no such folder"),
        ("car --images empty", "empty: no pictures"),
        ("car", "give --images DIR"),
        ("--image pictures/red.png", "nowhere to look"),
        ("--images pictures", "nothing to look for"),
        ("--captions empty.txt --images pictures car", "give --image FILE"),
        ("--captions empty.txt --image pictures/red.png", "no captions in it"),
        ("--captions gone.txt --image pictures/red.png", "gone.txt: no such file"),
        ("--image gone.png --images pictures", "gone.png: missing"),
        ("--image empty.txt --images pictures", "empty.txt: damaged or not a picture"),
        ("car --images pictures --top 0", "--top=0"),
        ("car --images pictures --index i.npz", "ends in .safetensors"),
        ("car --images pictures --out sheet.jpg", "ends in .png"),
        ("car --images pictures --checkpoint gone.safetensors", "no such file"),
    ],
)
def test_a_mistake_is_one_line(arguments, said, pictures, checkpoint, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").write_text("\n  \n")
    assert said in error_of("--checkpoint", checkpoint, *arguments.split())


def test_an_empty_caption_is_one_line(pictures):
    assert "caption is empty" in error_of(" ", "--images", pictures)


def test_the_newest_run_is_searched_with_unless_one_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(embedding, "STARTER_JOINT", tmp_path / "starter.safetensors")
    with pytest.raises(UserError, match="no joint encoder under runs/"):
        joint_checkpoint_of(None)
    (tmp_path / "starter.safetensors").touch()
    assert joint_checkpoint_of(None).name == "starter.safetensors"
    for when, name in enumerate(("b", "c", "a")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "joint.safetensors").touch()
        os.utime(tmp_path / "runs" / name / "joint.safetensors", (when, when))
    assert str(joint_checkpoint_of(None)) == "runs/a/joint.safetensors"
    assert joint_checkpoint_of(tmp_path / "runs/b") == tmp_path / "runs/b/joint.safetensors"


@pytest.mark.parametrize("num", [1, 2, 10, 50])
def test_a_sheet_shows_every_picture(num):
    colours = [(10 + 4 * i, 200 - 3 * i, 90) for i in range(num)]
    pictures = [np.full((160, 160, 3), colour, dtype=np.uint8) for colour in colours]
    sheet = contact_sheet(pictures, np.linspace(1, 0, num), "a very long caption \n" * 20)
    areas = Counter(map(tuple, sheet[::4, ::4].reshape(-1, 3).tolist()))
    assert all(areas[colour] > 0.95 * 40**2 for colour in colours)
    assert (sheet[:, :8] == 255).all() and (sheet[:, -8:] == 255).all()  # nothing runs over the edge


def some_index(names: list[str]) -> EmbeddingIndex:
    files = [File(name, i, 10 * i) for i, name in enumerate(names)]
    return EmbeddingIndex(np.eye(len(names), 4, dtype=np.float32), files, Origin("/pictures", "0" * 64))


def test_an_index_keeps_names_of_any_length_and_letters_out_of_the_header(tmp_path):
    names = ["a.png", "sub/caf\u00e9.png", "caf\udce9.png", "x" * 200_000]
    some_index(names).save(tmp_path / "index.safetensors")
    assert int.from_bytes((tmp_path / "index.safetensors").read_bytes()[:8], "little") < 2000
    assert EmbeddingIndex.load(tmp_path / "index.safetensors").files == some_index(names).files


def test_an_index_of_an_older_cgan_with_its_names_in_the_header_is_read(tmp_path):
    index = some_index(["a.png", "caf\udce9.png"])
    stats = np.array([(file.size, file.modified) for file in index.files])
    spec = {**index.origin._asdict(), "names": [file.name for file in index.files]}
    tensors = {"embeddings": index.embeddings, "files": stats}
    save_file(tensors, tmp_path / "old.safetensors", metadata={"index": json.dumps(spec)})
    old = EmbeddingIndex.load(tmp_path / "old.safetensors")
    assert old.files == index.files and old.origin == index.origin


def test_an_index_with_fewer_names_than_rows_is_damaged(tmp_path):
    index = some_index(["a.png", "b.png"])
    index.files = index.files[:1]
    index.save(tmp_path / "index.safetensors")
    with pytest.raises(DamagedIndex):
        EmbeddingIndex.load(tmp_path / "index.safetensors")
