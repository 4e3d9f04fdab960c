import csv
import json
import platform
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cgan.interfaces import UserError
from cgan.metrics.scenes import load_scene_classifier
from cgan.models.joint import JointEncoder
from cgan.resources import STARTER_GAN
from cgan.sampling.pipeline import TextToImage
from helpers import ROOT
from helpers.runs import EVALUATED, fresh, script, start, wait_for
from helpers.runs import ended as end_of

TINY_JOINT = [str(ROOT / "configs/joint/scenes.yaml"), *EVALUATED, "data.test_images=12", "trainer.joint_batch_size=32"]


def verb(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """cgan VERB in another folder than the source tree."""
    return script("cgan/__main__.py", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder in which train.py has run to its end, in runs/tiny."""
    pytest.importorskip("wandb")
    folder = tmp_path_factory.mktemp("workplace")
    ended = fresh("train.py", *EVALUATED, "run_dir=runs/tiny", cwd=folder)
    assert ended.returncode == 0, ended.stderr
    assert "next: cgan sample" in ended.stdout
    return folder


@pytest.mark.slow
def test_a_run_leaves_grids_metrics_settings_and_wandb_files(workplace):
    run = workplace / "runs/tiny"
    assert len(list(run.glob("samples/images_*.png"))) == 3 and (run / "config.yaml").is_file()
    assert list(run.glob("wandb/offline-run-*"))
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    for name in ("loss/generator", "loss/discriminator", "scene_accuracy_heldout", "frechet_distance", "diversity"):
        assert [np.isfinite(float(row[name])) for row in rows if row[name]].count(True) >= 2, name
    assert (run / "best.ckpt").is_file() and (run / "joint.safetensors").is_file()


@pytest.mark.slow
def test_sample_draws_the_same_picture_for_the_same_seed_and_warns_of_unknown_words(workplace):
    for name in ("one.png", "two.png"):
        ended = script("sample.py", "a zebra on grass", "--seed", "5", "--out", name, cwd=workplace)
        assert ended.returncode == 0 and ended.stdout.strip() == name and "'zebra'" in ended.stderr
    assert (workplace / "one.png").read_bytes() == (workplace / "two.png").read_bytes()
    assert Image.open(workplace / "one.png").size == (32, 32)


@pytest.mark.slow
def test_exported_weights_draw_what_the_checkpoint_draws(workplace, tmp_path):
    pipe = TextToImage.load(workplace / "runs/tiny/last.ckpt")
    pipe.save(tmp_path / "weights.safetensors")
    captions, seeds = ["a dog on grass", "a red car"], [1, 2]
    exported = TextToImage.load(tmp_path / "weights.safetensors")
    assert (exported.sample(captions, seeds) == pipe.sample(captions, seeds)).all()
    assert (pipe.sample(captions[1:], seeds[1:])[0] == pipe.sample(captions, seeds)[1]).all()
    assert (pipe.sample(["a dog on grass"], [1]) != pipe.sample(["a dog on grass"], [2])).any()


@pytest.mark.slow
def test_a_joint_encoder_is_taken_from_its_checkpoint_and_not_trained_again(workplace):
    joint = workplace / "runs/tiny/joint.safetensors"
    ended = script(
        "train.py", *EVALUATED, f"joint.checkpoint={joint}", "trainer.images=64", "run_dir=again", cwd=workplace
    )
    assert ended.returncode == 0 and not (workplace / "again/joint").exists()
    words = JointEncoder.load(joint).text.vocabulary.words
    assert TextToImage.load(workplace / "again/last.ckpt").text_encoder.vocabulary.words == words


@pytest.mark.slow
def test_training_goes_on_from_a_checkpoint(workplace):
    run = workplace / "runs/tiny"
    start = [*EVALUATED, f"joint.checkpoint={run}/joint.safetensors", f"init={run}/last.ckpt", "trainer.images=64"]
    ended = script("train.py", *start, "gan.learning_rate=0", "run_dir=more", cwd=workplace)
    assert ended.returncode == 0, ended.stderr
    before, after = (torch.load(p / "last.ckpt", weights_only=True) for p in (run, workplace / "more"))
    assert after["images_seen"] == before["images_seen"] + 64
    name = "generator.to_image.0.weight"
    assert torch.equal(before["state_dict"][name], after["state_dict"][name])
    TextToImage.load(run / "last.ckpt").save(workplace / "exported.safetensors")
    start[-2] = "init=exported.safetensors"
    ended = script("train.py", *start, "gan.learning_rate=0", "run_dir=exported", cwd=workplace)
    assert ended.returncode == 0, ended.stderr
    taken = torch.load(workplace / "exported/last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(before["state_dict"]["generator_ema.to_image.0.weight"], taken["generator.to_image.0.weight"])
    ended = script("train.py", *start, "gan.generator.width=8", "run_dir=other", cwd=workplace)
    assert ended.returncode == 1 and "its generator is another one" in ended.stderr.splitlines()[-1]


@pytest.mark.slow
def test_it_trains_on_a_folder_of_pictures_and_draws_from_it(tmp_path):
    pictures, rng = tmp_path / "pictures", np.random.default_rng(0)
    pictures.mkdir()
    for i, name in enumerate(["red", "green", "blue"] * 8):
        colour = np.eye(3)["red green blue".split().index(name)] * rng.uniform(150, 255)
        Image.new("RGB", (48, 40), tuple(int(c) for c in colour)).save(pictures / f"{i}.jpg")
        (pictures / f"{i}.txt").write_text(f"a {name} card")
    (pictures / "5.jpg").write_bytes(b"cut off")
    settings = [setting for setting in EVALUATED if not setting.startswith("data.num_images")]
    ended = script("train.py", str(ROOT / "configs/gan/folder.yaml"), *settings, "data.root=pictures", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "skipped 1 of 24 pictures: 1 damaged or not a picture (such as 5.jpg)" in ended.stdout
    ended = script("sample.py", "a red card", "--out", "card.png", cwd=tmp_path)
    assert ended.returncode == 0 and Image.open(tmp_path / "card.png").size == (32, 32)


@pytest.fixture(scope="module")
def joint_run(tmp_path_factory) -> Path:
    """The run directory of a joint encoder that was trained alone, with co-attention."""
    pytest.importorskip("wandb")
    folder = tmp_path_factory.mktemp("joint")
    settings = ["trainer.joint_images=1024", "trainer.sample_every=512", "joint.coattention_weight=0.5", "run_dir=run"]
    ended = script("train.py", *TINY_JOINT, *settings, cwd=folder)
    assert ended.returncode == 0, ended.stderr
    assert "next: cgan retrieve" in ended.stdout and "Traceback" not in ended.stderr
    return folder / "run"


@pytest.mark.slow
def test_a_joint_run_leaves_weights_measures_sheets_and_wandb_files(joint_run):
    measures = json.loads((joint_run / "retrieval.json").read_text())
    names = {"image_to_text/median_rank", "text_to_image/median_rank", "test_images"}
    ways = [f"{way}/recall@{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)]
    names |= {*ways, *(f"ceiling/{way}" for way in ways)}
    names |= {"agreement", "agreement_others", "caption_accuracy", "caption_mentions", "modality_gap"}
    names |= {"image_to_text/ndcg@10", "text_to_image/ndcg@10"}
    assert set(measures) == names and np.isfinite(list(measures.values())).all() and measures["test_images"] == 12
    sheets = sorted(path.name for path in joint_run.glob("samples/*.png"))
    assert sheets == [f"reconstructions_{seen:09d}.png" for seen in (32, 512, 1024)]
    rows = list(csv.DictReader((joint_run / "metrics.csv").open()))
    for name in ("loss/contrastive", "loss/picture", "loss/caption", "image_to_text/recall@1"):
        assert any(row[name] and np.isfinite(float(row[name])) for row in rows), name
    assert (joint_run / "config.yaml").is_file() and list(joint_run.glob("wandb/offline-run-*"))
    assert JointEncoder.load(joint_run / "joint.safetensors").resolution == 32


@pytest.mark.slow
def test_a_picture_is_described_with_the_weights_of_a_run(joint_run, tmp_path):
    Image.effect_noise((50, 40), 90).save(tmp_path / "one.png")
    ended = verb("caption", "one.png", "--checkpoint", str(joint_run), cwd=tmp_path)
    assert ended.returncode == 0 and len(ended.stdout.splitlines()) == 1 and not ended.stderr, ended.stderr


@pytest.mark.slow
def test_pictures_are_retrieved_with_the_weights_of_a_run(joint_run, tmp_path):
    (tmp_path / "pictures").mkdir()
    for colour in ("red", "lime", "blue"):
        Image.new("RGB", (40, 40), colour).save(tmp_path / "pictures" / f"{colour}.png")
    arguments = ["a red dog", "--images", "pictures", "--checkpoint", str(joint_run), "--out", "found.png"]
    ended = verb("retrieve", *arguments, cwd=tmp_path)
    assert ended.returncode == 0 and ended.stdout.count("pictures/") == 3, ended.stderr
    assert Image.open(tmp_path / "found.png").format == "PNG"


@pytest.mark.slow
def test_without_a_run_the_starter_weights_draw(tmp_path):
    ended = fresh("sample.py", "a dog on grass", "--num", "2", cwd=tmp_path)
    assert ended.returncode == 0 and Image.open(tmp_path / ended.stdout.strip()).size == (128, 64)


@pytest.mark.slow
def test_evaluate_prints_the_measures_as_json(workplace):
    ended = verb("evaluate", "runs/tiny/last.ckpt", "--num-images", "64", "--json", cwd=workplace)
    assert 0 <= json.loads(ended.stdout)["scene_accuracy_heldout"] <= 1, ended.stderr


@pytest.mark.slow
def test_export_halves_the_weights_and_hardly_changes_a_picture(workplace):
    ended = verb("export", "runs/tiny/last.ckpt", "small.safetensors", cwd=workplace)
    assert ended.stdout.strip() == "small.safetensors", ended.stderr
    pipes = [TextToImage.load(workplace / name) for name in ("runs/tiny/last.ckpt", "small.safetensors")]
    one, two = (pipe.sample(["a dog on grass"], [0]).astype(int) for pipe in pipes)
    assert abs(one - two).max() <= 3


@pytest.mark.slow
def test_the_scene_classifier_is_trained_by_a_command(workplace):
    sizes = "--num-images 18 --images 128 --test-images 18 --young-images 8".split()
    ended = verb("judge", *sizes, "--young", "runs/tiny/last.ckpt", "--out", "judge.safetensors", cwd=workplace)
    assert ended.returncode == 0, ended.stderr
    assert load_scene_classifier(workplace / "judge.safetensors").read(torch.zeros(2, 3, 64, 64)).values.shape == (2, 5)
    assert "rejected: blob" in json.loads((workplace / "judge.json").read_text())


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("train.py", ["gan.learning_rat=1"], "learning_rate"),
        ("train.py", ["data.resolution=48"], "must be one of 32, 64"),
        ("train.py", ["nothing.yaml"], "no such file"),
        ("train.py", ["data.source=folder"], "data.root is not set"),
        ("train.py", ["configs/gan/folder.yaml", "data.root=nowhere"], "no such folder"),
        ("train.py", ["text.encoder=pretrained"], "text.name is not set"),
        ("train.py", ["joint.checkpoint=gone.safetensors", "data.num_images=4", "data.resolution=32"], "no such file"),
        ("sample.py", ["  ", "--checkpoint", str(STARTER_GAN)], "caption is empty"),
        ("sample.py", ["a dog", "--checkpoint", "gone.ckpt"], "no such checkpoint"),
    ],
)
@pytest.mark.slow
def test_a_mistake_is_one_line_without_traceback(name, arguments, said, tmp_path):
    arguments = [str(ROOT / a) if a.startswith("configs/") else a for a in arguments]
    ended = script(name, *arguments, cwd=tmp_path)
    lines = [line for line in ended.stderr.splitlines() if "Seed set" not in line]
    assert ended.returncode == 1 and len(lines) == 1 and lines[0].startswith("error: ") and said in lines[0]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_a_damaged_checkpoint_is_one_line(content, suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        TextToImage.load(path)


def test_a_checkpoint_with_code_in_it_is_refused_and_not_run(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harmed",))

    torch.save({"sampler": Hostile(), "state_dict": {}}, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match="damaged"):
        TextToImage.load(tmp_path / "x.ckpt")
    assert not (tmp_path / "harmed").exists()


def interrupted(*arguments: str, cwd: Path) -> tuple[int, str, str]:
    """train.py with run_dir=run until its first picture, then Ctrl-C: status, stdout and stderr."""
    process = start(*arguments, "run_dir=run", cwd=cwd)
    wait_for(cwd / "run", "samples/*.png", process)
    process.send_signal(signal.SIGINT)
    return end_of(process)


@pytest.mark.slow
def test_ctrl_c_ends_cleanly_with_a_checkpoint(tmp_path):
    status, stdout, stderr = interrupted(*EVALUATED, "trainer.images=10000000", cwd=tmp_path)
    assert status == 130 and "Traceback" not in stderr and "stopped after" in stdout
    assert TextToImage.load(tmp_path / "run/last.ckpt").sample(["a dog"], [0]).shape == (1, 32, 32, 3)


@pytest.mark.slow
def test_ctrl_c_ends_the_training_of_a_joint_encoder_with_its_weights(tmp_path):
    status, stdout, stderr = interrupted(*TINY_JOINT, "trainer.joint_images=10000000", cwd=tmp_path)
    assert status == 130 and "Traceback" not in stderr and "the joint encoder so far is" in stdout
    assert JointEncoder.load(tmp_path / "run/joint.safetensors").resolution == 32


@pytest.mark.slow
def test_without_a_wandb_login_a_run_logs_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    settings = [setting for setting in EVALUATED if not setting.startswith("trainer.wandb")]
    ended = script("train.py", *settings, "trainer.images=64", "run_dir=run", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert list(tmp_path.glob("run/wandb/offline-run-*"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of another C library")
def test_memory_that_is_freed_stays_at_hand():
    program = """if True:
        import resource
        from cgan.cli import keep_freed_memory
        def pages_of_ten_blocks():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(10):
                bytearray(b"x") * 2**25  # 32 MiB
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        fresh = pages_of_ten_blocks()
        keep_freed_memory()
        pages_of_ten_blocks()
        print(fresh, pages_of_ten_blocks())"""
    printed = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    fresh, kept = map(int, printed.stdout.split())
    assert kept < fresh / 20
