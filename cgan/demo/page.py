"""The page of cgan demo, built with gradio: its layout, its event handlers, and the routes that its server allows."""

import html
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from urllib.parse import quote

import gradio as gr
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from cgan.demo.backend import (
    MAX_CAPTION,
    MAX_PICTURES,
    MAX_TRUNCATION,
    MAX_UPLOAD,
    NEAREST,
    STEPS,
    Backend,
    PageRequest,
)
from cgan.errors import UserError
from cgan.figures.sheets import CAPTIONS, CHINESE_CAPTIONS
from cgan.ranges import LARGEST_SEED

SHOWING = {"height": "auto", "show_label": False, "interactive": False, "buttons": ["download", "fullscreen"]}
MAX_WAITING = 32  # requests in the queue; more are refused
API = "/gradio_api/"
PASSED = ("queue/", "call/", "info", "heartbeat/", "startup-events", "cancel", "theme.css", "app_id", "login_check")
STYLE = """
.gradio-container { max-width: 1120px !important; margin: auto; }
#title h1 { font-size: 1.6rem; margin: 0; }
#title p { margin: 0; opacity: 0.7; }
.bar { align-items: end; }
.message { color: #b45309; }
.block:has(.message:empty) { display: none; }
.dark .message { color: #fbbf24; }
#strip-view { width: min(320px, 100%); aspect-ratio: 1; background-repeat: no-repeat; margin: auto; }
#strip-view { clip-path: inset(0 1%); }
.gallery .grid-wrap { max-height: none !important; }
#pictures .grid-container:has(> :nth-child(5)) { grid-template-columns: repeat(4, minmax(60px, 1fr)); }
.small .grid-container { grid-template-columns: repeat(auto-fill, minmax(72px, 1fr)) !important; grid-auto-rows: auto; }
"""  # clipped, as a browser blends the edges of neighbours
SHOW_POSITION = f"""(place) => {{
  const picture = document.getElementById("strip-view");
  if (picture) picture.style.backgroundPosition = (100 * place / {STEPS - 1}) + "% 0";
  return [];
}}"""

CHOOSE = """<label for="source-file">A picture, dropped here or chosen:</label>
<input type="file" id="source-file" accept="image/*" style="display: block; padding: 2em; border: 1px dashed gray;">"""
READ_PICTURE = """async (...values) => {
  const file = document.getElementById("source-file").files[0];
  const url = (file) => new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
  values[values.length - 1] = !file ? "" : file.size > MOST ? "too large" : await url(file);
  return values;
}""".replace("MOST", str(MAX_UPLOAD))  # the server takes no uploads, so the picture comes as text


def serve(backend: Backend, host: str, port: int | None, report: Callable[[str], None]) -> None:
    """Serves the page until Ctrl-C; `report` receives its address.

    port None is the first free one from 7860 on. Raises UserError where host or port are not available.
    """
    blocks = page(backend).queue(max_size=MAX_WAITING, api_open=False, default_concurrency_limit=1)
    quietly = {"quiet": True, "share": False, "ssr_mode": False, "pwa": False, "mcp_server": False, "footer_links": []}
    guarded = {"app_kwargs": {"middleware": [Middleware(RouteFilter, folder=backend.folder)]}, "run_history": False}
    style = {"css": STYLE, "theme": gr.themes.Default(primary_hue="emerald")}
    try:
        _, url, _ = blocks.launch(
            server_name=host, server_port=port, prevent_thread_lock=True, **quietly, **guarded, **style
        )
    except OSError as error:
        raise UserError(f"can't serve {host}, port {port or '7860 and on'} ({error}); give another --port") from None
    report(f"the page is at {url} (Ctrl-C ends it)")
    blocks.block_thread()


