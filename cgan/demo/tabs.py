"""The tabs of the page. Each adds its components, and returns its place for examples and the function that writes them.

That function takes the backend and the label of the chosen weights, and returns HTML.
"""

import html
from collections.abc import Callable
from functools import wraps
from typing import NamedTuple

import gradio as gr

from cgan.demo.backend import (
    MAX_CAPTION,
    MAX_PICTURES,
    MAX_TRUNCATION,
    NEAREST,
    NO_EDITS,
    NO_READER,
    STEPS,
    Backend,
    PageRequest,
)
from cgan.demo.browser import (
    SHOW_POSITION,
    Target,
    answer_bars,
    chips,
    drop_zone,
    hand_on,
    picture_chips,
    read_zone,
    strip_view,
)
from cgan.demo.examples import EDITS, QUESTIONS, caption_pairs
from cgan.errors import UserError
from cgan.ranges import LARGEST_SEED

SHOWING = {"height": "auto", "show_label": False, "interactive": False, "buttons": ["download", "fullscreen"]}
NO_ANSWER = '<p style="opacity: 0.6">The answers appear here, with their probabilities.</p>'
EDIT_ZONE, ASK_ZONE = "edit-picture", "ask-picture"  # where a visitor's picture is dropped


class Examples(NamedTuple):
    """Where a tab shows its examples, and the function that writes them for a label of weights."""

    place: gr.HTML
    write: Callable[[Backend, str], str]


def one_by_one() -> dict:
    """Returns the event settings by which all handlers that sample share one queue and run one at a time."""
    return {"concurrency_limit": 1, "concurrency_id": "sampling"}


def as_page_error(answer: Callable) -> Callable:
    """Returns a handler that raises gradio's error, which the page displays, in place of a UserError."""

    @wraps(answer)
    def guarded(*request: object) -> list:
        try:
            return answer(*request)
        except UserError as error:
            raise gr.Error(html.escape(str(error), quote=False), print_exception=False) from None

    return guarded


def caption_field(label: str, name: str, placeholder: str = "", **more: object) -> gr.Textbox:
    """Adds a field for a text of a visitor."""
    size = {"max_length": MAX_CAPTION, "min_width": 260}
    return gr.Textbox(label=label, placeholder=placeholder, elem_id=name, **size, **more)


def seed_field(label: str, name: str, value: int = 0) -> gr.Number:
    """Adds a field for a seed."""
    seeds = {"precision": 0, "minimum": 0, "maximum": LARGEST_SEED}
    return gr.Number(value, label=label, min_width=120, elem_id=name, **seeds)


def truncation_slider(name: str) -> gr.Slider:
    """Adds a slider for the truncation."""
    info = "below 1: safer and less varied"
    return gr.Slider(0, MAX_TRUNCATION, 1, step=0.05, label="Truncation", info=info, elem_id=name)


def example_place(backend: Backend, checkpoint: gr.Dropdown, write: Callable[[Backend, str], str]) -> Examples:
    """Adds the place where a tab shows its examples, with those of the weights that are chosen at first.

    Weights that can't be loaded have none, so that the page opens and others can be chosen.
    """
    try:
        first = write(backend, checkpoint.value)
    except UserError:
        first = ""
    return Examples(gr.HTML(first, elem_classes="examples"), write)


# ------------------------------------------------------------------------------------------------ generate


def generate_part(backend: Backend, checkpoint: gr.Dropdown) -> Examples:
    """Adds what samples pictures of a caption."""
    with gr.Row(elem_classes="bar"):
        caption = caption_field("Caption", "caption", "what the picture shall show", scale=5)
        button = gr.Button("Generate", variant="primary", scale=1, min_width=120, elem_id="sample")
    examples = example_place(backend, checkpoint, caption_examples)
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            gallery = gr.Gallery(columns=2, elem_id="pictures", elem_classes="gallery", **SHOWING)
            message = gr.HTML(elem_classes="message", elem_id="message")
            download = gr.DownloadButton("Download", visible=False, size="sm", elem_id="download")
            gr.HTML(hand_on({"Edit": EDIT_ZONE, "Ask": ASK_ZONE}), elem_classes="onward")
        with gr.Column(scale=2, min_width=280):
            num = gr.Slider(1, MAX_PICTURES, 4, step=1, label="Pictures", elem_id="num")
            with gr.Row(elem_classes="bar"):
                seed = seed_field("Seed", "seed")
                dice = gr.Button("Another seed", size="sm", min_width=120)
            truncation = truncation_slider("truncation")
    another = dice.click(None, None, seed, js="() => Math.floor(Math.random() * 1000000)", api_visibility="private")
    inputs = [checkpoint, caption, seed, truncation, num]
    samples = {"fn": sampling(backend), "inputs": inputs, "outputs": [gallery, message, download]}
    samples |= {"show_progress_on": gallery, **one_by_one()}
    gr.on([button.click, caption.submit], api_name="sample", **samples)
    another.then(api_visibility="private", **samples)
    return examples


