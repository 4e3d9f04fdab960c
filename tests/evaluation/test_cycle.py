"""The closed loop: what is drawn, written and found is what the networks give, and the scores are right."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cgan import TextToImage
from cgan.cli.cycle import main
from cgan.data.scenes.captions import mentioned_in
from cgan.data.scenes.dataset import Scenes
from cgan.evaluation import cycle as loop
from cgan.evaluation.cycle import agreement, closed, cycle, names_one_object
from cgan.evaluation.real_pictures import real_folder, real_scenes
from cgan.interfaces import UserError
from cgan.metrics.scenes import load_scene_classifier
from cgan.models.joint import JointEncoder
from cgan.models.text.lstm import split_words
from cgan.resources import STARTER_GAN, STARTER_JOINT
from cgan.retrieval import opened_joint
from helpers.pictures import pixels

PROMPT = "a red dog on grass"
NUM = 12


@pytest.fixture(scope="module")
def pipe() -> TextToImage:
    return TextToImage.load(STARTER_GAN)


@pytest.fixture(scope="module")
def joint() -> JointEncoder:
    return opened_joint(STARTER_JOINT)


@pytest.fixture(autouse=True)
def place(tmp_path, tmp_path_factory, monkeypatch, pipe, joint) -> None:
    """Work in a new folder; scenes are drawn once, and networks loaded once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path_factory.getbasetemp() / "cycle-cache"))
    monkeypatch.setattr(loop.TextToImage, "load", lambda path: pipe)
    monkeypatch.setattr(loop, "opened_joint", lambda path: joint)


def starter(prompt: str = PROMPT, **options) -> loop.Cycle:
    return cycle(prompt, checkpoint=STARTER_GAN, joint=STARTER_JOINT, **{"num_images": NUM, "top": 3} | options)


def embedded(joint: JointEncoder, picture: np.ndarray) -> torch.Tensor:
    return joint.embed_images(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 127.5 - 1)[0]


def test_the_drawing_is_that_of_the_pipeline_and_the_caption_that_of_the_decoder(pipe, joint):
    made = starter(seed=3)
    assert (made.drawn == np.asarray(pipe(PROMPT, seed=3))).all()
    image = torch.from_numpy(made.drawn.copy()).permute(2, 0, 1)[None] / 127.5 - 1
    assert made.scores["caption"]["text"] == made.caption == joint.captions_of(image)[0]
    assert made.scores["caption"]["by"] == "decoder" and set(made.rebuilt) == {"prompt", "drawing"}
    made.save("a.png")
    assert json.loads(Path("a.json").read_text())["seed"] == 3 and (pixels("a.png") == made.strip()).all()


def test_what_is_retrieved_is_what_sorting_all_similarities_finds(joint):
    made, scenes = starter(), Scenes(NUM, 64)
    drawing, prompt = embedded(joint, made.drawn), joint.embed_captions([PROMPT])[0]
    near = [float(embedded(joint, picture) @ drawing) for picture in scenes.pictures]
    fits = [float(embedded(joint, picture) @ prompt) for picture in scenes.pictures]
    order = np.argsort(-np.array(near))[:3]
    assert [one.name for one in made.retrieved] == [f"scene {row}" for row in order]
    assert [one.similarity for one in made.retrieved] == pytest.approx([near[row] for row in order], abs=1e-4)
    assert [one.rank_by_prompt for one in made.retrieved] == [1 + sum(f > fits[row] for f in fits) for row in order]
    assert all((one.picture == scenes.pictures[row]).all() for one, row in zip(made.retrieved, order, strict=True))
    shown = [scenes.attributes[row].tolist() for row in order]
    assert [one.true_of_prompt for one in made.retrieved] == [values[:2] + values[4:] == [0, 0, 0] for values in shown]
    score = float(drawing @ prompt)
    assert made.scores["drawing"]["similarity"] == pytest.approx(score, abs=1e-4)
    assert made.scores["drawing"]["rank_by_prompt"] == 1 + sum(fit > score for fit in fits)


def test_the_scene_classifier_says_what_it_sees():
    drawing, made = starter().scores["drawing"], starter()
    reading = load_scene_classifier().read(torch.from_numpy(made.drawn.copy()).permute(2, 0, 1)[None] / 127.5 - 1)
    assert mentioned_in(drawing["classifier_sees"]) == tuple(reading.values[0].tolist())
    assert drawing["recognisable"] == bool(reading.recognisable[0])


def test_agreement_counts_what_the_prompt_names():
    assert agreement("a red dog on grass", "a blue dog") == {"attributes": 3, "alike": 1, "different": 1, "missing": 1}
    assert agreement("a dog", "a small dog at sea") == {"attributes": 1, "alike": 1, "different": 0, "missing": 0}
    assert names_one_object("a red dog") and not names_one_object("a dog and a cat") and not names_one_object("a corgi")