class RouteFilter:
    """Serves only the routes that the page needs: some of gradio's own take uploads, or fetch from other hosts."""

    def __init__(self, app: ASGIApp, folder: Path) -> None:
        self.app, self.passed = app, (*PASSED, f"file={folder}/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path.startswith(API) and not path.removeprefix(API).startswith(self.passed):
            await PlainTextResponse("not served here", 403)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def page(backend: Backend) -> gr.Blocks:
    """Returns the page: a caption, settings, pictures, and tabs for interpolation and for nearest training pictures."""
    with gr.Blocks(title="cgan", analytics_enabled=False) as blocks:
        gr.HTML("<h1>cgan</h1><p>A caption becomes a picture in one pass through a network.</p>", elem_id="title")
        with gr.Row(elem_classes="bar"):
            caption = gr.Textbox(
                label="Caption", placeholder="what to show", max_length=MAX_CAPTION, scale=5, elem_id="caption"
            )
            button = gr.Button("Generate", variant="primary", scale=1, min_width=120, elem_id="sample")
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                outputs = output_part()
            with gr.Column(scale=2, min_width=280):
                request, num, another = settings_part(backend, caption)
        example_part(backend, caption)
        with gr.Tabs():
            with gr.Tab("Interpolate"):
                interpolation_part(backend, request)
            with gr.Tab("Edit a picture"):
                edit_part(backend, request)
            if any(backend.pictures(path) for path in backend.checkpoints.values()):
                with gr.Tab("Nearest training pictures"):
                    nearest_part(backend, request)
        samples = {"fn": sampling(backend), "inputs": [*request, num], "outputs": outputs, **one_by_one()}
        gr.on([button.click, caption.submit], api_name="sample", show_progress_on=outputs[0], **samples)
        another.then(api_visibility="private", show_progress_on=outputs[0], **samples)
    return blocks


def one_by_one() -> dict:
    """Returns the event settings by which all handlers that sample share one queue and run one at a time."""
    return {"concurrency_limit": 1, "concurrency_id": "sampling"}


def output_part() -> list[gr.Component]:
    """Adds the pictures, a message and a download button, and returns them."""
    gallery = gr.Gallery(columns=2, elem_id="pictures", elem_classes="gallery", **SHOWING)
    message = gr.HTML(elem_classes="message", elem_id="message")
    return [gallery, message, gr.DownloadButton("Download", visible=False, size="sm", elem_id="download")]


def settings_part(backend: Backend, caption: gr.Textbox) -> tuple[list[gr.Component], gr.Slider, gr.events.Dependency]:
    """Adds the settings; returns the inputs of a request, the number of pictures, and the event of the seed button."""
    labels = list(backend.checkpoints)
    num = gr.Slider(1, MAX_PICTURES, 4, step=1, label="Pictures", elem_id="num")
    with gr.Row(elem_classes="bar"):
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=LARGEST_SEED, min_width=120, elem_id="seed")
        dice = gr.Button("Another seed", size="sm", min_width=120)
    truncation = gr.Slider(
        0, MAX_TRUNCATION, 1, step=0.05, label="Truncation", info="below 1: safer, less varied", elem_id="truncation"
    )
    checkpoint = gr.Dropdown(labels, value=labels[0], label="Checkpoint", elem_id="checkpoint")
    another = dice.click(None, None, seed, js="() => Math.floor(Math.random() * 1000000)", api_visibility="private")
    return [checkpoint, caption, seed, truncation], num, another


def example_part(backend: Backend, caption: gr.Textbox) -> None:
    """Adds example captions to click on, English or Chinese, if the first checkpoint knows all of their words."""
    first = next(iter(backend.checkpoints))
    for captions in (CAPTIONS, CHINESE_CAPTIONS):
        if not any(backend.unknown(PageRequest(first, each, 0)) for each in captions):
            gr.Examples([[each] for each in captions], caption, label="For instance")
            return


def interpolation_part(backend: Backend, request: list[gr.Component]) -> None:
    """Adds the contents of the tab that interpolates to another caption and seed."""
    with gr.Row(elem_classes="bar"):
        to_caption = gr.Textbox(
            label="To the caption", placeholder="the same", max_length=MAX_CAPTION, scale=3, elem_id="to-caption"
        )
        to_seed = gr.Number(
            1, label="To the seed", precision=0, minimum=0, maximum=LARGEST_SEED, min_width=120, elem_id="to-seed"
        )
        button = gr.Button("Interpolate", scale=1, min_width=120, elem_id="interpolate")
    message, picture = gr.HTML(elem_classes="message"), gr.HTML()
    place = gr.Slider(0, STEPS - 1, 0, step=1, label="Position", visible=False, elem_id="place")
    download = gr.DownloadButton("Download the strip", visible=False, size="sm", elem_id="strip")

    @as_page_error
    def interpolate(checkpoint: str, caption: str, seed: int, truncation: float, to_caption: str, to_seed: int) -> list:
        wanted = PageRequest(checkpoint, caption, seed, truncation)
        strip = backend.interpolate(wanted, to_caption, to_seed)
        words = html.escape(backend.unknown(wanted, to_caption))
        return [words, strip_view(strip), gr.update(value=0, visible=True), gr.update(value=strip, visible=True)]

    outputs = [message, picture, place, download]
    inputs = [*request, to_caption, to_seed]
    shared = {"show_progress_on": picture, **one_by_one()}
    button.click(interpolate, inputs, outputs, api_name="interpolate", **shared)
    place.change(None, place, None, js=SHOW_POSITION, api_visibility="private")