def caption_examples(backend: Backend, label: str) -> str:
    """Returns the HTML of example captions."""
    return chips([(each, {"caption": each}) for each in backend.captions(label)], Target("sample", "pictures"))


def sampling(backend: Backend) -> Callable:
    """Returns the handler of the Generate button."""

    @as_page_error
    def sample(checkpoint: str, caption: str, seed: int, truncation: float, num: int) -> list:
        wanted = PageRequest(checkpoint, caption, seed, truncation)
        shown, everything = backend.sample(wanted, num)
        label = "Download" if num == 1 else "Download all"
        download = gr.update(value=everything, label=label, visible=True)
        return [shown, html.escape(backend.unknown(wanted)), download]

    return sample


# ------------------------------------------------------------------------------------------------ edit


def edit_part(backend: Backend, checkpoint: gr.Dropdown) -> Examples:
    """Adds what redraws a visitor's picture by another caption, before and after side by side."""
    examples = example_place(backend, checkpoint, edit_examples)
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            gr.HTML(drop_zone(EDIT_ZONE))
            caption = caption_field("New caption", "new-caption", "what to change, such as: a blue dog")
            info = "how much of the picture stays: 1 redraws it, 0 ignores it"
            keep = gr.Slider(0, 1, 1, step=0.05, label="Keep", info=info, elem_id="keep")
            seed = seed_field("Seed (it matters where keep is below 1)", "edit-seed")
            button = gr.Button("Edit", variant="primary", elem_id="edit")
        with gr.Column(scale=3, min_width=300):
            gallery = gr.Gallery(columns=2, elem_id="edited", elem_classes="gallery", **SHOWING)
            message = gr.HTML(elem_classes="message")
            download = gr.DownloadButton("Download the picture after", visible=False, size="sm", elem_id="edited-file")
    picture = gr.Textbox(visible=False)

    @as_page_error
    def edit(checkpoint: str, caption: str, seed: int, keep: float, picture: str) -> list:
        wanted = PageRequest(checkpoint, caption, seed)
        shown, file = backend.edit(wanted, picture, keep)
        return [html.escape(backend.unknown(wanted)), shown, gr.update(value=file, visible=True)]

    inputs, outputs = [checkpoint, caption, seed, keep, picture], [message, gallery, download]
    shared = {"js": read_zone(EDIT_ZONE), "show_progress_on": gallery, **one_by_one()}
    gr.on([button.click, caption.submit], edit, inputs, outputs, api_name="edit", **shared)
    return examples


def edit_examples(backend: Backend, label: str) -> str:
    """Returns the HTML of example pictures with new captions, or of the reason why there can be none."""
    if not backend.can_edit(label):
        return reason(NO_EDITS)
    known = [each for each in EDITS if not backend.unknown(PageRequest(label, each.text, 0))]
    return picture_chips(known, "new-caption", EDIT_ZONE, Target("edit", "edited"))


def reason(why: str) -> str:
    """Returns the HTML of the reason why a tab is not available for the chosen weights."""
    return f"<p>{html.escape(why[0].upper() + why[1:])}.</p>"


# ------------------------------------------------------------------------------------------------ ask


def ask_part(backend: Backend, checkpoint: gr.Dropdown) -> Examples:
    """Adds what answers a question about a visitor's picture."""
    examples = example_place(backend, checkpoint, question_examples)
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            gr.HTML(drop_zone(ASK_ZONE))
            question = caption_field("Question", "question", "such as: what colour is the dog?")
            among = caption_field("Answers to choose from (optional)", "among", "such as: red, blue, green")
            button = gr.Button("Ask", variant="primary", elem_id="ask")
        with gr.Column(scale=3, min_width=300):
            answer = gr.HTML(NO_ANSWER, elem_id="answer", min_height=120)
            message = gr.HTML(elem_classes="message")
    picture = gr.Textbox(visible=False)

    @as_page_error
    def ask(checkpoint: str, question: str, among: str, picture: str) -> list:
        answers, messages = backend.ask(checkpoint, picture, question, among)
        return ["<br>".join(html.escape(each[0].upper() + each[1:]) for each in messages), answer_bars(answers)]

    shared = {"js": read_zone(ASK_ZONE), "show_progress_on": answer, **one_by_one()}
    inputs = [checkpoint, question, among, picture]
    gr.on([button.click, question.submit], ask, inputs, [message, answer], api_name="ask", **shared)
    return examples


