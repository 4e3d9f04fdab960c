"""What is measured and logged during training, and what a machine without weights says."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image

from cgan.config import load_config
from cgan.data.scenes.dataset import Scenes
from cgan.data.sources import build_dataset
from cgan.evaluation import plan as training_measures
from cgan.evaluation.multi_object import JUDGES
from cgan.interfaces import UserError
from cgan.machine import session
from cgan.metrics.names import HIGHER, LOWER, PREFERRED, is_better, is_known
from cgan.models.generators import build_generator
from cgan.models.generators.base import GeneratorConfig
from cgan.models.text.lstm import LSTMConfig, LSTMTextEncoder, Vocabulary
from cgan.resources import STARTER_JOINT
from cgan.sampling.pipeline import TextToImage
from cgan.training.callbacks.evaluation import thinned
from cgan.training.callbacks.throughput import FETCHING, Stopwatch
from cgan.training.evaluation_callback import evaluation_callbacks
from cgan.training.panels import panel_name
from helpers import ROOT
from helpers.clip import save_clip
from helpers.runs import EVALUATED, script

FAST = [x for x in EVALUATED if not x.startswith(("trainer.images", "trainer.evaluate_every", "trainer.joint_images"))]
FAST += ["trainer.images=1280", "trainer.evaluate_every=640", "trainer.joint_images=64", "run_dir=run"]
MEASURED = {"scene_accuracy", "scene_accuracy_heldout", "frechet_distance", "r_precision", "clip_score"}
RUNNING = {
    "loss/generator", "loss/discriminator", "gradient_norm/generator", "gradient_norm/discriminator",
    "learning_rate/generator", "learning_rate/prior", "learning_rate/matrices", "learning_rate/discriminator",
    "images_per_second", "images_seen", "data_wait",
}  # fmt: skip


def plan_of(*arguments: str):
    return training_measures.plan_of(load_config(list(arguments)), print)


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No weights from outside, wherever the tests run."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("cgan.metrics.required_weights.answers", lambda url: False)
    monkeypatch.setattr("cgan.metrics.required_weights.is_cached", lambda name: False)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))


# ------------------------------------------------------------------------------------------------ what is chosen


def test_every_metric_knows_which_way_it_is_better():
    assert is_better("fid", 3.0, 4.0) and not is_better("fid", 4.0, 3.0)
    assert is_better("joint/r_precision", 0.4, 0.3) and is_better("scene_accuracy", 0.0, None)
    assert not is_better("fid", float("nan"), None) and not is_better("fid", float("nan"), 3.0)
    assert all(is_known(name) for name in HIGHER + LOWER + PREFERRED) and not is_known("fidd")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trainer.best_metric=fidd"], "no such metric"),
        (["trainer.best_metric=fidd", "trainer.evaluate_every=0"], "no such metric"),
        (["trainer.best_metric=fid"], "not measured in this run; choose one of scene_accuracy"),
        (["trainer.metrics=[scenes,fidd]"], "fidd is not one of scenes"),
        (["trainer.evaluation_images=3"], "take at least 8"),
        (["trainer.eval_joint_encoder=none.safetensors"], "no such file"),
        (["data.level=two", "trainer.metrics=[scenes,fid]"], "fid is not for data.level=two"),
        (["data.level=three", "trainer.metrics=[scenes,fid]"], "fid is not for data.level=three"),
    ],
)
def test_a_mistake_in_what_to_measure_is_one_line(arguments, said):
    with pytest.raises(UserError, match=said) as error:
        plan_of(*arguments)
    assert "\n" not in str(error.value)


ON_PIXELS = [
    "lattice", "spectrum", "copies", "pixels/training_distance", "joint/training_distance", "joint/seed_diversity",
]  # fmt: skip


def test_scenes_need_nothing_from_outside(capsys):
    plan = plan_of()
    assert plan.wanted == {"scenes", "r_precision", "spectrum"} and plan.followed(None) == "scene_accuracy"
    assert not capsys.readouterr().out


def test_missing_weights_are_a_line_each_and_the_joint_encoder_stands_in(capsys):
    plan = plan_of("data.source=folder", "data.root=x")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].startswith("without fid: ") and "trainer.inception=FILE" in lines[0]
    assert lines[1].startswith("without clip_score: ") and "hf download" in lines[1] and "trainer.clip=" in lines[1]
    assert plan.names() == ["joint/frechet_distance", "joint/r_precision", *ON_PIXELS]
    assert plan.followed(None) == "joint/r_precision"
    few = plan._replace(wanted=plan.wanted - {"r_precision"})  # where there are too few captions for it
    assert few.followed(None) == "joint/frechet_distance"
    assert plan.followed("joint/frechet_distance") == "joint/frechet_distance"


def test_a_clip_that_is_there_measures_captions_and_finds_them(tmp_path):
    plan = plan_of("data.source=folder", "data.root=x", f"trainer.clip={save_clip(tmp_path)}")
    assert {"clip_score", "joint/r_precision", "clip/r_precision"} <= set(plan.names())
    assert plan.followed(None) == "clip/r_precision"  # the generator is not trained against it


def test_the_joint_encoder_of_another_run_evaluates_without_flattering():
    plan = plan_of("data.source=folder", "data.root=x", f"trainer.eval_joint_encoder={STARTER_JOINT}")
    assert plan.names() == ["joint/frechet_distance", "r_precision", *ON_PIXELS]
    assert plan.followed(None) == "r_precision"


@pytest.mark.parametrize(("level", "part"), [("two", "relation_heldout"), ("three", "counts_heldout")])
def test_scenes_of_several_objects_have_a_scene_classifier_of_their_own(level, part, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(JUDGES, level, JUDGES[level]._replace(classifier=tmp_path / "judge"))
    assert plan_of(f"data.level={level}") is None and f"cgan judge --level {level}" in capsys.readouterr().out
    (tmp_path / "judge").touch()
    plan = plan_of(f"data.level={level}")
    assert plan.followed(None) == f"{level}_object_accuracy" and {"colour_binding", part} <= set(plan.names())


def test_nothing_is_planned_when_nothing_is_measured():
    assert plan_of("trainer.evaluate_every=0") is None and plan_of("trainer.metrics=[]") is None


def test_the_table_keeps_the_first_and_the_latest_checkpoints():
    columns = []
    for i in range(100):
        columns = thinned([*columns, i])
        assert columns[0] == 0 and columns[-1] == i and len(columns) <= 24


def test_the_stopwatch_counts_the_wait_for_batches_alone(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    watch = Stopwatch()
    for action in (FETCHING, "run_training_batch", FETCHING):
        with watch.profile(action):
            now[0] += 2.0
    assert watch.waited == 4.0


# ------------------------------------------------------------------------------------------------ a run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, str]:
    """The run directory of a tiny training on scenes with a tiny CLIP, as by default otherwise; what was printed."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "clip").mkdir()
    clip = save_clip(folder / "clip")
    model = transformers.CLIPModel.from_pretrained(clip)
    model.visual_projection.weight.data *= -1  # so that pictures score above 0
    model.save_pretrained(clip)
    asked = ["trainer.metrics=[scenes,r_precision,clip_score,fid]", "trainer.best_metric=frechet_distance"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # where nobody answers, so that nothing is downloaded
        patch.setenv("TORCH_HOME", str(folder))
        ended = script("train.py", *FAST, *asked, f"trainer.clip={clip}", cwd=folder)
    assert ended.returncode == 0, ended.stderr
    return folder / "run", ended.stdout


def records(run: Path) -> list[dict]:
    """What W&B's own command reads from the files of an offline run."""
    (folder,) = run.glob("wandb/offline-run-*")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
    return [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]


@pytest.mark.slow
def test_wandb_holds_settings_losses_norms_rates_metrics_and_pictures(run):
    rows = records(run[0])
    history = set().union(*(row["history"]["item"] for row in rows if row["type"] == "history"))
    assert {panel_name(name) for name in RUNNING | MEASURED | {"evaluation_seconds", "health/diversity"}} <= history
    (settings,) = (row["config"]["update"] for row in rows if row["type"] == "config" and "gan" in json.dumps(row))
    assert settings["gan"]["ema_half_life"] == 10_000 and settings["data"]["resolution"] == 32
    assert settings["session"]["processor"] == session()["processor"] and "commit" in settings["session"]
    axes = [row["metric"].get("step_metric") for row in rows if row["type"] == "metric"]
    assert axes[-1] == "images_seen"
    *_, table = (row["artifact"] for row in rows if row["type"] == "artifact" and row["artifact"]["type"] != "model")
    kept = {file["path"]: Path(file["local_path"]) for file in table["manifest"]["contents"]}
    table = json.loads(kept["samples/captions.table.json"].read_text())
    assert table["columns"] == ["caption", "640 images", "1280 images"] and len(table["data"]) == 8
    for _, *pictures in table["data"]:
        assert all(Image.open(kept[picture["path"]]).size == (32, 32) for picture in pictures)
    assert all(run[0] in path.parents for path in kept.values())


@pytest.mark.slow
def test_wandb_has_a_slider_best_values_models_with_metrics_and_an_alert_at_the_end(run, tmp_path):
    rows = records(run[0])
    history = [row["history"]["item"] for row in rows if row["type"] == "history"]
    seen = [row["images_seen"] for row in history]
    assert seen == sorted(set(seen)) == [row["_step"] for row in history]
    assert [row["images_seen"] for row in history if "samples/grid._type" in row] == [32, 800, 1280]
    assert [row["images_seen"] for row in history if "samples/captions._type" in row] == [640, 1280]
    best = {row["metric"]["name"]: row["metric"]["summary"] for row in rows if "summary" in row.get("metric", {})}
    assert best["eval/scene_accuracy"] == {"max": True} and best["eval/frechet_distance"] == {"min": True}
    models = [row["artifact"] for row in rows if row["type"] == "artifact" and row["artifact"]["type"] == "model"]
    assert {alias for model in models for alias in model["aliases"]} == {"best", "last", "latest"}
    values = [row["eval/frechet_distance"] for row in history if "eval/frechet_distance" in row]
    (chosen,) = (model for model in models if "best" in model["aliases"])
    assert json.loads(chosen["metadata"])["frechet_distance"] == pytest.approx(min(values))
    (file,) = chosen["manifest"]["contents"]
    weights = Path(shutil.copy(file["local_path"], tmp_path / file["path"]))
    assert TextToImage.load(weights).generator.resolution == 32
    (alert,) = (row["alert"] for row in rows if row["type"] == "alert")
    assert alert["title"] == "run: finished" and "scene_accuracy" in alert["text"]


@pytest.mark.slow
def test_the_csv_file_holds_the_same_names(run):
    rows = list(csv.DictReader((run[0] / "metrics.csv").open()))
    assert RUNNING | MEASURED | {"evaluation_seconds"} <= set(rows[0])
    running = [row for row in rows if row["loss/generator"]]
    assert running and all(row["gradient_norm/generator"] and row["images_seen"] for row in running)
    assert all(0 <= float(row["data_wait"]) < 1 and float(row["images_per_second"]) > 0 for row in running)
    measured = {float(row["images_seen"]): float(row["clip_score"]) for row in rows if row["clip_score"]}
    assert list(measured) == [640, 1280] and min(measured.values()) > 0


@pytest.mark.slow
def test_missing_weights_are_said_before_training_and_measures_while_it_goes_on(run):
    lines = run[1].splitlines()
    missing, planned = (next(i for i, x in enumerate(lines) if x.startswith(s)) for s in ("without fid", "evaluating"))
    first = next(i for i, line in enumerate(lines) if line.startswith("evaluated 64 captions in "))
    assert (
        missing < planned < first
        and "clip_score" in lines[first]
        and "best.ckpt follows frechet_distance" in lines[planned]
    )


@pytest.mark.slow
def test_the_best_checkpoint_follows_the_metric_that_is_asked_for(run):
    rows = [row for row in csv.DictReader((run[0] / "metrics.csv").open()) if row["frechet_distance"]]
    best = min(rows, key=lambda row: float(row["frechet_distance"]))
    state = torch.load(run[0] / "best.ckpt", weights_only=True)
    assert int(state["images_seen"]) == float(best["images_seen"])
    assert state["callbacks"]["Measures"]["best"] == float(best["frechet_distance"])


@pytest.mark.slow
def test_where_nothing_is_measured_nothing_is_loaded_for_it(tmp_path):
    code = f"""import sys; sys.path.insert(0, {str(ROOT)!r})
from cgan.cli.train import main
main({[*FAST, "trainer.evaluate_every=0", "trainer.images=64", "trainer.wandb=disabled"]!r})
heavy = "training.callbacks.evaluation evaluation.scenes evaluation.images metrics.quality metrics.features".split()
print([name for name in heavy if f"cgan.{{name}}" in sys.modules])"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert ended.stdout.splitlines()[-1] == "[]", ended.stderr
    assert not (tmp_path / "run/best.ckpt").exists()


# ------------------------------------------------------------------------------------------------ other data


@pytest.fixture
def drawn(tmp_path, monkeypatch) -> tuple:
    """A folder of 12 pictures, its settings with a tiny CLIP, and a run directory with a joint encoder."""
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "pictures").mkdir()
    (tmp_path / "clip").mkdir()
    for i, picture in enumerate(Scenes(12, 32).pictures):
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{i}.png")
        (tmp_path / "pictures" / f"{i}.txt").write_text(f"picture {i}")
    (tmp_path / "joint.safetensors").write_bytes(STARTER_JOINT.read_bytes())
    arguments = ["data.source=folder", f"data.root={tmp_path / 'pictures'}", "data.resolution=32"]
    return tmp_path, [*arguments, f"trainer.clip={save_clip(tmp_path / 'clip')}"]


def test_other_data_is_measured_on_its_own_pictures_by_the_names_that_were_planned(drawn, capsys):
    folder, arguments = drawn
    config = load_config(arguments)
    plan, dataset = training_measures.plan_of(config), build_dataset(config.data)
    (evaluation,) = evaluation_callbacks(plan, config, dataset, folder, ["a"], lambda done, total: None, print)
    lines = capsys.readouterr().out.splitlines()
    assert "without r_precision: 12 different captions are too few to find 99 wrong ones" in lines
    by = f"frechet_distance by the joint encoder; clip_score by CLIP {config.trainer.clip}; spectrum by pixels; "
    by += "memorization by pixels and the joint encoder"
    assert lines[-1] == f"evaluating 12 captions every 40,000 images: {by}; best.ckpt follows clip_score"
    vocabulary = Vocabulary(["picture"])
    generator = build_generator(GeneratorConfig(noise_dim=4, style_dim=4, width=4, max_channels=4), 32, 8).eval()
    text_encoder, heard = LSTMTextEncoder(LSTMConfig(dim=8, embedding_dim=4), vocabulary).eval(), []
    evaluator = evaluation.evaluator
    values = evaluator.evaluate(generator, text_encoder, lambda done, total: heard.append((done, total)))
    assert set(values) == set(evaluator.names) == {"joint/frechet_distance", "clip_score", *ON_PIXELS}
    assert evaluator.num_captions == 12 and heard[-1] == (12, 12)


def test_pictures_kept_out_of_training_are_those_that_are_compared(drawn):
    config = load_config([*drawn[1], "data.test_images=9"])
    dataset = build_dataset(config.data)
    eval_set = training_measures.eval_set_for(config, dataset)
    training = {caption for i in range(len(dataset)) for caption in dataset.captions_of(i)}
    assert len(eval_set.captions) == 9 and not set(eval_set.captions) & training