def edit_part(backend: Backend, request: list[gr.Component]) -> None:
    """Adds the contents of the tab that redraws a visitor's picture by the caption, before and after side by side."""
    gr.HTML(CHOOSE)
    with gr.Row(elem_classes="bar"):
        told = gr.Textbox(
            label="Its new caption", placeholder="the caption above", max_length=MAX_CAPTION, scale=3, elem_id="told"
        )
        keep = gr.Slider(0, 1, 1, step=0.05, label="Keep", info="1 redraws the picture, 0 ignores it", elem_id="keep")
        button = gr.Button("Edit", scale=1, min_width=120, elem_id="edit")
    message = gr.HTML(elem_classes="message")
    gallery = gr.Gallery(columns=2, elem_id="edited", elem_classes="gallery", **SHOWING)
    download = gr.DownloadButton("Download", visible=False, size="sm", elem_id="edited-file")
    picture = gr.Textbox(visible=False)

    @as_page_error
    def edit(checkpoint: str, caption: str, seed: int, truncation: float, told: str, keep: float, picture: str) -> list:
        wanted = PageRequest(checkpoint, told or caption, seed, truncation)
        shown, file = backend.edit(wanted, picture, keep)
        return [html.escape(backend.unknown(wanted)), shown, gr.update(value=file, visible=True)]

    inputs, outputs = [*request, told, keep, picture], [message, gallery, download]
    shared = {"show_progress_on": gallery, **one_by_one()}
    button.click(edit, inputs, outputs, js=READ_PICTURE, api_name="edit", **shared)


def strip_view(strip: Path) -> str:
    """Returns the HTML that shows one picture of a strip; the slider moves the strip behind it."""
    style = f"background-image: url('{API}file={quote(str(strip))}'); background-size: {100 * STEPS}% 100%"
    return f'<div id="strip-view" style="{style}"></div>'


def nearest_part(backend: Backend, request: list[gr.Component]) -> None:
    """Adds the contents of the tab that finds the nearest training pictures."""
    button = gr.Button("Find", min_width=120, elem_id="find")
    gr.HTML("Nearest to the caption:")
    by_caption = gr.Gallery(columns=NEAREST, elem_id="by-caption", elem_classes="gallery small", **SHOWING)
    gr.HTML("Nearest to the picture of this caption and seed:")
    by_picture = gr.Gallery(columns=NEAREST, elem_id="by-picture", elem_classes="gallery small", **SHOWING)

    @as_page_error
    def nearest(checkpoint: str, caption: str, seed: int, truncation: float) -> list:
        return list(backend.nearest(PageRequest(checkpoint, caption, seed, truncation)))

    button.click(nearest, request, [by_caption, by_picture], api_name="nearest", **one_by_one())


def sampling(backend: Backend) -> Callable:
    """Returns the handler of the Generate button, which returns pictures, a message and a file to download."""

    @as_page_error
    def sample(checkpoint: str, caption: str, seed: int, truncation: float, num: int) -> list:
        wanted = PageRequest(checkpoint, caption, seed, truncation)
        shown, everything = backend.sample(wanted, num)
        label = "Download" if num == 1 else "Download all"
        return [shown, html.escape(backend.unknown(wanted)), gr.update(value=everything, label=label, visible=True)]

    return sample


def as_page_error(answer: Callable) -> Callable:
    """Returns a handler that raises gradio's error, which the page displays, in place of a UserError."""

    @wraps(answer)
    def guarded(*request: object) -> list:
        try:
            return answer(*request)
        except UserError as error:
            raise gr.Error(html.escape(str(error), quote=False), print_exception=False) from None

    return guarded
