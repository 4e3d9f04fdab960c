"""What runs in the visitor's browser: the style, the script, and the HTML of what gradio has no component for."""

import html
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from cgan.demo.backend import MAX_UPLOAD, STEPS, TOO_LARGE
from cgan.demo.examples import PictureExample, as_data_url, picture_of
from cgan.retrieval.asking import Answers

API = "/gradio_api/"
STYLE = """
.gradio-container { max-width: 1160px !important; margin: auto; width: 100%; }
.gradio-container > .main, .gradio-container .wrap:has(> main) { width: 100%; }
#title h1 { font-size: 1.6rem; margin: 0; }
#title p { margin: 0; opacity: 0.7; }
.bar { align-items: end; }
.message { color: #b45309; }
.dark .message { color: #fbbf24; }
.block:has(.message:empty), .block:has(.examples:empty) { display: none; }
.chips { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; }
.chips > span { opacity: 0.7; }
.example, .hand {
  border: 1px solid var(--border-color-primary); border-radius: 14px; padding: 3px 11px; text-align: left;
  background: var(--background-fill-secondary); color: var(--body-text-color) !important; cursor: pointer;
  font: 400 0.875rem/1.4 var(--font) !important;
}
.example, .hand, .chips img { margin: 0 !important; }
.example:hover, .hand:hover, .drop:hover, .drop.over { border-color: var(--color-accent); }
.example:has(img) { display: flex; gap: 10px; align-items: center; border-radius: 10px; padding: 5px 9px 5px 5px; }
.example img { width: 54px; height: 54px; border-radius: 6px; }
.drop {
  display: flex; align-items: center; justify-content: center; position: relative; overflow: hidden; cursor: pointer;
  width: min(280px, 100%); aspect-ratio: 1; margin: auto; text-align: center; padding: 16px;
  border: 2px dashed var(--border-color-primary); border-radius: 10px;
}
.drop:focus-within { outline: 2px solid var(--color-accent); }
.drop input { position: absolute; opacity: 0; width: 1px; height: 1px; }
.drop img { display: none; position: absolute; inset: 0; width: 100%; height: 100%; object-fit: cover; }
.drop.full { border-style: solid; }
.drop.full img { display: block; margin: 0; }
.drop.full::after {
  content: "choose another"; position: absolute; right: 6px; bottom: 6px; padding: 1px 8px; border-radius: 8px;
  background: var(--background-fill-primary); font-size: 0.8rem;
}
.column:not(:has(#pictures img)) .block:has(.onward) { display: none; }
.answers .best { font-size: 1.5rem; font-weight: 600; margin: 0 0 8px; }
.answer { display: grid; grid-template-columns: 7em 1fr 4em; gap: 10px; align-items: center; margin: 6px 0; }
.answer .track { height: 10px; border-radius: 5px; background: var(--background-fill-secondary); overflow: hidden; }
.answer .track div { height: 100%; background: var(--color-accent); }
.answer .share { text-align: right; font-variant-numeric: tabular-nums; }
#strip-view { width: min(320px, 100%); aspect-ratio: 1; background-repeat: no-repeat; margin: auto; }
#strip-view { clip-path: inset(0 1%); }
.gallery .grid-wrap { min-height: 0 !important; max-height: none !important; }
.gallery .empty { min-height: 160px !important; }
#pictures .grid-container:has(> :nth-child(5)) { grid-template-columns: repeat(4, minmax(60px, 1fr)); }
.small .grid-container { grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)) !important; grid-auto-rows: auto; }
@media (max-width: 600px) {
  .gradio-container > .main { padding-left: 14px !important; padding-right: 14px !important; }
  .tab-container button { padding: 0 9px !important; }
  .example:has(img) { width: calc(50% - 4px); }
  .example img { width: 44px; height: 44px; }
  .chips:has(img) > span { display: none; }
}
"""  # strips are clipped, as a browser blends the edges of neighbours

