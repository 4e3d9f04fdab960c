"""The page of cgan demo, by gradio: what stands where, and what its server lets through."""

import html
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from urllib.parse import quote

import gradio as gr
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from cgan.demo.studio import LONGEST_CAPTION, MOST_PICTURES, MOST_TRUNCATION, NEAREST, STEPS, Studio, Wish
from cgan.errors import UserError
from cgan.figures.sheets import CAPTIONS
from cgan.ranges import LARGEST_SEED

SHOWING = {"height": "auto", "show_label": False, "interactive": False, "buttons": ["download", "fullscreen"]}
MOST_WAITING = 32  # wishes in the queue; more are refused
API = "/gradio_api/"
PASSED = ("queue/", "call/", "info", "heartbeat/", "startup-events", "cancel", "theme.css", "app_id", "login_check")
STYLE = """
.gradio-container { max-width: 1120px !important; margin: auto; }
#title h1 { font-size: 1.6rem; margin: 0; }
#title p { margin: 0; opacity: 0.7; }
.bar { align-items: end; }
.told { color: #b45309; }
.block:has(.told:empty) { display: none; }
.dark .told { color: #fbbf24; }
#walked { width: min(320px, 100%); aspect-ratio: 1; background-repeat: no-repeat; margin: auto; }
#walked { clip-path: inset(0 1%); }
.gallery .grid-wrap { max-height: none !important; }
#pictures .grid-container:has(> :nth-child(5)) { grid-template-columns: repeat(4, minmax(60px, 1fr)); }
.small .grid-container { grid-template-columns: repeat(auto-fill, minmax(72px, 1fr)) !important; grid-auto-rows: auto; }
"""  # clipped, as a browser blends the edges of neighbours
SHOW_PLACE = f"""(place) => {{
  const picture = document.getElementById("walked");
  if (picture) picture.style.backgroundPosition = (100 * place / {STEPS - 1}) + "% 0";
  return [];
}}"""


def serve(studio: Studio, host: str, port: int | None) -> None:
    """Until Ctrl-C; raises UserError where host and port can't be had."""
    blocks = page(studio).queue(max_size=MOST_WAITING, api_open=False, default_concurrency_limit=1)
    quietly = {"quiet": True, "share": False, "ssr_mode": False, "pwa": False, "mcp_server": False, "footer_links": []}
    guarded = {"app_kwargs": {"middleware": [Middleware(Doorkeeper, folder=studio.folder)]}, "run_history": False}
    look = {"css": STYLE, "theme": gr.themes.Default(primary_hue="emerald")}
    try:
        _, url, _ = blocks.launch(
            server_name=host, server_port=port, prevent_thread_lock=True, **quietly, **guarded, **look
        )
    except OSError as error:
        raise UserError(f"can't serve {host}, port {port or '7860 and on'} ({error}); give another --port") from None
    print(f"the page is at {url} (Ctrl-C ends it)", flush=True)
    blocks.block_thread()


class Doorkeeper:
    """Lets only what the page needs through: of gradio's own routes some take uploads, or fetch from other hosts."""

    def __init__(self, app: ASGIApp, folder: Path) -> None:
        self.app, self.passed = app, (*PASSED, f"file={folder}/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path.startswith(API) and not path.removeprefix(API).startswith(self.passed):
            await PlainTextResponse("not served here", 403)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def page(studio: Studio) -> gr.Blocks:
    with gr.Blocks(title="cgan", analytics_enabled=False) as blocks:
        gr.HTML("<h1>cgan</h1><p>A caption becomes a picture in one pass through a network.</p>", elem_id="title")
        with gr.Row(elem_classes="bar"):
            caption = gr.Textbox(
                label="Caption", placeholder="what to draw", max_length=LONGEST_CAPTION, scale=5, elem_id="caption"
            )
            button = gr.Button("Draw", variant="primary", scale=1, min_width=120, elem_id="draw")
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                outputs = drawn_part()
            with gr.Column(scale=2, min_width=280):
                wish, num, another = settings_part(studio, caption)
        example_part(studio, caption)
        with gr.Tabs():
            with gr.Tab("Walk"):
                walk_part(studio, wish)
            if any(studio.pictures(path) for path in studio.checkpoints.values()):
                with gr.Tab("Nearest training pictures"):
                    nearest_part(studio, wish)
        draw = drawing(studio)
        draws = {"fn": draw, "inputs": [*wish, num], "outputs": outputs, **one_by_one()}
        gr.on([button.click, caption.submit], api_name="draw", show_progress_on=outputs[0], **draws)
        another.then(api_visibility="private", show_progress_on=outputs[0], **draws)
    return blocks


def one_by_one() -> dict:
    """All that draws shares one place in the queue."""
    return {"concurrency_limit": 1, "concurrency_id": "drawing"}


def drawn_part() -> list[gr.Component]:
    gallery = gr.Gallery(columns=2, elem_id="pictures", elem_classes="gallery", **SHOWING)
    told = gr.HTML(elem_classes="told", elem_id="told")
    return [gallery, told, gr.DownloadButton("Download", visible=False, size="sm", elem_id="download")]


def settings_part(studio: Studio, caption: gr.Textbox) -> tuple[list[gr.Component], gr.Slider, gr.events.Dependency]:
    """What makes a wish, how many pictures, and the choice of another seed."""
    labels = list(studio.checkpoints)
    num = gr.Slider(1, MOST_PICTURES, 4, step=1, label="Pictures", elem_id="num")
    with gr.Row(elem_classes="bar"):
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=LARGEST_SEED, min_width=120, elem_id="seed")
        dice = gr.Button("Another seed", size="sm", min_width=120)
    truncation = gr.Slider(
        0, MOST_TRUNCATION, 1, step=0.05, label="Truncation", info="below 1: safer, less varied", elem_id="truncation"
    )
    checkpoint = gr.Dropdown(labels, value=labels[0], label="Checkpoint", elem_id="checkpoint")
    another = dice.click(None, None, seed, js="() => Math.floor(Math.random() * 1000000)", api_visibility="private")
    return [checkpoint, caption, seed, truncation], num, another


