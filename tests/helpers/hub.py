"""A stand-in of the Hugging Face hub on this machine, as far as huggingface_hub asks it for models."""

import base64
import hashlib
import json
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest

TOKEN, READER = "hf_owner", "hf_reader"  # of the owner, and of somebody who may only read what is public


class Hub:
    """Models by name: whether they are private or gated, branches to commits, and the files of each commit."""

    def __init__(self) -> None:
        self.access: dict[str, str] = {}
        self.branches: dict[str, dict[str, str]] = {}
        self.commits: dict[str, dict[str, bytes]] = {}

    def commit(self, name: str, branch: str, files: dict[str, bytes], access: str = "public") -> str:
        """Adds files to a branch, as one commit, and returns its id."""
        self.access.setdefault(name, access)
        branches = self.branches.setdefault(name, {})
        whole = self.commits.get(branches.get(branch, branches.get("main", "")), {}) | files
        sha = hashlib.sha1(repr((name, branch, sorted(whole.items()))).encode()).hexdigest()
        self.commits[sha] = whole
        branches[branch] = sha
        return sha

    def files(self, name: str, revision: str) -> dict[str, bytes] | None:
        return self.commits.get(self.branches[name].get(revision, revision))


class Answers(BaseHTTPRequestHandler):
    """Answers as the hub does: https://huggingface.co/docs/hub/api, and headers that the client reads."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if found := re.fullmatch(r"/api/models/(\w+/[\w.-]+)/revision/(.+)", path):
            if self.may_read(found[1], found[2]):
                sha = self.hub.branches[found[1]].get(found[2], found[2])
                names = [{"rfilename": name} for name in self.hub.commits[sha]]
                self.send_json({"id": found[1], "modelId": found[1], "sha": sha, "siblings": names})
        elif found := re.fullmatch(r"/api/models/(\w+/[\w.-]+)/tree/(\w+)/?", path):
            if self.may_read(found[1], found[2]):
                files = (self.hub.files(found[1], found[2]) or {}).items()
                entries = [{"type": "file", "path": n, "size": len(c), "oid": etag(c)} for n, c in files]
                self.send_json(entries)
        elif found := re.fullmatch(r"/(\w+/[\w.-]+)/resolve/([^/]+)/(.+)", path):
            if self.may_read(found[1], found[2]):
                self.send_file(found[1], found[2], found[3])
        else:
            self.send_json({"error": "not here"}, 404)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        path, body = urlsplit(self.path).path, self.rfile.read(int(self.headers.get("Content-Length", 0)))
        token = self.token()
        if path == "/api/validate-yaml":  # the model card's header, before a commit
            self.send_json({"errors": [], "warnings": []})
        elif token != TOKEN:
            self.send_json({"error": "no"}, 403 if token == READER else 401)
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'owner'}/{asked['name']}"
            exists = name in self.hub.access
            private = asked.get("private") or asked.get("visibility") == "private"  # in earlier and later versions
            self.hub.access.setdefault(name, "private" if private else "public")
            self.hub.branches.setdefault(name, {})
            self.send_json({"url": f"{self.address()}/{name}", "id": name}, 409 if exists else 200)
        elif found := re.fullmatch(r"/api/models/(\w+/[\w.-]+)/branch/(.+)", path):
            self.hub.branches[found[1]].setdefault(found[2], self.hub.branches[found[1]].get("main", ""))
            self.send_json({})
        elif found := re.fullmatch(r"/api/models/(\w+/[\w.-]+)/preupload/(.+)", path):
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self.send_json({"files": files})
        elif found := re.fullmatch(r"/api/models/(\w+/[\w.-]+)/commit/(.+)", path):
            lines = [json.loads(line) for line in body.splitlines()]
            files = [line["value"] for line in lines if line["key"] == "file"]
            contents = {file["path"]: base64.b64decode(file["content"]) for file in files}
            sha = self.hub.commit(found[1], unquote(found[2]), contents)
            self.send_json({"commitUrl": f"{self.address()}/{found[1]}/commit/{sha}", "commitOid": sha})
        else:
            self.send_json({"error": path}, 404)

    def may_read(self, name: str, revision: str) -> bool:
        """Whether the reader may; otherwise the answer is sent."""
        access, token = self.hub.access.get(name), self.token()
        if token not in (None, TOKEN, READER):
            self.send_json({"error": "bad"}, 401, {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif access is None or (access == "private" and token != TOKEN):
            self.send_json({"error": "no"}, 401 if token is None else 404, {"X-Error-Code": "RepoNotFound"})
        elif access == "gated" and token != TOKEN:
            self.send_json({"error": "no"}, 403, {"X-Error-Code": "GatedRepo"})
        elif self.hub.files(name, revision) is None:
            self.send_json({"error": "no"}, 404, {"X-Error-Code": "RevisionNotFound"})
        else:
            return True
        return False

    def token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def address(self) -> str:
        return f"http://{self.headers['Host']}"

    def send_file(self, name: str, revision: str, file: str) -> None:
        content = (self.hub.files(name, revision) or {}).get(file)
        if content is None:
            self.send_json({"error": "no"}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        sha = self.hub.branches[name].get(revision, revision)
        self.send(200, content, {"ETag": f'"{etag(content)}"', "X-Repo-Commit": sha})

    def send_json(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Prints nothing."""


def etag(content: bytes) -> str:
    """The id that git gives to a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serving(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """A Hub that huggingface_hub takes for the real one, with a cache in a folder and nobody logged in."""
    from huggingface_hub import constants

    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Answers,), {"hub": hub}))
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    settings = {
        "ENDPOINT": address,
        "HUGGINGFACE_CO_URL_TEMPLATE": address + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(folder / "hub"),
        "HF_TOKEN_PATH": str(folder / "token"),
        "HF_HUB_OFFLINE": False,
    }
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
