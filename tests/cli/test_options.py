"""Options of commands: what others make idle is refused, numbers have ranges, and outputs are tried before the work."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cgan.cli import benchmark, caption, evaluate, export, judge, plot, prepare, retrieve, sample
from cgan.errors import UserError
from cgan.resources import STARTER_GAN
from helpers import ROOT

RACE = ROOT / "configs/race/joint-scenes.yaml"


def test_a_race_has_no_against():
    with pytest.raises(UserError, match="--against"):
        benchmark.main(["quality", str(RACE), "--against", "gan.generator.width=8"])


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        (benchmark, "speed --plan --against a=1", "--against is not used with --plan"),
        (benchmark, "speed --plan --grow width", "--grow is not used with --plan"),
        (benchmark, "speed --gpus 2", "--gpus is not used without --plan"),
        (benchmark, "speed --tflops 3", "--tflops is not used without --plan"),
        (benchmark, "speed --against a=1 --grow width", "--grow is not used with --against"),
        (evaluate, "a.ckpt --resolution 64", "resolution is not used with a checkpoint"),
        (evaluate, "--images a --truncation 0.5", "truncation is not used with images"),
        (evaluate, "--images a --reference b --num-images 9", "num_images is not used with reference"),
        (evaluate, "--write-captions ids.json --metrics fid", "--metrics is not used with --write-captions"),
        (evaluate, "a.ckpt --data data.level=two --clip x", "clip is not used with data.level=two"),
        (sample, "--again a.png --seed 3", "--seed is not used with --again"),
        (sample, "--again a.png --grid", "--grid is not used with --again"),
        (sample, "dog --joint x.safetensors", "--joint is not used without --best-of"),
        (sample, "dog --best-of 2 --batch-size 4", "--batch-size is not used with --best-of"),
        (sample, "dog cat --interpolate 4 --batch-size 4", "--batch-size is not used in an interpolation"),
        (sample, "dog --between-seeds 1 2 --seed 3", "--seed is not used with --between-seeds"),
        (retrieve, "--image a.png --captions b.txt --index c.safetensors", "--index is not used without --images"),
        (prepare, "--check . --size 32", "--size is not used with --check"),
        (export, "a.ckpt b.safetensors --license other", "--license is not used for weights alone"),
        (judge, "--young-images 3", "--young-images is not used without --young"),
    ],
)
def test_an_option_that_does_nothing_is_refused(command, arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        command.main(arguments.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        (evaluate, "a.ckpt --seed -1", "seed=-1"),
        (evaluate, "a.ckpt --seed 4294967296", "seed=4294967296"),
        (evaluate, "a.ckpt --truncation nan", "truncation=nan"),
        (evaluate, "a.ckpt --num-images 0", "num_images=0"),
        (evaluate, "--images a --resolution 0", "resolution=0"),
        (benchmark, "guidance a.ckpt --seed -1", "seed=-1"),
        (judge, "--images 0", "--images=0"),
        (judge, "--seed 4294967295", "--seed=4294967295"),
        (sample, "dog --seed 4294967296", "a seed is not from 0"),
    ],
)
def test_numbers_have_ranges(command, arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said) as error:
        command.main(arguments.split())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("command", "arguments", "work"),
    [
        (evaluate, "a.ckpt --out folder", "cgan.evaluation.run.evaluate"),
        (evaluate, "a.ckpt --out file/a.json", "cgan.evaluation.run.evaluate"),
        (evaluate, "--write-captions folder --data data.source=coco", "cgan.evaluation.images.fixed_caption_ids"),
        (plot, "run --out file/a.png", "cgan.training.curves.curves_of"),
        (plot, "run --out folder.png", "cgan.training.curves.curves_of"),
        (retrieve, "dog --images folder --out file/a.png", "cgan.retrieval.open_index"),
        (retrieve, "dog --images folder --out file/sheets", "cgan.retrieval.open_index"),
        (retrieve, "dog --images folder --index file/a.safetensors", "cgan.retrieval.open_index"),
        (judge, "--out file/a.safetensors", "cgan.evaluation.scene_classifier_training.draw_examples"),
        (benchmark, "guidance a.ckpt --out file/out", "cgan.benchmarks.guidance.TextToImage.load"),
        (benchmark, "speed --json folder", "cgan.benchmarks.speed.measure_speed"),
        (benchmark, "quality race.yaml --out file/out", "cgan.benchmarks.race_run.train_all"),
        (sample, f"dog --checkpoint {STARTER_GAN} --out file/a.png", "cgan.sampling.writing.sample_pictures"),
        (sample, f"dog --checkpoint {STARTER_GAN} --out file/drawn", "cgan.sampling.writing.sample_pictures"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_the_work(command, arguments, work, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("folder", "folder.png"):
        Path(name).mkdir()
    Path("file").write_text("")
    Path("run").mkdir()
    Path("one.yaml").write_text("seed: 1\n")
    Path("race.yaml").write_text("config: one.yaml\nvariants: {default: []}\n")
    Path("run/metrics.csv").write_text("images_seen,fid\n1,2\n2,3\n")
    monkeypatch.setattr(work, lambda *_, **__: pytest.fail("worked"))
    with pytest.raises(UserError, match="can't be written: ") as error:
        command.main(arguments.split())
    assert "\n" not in str(error.value) and not list(Path().rglob("*.tmp"))


def test_captions_and_searches_use_a_gpu_where_there_is_one(tmp_path, monkeypatch, capsys):
    from cgan.models.joint import JointEncoder

    sent, load, move = [], JointEncoder.load, JointEncoder.to
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CGAN_CACHE", "cache")
    Path("pictures").mkdir()
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save("pictures/a.png")
    monkeypatch.setattr(JointEncoder, "to", lambda self, device: sent.append(device) or move(self, "cpu"))
    monkeypatch.setattr("cgan.retrieval.embedding.JointEncoder.load", lambda path: load(path))
    for present in (False, True):
        monkeypatch.setattr("torch.cuda.is_available", lambda present=present: present)
        caption.main(["pictures/a.png"])
        retrieve.main(["dog", "--images", "pictures"])
    assert sent == ["cpu", "cpu", "cuda", "cuda"]
