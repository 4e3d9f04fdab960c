"""A W&B server that is not there, that hangs, or that dies costs a training next to nothing."""

import http.server
import json
import socket
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from cgan.config import RunConfig, TrainerConfig
from cgan.training import loggers as logs
from helpers.ports import free_port

pytest.importorskip("wandb")

MOST_SECONDS = 60  # W&B alone would wait for longer; a quiet machine needs about 5, of which 4 are a goodbye


class Server(http.server.BaseHTTPRequestHandler):
    """As much of W&B as a run needs."""

    def do_GET(self) -> None:
        self.answer({})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}").get("query", "")
        project = {"name": "cgan", "entity": {"name": "me"}}
        bucket = {"id": "x", "name": "x", "displayName": "x", "historyLineCount": 0, "project": project}
        known = {
            "viewer": {"id": "x", "entity": "me", "flags": "{}", "teams": {"edges": []}, "username": "me"},
            "upsertBucket": {"bucket": bucket, "inserted": True},
            "createRunFiles": {"runID": "x", "uploadHeaders": [], "files": []},
            "serverInfo": {"cliVersionInfo": {"max_cli_version": "99.0.0"}, "latestLocalVersionInfo": None},
        }
        self.answer({"data": {name: value for name, value in known.items() if name in asked}})

    def answer(self, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def logged_in(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)


def at(monkeypatch, port: int) -> None:
    """W&B's address from now on, also in what it has set up before."""
    import wandb

    wandb.teardown()
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")


def seconds_of(run_dir: Path, kill=lambda: None) -> float:
    """All that logging costs a training: from the first logger to the goodbye."""
    config = RunConfig(trainer=TrainerConfig(wandb="auto"))
    start = time.monotonic()
    table, wandb_logger = logs.loggers(config, run_dir, report=print)
    kill()
    for step in range(20):
        for logger in (table, wandb_logger):
            logger.log_metrics({"loss": 1.0 / (step + 1)}, step)
    for logger in (table, wandb_logger):
        logger.finalize("success")
    wandb_logger.experiment.finish()
    seconds = time.monotonic() - start
    assert len((run_dir / "metrics.csv").read_text().splitlines()) == 21
    assert list(run_dir.glob("wandb/*run-*/*.wandb"))
    return seconds


@pytest.mark.slow
def test_no_server_costs_next_to_nothing(logged_in, monkeypatch, tmp_path, capsys):
    at(monkeypatch, free_port())
    assert seconds_of(tmp_path) < MOST_SECONDS
    assert "can't be reached: logging offline" in capsys.readouterr().out  # before wandb tries for longer


@pytest.mark.slow
def test_a_server_that_hangs_costs_next_to_nothing(logged_in, monkeypatch, tmp_path, capsys):
    with closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        at(monkeypatch, silent.getsockname()[1])
        assert seconds_of(tmp_path) < MOST_SECONDS
    assert "can't be reached: logging offline" in capsys.readouterr().out and logs.PATIENCE <= 2


@pytest.mark.slow
def test_a_server_that_dies_costs_next_to_nothing(logged_in, monkeypatch, tmp_path, capsys):
    import wandb

    settings = wandb.Settings  # a busy machine may start W&B's service later than within ten seconds
    monkeypatch.setattr(wandb, "Settings", lambda **given: settings(**given | {"init_timeout": 120}))
    monkeypatch.setattr(logs, "PATIENCE", 60)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    at(monkeypatch, server.server_port)

    def kill() -> None:
        server.shutdown()
        server.server_close()

    assert seconds_of(tmp_path, kill) < MOST_SECONDS
    assert "logging offline" not in capsys.readouterr().out


def test_a_failure_of_wandb_is_told_once_and_ends_nothing(tmp_path, capsys):
    logger = logs.PatientWandb(report=print, offline=True, save_dir=tmp_path)

    def broken(*_, **__) -> None:
        raise OSError("no space left on device")

    logger.attempt(broken)
    logger.attempt(broken)
    assert capsys.readouterr().out.count("metrics.csv goes on") == 1
