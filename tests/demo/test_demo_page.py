"""The page of cgan demo in a real browser, at the width of a desktop and of a phone.

It needs gradio, and playwright with a Chromium on the machine; docs/demo.md says how to get them.
"""

import base64
import io
import shutil
import zipfile
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from cgan.demo.backend import STEPS
from cgan.demo.examples import PAIR_CAPTIONS
from cgan.figures.sheets import CAPTIONS
from cgan.sampling.request import read_request
from helpers.pictures import pixels

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as playwright:
        with playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser:
            yield browser


def opened(browser, served, width: int, height: int, requests: list[str]):
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(60_000)
    page.on("request", lambda request: requests.append(request.url))
    page.goto(served.url)
    return page


def write(page, name: str, text: str) -> None:
    page.locator(f"#{name} textarea, #{name} input").first.fill(text)


def as_shown(page, selector: str) -> np.ndarray:
    """The pixels of a picture in the page, as the browser has decoded it."""
    script = """async (image) => {
      await image.decode();
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
      canvas.getContext("2d").drawImage(image, 0, 0);
      return canvas.toDataURL("image/png");
    }"""
    encoded = page.locator(selector).first.evaluate(script)
    return pixels(io.BytesIO(base64.b64decode(encoded.partition(",")[2])))


def overflow(page) -> int:
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


@pytest.mark.slow
def test_a_caption_that_is_typed_becomes_the_samplers_picture_without_any_other_host(served, browser, pipe, tmp_path):
    requests: list[str] = []
    page = opened(browser, served, 1280, 900, requests)
    write(page, "caption", "a white zeppelin at night")
    write(page, "seed", "11")
    page.click("#sample")
    page.wait_for_selector("#pictures img")
    assert (as_shown(page, "#pictures img") == pipe.sample(["a white zeppelin at night"], [11])[0]).all()
    assert "'zeppelin'" in page.inner_text("#message")
    with page.expect_download() as download:
        page.click("#download")
    with zipfile.ZipFile(download.value.path()) as archive:
        assert len(archive.namelist()) == 4
        (tmp_path / "one.png").write_bytes(archive.read("a-white-zeppelin-at-night-12.png"))
    assert read_request(tmp_path / "one.png")[0].seeds == [12]
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert overflow(page) <= 0 and pixels(tmp_path / "page.png").std() > 20
    hosts = {request.split("/")[2] for request in requests if not request.startswith(("data:", "blob:"))}
    assert hosts == {f"127.0.0.1:{served.port}"}


@pytest.mark.slow
def test_the_slider_walks_and_the_nearest_are_found_on_a_phone(served, browser, pipe, tmp_path):
    page = opened(browser, served, 390, 844, [])
    page.get_by_role("tab", name="Interpolate").click()
    write(page, "from-caption", "a red ball on sand")
    write(page, "to-caption", "a blue house at night")
    page.click("#interpolate")
    page.wait_for_selector("#strip-view")
    for place, (caption, seed) in ((0, ("a red ball on sand", 0)), (STEPS - 1, ("a blue house at night", 1))):
        page.locator("#place input[type=number]").fill(str(place))
        page.keyboard.press("Tab")
        page.wait_for_timeout(500)
        seen = Image.open(io.BytesIO(page.locator("#strip-view").screenshot())).convert("RGB").resize((64, 64))
        difference = np.abs(np.asarray(seen).astype(int) - pipe.sample([caption], [seed])[0])
        assert difference[:, 4:-4].mean() < 8
    assert overflow(page) <= 0
    page.locator(".overflow-menu > button").click()  # the last tab is in a menu on a phone
    page.locator(".overflow-dropdown button", has_text="Nearest training pictures").click()
    write(page, "near-caption", "a red ball on sand")
    page.click("#find")
    page.wait_for_selector("#by-picture img")
    page.screenshot(path=tmp_path / "phone.png", full_page=True)
    assert page.locator("#by-caption img").count() == 8 and overflow(page) <= 0


@pytest.mark.slow
def test_a_mistake_is_told_on_the_page(served, browser):
    page = opened(browser, served, 1280, 900, [])
    page.click("#sample")
    page.get_by_text("a caption is empty; give one").wait_for()


@pytest.mark.slow
@pytest.mark.parametrize("width, height", [(1280, 900), (390, 844)])
def test_an_example_is_sampled_edited_and_asked_about(served, browser, pipe, width, height):
    requests: list[str] = []
    page = opened(browser, served, width, height, requests)
    page.locator(".example:visible").nth(2).click()
    page.wait_for_selector("#pictures img")
    assert (as_shown(page, "#pictures img") == pipe.sample([CAPTIONS[2]], [0])[0]).all()
    page.locator(".hand", has_text="Edit").click()
    write(page, "new-caption", "a blue cat")
    page.click("#edit")
    page.wait_for_selector("#edited img")
    expected = pipe.starting_from(pipe.sample([CAPTIONS[2]], [0])[0]).sample(["a blue cat"], [0])[0]
    assert (as_shown(page, "#edited .grid-container > :nth-child(2) img") == expected).all()
    page.get_by_role("tab", name="Ask").click()
    page.locator(".example:visible").first.click()
    page.wait_for_selector("#answer .best")
    assert page.inner_text("#answer .best") == "blue" and overflow(page) <= 0
    assert {request.split("/")[2] for request in requests if request.startswith("http")} == {f"127.0.0.1:{served.port}"}


@pytest.mark.slow
def test_a_picture_that_is_chosen_is_edited_and_a_text_file_is_told(served, browser, pipe, pictures):
    page = opened(browser, served, 1280, 900, [])
    page.get_by_role("tab", name="Edit").click()
    write(page, "new-caption", "a dog at night")
    page.set_input_files("#edit-picture input", served.home / "secret.txt")
    page.wait_for_selector("#edit-picture[data-url]")
    page.click("#edit")
    page.get_by_text("damaged or not a picture").wait_for()
    page.set_input_files("#edit-picture input", pictures / "scene-3.png")
    page.wait_for_selector("#edit-picture.full")
    page.click("#edit")
    page.wait_for_selector("#edited img")
    assert (as_shown(page, "#edited img") == pixels(pictures / "scene-3.png")).all()


@pytest.mark.slow
def test_other_weights_bring_examples_of_their_own(served, browser):
    page = opened(browser, served, 1280, 900, [])
    page.click("#checkpoint input")
    page.get_by_role("option", name="Scenes with two objects").click()
    page.get_by_text(PAIR_CAPTIONS[0]).first.click()
    page.wait_for_selector("#pictures img")
    page.get_by_role("tab", name="Edit").click()
    page.get_by_text("These weights can't edit pictures").wait_for()