def question_examples(backend: Backend, label: str) -> str:
    """Returns the HTML of example pictures with questions, if the chosen weights are of such pictures.

    Where nothing can answer, it is the reason.
    """
    if not backend.can_ask(label):
        return reason(NO_READER)
    known = bool(backend.captions(label))
    return picture_chips(QUESTIONS if known else (), "question", ASK_ZONE, Target("ask", "answer"))


# ------------------------------------------------------------------------------------------------ interpolate


def interpolation_part(backend: Backend, checkpoint: gr.Dropdown) -> Examples:
    """Adds what goes from a caption and a seed to others."""
    with gr.Row(elem_classes="bar"):
        caption, seed = caption_field("From the caption", "from-caption", scale=3), seed_field("Seed", "from-seed")
    with gr.Row(elem_classes="bar"):
        to_caption = caption_field("To the caption", "to-caption", "the same", scale=3)
        to_seed = seed_field("Seed", "to-seed", 1)
    with gr.Row(elem_classes="bar"):
        truncation = truncation_slider("strip-truncation")
        button = gr.Button("Interpolate", variant="primary", scale=1, min_width=120, elem_id="interpolate")
    examples = example_place(backend, checkpoint, pair_examples)
    message, picture = gr.HTML(elem_classes="message"), gr.HTML(elem_id="strip-place")
    place = gr.Slider(0, STEPS - 1, 0, step=1, label="Position", visible=False, elem_id="place")
    download = gr.DownloadButton("Download the strip", visible=False, size="sm", elem_id="strip")

    @as_page_error
    def interpolate(checkpoint: str, caption: str, seed: int, truncation: float, to_caption: str, to_seed: int) -> list:
        wanted = PageRequest(checkpoint, caption, seed, truncation)
        strip = backend.interpolate(wanted, to_caption, to_seed)
        words = html.escape(backend.unknown(wanted, to_caption))
        return [words, strip_view(strip), gr.update(value=0, visible=True), gr.update(value=strip, visible=True)]

    inputs, outputs = [checkpoint, caption, seed, truncation, to_caption, to_seed], [message, picture, place, download]
    shared = {"show_progress_on": picture, **one_by_one()}
    gr.on([button.click, to_caption.submit], interpolate, inputs, outputs, api_name="interpolate", **shared)
    place.change(None, place, None, js=SHOW_POSITION, api_visibility="private")
    return examples


def pair_examples(backend: Backend, label: str) -> str:
    """Returns the HTML of pairs of example captions."""
    pairs = caption_pairs(backend.captions(label))
    return chips(
        [(f"{a} → {b}", {"from-caption": a, "to-caption": b}) for a, b in pairs], Target("interpolate", "strip-place")
    )


# ------------------------------------------------------------------------------------------------ nearest


def nearest_part(backend: Backend, checkpoint: gr.Dropdown) -> Examples:
    """Adds what finds the nearest training pictures."""
    with gr.Row(elem_classes="bar"):
        caption, seed = caption_field("Caption", "near-caption", scale=3), seed_field("Seed", "near-seed")
        button = gr.Button("Find", variant="primary", scale=1, min_width=120, elem_id="find")
    examples = example_place(backend, checkpoint, nearest_examples)
    gr.HTML("Nearest to the caption:")
    by_caption = gr.Gallery(columns=NEAREST, elem_id="by-caption", elem_classes="gallery small", **SHOWING)
    gr.HTML("Nearest to the picture of this caption and seed:")
    by_picture = gr.Gallery(columns=NEAREST, elem_id="by-picture", elem_classes="gallery small", **SHOWING)

    @as_page_error
    def nearest(checkpoint: str, caption: str, seed: int) -> list:
        return list(backend.nearest(PageRequest(checkpoint, caption, seed)))

    inputs, outputs = [checkpoint, caption, seed], [by_caption, by_picture]
    gr.on([button.click, caption.submit], nearest, inputs, outputs, api_name="nearest", **one_by_one())
    return examples


def nearest_examples(backend: Backend, label: str) -> str:
    """Returns the HTML of example captions."""
    return chips([(each, {"near-caption": each}) for each in backend.captions(label)[:4]], Target("find", "by-caption"))
