"""cgan runs, plot, env and completion."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from cgan.__main__ import dispatch, main
from cgan.cli import completion, env, plot, runs
from cgan.cli.benchmark import SUBJECTS
from cgan.cli.commands import VERBS, parser_of_verb
from cgan.config import RunConfig, load_config
from cgan.figures.plots import DPI, HEIGHT, WIDTH
from cgan.interfaces import UserError
from cgan.training.curves import MOST_POINTS, Curves, curves_of, smooth
from cgan.training.resume import budget, is_finished
from cgan.training.run_lock import give_back, is_under_way, take
from cgan.training.run_records import minutes_of, read_run, rows_of, runs_in, state
from helpers import ROOT


def write_run(folder: Path, settings: list[str], rows: list[dict], progress: dict | None = None) -> Path:
    """A run directory as train.py leaves it."""
    folder.mkdir(parents=True)
    OmegaConf.save(OmegaConf.structured(load_config(settings)), folder / "config.yaml")
    names = sorted({name for row in rows for name in row})
    lines = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
    (folder / "metrics.csv").write_text("\n".join(map(",".join, lines)) + "\n")
    if progress is not None:
        (folder / "progress.json").write_text(json.dumps(progress))
    return folder


def losses(num: int, images: int = 320, pace: float = 100.0) -> list[dict]:
    """Rows as a GAN logs them, with a noisy loss that falls."""
    noise = np.random.default_rng(0).normal(0, 0.1, num)
    return [
        {
            "images_seen": float(images * (i + 1)),
            "images_per_second": pace,
            "loss/generator": 1 / (1 + i) + noise[i],
            "loss/discriminator": 1.5 + noise[-1 - i],
            "step": 20 * i + 19,
        }
        for i in range(num)
    ]


def measured(seen: float, accuracy: float, heldout: float, seconds: float = 30.0) -> dict:
    values = {"scene_accuracy": accuracy, "scene_accuracy_heldout": heldout, "frechet_distance": 900 - seen / 100}
    return values | {"images_seen": seen, "evaluation_seconds": seconds}


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """A folder with two runs and three things that are none."""
    monkeypatch.chdir(tmp_path)
    rows = [*losses(30), measured(9600.0, 0.4, 0.3), *losses(60)[30:], measured(19200.0, 0.3, 0.35)]
    done = {"joint": {"images_seen": 256}, "gan": {"images": 19200, "minutes": None}}
    write_run(tmp_path / "runs/scenes-20261124-120000", ["trainer.images=19200"], rows, done)
    pairs = {"agreement": 0.9, "image_to_text/recall@1": 0.6, "text_to_image/recall@1": 0.4}
    joint = [{"images_seen": 1280.0, "images_per_second": 64.0, "loss/contrastive": 2.0}, pairs]
    write_run(tmp_path / "runs/race/joint-20261125-120000", ["task=joint"], joint)
    (tmp_path / "runs/pictures").mkdir()
    (tmp_path / "runs/broken").mkdir()
    (tmp_path / "runs/broken/config.yaml").write_text("task: [")
    (tmp_path / "runs/foreign").mkdir()
    (tmp_path / "runs/foreign/config.yaml").write_text("model: other\n")
    return tmp_path


def listed(capsys, *arguments: str) -> tuple[list[dict], str]:
    runs.main([*arguments, "--json"])
    printed = capsys.readouterr()
    return json.loads(printed.out), printed.err


# ---------------------------------------------------------------------------------------------- runs


def test_runs_are_listed_newest_first_with_what_they_reached(workplace, capsys):
    (joint, gan), _ = listed(capsys)
    assert joint["name"] == "joint-20261125-120000" and gan["name"] == "scenes-20261124-120000"
    assert gan["started"] == "2026-11-24T12:00:00" and gan["images_seen"] == 19200 and gan["state"] == "finished"
    assert gan["best"]["scene_accuracy"] == 0.4 and gan["best_at_images"] == 9600
    assert list(gan["best"])[0] == "scene_accuracy" and gan["best"]["scene_accuracy_heldout"] == 0.3
    assert gan["minutes"] == pytest.approx((19200 / 100 + 2 * 30) / 60, abs=0.01)
    assert gan["bytes"] == sum(file.stat().st_size for file in Path(gan["path"]).rglob("*"))
    assert joint["best"] == {"agreement": 0.9, "image_to_text/recall@1": 0.6, "text_to_image/recall@1": 0.4}
    assert joint["loss"] == {"contrastive": 2.0} and joint["state"] == "stopped"


def test_what_is_no_run_is_passed_over_with_a_word(workplace, capsys):
    _, said = listed(capsys)
    lines = said.splitlines()
    assert len(lines) == 3 and all(line.startswith("passed over: ") for line in lines)
    assert all(f"runs/{name}" in said for name in ("pictures", "broken", "foreign"))


def test_the_table_holds_every_run(workplace, capsys):
    runs.main([])
    out = capsys.readouterr().out
    assert "scenes-20261124-120000" in out and "0.4" in out and "finished" in out and "19,200" in out
    assert out.index("joint-2026") < out.index("scenes-2026")


def test_without_runs_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments in ([], ["--json"], ["elsewhere"]):
        with pytest.raises(UserError, match="no such folder"):
            runs.main(arguments)


@pytest.mark.parametrize("images", [64, 128])
@pytest.mark.parametrize("progress", [{}, {"gan": {"images": 64, "minutes": None}}, {"joint": {"images_seen": 1}}])
@pytest.mark.parametrize("task", ["gan", "joint"])
def test_a_run_is_finished_where_resuming_says_so(tmp_path, task, progress, images):
    settings = [f"task={task}", f"trainer.images={images}"]
    run = write_run(tmp_path / "run", settings, losses(2), progress)
    assert (state(read_run(run)) == "finished") == is_finished(run, load_config(settings))
    assert set(budget(load_config([]))) == {"images", "minutes"}


def test_a_run_is_under_way_as_long_as_its_process_lives(tmp_path):
    run = write_run(tmp_path / "run", [], losses(2))
    code = f"from pathlib import Path; from cgan.training.run_lock import *; held = take(Path({str(run)!r}));"
    command = [sys.executable, "-c", f"{code} print('marked', flush=True); input()"]
    with subprocess.Popen(command, cwd=ROOT, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout.readline() == "marked\n"
        assert state(read_run(run)) == "under way"
        process.kill()  # it can't clean up
    assert state(read_run(run)) == "stopped"


def test_to_look_does_not_take_the_mark(tmp_path):
    assert not is_under_way(tmp_path)
    lock = take(tmp_path)
    assert is_under_way(tmp_path) and is_under_way(tmp_path)
    give_back(tmp_path, lock)
    assert not is_under_way(tmp_path)


def test_time_is_that_of_steps_and_measures_and_not_of_what_came_before(tmp_path):
    rows = [*losses(4, images=100, pace=10.0), {"evaluation_seconds": 20.0}]
    assert minutes_of(rows) == pytest.approx([10 / 60, 20 / 60, 30 / 60, 40 / 60, 1.0])
    later = [row | {"images_seen": row["images_seen"] + 1e6} for row in rows[:4]]  # from a checkpoint of another run
    assert minutes_of(later) == pytest.approx(minutes_of(rows[:4]))


def test_a_row_that_is_being_written_and_a_damaged_one_are_told_apart(tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text("images_seen,loss/generator,step\n320,0.5,19\n640")
    assert rows_of(file) == [{"images_seen": 320.0, "loss/generator": 0.5, "step": 19.0}]  # 640 may become 6400
    file.write_text("images_seen,step\n320,19\nx,20\n")
    with pytest.raises(UserError, match="damaged"):
        rows_of(file)


# ---------------------------------------------------------------------------------------------- plot


def panels(*arguments) -> dict[str, list[str]]:
    """The names of lines by the titles of the panels of a figure."""
    return {panel.get_title("left"): [line.get_gid() for line in panel.lines] for panel in curves_of(*arguments).axes}


def test_a_plot_shows_quality_and_losses(workplace, capsys):
    run = Path("runs/scenes-20261124-120000")
    plot.main([str(run)])
    out = Path(capsys.readouterr().out.strip())
    assert out == run / "curves.png" and Image.open(out).size == (2 * WIDTH * DPI, 2 * HEIGHT * DPI)
    assert panels([run]) == {
        "scene_accuracy (higher is better)": ["scene_accuracy", "heldout"],
        "frechet_distance (lower is better)": ["frechet_distance"],
        "losses of generator and discriminator": ["generator", "discriminator"],
    }
    plot.main(["scenes-20261124-120000", "--metric", "loss/generator", "--against", "minutes", "--out", "one.svg"])
    said = Path("one.svg").read_text()
    assert ">minutes of training</text>" in said and ">scenes-20261124-120000</text>" in said


def test_several_runs_stand_in_each_panel(workplace):
    others = [write_run(Path("others") / name, [], losses(10)) for name in "ab"]
    assert panels(others) == {"loss/generator": ["a", "b"], "loss/discriminator": ["a", "b"]}
    plot.main([*map(str, others), "--metric", "loss/generator", "--x-scale", "log", "--out", "two.svg"])
    said = Path("two.svg").read_text()
    assert ">a</text>" in said and ">b</text>" in said


def test_smoothing_keeps_the_level_and_its_band_holds_the_middle():
    values = np.random.default_rng(0).normal(5.0, 1.0, 6000)
    line = smooth("x", list(range(6000)), values.tolist())
    assert len(line.x) == MOST_POINTS and np.mean(line.y) == pytest.approx(values.mean())
    assert np.mean(line.low) == pytest.approx(5 - 1.2816, abs=0.05)  # the 10 % quantile of a normal distribution
    assert np.mean(line.high) == pytest.approx(5 + 1.2816, abs=0.05)
    few = smooth("x", [1, 2], [3.0, 4.0])
    assert few.y == [3.0, 4.0] and few.low == few.high == few.y


def test_values_that_are_not_finite_are_left_out(tmp_path):
    write_run(tmp_path / "run", [], [{"images_seen": i, "fid": v} for i, v in enumerate((1, "nan", "inf", 2))])
    assert Curves(tmp_path / "run", "images").points("fid") == ([0, 3], [1, 2])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "no metrics.csv"),
        (["runs/scenes-20261124-120000", "--metric", "loss/generatr"], "did you mean loss/generator"),
        (["runs/scenes-20261124-120000", "--out", "x.pdf"], "ends in .png or .svg"),
        (["runs/race/joint-20261125-120000"], "nothing has been measured twice"),
        (["runs/scenes-20261124-120000"] * 9, "8 at most"),
    ],
)
def test_a_mistake_in_a_plot_is_one_line(workplace, arguments, said):
    with pytest.raises(UserError, match=said) as mistake:
        plot.main(arguments)
    assert "\n" not in str(mistake.value)


# ---------------------------------------------------------------------------------------------- env


def test_the_report_names_machine_and_versions_and_no_secret(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("WANDB_API_KEY", "hidden-1234")
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path / "hidden-5678"))
    (tmp_path / "hidden-5678").mkdir()
    (tmp_path / "hidden-5678/x.npy").write_bytes(bytes(2_000_000))
    env.main([])
    out = capsys.readouterr().out
    assert "hidden" not in out and "WANDB_API_KEY" in out and "2.0 MB in 1 files" in out
    assert f"torch               {torch.__version__.partition('+')[0]}" in out and str(os.cpu_count()) in out


def test_gpus_are_told_with_memory_and_driver(monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559 MiB, 550.54.15'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert env.gpus() == {"gpu 0": "NVIDIA H100 80GB HBM3, 81559 MiB, driver 550.54.15"}


def test_versions_and_help_come_at_once():
    """Neither torch nor matplotlib is needed for them, nor numpy for most."""
    said = {"--version": "cgan 0.", "--help": "usage: cgan VERB"}
    said |= {f"{verb} --help": "usage: " for verb in VERBS}
    code = """
