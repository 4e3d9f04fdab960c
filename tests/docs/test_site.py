"""The site of the pages: it builds, its links lead somewhere, it asks no other host, and nothing public is missing."""

import importlib
import inspect
import posixpath
import re
import shutil
import threading
import zlib
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest

import cgan
from cgan.cli.commands import VERBS
from cgan.cli.completion import keys_of
from cgan.config import RunConfig
from helpers import ROOT

pytestmark = pytest.mark.slow
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LOADED = {"link": "href", "script": "src", "img": "src", "source": "srcset", "iframe": "src"}  # by a page, unasked


class Found(HTMLParser):
    """The addresses that a page names, and the anchors in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        values = dict(attributes)
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        address = values.get(LOADED.get(tag, "href"))
        if address is not None and values.get("rel") != "canonical":
            (self.loaded if tag in LOADED else self.links).append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built as `mkdocs build --strict` does, which fails at the first warning."""
    for name in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        pytest.importorskip(name, reason="the extra docs is not installed")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True)
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
        config.plugins.on_shutdown()
    return folder


@pytest.fixture(scope="module")
def pages(site) -> dict[str, Found]:
    return {
        str(path.relative_to(site)): Found(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))
    }


def documented(site: Path) -> set[str]:
    """The names that the pages of the API explain, by the inventory that mkdocstrings writes."""
    content = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split(" ")[0] for line in zlib.decompress(content).decode("utf-8").splitlines()}


def public_names(module: ModuleType) -> set[str]:
    """The classes and functions that a module defines, but for those with an underscore."""
    members = inspect.getmembers(module, lambda value: inspect.isclass(value) or inspect.isfunction(value))
    return {name for name, value in members if value.__module__ == module.__name__ and not name.startswith("_")}


def test_every_link_leads_to_a_file_and_to_a_place_in_it(site, pages):
    broken = []
    for page, found in pages.items():
        for link in found.links + found.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(parts.path) or ""))
            target = page if not parts.path else target.lstrip("/") if page == "404.html" else target
            anchor = unquote(parts.fragment)
            if not (site / target).exists():
                broken.append((page, link))
            elif anchor and target in pages and anchor not in pages[target].anchors | {"__tabbed_1"}:
                broken.append((page, link))
    assert not broken and sum(len(found.links) for found in pages.values()) > 1000


def test_no_page_loads_anything_from_another_host(site, pages):
    elsewhere = {(page, link) for page, found in pages.items() for link in found.loaded if urlsplit(link).netloc}
    styles = [
        path.name for path in site.rglob("*.css") if re.search(r"url\([\"']?(https?:)?//", path.read_text("utf-8"))
    ]
    assert not elsewhere and not styles


def test_every_public_name_is_in_the_pages_of_the_api(site):
    known = documented(site)
    homes = {f"{cgan.HOMES[name]}.{name}" for name in cgan.__all__ if not name.startswith("__")}
    assert homes <= known
    paths = [path.relative_to(ROOT).with_suffix("") for path in ROOT.glob("cgan/*/**/*.py")]
    modules = [".".join(path.parts).removesuffix(".__init__") for path in paths if path.parts[1] not in ("cli", "demo")]
    modules += ["cgan.interfaces", "cgan.errors"]
    public = {f"{name}.{member}" for name in modules for member in public_names(importlib.import_module(name))}
    assert len(public) > 300 and not public - known


def test_every_key_of_the_configuration_is_in_the_reference(site):
    text = (site / "reference/configuration.html").read_text(encoding="utf-8")
    assert not {key for key in keys_of(RunConfig) if f"<code>{key}</code>" not in text}


def test_every_command_is_in_the_reference(pages):
    assert {f"cgan-{verb}" for verb in VERBS} <= pages["reference/commands.html"].anchors


def test_pages_in_a_browser_load_from_the_site_alone_and_fit_a_phone(site):
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    requests: list[str] = []
    handler = partial(SimpleHTTPRequestHandler, directory=str(site))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        with api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 390, "height": 800})
            page.on("request", lambda request: requests.append(request.url))
            for name in ("index.html", "results.html", "reference/configuration.html"):
                page.goto(f"{address}/{name}", wait_until="networkidle")
                assert page.evaluate("document.documentElement.scrollWidth") <= 390
            browser.close()
        server.shutdown()
    assert requests and all(url.startswith((address, "data:", "blob:")) for url in requests)