def test_without_a_decoder_the_nearest_caption_is_taken_and_the_scores_say_so(joint, monkeypatch):
    monkeypatch.setitem(joint._modules, "caption_decoder", None)
    made = starter()
    captions = [caption for row in range(NUM) for caption in Scenes(NUM, 64).captions_of(row)]
    scores = joint.embed_captions(captions) @ embedded(joint, made.drawn)
    assert made.caption == captions[int(scores.argmax())] and made.scores["caption"]["by"] == "nearest caption"


def test_a_folder_is_searched_and_what_cannot_be_read_is_reported(tmp_path):
    folder, heard = tmp_path / "real", []
    folder.mkdir()
    for row, picture in enumerate(Scenes(3, 64).pictures):
        Image.fromarray(picture).save(folder / f"{row}.png")
    Image.fromarray(Scenes(4, 64).pictures[3]).quantize(64).save(folder / "palette.gif")
    (folder / "text.png").write_text("no picture")
    made = starter(images=folder, top=9, report=heard.append)
    assert sorted(one.name for one in made.retrieved) == ["0.png", "1.png", "2.png", "palette.gif"]
    assert {one.true_of_prompt for one in made.retrieved} == {None} and "classifier_sees" not in made.scores["drawing"]
    assert len(heard) == 1 and "1 damaged" in heard[0]


def test_a_prompt_with_unknown_words_is_drawn_with_a_warning():
    heard = []
    assert starter("a corgi on grass", report=heard.append).prompt == "a corgi on grass"
    assert heard == ["unknown words (not in the training captions): 'corgi'"]


def test_the_command_writes_a_strip_and_the_scores_that_it_prints(capsys):
    arguments = [PROMPT, "--checkpoint", str(STARTER_GAN), "--num-images", str(NUM), "--top", "2"]
    main([*arguments, "--out", "new/strip.png", "--json"])
    printed, written = json.loads(capsys.readouterr().out), json.loads(Path("new/strip.json").read_text())
    assert printed == {"strip": "new/strip.png", **written} and written["retrieval"]["num_pictures"] == NUM
    assert Image.open("new/strip.png").width == 12 + 5 * 140
    main([*arguments, "--seed", "1"])
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("drawn      similarity 0.") and said[-2] == "strip: cycles/a-red-dog-on-grass-1.png"
    assert all(Path(line.split(": ")[1]).is_file() for line in said[-2:])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([""], "the prompt is empty"),
        ([" \n\x00"], "the prompt is empty"),
        ([PROMPT, "--top", "0"], "--top=0: must be at least 1"),
        ([PROMPT, "--seed", "-1"], "seed=-1"),
        ([PROMPT, "--num-images", "0"], "num_images=0: must be at least 1"),
        ([PROMPT, "--out", "strip.jpg"], "ends in .png"),
        ([PROMPT, "--out", "text.txt/a.png"], "text.txt"),
        ([PROMPT, "--images", "gone"], "gone: no such folder"),
        ([PROMPT, "--images", "empty"], "empty: no pictures"),
        ([PROMPT, "--images", "text.txt"], "text.txt: no such folder"),
        ([PROMPT, "--images", "empty", "--num-images", "3"], "--num-images is not used with --images"),
        ([PROMPT, "--captions", "text.txt"], "--captions is not used without --images"),
        ([PROMPT, "--images", "empty", "--captions", "gone.txt"], "gone.txt: no such file"),
        ([PROMPT, "--checkpoint", "gone.ckpt"], "gone.ckpt: no such checkpoint"),
    ],
)
def test_a_mistake_is_one_line(arguments, said):
    Path("empty").mkdir()
    Path("text.txt").write_text("a dog")
    with pytest.raises(UserError, match=said) as error:
        main(arguments)
    assert "\n" not in str(error.value) and not list(Path().rglob("*.json"))


def test_an_encoder_that_can_neither_write_nor_choose_is_one_line(joint, monkeypatch, tmp_path):
    monkeypatch.setitem(joint._modules, "caption_decoder", None)
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="has no caption decoder; give --captions FILE"):
        starter(images=tmp_path)
    assert starter(images=tmp_path, captions=["a red ball"]).caption == "a red ball"
    (tmp_path / "a.txt").write_text("a black ball\n")
    assert starter(images=tmp_path).caption == "a black ball"  # beside its picture, as a training reads it


def test_a_model_of_other_pictures_needs_real_ones_of_its_own(pipe, monkeypatch):
    monkeypatch.setattr(pipe.text_encoder, "unknown_words", lambda captions: sorted({*split_words("".join(captions))}))
    with pytest.raises(UserError, match="was not trained on scenes; give --images DIR"):
        starter()


def test_a_real_picture_is_nearest_to_itself(joint, tmp_path):
    scenes = real_scenes(joint, NUM)
    made = closed(joint, scenes, PROMPT, Scenes(NUM, 64).pictures[5], 1, scenes.captions)
    assert made.retrieved[0].name == "scene 5" and made.retrieved[0].similarity == pytest.approx(1, abs=1e-5)
    Image.fromarray(Scenes(NUM, 64).pictures[5]).save(tmp_path / "five.png")
    folder = real_folder(joint, STARTER_JOINT, tmp_path)
    assert folder.embeddings[0] @ scenes.embeddings[5] == pytest.approx(1, abs=1e-5)
