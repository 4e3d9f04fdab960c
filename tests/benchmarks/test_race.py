import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from pytorch_lightning.loggers import CSVLogger

from cgan.benchmarks.race import (
    Race,
    finished,
    gan_result,
    read_race,
    run_of,
    runs_of,
    train_all,
    wandb_variables,
)
from cgan.benchmarks.race_report import curve, curves, footnote, measures_of, summary, write_report
from cgan.benchmarks.significance import paired_difference, share_within, spread, t_quantile
from cgan.cli.benchmark import main
from cgan.figures.plots import Line
from cgan.files import write_json
from cgan.interfaces import UserError
from helpers import ROOT
from helpers.runs import script

JOINT = ROOT / "configs/joint/scenes.yaml"
TINY = """data.num_images=64 data.resolution=32 data.test_images=12 trainer.joint_images=1024
    trainer.joint_batch_size=32 trainer.joint_minutes=null trainer.precision=32-true joint.image.width=8
    joint.decoder.width=4 joint.decoder.max_channels=16 joint.decoder.hidden_dim=32""".split()

# ---------------------------------------------------------------------------------------------- statistics


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (10, 2.2281), (30, 2.0423)])
def test_t_quantiles_are_those_of_printed_tables(freedom, quantile):
    assert t_quantile(freedom) == pytest.approx(quantile, abs=1e-4)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 12])
def test_the_share_within_t_is_the_integral_of_students_density(freedom):
    t, constant = np.linspace(-2, 2, 4001), math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2)
    density = constant / math.sqrt(freedom * math.pi) * (1 + t**2 / freedom) ** (-(freedom + 1) / 2)
    assert share_within(2.0, freedom) == pytest.approx(np.trapezoid(density, t), abs=1e-6)


def test_a_paired_interval_is_mean_and_t_times_standard_error():
    difference = paired_difference([1.0, 2.0, 6.0], [0.0, 0.0, 3.0])  # 1, 2, 3: mean 2, deviation 1
    half = 4.302653 / math.sqrt(3)
    assert difference == pytest.approx((2, 2 - half, 2 + half), abs=1e-5)
    assert not difference.beyond_noise


def test_what_a_seed_does_to_both_alike_is_not_noise():
    base = [0.1, 0.5, 0.9]
    assert paired_difference([value + 0.01 + i * 0.001 for i, value in enumerate(base)], base).beyond_noise
    assert not paired_difference(base, base).beyond_noise


def test_one_seed_has_no_deviation_no_interval_and_no_mark():
    difference = paired_difference([3.0], [1.0])
    assert difference == (2.0, None, None) and not difference.beyond_noise and spread([3.0]) == (3.0, None)


# ---------------------------------------------------------------------------------------------- race files


def race_file(folder: Path, text: str = "variants: {default: []}", config: Path = JOINT) -> Path:
    path = folder / "race.yaml"
    path.write_text(f"config: {config}\n{text}\n")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "configs/race").glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_race_can_be_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    runs = runs_of(read_race(path, []), tmp_path)
    budgets = {(run.config.trainer.joint_images, run.config.trainer.joint_minutes) for run in runs}
    assert len(runs) > 1 and len(budgets) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("variant: {a: []}", "Did you mean"),
        ("variants: {}", "there are none"),
        ("seeds: [0]", "variants"),
        ("variants: {a: x=1}", "variants"),
        ("variants: {a: []}\nseeds: [one]", "seeds"),
        ("variants: {a: []}\nseeds: []", "at least one"),
        ("variants: {a: []}\nseeds: [1, 1]", "different numbers"),
        ("variants: {hardest: []}\nbaseline: hardes", "Did you mean: 'hardest'"),
        ("variants: {a: [joint.negative=all]}", "variant 'a': joint.negative=all"),
        ("variants: {a: [], b: [seed=3]}", "seed=3: the race sets it"),
        ("variants: {a b: [], a-b: []}", "same file name"),
        ("variants: {a: [], b: [task=gan]}", "task=gan"),
        ("variants: {a: [data.test_images=0]}", "data.test_images"),
        ("variants: {a: [", "race.yaml"),
    ],
)
def test_a_mistake_in_a_race_file_is_one_line_before_anything_is_trained(text, said, tmp_path):
    with pytest.raises(UserError) as error:
        main(["quality", str(race_file(tmp_path, text)), "--out", str(tmp_path / "out")])
    assert said in str(error.value) and "\n" not in str(error.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["quality", "none.yaml"], "no such race file"),
        (["qualty"], "quality"),
        (["quality", str(ROOT / "configs/race/joint-scenes.yaml"), "--jobs", "0"], "--jobs=0"),
    ],
)
def test_a_mistake_in_the_arguments_is_one_line(arguments, said):
    with pytest.raises(UserError, match=said):
        main(arguments)


