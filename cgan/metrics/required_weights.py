"""Finds the weights that metrics need on this machine or online, within about two seconds."""

import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch

from cgan.damage import reading
from cgan.interfaces import UserError

INCEPTION_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
DEFAULT_CLIP = "openai/clip-vit-large-patch14"  # torchmetrics' as well
CLIP_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json")
ON_INCEPTION, ON_CLIP = ("fid", "kid", "prdc"), ("clip_score",)
PATIENCE = 1.5  # seconds in which a server must answer


class MissingWeights(UserError):
    """Raised where weights are missing; the message names them and how to get them."""


def inception_weights(given: Path | None = None, fetch: bool = False) -> Path:
    """Returns the file of Inception's weights: the given one, or that in torch's cache, or downloaded if `fetch`.

    Raises MissingWeights if there is none, UserError if the given file holds something else.
    """
    if given is not None:
        check_weights_file(given)
        return given
    file = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_URL.rpartition("/")[2]
    if file.is_file():
        return file
    if fetch and answers(INCEPTION_URL):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(INCEPTION_URL, str(file), file.stem.rpartition("-")[2], progress=False)
            return file
        except (OSError, RuntimeError) as error:
            raise MissingWeights(f"Inception's weights can't be fetched ({error}); {how_to_fetch(file)}") from error
    raise MissingWeights(f"Inception's weights are not on this machine; {how_to_fetch(file)}")


def how_to_fetch(file: Path) -> str:
    """Returns a hint how to get Inception's weights to a file."""
    return f"download {INCEPTION_URL} to {file}, or point to it (--inception FILE, or trainer.inception=FILE)"


def check_weights_file(path: Path) -> None:
    """Raises UserError unless a file holds Inception's weights and nothing that torch-fidelity would execute."""
    if not path.is_file():
        raise MissingWeights(f"{path}: no such file; give Inception's weights, {INCEPTION_URL}")
    with reading(path, f"not the Inception weights of torch-fidelity; they are at {INCEPTION_URL}"):
        names = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if "Mixed_7c.branch_pool.conv.weight" not in names:
            raise ValueError("they are of another network")


def clip_source(given: str | None = None, fetch: bool = False) -> str:
    """Returns the folder or name of a CLIP on this machine, or downloadable if `fetch`; raises MissingWeights."""
    source = given or DEFAULT_CLIP
    folder = Path(source).expanduser()
    if folder.is_dir() or is_cached(source):
        return source
    if given is not None and (source.startswith((".", "/", "~")) or source.count("/") > 1):
        raise MissingWeights(f"{source}: no such folder; give that of a CLIP model, or its name on the hub")
    if fetch and hub_answers():
        return source
    folder = "--clip FOLDER, or trainer.clip=FOLDER"
    hint = f"run `hf download {source}` where there is a network, or point to a folder ({folder})"
    raise MissingWeights(f"CLIP {source} is not on this machine; {hint}")


def is_cached(name: str) -> bool:
    """Returns whether a model of the hub is in the local cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = [try_to_load_from_cache(name, file) for file in ("config.json", *CLIP_WEIGHTS)]
    except HFValidationError:
        return False
    return isinstance(found[0], str) and any(isinstance(file, str) for file in found[1:])


def hub_answers() -> bool:
    """Returns whether the hub answers and HF_HUB_OFFLINE is not set."""
    from huggingface_hub import constants

    return not constants.HF_HUB_OFFLINE and answers(constants.ENDPOINT)


def answers(url: str) -> bool:
    """Returns whether a server answers within PATIENCE seconds, the lookup of its name included."""
    heard: list[bool] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE):
                heard.append(True)
        except urllib.error.HTTPError:
            heard.append(True)
        except OSError:
            pass

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return bool(heard)


def missing_weights(
    metrics: Iterable[str], inception: Path | None = None, clip: str | None = None, fetch: bool = False
) -> dict[str, str]:
    """Returns why metrics can't run here, one line each by name; with `fetch`, downloadable weights are not missing."""
    wanted, missing = set(metrics), {}
    on_inception, on_clip = (sorted(wanted & set(names)) for names in (ON_INCEPTION, ON_CLIP))
    if on_inception:
        missing |= unless_found(on_inception, partial(inception_weights, inception, fetch))
    if on_clip:
        missing |= unless_found(on_clip, partial(clip_source, clip, fetch))
    return missing


def unless_found(metrics: list[str], find: Callable[[], object]) -> dict[str, str]:
    """Returns why metrics can't run, by their names; empty if `find` finds their weights."""
    try:
        find()
    except MissingWeights as error:
        return dict.fromkeys(metrics, str(error))
    return {}


def in_lines(missing: dict[str, str]) -> list[str]:
    """Returns one line for each reason, with the metrics that can't run because of it."""
    reasons: dict[str, list[str]] = {}
    for name, reason in missing.items():
        reasons.setdefault(reason, []).append(name)
    return [f"without {', '.join(names)}: {reason}" for reason, names in reasons.items()]
