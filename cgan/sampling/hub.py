"""Models on the Hugging Face hub: exported folders are downloaded and uploaded; each refusal is one line."""

import re
from pathlib import Path
from typing import NamedTuple

from cgan.errors import UserError

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


class HubName(NamedTuple):
    """A model on the hub, and a branch, tag or commit of it; None is its main branch."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}" if self.revision else self.repository


def hub_name(name: str, revision: str | None = None) -> HubName | None:
    """Returns what a name of the form owner/name or owner/name@revision stands for; None for names of other forms.

    `revision` counts where the name has none. Raises UserError where both are given and differ.
    """
    found = re.fullmatch(r"(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w./-]*))?", name)
    if found is None or name.endswith((".ckpt", ".safetensors")):
        return None
    if found[2] and revision and found[2] != revision:
        raise UserError(f"{name}: revision={revision} names another revision; give one of the two")
    return HubName(found[1], found[2] or revision)


def download(name: HubName, files: list[str]) -> Path:
    """Returns a folder with some files of a model on the hub, or its copy in the cache where there is no network.

    Raises UserError.
    """
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(name.repository, revision=name.revision, allow_patterns=files, etag_timeout=5)
    except Exception as error:  # of the hub, of the network, of the disk: their kinds change with the hub's versions
        raise UserError(f"{name}: no such folder here, and not available on the hub: {reason(error, name)}") from None
    if not (Path(found) / files[0]).is_file():
        raise UserError(f"{name}: no model of cgan; {files[0]} is not in it")
    return Path(found)


def check_upload(name: str) -> HubName:
    """Returns the model that a name stands for; raises UserError where it is none, or where nobody is logged in."""
    from huggingface_hub import get_token

    found = hub_name(name)
    if found is None:
        raise UserError(f"{name}: give a name on the hub, such as owner/name")
    if get_token() is None:
        raise UserError(f"{name}: uploading needs a token with write access; {LOG_IN}")
    return found


def upload(folder: Path, name: str, private: bool = False) -> str:
    """Uploads a folder as a model on the hub and returns its address; raises UserError.

    A repository that does not exist is created, with private=True for its owner's eyes alone; so is a branch that
    owner/name@branch names. Files of the folder replace those of the same name, in one commit.
    """
    from huggingface_hub import HfApi

    found, api = check_upload(name), HfApi()
    try:
        url = api.create_repo(found.repository, private=private, exist_ok=True)
        if found.revision:
            api.create_branch(found.repository, branch=found.revision, exist_ok=True)
        api.upload_folder(
            repo_id=found.repository, folder_path=folder, revision=found.revision, commit_message="Upload by cgan"
        )
    except Exception as error:
        raise UserError(f"{name}: can't be uploaded: {reason(error, found)}") from None
    return f"{url}/tree/{found.revision}" if found.revision else str(url)


def reason(error: Exception, name: HubName) -> str:
    """Returns why the hub did not do something, in one line, and what to do."""
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    match error:
        case errors.GatedRepoError():
            return f"its owner gives access on request; ask for it on the model's page, then {LOG_IN}"
        case errors.RevisionNotFoundError():
            return f"it has no revision {name.revision or 'main'}; give a branch, a tag or a commit"
        case errors.RepositoryNotFoundError():
            return f"there is no such model, or it is private; check the name, or {LOG_IN}"
        case errors.HfHubHTTPError() if status == 401:
            return f"the hub does not know this token; {LOG_IN}"
        case errors.HfHubHTTPError() if status == 403:
            return "this token may not do that; take one with access to the repository, for uploads with write access"
        case errors.OfflineModeIsEnabled() | errors.LocalEntryNotFoundError():
            return "it is not in the cache, and the hub can't be reached; check the name and the network"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}; check the name"
