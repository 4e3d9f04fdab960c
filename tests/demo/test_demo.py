"""cgan demo: what a visitor may ask for, and what its server refuses, which needs gradio."""

import base64
import http.client
import json
import os
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cgan.cli import demo, sample
from cgan.demo import backend as backend_module
from cgan.demo.backend import MAX_CAPTION, STEPS, Backend, PageRequest
from cgan.demo.examples import EDITS, as_data_url, picture_of
from cgan.errors import UserError
from cgan.resources import STARTER_GAN, STARTER_JOINT, shipped_weights
from cgan.retrieval.asking import ask
from cgan.sampling.request import read_request
from cgan.sampling.weights import all_checkpoints
from helpers.pictures import pixels

STARTER, TWO = "assets/scenes-64.safetensors", "assets/scenes-two-64.safetensors"
EMOJI = "assets/emoji-128.safetensors"
DOG = PageRequest(STARTER, "a small red dog on grass", 4)
CALL = "/gradio_api/call/sample"


def again(path: Path) -> np.ndarray:
    """What sample.py draws by what a file says of itself."""
    sample.main(["--again", str(path), "--out", "again.png"])
    return pixels("again.png")


# ---------------------------------------------------------------------------------------------- requests


def test_each_picture_is_the_samplers_and_says_how_it_was_drawn(backend, pipe):
    shown, archive = backend.sample(DOG, 3)
    for each, seed in zip(shown, (4, 5, 6), strict=True):
        assert (pixels(each.path) == pipe.sample([DOG.caption], [seed])[0]).all()
    assert (again(shown[2].path) == pixels(shown[2].path)).all()
    assert sorted(zipfile.ZipFile(archive).namelist()) == sorted(each.path.name for each in shown)


def test_a_walk_is_the_strip_that_sample_draws(backend):
    strip = backend.interpolate(DOG, "a big blue car on sand", 7)
    assert pixels(strip).shape == (64, 64 * STEPS, 3) and (again(strip) == pixels(strip)).all()
    with pytest.raises(UserError, match="nothing changes"):
        backend.interpolate(DOG, "", DOG.seed)


def test_the_nearest_picture_to_a_copy_is_the_copied_one(backend, pictures, pipe):
    Image.fromarray(pipe.sample([DOG.caption], [DOG.seed])[0]).save(pictures / "copy.png")
    by_caption, by_picture = backend.nearest(DOG)
    (pictures / "copy.png").unlink()
    assert by_picture[0].words.startswith("copy.png, 1.00") and len(by_caption) == len(by_picture) == 8
    assert all(each.path.is_relative_to(backend.folder) for each in by_caption + by_picture)


