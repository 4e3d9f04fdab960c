"""Notes in a run directory by which commit, machine and command it was trained, at each start of a training."""

from pathlib import Path

import torch

from cgan.files import write_json
from cgan.machine import session
from cgan.training.run_records import SESSIONS, recorded_sessions


def note_session(run_dir: Path, resumed: bool) -> None:
    """Adds this process to the sessions of a run that goes on, or makes it the first one of a new run."""
    earlier = recorded_sessions(run_dir) if resumed else []
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    sessions = [*earlier, session() | {"gpu": gpu}]
    write_json(run_dir / SESSIONS, {str(number): each for number, each in enumerate(sessions, start=1)})
