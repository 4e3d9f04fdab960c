"""The page of cgan demo, built with gradio: the choice of weights, the tabs, and the routes that its server allows."""

from collections.abc import Callable
from inspect import signature
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from cgan.demo.backend import Backend
from cgan.demo.browser import API, SCRIPT, STYLE
from cgan.demo.examples import title
from cgan.demo.tabs import (
    as_page_error,
    ask_part,
    edit_part,
    generate_part,
    interpolation_part,
    nearest_part,
    one_by_one,
)
from cgan.errors import UserError

MAX_WAITING = 32  # requests in the queue; more are refused
PASSED = ("queue/", "call/", "info", "heartbeat/", "startup-events", "cancel", "theme.css", "app_id", "login_check")
TITLE = "<h1>cgan</h1><p>A caption becomes a picture in one pass through a network.</p>"
TABS = {"Generate": generate_part, "Edit": edit_part, "Ask": ask_part, "Interpolate": interpolation_part}
NEAREST = "Nearest training pictures"  # a tab where there are some to search in


def serve(backend: Backend, host: str, port: int | None, report: Callable[[str], None]) -> None:
    """Serves the page until Ctrl-C; `report` receives its address.

    port None is the first free one from 7860 on. Raises UserError where host or port are not available.
    """
    blocks = page(backend).queue(max_size=MAX_WAITING, api_open=False, default_concurrency_limit=1)
    quietly = {"quiet": True, "share": False, "ssr_mode": False, "pwa": False, "mcp_server": False, "footer_links": []}
    guarded = {"app_kwargs": {"middleware": [Middleware(RouteFilter, folder=backend.folder)]}}
    if "run_history" in signature(blocks.launch).parameters:  # of later versions of gradio 6
        quietly["run_history"] = False
    style = {"css": STYLE, "head": SCRIPT, "theme": gr.themes.Default(primary_hue="emerald")}
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
    """Returns the page: a choice of weights, and a tab for each thing to do with them."""
    parts = dict(TABS)
    if any(backend.pictures(path) for path in backend.checkpoints.values()):
        parts[NEAREST] = nearest_part
    with gr.Blocks(title="cgan", analytics_enabled=False) as blocks:
        with gr.Row(elem_classes="bar"):
            with gr.Column(scale=3, min_width=300):
                gr.HTML(TITLE, elem_id="title")
            with gr.Column(scale=2, min_width=300):
                choices = [(title(label), label) for label in backend.checkpoints]
                checkpoint = gr.Dropdown(choices, value=choices[0][1], label="Weights", elem_id="checkpoint")
        changing = []
        with gr.Tabs():
            for name, part in parts.items():
                with gr.Tab(name):
                    changing.append(part(backend, checkpoint))

        @as_page_error
        def renewed(label: str) -> list[str]:
            return [examples(backend, label) for _, examples in changing]

        places = [place for place, _ in changing]
        checkpoint.change(renewed, checkpoint, places, api_visibility="private", show_progress="hidden", **one_by_one())
    return blocks