def test_a_plan_names_every_run_and_the_time_of_all(tmp_path, capsys):
    path = race_file(tmp_path, "variants: {a: [], b: [joint.negatives=hardest]}\nseeds: [4, 5]")
    main(["quality", str(path), "--jobs", "2", "--plan", "trainer.joint_minutes=3", "--out", str(tmp_path / "out")])
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and all("trainer.joint_minutes=3" in line for line in lines)
    assert "joint.negatives=hardest seed=5" in lines[3] and "4 runs to train: 6.0 minutes" in last


def test_seeds_change_the_training_and_not_the_pictures(tmp_path):
    runs = runs_of(Race(str(JOINT), {"a": []}, seeds=[3, 4]), tmp_path)
    assert [run.config.seed for run in runs] == [3, 4] and runs[0].config.data == runs[1].config.data


# ---------------------------------------------------------------------------------------------- running


def finish(run, **measures: float) -> None:
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    result = {"variant": run.variant, "seed": run.seed, "seconds": 1.0, "measures": measures}
    write_json(run.result, result | {"config": asdict(run.config)})


def test_finished_runs_are_not_trained_again(tmp_path, capsys):
    runs = runs_of(Race(str(JOINT), {"a": []}), tmp_path)
    for run in runs:
        finish(run, agreement=0.5)
    before = [run.result.stat().st_mtime_ns for run in runs]
    assert train_all(runs, jobs=1) == [] and [run.result.stat().st_mtime_ns for run in runs] == before
    assert not list(tmp_path.glob("*.log")) and finished(runs[0])["measures"] == {"agreement": 0.5}


def test_a_result_of_other_settings_is_not_taken_for_the_one_asked(tmp_path):
    finish(run_of(Race(str(JOINT), {"a": []}), tmp_path, "a", 0), agreement=0.5)
    with pytest.raises(UserError, match="another trainer.joint_minutes"):
        finished(run_of(Race(str(JOINT), {"a": ["trainer.joint_minutes=9"]}), tmp_path, "a", 0))


@pytest.mark.slow
def test_a_failed_run_is_one_line_and_the_others_go_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    text = "variants: {broken: [joint.encoders=clip], good: []}\nseeds: [0]"
    path = race_file(tmp_path, text)
    out = tmp_path / "out"
    runs = runs_of(read_race(path, TINY), out)
    finish(runs[1], agreement=0.5)
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="1 of 2 runs failed: broken-0"):
        main(["quality", str(path), *TINY, "--out", str(out)])
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("failed: broken-0")]
    assert len(failed) == 1 and "joint.clip" in failed[0] and str(runs[0].log) in failed[0]
    assert "good" in (out / "table.md").read_text()


# ---------------------------------------------------------------------------------------------- results


def results_of(values: dict[str, list[float]]) -> list[dict]:
    return [
        {"variant": variant, "seed": seed, "measures": {"agreement": value, "ceiling/x": 1.0}}
        for variant, numbers in values.items()
        for seed, value in enumerate(numbers)
    ]


def test_a_table_states_means_deviations_and_marked_differences(tmp_path):
    race = Race("x", {"base": [], "better": [], "other": []}, baseline="base")
    results = results_of({"base": [0.1, 0.2, 0.3], "better": [0.61, 0.7, 0.79], "other": [0.3, 0.1, 0.2]})
    table = write_report(race, results, jobs=1, out=tmp_path)
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[0] == "| variant | agreement | images seen |"
    assert lines[2:5] == [
        "| base | 0.200 ± 0.100 |  |",
        "| better | 0.700 ± 0.090 (+0.500*) |  |",
        "| other | 0.200 ± 0.100 (+0.000) |  |",
    ]
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["summary"]["better"]["agreement"]["difference"]["beyond_noise"] is True
    assert written["protocol"]["race"]["seeds"] == [0, 1, 2] and written["protocol"]["torch"]
    assert "0.700" in table.rows[1][1] and (tmp_path / "table.md").read_text() == table.markdown()


