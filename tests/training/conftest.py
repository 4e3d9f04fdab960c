from pathlib import Path

import pytest


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current one, outside of any job, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("SLURM_JOB_ID", "CGAN_RUN_DIR", "CGAN_LAUNCH", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path
