"""Models are uploaded to the hub and come back, against a stand-in of it on this machine; refusals are one line."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard

from cgan import push_to_hub
from cgan.cli.export import main
from cgan.errors import UserError
from cgan.sampling.hub import HubName, hub_name
from cgan.sampling.pipeline import TextToImage
from helpers.checkpoints import tiny_checkpoint
from helpers.hub import READER, TOKEN, Hub, serving

FILES = ["README.md", "config.json", "model.safetensors", "samples.png"]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub, and a run directory in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    torch.save(tiny_checkpoint(), "run/last.ckpt")
    with serving(tmp_path, monkeypatch) as found:
        yield found


@pytest.fixture
def logged_in(monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def drawn(name: str, **more) -> bytes:
    return TextToImage.from_pretrained(name, **more)("a dog on grass").tobytes()


def publish(hub: Hub, branch: str = "main", access: str = "public") -> str:
    """An exported folder on the hub, as owner/scenes, and its commit."""
    if not Path("model").exists():
        main(["run", "model", "--full"])
    return hub.commit("owner/scenes", branch, {f.name: f.read_bytes() for f in Path("model").iterdir()}, access)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("owner/name", HubName("owner/name")),
        ("owner/name@v1.0", HubName("owner/name", "v1.0")),
        ("owner/name@refs/pr/1", HubName("owner/name", "refs/pr/1")),
        ("owner/x.safetensors", None),
        ("name", None),
        ("a/b/c", None),
        ("owner/name@", None),
        ("", None),
    ],
)
def test_a_name_on_the_hub_has_an_owner_and_may_have_a_revision(name, expected):
    assert hub_name(name) == expected


def test_a_revision_is_said_once():
    assert hub_name("owner/name", "v1") == hub_name("owner/name@v1", "v1") == HubName("owner/name", "v1")
    with pytest.raises(UserError, match="one of the two"):
        hub_name("owner/name@v1", "v2")


def test_a_model_that_is_uploaded_comes_back_the_same(hub, logged_in):
    address = push_to_hub("run", "owner/scenes", half=False)
    assert address.endswith("/owner/scenes") and hub.access == {"owner/scenes": "public"}
    files = hub.files("owner/scenes", "main")
    assert sorted(files) == FILES and json.loads(files["config.json"])["precision"] == "full"
    assert drawn("owner/scenes") == drawn("run")


def test_the_model_card_names_the_model_as_it_is_called_on_the_hub(hub, logged_in):
    push_to_hub("run", "owner/scenes", licence="apache-2.0")
    card = ModelCard(hub.files("owner/scenes", "main")["README.md"].decode())
    assert card.data.license == "apache-2.0" and card.data.pipeline_tag == "text-to-image"
    assert 'from_pretrained("owner/scenes")' in card.text and "# owner/scenes" in card.text


def test_the_command_uploads_without_a_folder_or_beside_one(hub, logged_in, capsys):
    main(["run", "--push", "owner/one", "--private"])
    main(["run", "kept", "--push", "owner/two"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].endswith("/owner/two") and printed[-2] == "kept"
    assert hub.access == {"owner/one": "private", "owner/two": "public"}
    assert sorted(path.name for path in Path().iterdir()) == ["kept", "run"]
    assert {f.name: f.read_bytes() for f in Path("kept").iterdir()} == hub.files("owner/two", "main")


def test_a_branch_a_tag_or_a_commit_is_another_revision(hub, logged_in):
    first = publish(hub)
    other = tiny_checkpoint()
    other["state_dict"] = {name: value * 1.5 for name, value in other["state_dict"].items()}
    Path("other").mkdir()
    torch.save(other, "other/last.ckpt")
    assert push_to_hub("other", "owner/scenes@next", half=False).endswith("/owner/scenes/tree/next")
    assert drawn("owner/scenes") == drawn("owner/scenes", revision=first) == drawn("run")
    assert drawn("owner/scenes@next") == drawn("owner/scenes", revision="next") == drawn("other") != drawn("run")


def test_what_was_downloaded_is_there_without_a_network(hub, monkeypatch):
    from huggingface_hub import constants

    publish(hub)
    before = drawn("owner/scenes")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert drawn("owner/scenes") == before
    with pytest.raises(UserError, match="not in the cache, and the hub can't be reached"):
        TextToImage.from_pretrained("owner/other")


@pytest.mark.parametrize(
    ("access", "token", "said"),
    [
        ("private", None, "no such model, or it is private; check the name, or log in"),
        ("private", READER, "no such model, or it is private"),
        ("gated", READER, "gives access on request"),
        ("public", "hf_expired", "does not know this token; log in"),
    ],
)
def test_a_model_that_one_may_not_read_is_one_line(hub, access, token, said, monkeypatch):
    publish(hub, access=access)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError, match=said) as error:
        TextToImage.from_pretrained("owner/scenes")
    assert "\n" not in str(error.value) and str(error.value).startswith("owner/scenes: ")


def test_the_owner_reads_a_private_model(hub, logged_in):
    publish(hub, access="private")
    assert drawn("owner/scenes") == drawn("run")


def test_a_revision_or_a_model_that_is_not_there_is_one_line(hub):
    publish(hub)
    hub.commit("owner/empty", "main", {"README.md": b"# nothing"})
    for name, said in (("owner/scenes@v9", "no revision v9"), ("owner/none", "no such model"),
                       ("owner/empty", "model.safetensors is not in it")):  # fmt: skip
        with pytest.raises(UserError, match=said) as error:
            TextToImage.from_pretrained(name)
        assert "\n" not in str(error.value)


def test_a_folder_here_has_no_revisions(hub):
    with pytest.raises(UserError, match="revision=v1 is of a model on the hub"):
        TextToImage.from_pretrained("run", revision="v1")


@pytest.mark.parametrize(
    ("token", "said"),
    [(None, "needs a token with write access; log in"), (READER, "may not do that"), ("hf_expired", "token|private")],
)
def test_an_upload_that_is_refused_is_one_line_and_changes_nothing(hub, token, said, monkeypatch):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError, match=said) as error:
        push_to_hub("run", "owner/scenes")
    assert "\n" not in str(error.value) and not hub.access


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "give OUT, the folder to write, or --push OWNER/NAME"),
        (["run", "--push", "scenes"], "such as owner/name"),
        (["run", "--push", ""], "such as owner/name"),
        (["run", "out", "--private"], "--private is not used without --push"),
        (["run", "--push", "owner/scenes", "--onnx"], "--onnx is not used without OUT"),
        (["run", "x.safetensors", "--push", "owner/scenes"], "--push is not used for weights alone"),
        (["gone", "--push", "owner/scenes"], "no such checkpoint"),
        (["run", "--push", "owner/scenes", "--license", "a b"], "short name"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_uploaded(hub, logged_in, arguments, said):
    with pytest.raises(UserError, match=said):
        main(arguments)
    assert not hub.access and not Path("out").exists()