def test_only_common_seeds_are_compared_and_only_common_measures_shown_by_default():
    race = Race("x", {"base": [], "short": []}, baseline="base")
    results = results_of({"base": [0.0, 5.0, 0.0], "short": [1.0]})
    results[-1]["seed"] = 2
    results[0]["measures"]["extra"] = 1.0
    assert measures_of(race, results) == ["agreement"]
    assert summary(race, results, ["agreement"])["short"]["agreement"].difference == (1.0, None, None)


def test_with_one_seed_the_note_says_that_noise_is_unknown():
    race, results = Race("x", {"a": []}, baseline="a"), results_of({"a": [1.0]})
    assert "nothing is known about noise" in footnote(race, results, summary(race, results, ["agreement"]))


def test_a_measure_that_no_run_reports_is_one_line_after_the_table(tmp_path):
    path = race_file(tmp_path, "variants: {a: []}\nseeds: [0]\nmeasures: [agreement, agreemnt]")
    for run in runs_of(read_race(path, TINY), tmp_path / "out"):
        finish(run, agreement=0.5)
    with pytest.raises(UserError, match="no run reports 'agreemnt'. Did you mean: 'agreement'"):
        main(["quality", str(path), *TINY, "--out", str(tmp_path / "out")])
    assert "0.500" in (tmp_path / "out/table.md").read_text()


def test_of_a_gan_the_last_measures_and_their_curve_are_read(tmp_path):
    run = run_of(Race(str(ROOT / "configs/gan/scenes.yaml"), {"a": []}), tmp_path, "a", 0)
    logger = CSVLogger(run.folder, name="", version="")
    for seen, accuracy in ((32, 0.1), (64, 0.3)):
        logger.log_metrics({"loss/generator": 1.0, "images_per_second": 9.0, "images_seen": seen - 1}, seen)
        logger.log_metrics({"scene_accuracy": accuracy, "images_seen": seen, "training_minutes": seen / 8}, seen)
        logger.log_metrics({"health/diversity": 0.5, "images_seen": seen}, seen)
    logger.log_metrics({"loss/generator": 1.0, "images_per_second": 9.0, "images_seen": 70}, 70)
    logger.save()
    result = gan_result(run)
    assert result["measures"] == {"scene_accuracy": 0.3} and result["images_seen"] == 70
    first, last = {"images_seen": 32, "minutes": 4.0, "scene_accuracy": 0.1}, {"images_seen": 64, "scene_accuracy": 0.3}
    assert result["curve"] == [first, last | {"minutes": 8.0}]


def test_a_curve_is_the_mean_over_seeds_as_far_as_all_went():
    points = [[(10, 0.0), (20, 1.0), (40, 3.0)], [(10, 2.0), (20, 3.0), (30, 4.0)]]
    results = [
        {"variant": "a", "seed": i, "curve": [{"images_seen": x, "accuracy": y} for x, y in seed]}
        for i, seed in enumerate(points)
    ]
    line = curve("a", results, "accuracy")
    assert line == Line("a", [10, 20, 30], [1, 2, 3], [0, 1, 2], [2, 3, 4])
    assert curve("b", results, "accuracy") is None
    (panel,) = curves(Race("x", {"a": []}), results, ["accuracy"]).axes
    assert panel.get_xlabel() == "images seen" and panel.lines[0].get_xydata().tolist() == [[10, 1], [20, 2], [30, 3]]


def test_where_minutes_are_known_there_are_curves_over_them_as_well():
    points = [{"images_seen": 10 * i, "minutes": float(i), "accuracy": i / 4} for i in range(1, 4)]
    results = [{"variant": "a", "seed": 0, "curve": points}]
    assert curve("a", results, "accuracy", "minutes").x == [1, 2, 3]
    panels = curves(Race("x", {"a": []}), results, ["accuracy"]).axes
    assert [panel.get_xlabel() for panel in panels] == ["images seen", "minutes of training"]


