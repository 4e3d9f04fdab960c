import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image

from cgan.cli.export import main
from cgan.errors import UserError
from cgan.figures.sheets import CAPTIONS
from cgan.files import temporary_name
from cgan.resources import STARTER_GAN
from cgan.sampling.onnx import PlainGenerator, inputs_of, traced
from cgan.sampling.pipeline import TextToImage
from helpers.checkpoints import tiny_checkpoint

FILES = ["README.md", "config.json", "model.safetensors", "samples.png"]


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """The run directory of a tiny GAN, in the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/tiny")
    folder.mkdir(parents=True)
    torch.save(tiny_checkpoint(), folder / "last.ckpt")
    rows = ["epoch,fid,images_seen,loss/generator,scene_accuracy,step", "0,,,1.5,,10", ",50.5,1000,,0.25,20"]
    rows += [",40.5,2000,,0.5,40", ",30.5,3000,,0.75,60"]
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    (folder / "evaluation.json").write_text(json.dumps({"metrics": {"clip_score": 27.25}, "protocol": {}}))
    (folder / "loss.json").write_text("[1, 2]")
    settings = {"seed": 7, "run_dir": "/home/me/runs", "data": {"root": "pictures", "resolution": 32}}
    settings |= {"gan": {"penalty": "finite"}, "trainer": {"inception": "/home/me/x.pth", "batch_size": 16}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def pictures(name: Path | str) -> np.ndarray:
    return TextToImage.from_pretrained(name).sample(["a dog on grass", "a red car"], [0, 1])


def test_a_folder_in_full_precision_draws_what_the_run_draws(run):
    main([str(run), "exported", "--full"])
    assert sorted(path.name for path in Path("exported").iterdir()) == FILES
    assert (pictures("exported") == pictures(run)).all()
    assert [path.name for path in Path().iterdir() if path.name != "runs"] == ["exported"]


def test_a_folder_has_half_the_bytes_and_nearly_the_same_pictures(run):
    main([str(run), "half"])
    full_size = sum(4 * value.numel() for value in TextToImage.from_pretrained(run).tensors.values())
    assert (Path("half") / "model.safetensors").stat().st_size < 0.7 * full_size
    assert abs(pictures("half").astype(int) - pictures(run)).max() <= 3
    assert (pictures("half") == pictures("half")).all()
    main(["half", "again", "--full"])
    assert (pictures("again") == pictures("half")).all()


def test_config_json_alone_says_how_to_build_the_networks(run):
    main([str(run), "exported"])
    config = json.loads(Path("exported/config.json").read_text())
    assert config["format"] == 1 and config["sampler"] == tiny_checkpoint()["sampler"]
    Path("exported/config.json").unlink()
    with pytest.raises(UserError, match="damaged, or not a checkpoint"):
        TextToImage.from_pretrained("exported")


def test_a_name_in_safetensors_is_one_file(run):
    main([str(run), "weights/small.safetensors"])
    main([str(run / "last.ckpt"), "weights/full.safetensors", "--full"])
    assert sorted(path.name for path in Path("weights").iterdir()) == ["full.safetensors", "small.safetensors"]
    assert (pictures("weights/full.safetensors") == pictures(run)).all()


def test_the_model_card_has_front_matter_measures_and_settings_without_places(run):
    main([str(run), "exported", "--license", "apache-2.0"])
    card = Path("exported/README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "apache-2.0" and front["pipeline_tag"] == "text-to-image" and "gan" in front["tags"]
    assert front["library_name"] == "cgan" and ModelCard.load("exported/README.md").data.to_dict() == front
    for said in ("`fid` | 40.5 |", "`clip_score` | 27.25 |", "seed=7", "data.resolution=32", "trainer.batch_size=16"):
        assert said in card, said
    assert not re.search(r"/home|pictures\b(?=\n)|root|30\.5|loss", card)


def test_a_license_that_looks_like_a_number_stays_text(run):
    main([str(run), "exported", "--license", "0.5"])
    assert ModelCard.load("exported/README.md").data.license == "0.5"


def test_the_example_of_a_model_card_runs(run):
    main([str(run), "exported"])
    card = Path("exported/README.md").read_text(encoding="utf-8")
    use = re.search(r"## Use\n(.*?)## ", card, flags=re.DOTALL)[1]
    exec("\n".join(line[4:] for line in use.splitlines() if line.startswith("    ")), {})
    expected = TextToImage.from_pretrained("exported").sample([CAPTIONS[0]], [0])[0]
    assert (np.asarray(Image.open("picture.png")) == expected).all()


def test_samples_are_of_the_captions_that_are_given_and_strange_words_are_told(run, capsys):
    Path("captions.txt").write_text("a zebra\na red car\n")
    main([str(run), "exported", "--captions", "captions.txt"])
    assert "'zebra'" in capsys.readouterr().err
    page = np.asarray(Image.open("exported/samples.png"))
    assert (page[-32:, :32] == TextToImage.from_pretrained("exported").sample(["a red car"], [0])[0]).all()


def test_a_folder_that_is_there_is_kept_or_with_force_replaced(run):
    main([str(run), "exported"])
    (Path("exported") / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        main([str(run), "exported"])
    assert (Path("exported") / "mine.txt").is_file()
    main([str(run), "exported", "--force"])
    assert sorted(path.name for path in Path("exported").iterdir()) == FILES


def test_force_does_not_replace_a_folder_of_other_things(run):
    Path("home").mkdir()
    Path("home/letter.txt").write_text("dear")
    with pytest.raises(UserError, match="doesn't replace"):
        main([str(run), "home", "--force"])
    assert Path("home/letter.txt").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["runs/tiny", "x.ckpt"], "folder to write"),
        (["runs/tiny", "x.safetensors", "--onnx"], "into a folder"),
        (["runs/tiny", "x", "--license", "mit\nevil: yes"], "short name"),
        (["runs/none", "x"], "no such checkpoint"),
        (["runs", "x"], "neither last.ckpt nor model.safetensors"),
        (["runs/tiny", "x", "--captions", "none.txt"], "no such file"),
        (["runs/tiny", "runs/tiny/last.ckpt/x"], "can't be written"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(run, arguments, said):
    before = sorted(Path().rglob("*"))
    with pytest.raises(UserError, match=said):
        main(arguments)
    assert sorted(Path().rglob("*")) == before


def test_without_the_packages_onnx_says_what_to_install(run):
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match=r'pip install -e "\.\[onnx\]"'):
            main([str(run), "exported", "--onnx"])
        assert not Path("exported").exists()


@pytest.mark.slow
@pytest.mark.parametrize("word_attention", [False, True])
def test_the_program_that_onnx_gets_generates_the_same_images_for_any_number_of_them(run, word_attention):
    torch.save(tiny_checkpoint(word_attention), run / "last.ckpt")
    pipe = TextToImage.from_pretrained(run)
    program = traced(pipe, inputs_of(pipe, 2)).module()
    for num in (2, 5):
        inputs = inputs_of(pipe, num)
        with torch.inference_mode():
            expected = PlainGenerator(pipe.generator)(*inputs)
            assert torch.equal(program(*inputs), expected) and len(expected) == num


@pytest.mark.slow
@pytest.mark.parametrize("word_attention", [False, True])
def test_onnx_draws_the_same_images_for_any_number_of_them(run, word_attention):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.save(tiny_checkpoint(word_attention), run / "last.ckpt")
    main([str(run), "exported", "--onnx"])
    pipe = TextToImage.from_pretrained("exported")
    session = onnxruntime.InferenceSession("exported/generator.onnx", providers=["CPUExecutionProvider"])
    assert all(value.shape[0] == "batch" for value in (*session.get_inputs(), *session.get_outputs()))
    for captions in (["a red dog"], ["a red dog", "a cat", "a big blue car on sand, to the right"]):
        noise, text = pipe.noise(list(range(len(captions)))), pipe.encode(captions)
        values = {"noise": noise, "sentence": text.sentence}
        values |= {"words": text.words, "mask": text.mask} if word_attention else {}
        (images,) = session.run(["images"], {name: value.numpy() for name, value in values.items()})
        with torch.inference_mode():
            assert abs(images - pipe.generator(noise, text).numpy()).max() < 1e-3


@pytest.mark.slow
def test_the_starter_weights_are_exported_as_they_are(tmp_path):
    main([str(STARTER_GAN), str(tmp_path / "starter")])
    assert (pictures(tmp_path / "starter") == pictures(STARTER_GAN)).all()


@pytest.mark.parametrize("second_step", [False, True])
def test_a_folder_that_a_killed_export_has_put_aside_takes_its_place_again(second_step, run):
    main([str(run), "exported", "--full"])
    before = pictures("exported")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    out, own = Path("exported"), f"-{os.getpid()}-"
    old = Path(temporary_name(out).with_suffix(".old").name.replace(own, f"-{ended.pid}-"))
    unfinished = Path(temporary_name(out).name.replace(own, f"-{ended.pid}-"))
    out.rename(old)
    unfinished.mkdir()
    if second_step:
        unfinished.rename(out)
        shutil.copytree(old, out, dirs_exist_ok=True)
    with pytest.raises(UserError, match="is there already"):
        main([str(run), "exported"])
    assert (pictures("exported") == before).all() and not old.exists() and not unfinished.exists()