def example_part(studio: Studio, caption: gr.Textbox) -> None:
    """Captions to click on, if the first checkpoint knows their words."""
    if not any(studio.unknown(Wish(next(iter(studio.checkpoints)), each, 0)) for each in CAPTIONS):
        gr.Examples([[each] for each in CAPTIONS], caption, label="For instance")


def walk_part(studio: Studio, wish: list[gr.Component]) -> None:
    with gr.Row(elem_classes="bar"):
        to_caption = gr.Textbox(
            label="To the caption", placeholder="the same", max_length=LONGEST_CAPTION, scale=3, elem_id="to-caption"
        )
        to_seed = gr.Number(
            1, label="To the seed", precision=0, minimum=0, maximum=LARGEST_SEED, min_width=120, elem_id="to-seed"
        )
        button = gr.Button("Walk", scale=1, min_width=120, elem_id="walk")
    told, picture = gr.HTML(elem_classes="told"), gr.HTML()
    place = gr.Slider(0, STEPS - 1, 0, step=1, label="Place on the way", visible=False, elem_id="place")
    download = gr.DownloadButton("Download the strip", visible=False, size="sm", elem_id="strip")

    @told_to_visitor
    def walk(checkpoint: str, caption: str, seed: int, truncation: float, to_caption: str, to_seed: int) -> list:
        wanted = Wish(checkpoint, caption, seed, truncation)
        strip = studio.walk(wanted, to_caption, to_seed)
        words = html.escape(studio.unknown(wanted, to_caption))
        return [words, walked(strip), gr.update(value=0, visible=True), gr.update(value=strip, visible=True)]

    outputs = [told, picture, place, download]
    button.click(walk, [*wish, to_caption, to_seed], outputs, api_name="walk", show_progress_on=picture, **one_by_one())
    place.change(None, place, None, js=SHOW_PLACE, api_visibility="private")


def walked(strip: Path) -> str:
    """One picture of a strip, which the slider then moves."""
    style = f"background-image: url('{API}file={quote(str(strip))}'); background-size: {100 * STEPS}% 100%"
    return f'<div id="walked" style="{style}"></div>'


def nearest_part(studio: Studio, wish: list[gr.Component]) -> None:
    button = gr.Button("Find", min_width=120, elem_id="find")
    gr.HTML("Nearest to the caption:")
    by_caption = gr.Gallery(columns=NEAREST, elem_id="by-caption", elem_classes="gallery small", **SHOWING)
    gr.HTML("Nearest to the picture of this caption and seed:")
    by_picture = gr.Gallery(columns=NEAREST, elem_id="by-picture", elem_classes="gallery small", **SHOWING)

    @told_to_visitor
    def nearest(checkpoint: str, caption: str, seed: int, truncation: float) -> list:
        return list(studio.nearest(Wish(checkpoint, caption, seed, truncation)))

    button.click(nearest, wish, [by_caption, by_picture], api_name="nearest", **one_by_one())


def drawing(studio: Studio) -> Callable:
    @told_to_visitor
    def draw(checkpoint: str, caption: str, seed: int, truncation: float, num: int) -> list:
        wanted = Wish(checkpoint, caption, seed, truncation)
        shown, everything = studio.draw(wanted, num)
        label = "Download" if num == 1 else "Download all"
        return [shown, html.escape(studio.unknown(wanted)), gr.update(value=everything, label=label, visible=True)]

    return draw


def told_to_visitor(answer: Callable) -> Callable:
    """A UserError as gradio shows it."""

    @wraps(answer)
    def told(*wish: object) -> list:
        try:
            return answer(*wish)
        except UserError as error:
            raise gr.Error(html.escape(str(error), quote=False), print_exception=False) from None

    return told