# ---------------------------------------------------------------------------------------------- the whole


@pytest.mark.slow
def test_a_race_trains_its_variants_goes_on_where_it_stopped_and_ends_in_a_table(tmp_path):
    text = "variants: {InfoNCE: [], no reconstruction: [joint.picture_weight=0, joint.caption_weight=0]}\nseeds: [0]"
    path, out = race_file(tmp_path, text), tmp_path / "out"
    command = ["cgan/__main__.py", "benchmark", "quality", str(path), *TINY, "--jobs", "2", "--out", str(out)]
    ended = script(*command, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    written = json.loads((out / "results.json").read_text())
    assert [(r["variant"], r["seed"], r["images_seen"]) for r in written["runs"]] == [
        ("InfoNCE", 0, 1024),
        ("no reconstruction", 0, 1024),
    ]
    assert {"agreement", "text_to_image/recall@1"} <= set(written["summary"]["InfoNCE"])
    assert "caption_accuracy" not in written["summary"]["InfoNCE"]  # without a decoder there is none
    (out / "InfoNCE-0.json").unlink()
    ended = script(*command, cwd=tmp_path)
    assert ended.returncode == 0 and "1 of 2 runs were finished before" in ended.stdout
    assert ended.stdout.count("trained and evaluated") == 1
    again = json.loads((out / "results.json").read_text())["runs"]
    assert [run["measures"] for run in again] == [run["measures"] for run in written["runs"]]


@pytest.mark.slow
def test_a_race_of_gans_shares_a_joint_encoder_and_ends_in_measures_and_curves(tmp_path):
    tiny = """data.num_images=64 data.resolution=32 trainer.images=192 trainer.minutes=null trainer.evaluate_every=96
        trainer.evaluation_images=8 trainer.precision=32-true gan.generator.width=4 gan.generator.max_channels=16
        gan.discriminator.width=4 gan.discriminator.max_channels=16""".split()
    settings = ["trainer.joint_images=512", "joint.image.width=8", "joint.coattention_weight=0.5", "data.test_images=0"]
    trained = script("train.py", str(JOINT), *tiny[:2], *settings, "run_dir=joint", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    variants = f"default: [], AttnGAN: [{ROOT / 'configs/race/recipes/attngan.yaml'}]"
    path = race_file(tmp_path, f"variants: {{{variants}}}\nseeds: [0]", ROOT / "configs/gan/scenes.yaml")
    arguments = [*tiny, "joint.checkpoint=joint/joint.safetensors", "--out", "out"]
    ended = script("cgan/__main__.py", "benchmark", "quality", str(path), *arguments, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    runs = json.loads((tmp_path / "out/results.json").read_text())["runs"]
    assert [(run["variant"], run["images_seen"]) for run in runs] == [("default", 192), ("AttnGAN", 192)]
    for run in runs:
        assert {"scene_accuracy", "frechet_distance", "scene_classifier/kernel_distance", "r_precision"} <= set(
            run["measures"]
        )
        assert [point["images_seen"] for point in run["curve"]] == [96, 192] and run["curve"][-1]["minutes"] > 0
    assert (tmp_path / "out/curves.png").is_file()


def test_runs_of_a_race_are_a_group_in_wandb_with_variant_and_seed_as_tags(tmp_path, monkeypatch):
    for name in ("WANDB_TAGS", "WANDB_RUN_GROUP"):
        monkeypatch.delenv(name, raising=False)
    (run,) = runs_of(Race(str(JOINT), {"a, b": []}, seeds=[3]), tmp_path / "race-x", "offline")
    assert run.config.trainer.wandb == "offline"
    assert wandb_variables(run) == {"WANDB_RUN_GROUP": "race-x", "WANDB_TAGS": "a  b,seed 3"}
    monkeypatch.setenv("WANDB_TAGS", "mine")
    assert wandb_variables(run)["WANDB_TAGS"] == "mine,a  b,seed 3"
