"""The loggers of a run: metrics.csv always, TensorBoard if asked, and W&B where it is installed."""

import os
import secrets
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pytorch_lightning.loggers import Logger

from cgan.config import RunConfig
from cgan.errors import UserError
from cgan.files import write_text
from cgan.interfaces import Report, silent
from cgan.machine import session
from cgan.training.metrics_file import MetricsFile
from cgan.training.processes import is_first_process
from cgan.training.run_records import rows_of
from cgan.training.tensorboard_logger import ImagesSeenTensorBoard, check_tensorboard
from cgan.training.wandb_logger import PatientWandb

DATA_FOLDERS: list[str] = []  # that earlier runs of this process have set
MODES = "online", "offline", "shared", "disabled", "dryrun", "run"  # that wandb takes from WANDB_MODE
PATIENCE = 2  # seconds for the first answer of the server


def loggers(
    config: RunConfig, run_dir: Path, num_rows: int = 0, num_images: int = 0, report: Report = silent
) -> list[Logger]:
    """Returns the loggers of a run: metrics.csv, whose first num_rows rows are kept, TensorBoard if asked, and W&B.

    num_images: what a resumed training has seen. W&B logs unless it is disabled: online when a key for it is known and
    its server answers, otherwise offline, and it never prompts. With trainer.wandb=auto the environment variables
    WANDB_MODE and WANDB_DISABLED count. report gets why it is offline. Raises UserError where W&B or TensorBoard is
    asked for and not installed.
    """
    files: list[Logger] = [MetricsFile(run_dir / "metrics.csv", num_rows)]
    if "tensorboard" in config.trainer.loggers:
        check_tensorboard()
        files.append(ImagesSeenTensorBoard(run_dir, num_images))
    mode = wandb_mode(config.trainer.wandb)
    if mode == "disabled" or not is_first_process():
        return files
    check_environment()
    os.environ.setdefault("WANDB_SILENT", "true")
    set_data_folder(run_dir / "wandb")
    online = mode != "offline" and may_be_online(report)
    goes_on = (run_dir / "wandb-id").exists()
    logger = connected(config, run_dir, online, report)
    if goes_on:
        logger.attempt(logger.catch_up, rows_of(run_dir / "metrics.csv")[:num_rows], num_images)
    return [*files, logger]


def connected(config: RunConfig, run_dir: Path, online: bool, report: Report) -> PatientWandb:
    """Returns the W&B logger of a run with its settings logged; offline where the server can't be used after all."""
    logger = wandb_logger(run_dir, "online" if online else "offline", report)
    with mode_restored():
        try:
            logger.experiment.id  # noqa: B018 (it connects)
        except Exception:  # its own errors, the disk's, and those of the service that another process has started
            report("W&B can't be used online: logging offline")
            logger = wandb_logger(run_dir, "offline", report)
        logger.attempt(logger.describe, asdict(config) | {"session": session()})
    return logger


@contextmanager
def mode_restored() -> Iterator[None]:
    """Restores WANDB_MODE, which Lightning sets for an offline run and a later run of this process would heed."""
    before = os.environ.get("WANDB_MODE")
    try:
        yield
    finally:
        os.environ.pop("WANDB_MODE", None)
        if before is not None:
            os.environ["WANDB_MODE"] = before


def set_data_folder(folder: Path) -> None:
    """Sets the folder of tables' pictures until a sync, unless the user has set one; each run has its own."""
    if os.environ.get("WANDB_DATA_DIR") in (None, *DATA_FOLDERS):
        os.environ["WANDB_DATA_DIR"] = str(folder.absolute())
        DATA_FOLDERS.append(os.environ["WANDB_DATA_DIR"])


def wandb_mode(asked: str) -> str:
    """Returns what trainer.wandb means in this environment: auto, online, offline or disabled; raises UserError."""
    if asked == "auto" and os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes"):
        return "disabled"
    renamed = {"dryrun": "offline", "run": "online"}  # as W&B called them once
    given = os.environ.get("WANDB_MODE", "").lower() if asked == "auto" else ""
    mode = renamed.get(given, given) or asked
    if mode not in ("auto", "online", "offline", "disabled"):
        mode = asked  # such as shared, which is for processes that all log
    if mode == "disabled" or is_installed():
        return mode
    if asked != "auto":
        raise UserError(f"trainer.wandb={asked}: wandb is not installed; pip install wandb, or trainer.wandb=disabled")
    return "disabled"


def check_environment() -> None:
    """Has wandb take an empty WANDB_MODE for none; raises UserError for one that it does not know."""
    given = os.environ.get("WANDB_MODE")
    if given == "":
        del os.environ["WANDB_MODE"]
    elif given is not None:
        if given.lower() not in MODES:
            raise UserError(f"WANDB_MODE={given}: not one of {', '.join(MODES)}; correct or unset the variable")
        os.environ["WANDB_MODE"] = given.lower()


def is_installed() -> bool:
    """Returns whether the wandb package can be imported."""
    found = find_spec("wandb")
    return found is not None and found.origin is not None  # a folder of logs may be called so


def may_be_online(report: Report) -> bool:
    """Returns whether a W&B server answers and there is a key for it; wandb itself would try for longer, or raise."""
    import wandb.errors

    url = wandb.setup().settings.base_url
    if not answers(url):
        report(f"W&B at {url} can't be reached: logging offline; wandb sync sends it later")
        return False
    try:
        return wandb.login(prompt=False)
    except wandb.errors.Error as error:
        report(f"W&B: {str(error).splitlines()[0]}: logging offline")
        return False


def answers(url: str) -> bool:
    """Returns whether a server answers within PATIENCE seconds, however long the look-up of its name takes."""
    found = []

    def ask() -> None:
        try:
            urllib.request.urlopen(f"{url}/healthz", timeout=PATIENCE).close()
            found.append(True)
        except urllib.error.HTTPError as error:
            found.append(error.code < 500)
        except (OSError, ValueError, HTTPException):
            found.append(False)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return found == [True]


def wandb_logger(run_dir: Path, mode: Literal["online", "offline"], report: Report) -> PatientWandb:
    """Returns the logger of a run directory's W&B run, which is the same for all trainings in it.

    The variables of W&B for a project, a group, tags and so on count. A sweep's agent names the run itself.
    """
    import wandb

    path, given = run_dir / "wandb-id", os.environ.get("WANDB_RUN_ID", "")
    if not path.exists():
        write_text(path, given if given and os.environ.get("WANDB_SWEEP_ID") else secrets.token_hex(4))
    settings = wandb.Settings(mode=mode, init_timeout=10, finish_timeout=4, silent=True)
    return PatientWandb(
        report, project=os.environ.get("WANDB_PROJECT") or "cgan", name=run_dir.name, save_dir=run_dir,
        offline=mode == "offline", settings=settings, id=path.read_text().strip(), resume="allow",
    )  # fmt: skip