def as_url(path: Path) -> str:
    """The content of a file as a browser sends it."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def test_an_edit_is_the_samplers_before_and_after(backend, pictures, pipe):
    (before, after), file = backend.edit(DOG, as_url(pictures / "scene-1.png"), 0.8)
    assert (pixels(before.path) == pixels(pictures / "scene-1.png")).all() and after.path == file
    expected = pipe(DOG.caption, seed=DOG.seed, image=pictures / "scene-1.png", keep=0.8)
    assert (pixels(file) == np.asarray(expected)).all()
    sample.main(["--again", str(file), "--from", str(pictures / "scene-1.png"), "--out", "again.png"])
    assert (pixels("again.png") == pixels(file)).all()


@pytest.mark.parametrize(
    "picture, keep, told",
    [
        ("", 1.0, "no picture"),
        ("too large", 1.0, "more than 12 MB"),
        ("data:image/png;base64," + "A" * 17_000_000, 1.0, "more than 12 MB"),
        ("/etc/passwd", 1.0, "did not arrive whole"),
        ("data:image/png;base64,%%%", 1.0, "did not arrive whole"),
        ("data:text/plain;base64,YSBkb2c=", 1.0, "damaged or not a picture"),
        (None, 1.0, "no picture"),
        ("data:text/plain;base64,YSBkb2c=", 3, "keep=3"),
        ("data:text/plain;base64,YSBkb2c=", None, "keep=None"),
    ],
)
def test_what_is_no_picture_to_edit_is_told_in_one_line(backend, picture, keep, told):
    with pytest.raises(UserError, match=told) as error:
        backend.edit(DOG, picture, keep)
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


def test_weights_that_cannot_edit_say_so_by_their_name(tmp_path, pictures):
    both = Backend({STARTER: STARTER_GAN, TWO: shipped_weights(TWO)}, tmp_path)
    assert both.can_edit(STARTER) and not both.can_edit(TWO)
    with pytest.raises(UserError, match="^Scenes with two objects .*can't edit pictures") as error:
        both.edit(DOG._replace(checkpoint=TWO), as_url(pictures / "scene-1.png"), 1.0)
    assert "\n" not in str(error.value)


def test_a_question_is_answered_as_by_ask(backend):
    picture = picture_of(("dog", "blue", "big", "centre", "sand"))
    question = "what colour is the zeppelin?"
    found, messages = backend.ask(STARTER, as_data_url(picture), question, "red, blue")
    assert found == ask(Image.fromarray(picture), question, among=["red", "blue"], checkpoint=STARTER_JOINT)
    assert found.best == "blue" and "zeppelin" in messages[0]


@pytest.mark.parametrize(
    "checkpoint, content, question, among, told",
    [
        (STARTER, None, "", "", "the question is empty"),
        (STARTER, None, "\x00 \n", "", "the question is empty"),
        (STARTER, None, "why?", "", "can't tell what is asked for"),
        (STARTER, None, "what colour is it?", "red", "answers: give at least two"),
        (STARTER, None, "a" * 301, "", "too long"),
        (STARTER, None, None, "", "too long"),
        (STARTER, None, "what colour is it?", {"path": "/etc/passwd"}, "too long"),
        (STARTER, "", "what colour is it?", "", "no picture"),
        (STARTER, "data:text/plain;base64,YSBkb2c=", "what colour is it?", "", "not a picture"),
        ("/etc/passwd", None, "what colour is it?", "", "no such checkpoint here"),
    ],
)
def test_what_is_no_question_is_told_in_one_line(backend, checkpoint, content, question, among, told):
    content = as_data_url(picture_of(EDITS[0].scene)) if content is None else content
    with pytest.raises(UserError, match=told) as error:
        backend.ask(checkpoint, content, question, among)
    assert "\n" not in str(error.value) and "--among" not in str(error.value)


def test_an_asker_that_keeps_too_many_captions_starts_anew(backend, monkeypatch):
    monkeypatch.setattr(backend_module, "MOST_KEPT", 1)
    first = backend_module.asker_of(STARTER_JOINT)
    assert backend_module.asker_of(STARTER_JOINT) is first
    first.encoded(["a dog", "a cat"])
    assert backend_module.asker_of(STARTER_JOINT) is not first


def test_words_that_training_never_saw_are_told(backend):
    assert "'zeppelin'" in backend.unknown(DOG, "a red zeppelin") and backend.unknown(DOG) == ""


@pytest.mark.parametrize(
    "change, num, told",
    [
        ({"caption": "a " * 5000}, 1, "10,000 characters"),
        ({"caption": "\x00\x1b \n"}, 1, "empty"),
        ({"caption": None}, 1, "caption"),
        ({"seed": -1}, 1, "seed"),
        ({"seed": 2**32}, 1, "seed"),
        ({"seed": 2**32 - 1}, 2, "seed"),
        ({"seed": None}, 1, "seed"),
        ({"truncation": float("nan")}, 1, "truncation"),
        ({"truncation": 1e9}, 1, "truncation"),
        ({"checkpoint": "../../etc/passwd"}, 1, "no such checkpoint here"),
        ({}, 10**9, "from 1 to 16"),
        ({}, 0, "from 1 to 16"),
        ({}, None, "from 1 to 16"),
    ],
)
def test_what_no_visitor_of_the_page_would_ask_for_is_refused(backend, change, num, told):
    with pytest.raises(UserError, match=told):
        backend.sample(DOG._replace(**change), num)
    assert not list(backend.folder.iterdir())


def test_control_characters_and_paths_in_a_caption_stay_out_of_names(backend):
    shown, _ = backend.sample(DOG._replace(caption="../../etc/\x1b[31mpasswd\x00 <img src=x>\u202e.exe"), 1)
    assert shown[0].path.resolve().parent.parent == backend.folder.resolve() and "etc-31mpasswd" in shown[0].path.name
    (longest, *_), _ = backend.sample(DOG._replace(caption="é" * MAX_CAPTION), 1)
    assert longest.path.is_file()


def test_files_of_old_answers_go(backend, monkeypatch):
    monkeypatch.setattr(backend_module, "KEPT", 2)
    first, *_, last = [backend.sample(DOG, 1)[1] for _ in range(4)]
    assert not first.exists() and last.exists() and len(list(backend.folder.iterdir())) == 2


def test_pictures_of_a_run_are_those_it_was_trained_on(tmp_path, pictures):
    data = {"source": "folder", "root": str(pictures)}
    settings = {"name": "a", "task": "gan", "seed": 0, "data": data, "trainer": {"wandb": "disabled"}}
    (tmp_path / "config.yaml").write_text(json.dumps(settings) + "\n")
    assert backend_module.pictures_of_run(tmp_path / "last.ckpt") == pictures
    (tmp_path / "config.yaml").write_text(json.dumps({**settings, "data": {"source": "scenes", "root": None}}) + "\n")
    assert backend_module.pictures_of_run(tmp_path / "last.ckpt") is None


def test_the_checkpoint_that_is_given_comes_first_then_runs_then_starter_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for age, name in enumerate(("runs/new", "runs/old", "other")):
        Path(name).mkdir(parents=True)
        Path(name, "last.ckpt").touch()
        os.utime(Path(name, "last.ckpt"), (10**9 - age, 10**9 - age))
    runs = ["new/last.ckpt", "old/last.ckpt"]
    assert list(all_checkpoints(None)) == [*runs, STARTER, EMOJI, TWO]
    assert list(all_checkpoints(Path("other"))) == ["other/last.ckpt", *runs, STARTER, EMOJI, TWO]


def test_without_gradio_one_line_says_what_to_install(monkeypatch):
    for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR", "GRADIO_EXAMPLES_CACHE"):
        monkeypatch.setenv(name, "")  # so that they are put back
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(UserError, match='pip install "gradio>=6"'):
        demo.main([])


@pytest.mark.parametrize("arguments", [["--images", "nowhere"], ["--port", "70000"], ["--checkpoint", "nowhere.ckpt"]])
def test_mistakes_are_told_before_anything_is_loaded(arguments):
    with pytest.raises(UserError, match=arguments[1]):
        demo.main(arguments)


# ---------------------------------------------------------------------------------------------- the server


@pytest.fixture(scope="module")
def client(served):
    from gradio_client import Client

    return Client(served.url, verbose=False, download_files=str(served.home / "received"))


def answer(served, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Of a path that is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=600)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    return response.status, response.read()


def asked(served, request: tuple) -> tuple[int, str]:
    """What the server says to a request that no client has looked at."""
    body = json.dumps({"data": request}).encode()
    status, content = answer(served, CALL, "POST", body, **{"Content-Type": "application/json"})
    if status != 200:
        return status, content.decode()
    told = answer(served, f"{CALL}/{json.loads(content)['event_id']}")[1].decode()
    return status, told.replace("event: heartbeat\ndata: null\n\n", "")


@pytest.mark.slow
def test_a_client_gets_pictures_with_all_they_say_of_themselves(served, client, pipe):
    gallery, told, file = client.predict(STARTER, "a blue car with a zeppelin", 3, 1.0, 1, api_name="/sample")
    path = file["value"] if isinstance(file, dict) else file
    assert read_request(Path(path))[0].seeds == [3] and "zeppelin" in told
    assert (pixels(path) == pipe.sample(["a blue car with a zeppelin"], [3])[0]).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        (STARTER, "a " * 5000, 0, 1.0, 1),
        (STARTER, "\x00\x07", 0, 1.0, 1),
        (STARTER, "a cat", -5, 1.0, 1),
        (STARTER, "a cat", 10**30, 1.0, 1),
        (STARTER, "a cat", 0, 1e30, 1),
        (STARTER, "a cat", 0, 1.0, 10**9),
        ("/etc/passwd", "a cat", 0, 1.0, 1),
        ({"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, "a cat", 0, 1.0, 1),
        (STARTER, {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, 0, 1.0, 1),
    ],
)
def test_a_hostile_request_is_refused_and_the_next_one_served(served, values):
    _, told = asked(served, values)
    assert told.startswith("event: error") and "root:" not in told
    assert asked(served, (STARTER, "a cat", 0, 1.0, 1))[1].startswith("event: complete")


@pytest.mark.slow
def test_no_file_but_its_own_is_served_and_none_is_taken(served, client):
    client.predict(STARTER, "a cat", 0, 1.0, 1, api_name="/sample")
    (folder,) = (served.home / "temporary").glob("cgan-demo-*")
    own = next(folder.rglob("a-cat-0.png"))
    own.with_name("link.txt").symlink_to(served.home / "secret.txt")
    status, content = answer(served, f"/gradio_api/file={own}")
    assert status == 200 and content == own.read_bytes()
    tricks = ["/etc/passwd", "../../../../etc/passwd", f"{served.home}/secret.txt", f"{folder}/../../secret.txt",
              f"{folder}/%2e%2e/%2e%2e/secret.txt", f"{folder}/..%2f..%2fsecret.txt", f"{own.with_name('link.txt')}",
              "file:///etc/passwd", f"{served.url}config", "http://example.com/", f"{folder}\\..\\..\\secret.txt",
              f"{folder}", f"{folder}/%00", "secret.txt", "C:/Windows/win.ini",
              f"//{served.home}/secret.txt"]  # fmt: skip
    for trick in tricks:
        for start in ("/gradio_api/file=", "/file=", "/gradio_api/file/", "/gradio_api/proxy=", "/static/", "/assets/"):
            status, content = answer(served, f"{start}{trick}")
            assert status >= 400 and b"secret" not in content.replace(b"secret.txt", b"") and b"root:" not in content
    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="../../evil.txt"\r\n\r\nevil\r\n--x--\r\n'
    for path in ("/gradio_api/upload", "/upload", "//gradio_api/upload", "/gradio_api//upload"):
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        assert answer(served, path, "POST", form, **kind)[0] >= 400
    assert not list(served.home.rglob("*evil*"))
    assert {path.name for path in served.home.iterdir()} <= {"recorder", "temporary", "secret.txt", "connections",
                                                             "cache", "received"}  # fmt: skip


@pytest.mark.slow
def test_nobody_passes_by_the_queue(served):
    body = json.dumps({"data": [STARTER, "a cat", 0, 1.0, 1]}).encode()
    for path in ("/gradio_api/run/sample", "/gradio_api/api/sample", "/run/sample", "/api/sample"):
        assert answer(served, path, "POST", body, **{"Content-Type": "application/json"})[0] >= 400


@pytest.mark.slow
def test_many_at_once_wait_or_are_refused_and_each_gets_its_own(served, pipe):
    def drawn(seed: int) -> Path | None:
        """The first picture of a request; None where the queue is full."""
        status, told = asked(served, (STARTER, "a cat", seed, 1.0, 8))
        if status == 503:
            return None
        assert told.startswith("event: complete"), told
        return Path(json.loads(told.partition("data: ")[2])[0][0]["image"]["path"])

    with ThreadPoolExecutor(50) as visitors:
        paths = list(visitors.map(drawn, range(50)))
    assert all((pixels(path) == pipe.sample(["a cat"], [seed])[0]).all() for seed, path in enumerate(paths) if path)
    assert 10 < sum(path is not None for path in paths) < 50


@pytest.mark.slow
def test_the_server_has_spoken_to_nobody_but_itself(served, client):
    named = set((served.home / "connections").read_text().split("\n")) - {""}
    assert all("127.0.0.1" in address or address in ("None", "localhost") or "::1" in address for address in named)