import contextlib, io, sys
from cgan.__main__ import dispatch, main
for line, expected in SAID.items():
    sys.argv = ["cgan", *line.split()]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main()
    assert expected in out.getvalue(), line
print([name for name in ("torch", "matplotlib", "shtab", "omegaconf", "cgan.config") if name in sys.modules])"""
    command = [sys.executable, "-c", code.replace("SAID", repr(said))]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.stdout == "[]\n", ended.stderr


# ---------------------------------------------------------------------------------------------- completion


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("completion") / "cgan.bash"
    file.write_text(completion.script_of("bash"))
    return file


def test_a_missing_package_is_named_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(UserError, match='pip install "shtab>=1.13"') as error:
        completion.script_of("bash")
    assert "\n" not in str(error.value)


def completed(script: Path, *lines: str, cwd: Path = ROOT) -> list[list[str]]:
    """What bash would offer at the end of each line, split into words as readline does it."""
    asked = ""
    for line in lines:
        words = re.findall(r"=|[^\s=]+", line) + [""] * line.endswith(" ")
        asked += f"COMP_LINE={line!r}; COMP_POINT={len(line)}; COMP_WORDS=({' '.join(map(repr, words))}); "
        asked += f"COMP_CWORD={len(words) - 1}; _cgan; printf '%s|' \"${{COMPREPLY[@]}}\"; echo;"
    command = ["bash", "--norc", "-c", f"source {script}; {asked}"]
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert ended.returncode == 0 and not ended.stderr, ended.stderr
    return [[word for word in line.split("|") if word] for line in ended.stdout.splitlines()]


def options_of(verb: str) -> set[str]:
    return {name for action in parser_of_verb(verb)._actions for name in action.option_strings}


def test_verbs_and_all_of_their_options_are_completed(script):
    verbs, some, *rest = completed(script, "cgan ", "cgan re", *(f"cgan {verb} -" for verb in VERBS))
    assert verbs == list(VERBS) and some == ["retrieve"]
    for verb, found in zip(VERBS, rest, strict=True):
        assert set(found) == options_of(verb) and "--help" in found


def test_keys_are_completed_a_part_at_a_time_and_their_choices(script):
    parts, keys, values, begun = completed(
        script, "cgan train gan.", "cgan train trainer.pr", "cgan train trainer.precision=", "cgan train data.flip=t"
    )
    assert "gan.generator." in parts and "gan.penalty=" in parts and "gan.generator.width=" not in parts
    assert keys == ["trainer.precision="]
    assert values == ["auto", "32-true", "bf16-mixed", "16-mixed"]  # bash breaks words at =
    assert begun == ["true"]
    unbroken = script.with_name("unbroken.bash")
    unbroken.write_text("COMP_WORDBREAKS=' '\n" + script.read_text())
    assert completed(unbroken, "cgan train data.flip=t") == [["data.flip=true"]]


def test_every_key_can_be_reached(script):
    names = list(completion.keys_of(RunConfig))
    sections = {name.rpartition(".")[0] + "." for name in names} - {"."}
    found = completed(script, *(f"cgan train seed=1 {section}" for section in ("", *sections)))
    assert {f"{name}=" for name in names} <= {word for offered in found for word in offered}


def test_files_subjects_and_choices_of_options_are_completed(script):
    lines = [
        "cgan train conf",
        "cgan train configs/gan/sc",
        "cgan benchmark ",
        "cgan prepare --crop ",
        "cgan plot --against m",
        "cgan benchmark quality configs/race/gan-scenes.yaml --jobs 2 --against trainer.pr",
        "cgan caption READ",
    ]
    folders, files, subjects, crops, against, settings, pictures = completed(script, *lines)
    scenes = ["scenes-long", "scenes-three", "scenes-two", "scenes"]
    assert folders == ["configs/"] and sorted(files) == sorted(f"configs/gan/{name}.yaml" for name in scenes)
    assert subjects == list(SUBJECTS) and crops == ["center", "random", "none"] and against == ["minutes"]
    assert settings == ["trainer.precision="] and pictures == ["README.md"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_told_every_verb_option_and_choice(shell):
    said = completion.script_of(shell)
    options = {name.lstrip("-") for verb in VERBS for name in options_of(verb)}
    assert all(verb in said for verb in VERBS) and all(option in said for option in options)
    assert "trainer.precision=bf16-mixed" in said and said.count("_cgan_settings") > 3  # one is the function itself
    if program := shutil.which(shell):
        assert subprocess.run([program, "-n", "/dev/stdin"], input=said, text=True).returncode == 0


# ---------------------------------------------------------------------------------------------- dispatch


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "invalid choice: 'trian'"),
        (["caption"], "required: pictures; see cgan caption --help"),
        (["plot", "--against", "steps"], "--against: invalid choice"),
        (["benchmark", "sped"], "SUBJECT: invalid choice"),
        (["benchmark", "speed", "--steps", "x"], "invalid int value"),
        (["sample", "a dog", "--nun", "4"], "unrecognized arguments: --nun 4; see cgan sample --help"),
    ],
)
def test_a_mistake_in_a_verb_or_an_option_is_one_line(arguments, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cgan", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert said in ended.value.code and ended.value.code.startswith("error: ") and "\n" not in ended.value.code
    assert capsys.readouterr() == ("", "")


def test_the_rest_of_the_line_goes_to_the_verb_as_it_is(monkeypatch):
    heard = []
    monkeypatch.setattr(plot, "main", heard.append)
    dispatch(["plot", "--", "-a", "--version", "x=--y"])
    assert heard == [["--", "-a", "--version", "x=--y"]]


# ---------------------------------------------------------------------------------------------- the line of progress


def on_a_terminal(command: list[str], cwd: Path, columns: int = 100) -> str:
    """What a command writes to a terminal of its own."""
    parent, child = pty.openpty()
    environment = {
        **os.environ,
        "TERM": "xterm",
        "COLUMNS": str(columns),
        "LINES": "30",
        "CGAN_CACHE": str(cwd / "cache"),
    }
    with subprocess.Popen(command, cwd=cwd, env=environment, stdout=child, stderr=child, stdin=child) as process:
        os.close(child)
        written = b""
        while True:
            try:
                part = os.read(parent, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            written += part
    os.close(parent)
    assert process.returncode == 0, written.decode()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode())


@pytest.mark.slow
def test_a_terminal_shows_pace_losses_and_the_last_metrics(tmp_path):
    tiny = """data.num_images=64 data.resolution=32 trainer.joint_images=128 trainer.images=320 trainer.batch_size=32
        gan.generator.width=4 gan.generator.max_channels=16 gan.discriminator.width=4 joint.image.width=8
        trainer.wandb=disabled trainer.evaluate_every=160 trainer.evaluation_images=64 trainer.precision=32-true
        trainer.metrics=[scenes] gan.adversarial_from=0 run_dir=run""".split()
    said = on_a_terminal([sys.executable, str(ROOT / "train.py"), *tiny], tmp_path)
    for expected in (r"\d images/s, discriminator \d", r"generator -?\d", r"\d:\d\d left", r"320/320"):
        assert re.search(expected, said), said
    assert re.search(r"last metrics: scene_accuracy \d.*, scene_accuracy_heldout \d", said)
    assert re.search(r"scene_accuracy of best.ckpt .* \d", said) and "curves: cgan plot run" in said
    (run,) = runs_in(tmp_path)[0]
    assert state(read_run(run)) == "finished"