SCRIPT = """<script>
(() => {
  const urlOf = (file) => new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
  const show = (zone, url, name) => {
    zone.dataset.url = url;
    zone.querySelector("span").textContent = name;
    const image = zone.querySelector("img");
    image.onerror = () => zone.classList.remove("full");
    image.src = url;
    zone.classList.add("full");
  };
  const take = async (zone, file) => {
    if (file) show(zone, file.size > MOST ? "TOO_LARGE" : await urlOf(file), file.name);
  };
  const fill = (name, text) => {
    const field = document.querySelector(`#${name} textarea, #${name} input`);
    field.value = text;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const present = async (name) => {
    for (let i = 0; i < 100 && !document.getElementById(name); i++) await new Promise((done) => setTimeout(done, 30));
    return document.getElementById(name);
  };
  const pick = (button) => {
    const { fields, zone, press, result } = JSON.parse(button.dataset.example);
    for (const [name, text] of Object.entries(fields)) fill(name, text);
    if (zone) show(document.getElementById(zone), button.querySelector("img").src, "");
    setTimeout(() => document.getElementById(press).click(), 100);
    if (innerWidth <= 600) document.getElementById(result).scrollIntoView({ behavior: "smooth", block: "center" });
  };
  const handOn = async (button) => {
    const image = document.querySelector("#pictures .preview img, #pictures img");
    if (!image) return;
    const url = await urlOf(await (await fetch(image.src)).blob());
    [...document.querySelectorAll("[role=tab]")].find((tab) => tab.textContent.trim() === button.dataset.tab).click();
    show(await present(button.dataset.zone), url, "");
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".example, .hand");
    if (button) (button.matches(".example") ? pick : handOn)(button);
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches(".drop input")) take(event.target.closest(".drop"), event.target.files[0]);
  });
  for (const kind of ["dragover", "dragleave", "drop"]) document.addEventListener(kind, (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    const zone = event.target.closest(".drop");
    if (!zone) return;
    zone.classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(zone, event.dataTransfer.files[0]);
  });
})();
</script>""".replace("MOST", str(MAX_UPLOAD)).replace("TOO_LARGE", TOO_LARGE)
SHOW_POSITION = f"""(place) => {{
  const picture = document.getElementById("strip-view");
  if (picture) picture.style.backgroundPosition = (100 * place / {STEPS - 1}) + "% 0";
  return [];
}}"""


def read_zone(zone: str) -> str:
    """Returns the script that puts the picture of a drop zone in the place of the last input.

    The server takes no uploads, so a picture comes as text.
    """
    return f"""(...values) => {{
  values[values.length - 1] = document.getElementById("{zone}").dataset.url ?? "";
  return values;
}}"""


def drop_zone(name: str) -> str:
    """Returns the HTML of a square in which a visitor drops or chooses a picture."""
    file = '<input type="file" accept="image/*" aria-label="A picture">'
    words = "<span>Drop a picture here,<br>or click to choose.</span>"
    return f'<label class="drop" id="{name}">{file}<img alt="">{words}</label>'


class Target(NamedTuple):
    """What an example leads to, by the names of elements: the button that it presses, and the result."""

    press: str
    result: str


def chips(examples: Iterable[tuple[str, Mapping[str, str]]], target: Target) -> str:
    """Returns the HTML of examples to click on: the text of each, and what it writes into fields, by their names."""
    buttons = [example_button(html.escape(text), {"fields": fields, **target._asdict()}) for text, fields in examples]
    return f'<div class="chips"><span>Try:</span>{"".join(buttons)}</div>' if buttons else ""


def picture_chips(examples: Iterable[PictureExample], field: str, zone: str, target: Target) -> str:
    """Returns the HTML of examples with a picture for a drop zone and a text for a field."""
    buttons = []
    for each in examples:
        image = f'<img alt="{html.escape(" ".join(each.scene))}" src="{as_data_url(picture_of(each.scene))}">'
        action = {"fields": {field: each.text}, "zone": zone, **target._asdict()}
        buttons.append(example_button(f"{image}<span>{html.escape(each.text)}</span>", action))
    return f'<div class="chips"><span>Try:</span>{"".join(buttons)}</div>' if buttons else ""


def example_button(content: str, action: dict) -> str:
    """Returns the HTML of one example, given its content as HTML."""
    return f'<button type="button" class="example" data-example="{html.escape(json.dumps(action))}">{content}</button>'


def hand_on(tabs: Mapping[str, str]) -> str:
    """Returns the HTML of buttons that take the first picture to the drop zones of other tabs, by the tabs' names."""
    buttons = [
        f'<button type="button" class="hand" data-tab="{tab}" data-zone="{zone}">{tab}</button>'
        for tab, zone in tabs.items()
    ]
    return f'<div class="chips"><span>Go on with the first picture:</span>{"".join(buttons)}</div>'


def answer_bars(answers: Answers) -> str:
    """Returns the HTML of the best answer, and of all with their probabilities as bars."""
    bars = [
        f'<div class="answer"><span>{html.escape(each.answer)}</span><div class="track"><div style="width: '
        f'{100 * each.probability:.1f}%"></div></div><span class="share">{100 * each.probability:.1f} %</span></div>'
        for each in answers.answers
    ]
    return f'<div class="answers"><p class="best">{html.escape(answers.best)}</p>{"".join(bars)}</div>'


def strip_view(strip: Path) -> str:
    """Returns the HTML that shows one picture of a strip; the slider moves the strip behind it."""
    style = f"background-image: url('{API}file={quote(str(strip))}'); background-size: {100 * STEPS}% 100%"
    return f'<div id="strip-view" style="{style}"></div>'
