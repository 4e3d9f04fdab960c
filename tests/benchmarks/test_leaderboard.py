"""The leaderboard in time reads finished runs, and keeps its page."""

from pathlib import Path

import pytest

from cgan.benchmarks.leaderboard import HEADER, NOT_REACHED, entry_of, leaderboard, update_page
from cgan.cli.benchmark import main
from cgan.config import load_config
from cgan.errors import UserError
from cgan.files import write_json
from cgan.training.run_directory import write_settings

SESSION = {"started": "2026-11-26T10:00:00", "commit": "abc1234", "cgan": "0.1.0", "processor": "EPYC", "cores": 2,
           "command": "python train.py | tee log", "gpu": ""}  # fmt: skip
MINUTES = 2.5  # of the joint encoder


def run_with(folder: Path, values: list[float], *settings: str, session: dict = SESSION) -> Path:
    """A run directory whose evaluations were a minute of training apart."""
    folder.mkdir(parents=True)
    write_settings(load_config([f"run_dir={folder}", *settings]), folder)
    rows = [f"{1000 * i},{i},30,{value}" for i, value in enumerate(values, start=1)]
    lines = ["images_seen,training_minutes,evaluation_seconds,scene_accuracy", "500,,,", *rows]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    write_json(folder / "progress.json", {"joint": {"images_seen": 100, "minutes": MINUTES}})
    write_json(folder / "sessions.json", {"1": session})
    return folder


def test_minutes_are_those_of_both_stages_until_the_first_evaluation_that_is_good_enough(tmp_path):
    entry = entry_of(run_with(tmp_path / "run", [0.2, 0.6, 0.55, 0.92]))
    assert entry.minutes == {0.5: MINUTES + 2, 0.8: MINUTES + 4, 0.9: MINUTES + 4, 0.95: None}
    assert entry.cells()[1:6] == ["4.5", "6.5", "6.5", NOT_REACHED, "0.920"]
    assert entry.cells()[6:] == [
        "2.5", "`abc1234`", "2 cores of EPYC", "`python train.py | tee log`", "2026-11-26 10:00",
    ]  # fmt: skip


def test_a_joint_encoder_that_was_given_has_no_minutes(tmp_path):
    entry = entry_of(run_with(tmp_path / "run", [0.6], "joint.checkpoint=x.safetensors"))
    assert entry.minutes[0.5] == 1 and entry.joint is None and "given" in entry.cells()


def test_a_run_of_before_sessions_were_noted_is_listed_without_them(tmp_path):
    run = run_with(tmp_path / "run", [0.6])
    (run / "sessions.json").unlink()
    assert entry_of(run).commit == entry_of(run).machine == "not known"


def test_a_run_on_two_machines_names_both(tmp_path):
    run = run_with(tmp_path / "run", [0.6])
    write_json(run / "sessions.json", {"1": SESSION, "2": SESSION | {"gpu": "H100", "commit": "def5678"}})
    assert entry_of(run).machine == "2 cores of EPYC and H100" and entry_of(run).commit == "abc1234, def5678"


def test_a_run_without_evaluations_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match="no scene_accuracy") as error:
        entry_of(run_with(tmp_path / "run", []))
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="not a run directory"):
        entry_of(tmp_path)


def test_the_soonest_to_the_most_comes_first(tmp_path):
    slow, fast = run_with(tmp_path / "slow", [0.3, 0.96]), run_with(tmp_path / "fast", [0.96])
    early = run_with(tmp_path / "early", [0.85])  # soon, but not as far
    names = [row[0] for row in leaderboard([early, slow, fast]).rows]
    assert names == ["fast", "slow", "early"]


def test_a_page_keeps_its_words_and_its_rows_and_has_each_run_once(tmp_path):
    page, run = tmp_path / "docs" / "leaderboard.md", run_with(tmp_path / "run", [0.6])
    update_page(page, [run])
    before = page.read_text()
    assert before.startswith("# Leaderboard in time") and before.count("| run | 0.5") == 1
    update_page(page, [run])
    assert page.read_text() == before
    page.write_text(before.replace("# Leaderboard in time", "# Who is fastest") + "\nBelow.\n")
    update_page(page, [run_with(tmp_path / "other", [0.97], session=SESSION | {"started": "2026-11-27T10:00:00"})])
    after = page.read_text()
    assert after.startswith("# Who is fastest") and after.endswith("\nBelow.\n")
    rows = [line for line in after.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows] == ["| run", "| ---", "| other", "| run"]
    assert all(row.count(" | ") == len(HEADER) - 1 for row in rows) and "train.py / tee log" in after


def test_the_command_prints_the_table_and_updates_the_page(tmp_path, capsys):
    main(["leaderboard", str(run_with(tmp_path / "run", [0.6, 0.96])), "--out", str(tmp_path / "page.md")])
    assert "4.5" in capsys.readouterr().out and "| 4.5 |" in (tmp_path / "page.md").read_text()
