"""The page: choices on the left, pictures on the right."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image

from ccdiff.config.options import options
from ccdiff.demo.labels import LabelChoice, label_choice
from ccdiff.demo.studio import FIRST, SCALES, STEPS, Studio, Wish
from ccdiff.errors import UserError
from ccdiff.pages.html import colours

__all__ = ["CSS", "build", "theme"]

CSS = """
.picture img{image-rendering:pixelated;background:#fff}
footer{display:none !important}
h1{font-family:"Iowan Old Style",Palatino,Georgia,"DejaVu Serif",serif;font-weight:400 !important}
.gradio-container{max-width:1200px !important}
"""
_OWN = "as the sampler has it"
_CANVAS = 320
_STALE = 3600
"""Seconds after which pictures of earlier drawings are removed."""


def theme() -> gr.themes.Base:
    """Fonts of the system: others would be fetched from elsewhere."""
    fonts = ["system-ui", "sans-serif"]
    plain = gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"])
    return plain.set(**_shades("", night=False), **_shades("_dark", night=True))


def _shades(end: str, *, night: bool) -> dict[str, str]:
    """The colours of all pages, by the names that themes have for what is to have them."""
    shade = colours(night=night)
    names = {
        "paper": ("body_background_fill", "button_primary_text_color"),
        "ink": ("body_text_color", "block_title_text_color", "checkbox_label_text_color"),
        "soft": ("body_text_color_subdued", "block_label_text_color", "block_info_text_color"),
        "line": ("border_color_primary", "block_border_color", "input_border_color"),
        "field": ("input_background_fill", "block_background_fill"),
        "hover": ("background_fill_secondary", "button_secondary_background_fill"),
        "mark": (
            "button_primary_background_fill",
            "button_primary_background_fill_hover",
            "slider_color",
            "color_accent",
        ),
    }
    # Of one name for both, which is the one by day.
    found = {f"{name}{end}": shade[key] for key, all_of in names.items() for name in all_of}
    return {k: v for k, v in found.items() if k != "color_accent_dark"}


def build(studio: Studio) -> gr.Blocks:
    """The page of a studio, ready to launch."""
    with gr.Blocks(title="ccdiff", analytics_enabled=False, delete_cache=(_STALE, _STALE)) as page:
        gr.Markdown(f"# Draw\n`{_plain(repr(studio.model))}`")
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                labels = label_choice(studio.model.denoiser.conditioning)
                chosen = [*labels.inputs, *_choices(studio)]
            with gr.Column(scale=2, min_width=320):
                _tabs(studio, chosen, _wish(labels))
    return page


def _plain(text: str) -> str:
    return text.replace("`", "'").strip("<>")


def _choices(studio: Studio) -> list[gr.components.Component]:
    """What can be chosen besides labels, in the order in which :func:`_wish` reads it."""
    none = "" if studio.guided else " (not trained for it: conditioning.drop is 0)"
    samplers = options("sampler")
    return [
        gr.Slider(1, 12, value=4, step=1, label="Images of each"),
        gr.Slider(
            1,
            8,
            value=1,
            step=0.25,
            label=f"Guidance{none}, 1 is none",
            interactive=studio.guided,
        ),
        gr.Slider(1, 100, value=FIRST.steps, step=1, label="Steps"),
        gr.Dropdown(samplers, value=FIRST.sampler, label="Sampler"),
        gr.Dropdown(
            [_OWN, *(g for g in options("sampler/grid") if g != "fitted")],
            value=_OWN,
            label="Grid: where it stops on the way",
        ),
        gr.Number(0, precision=0, label="Seed"),
    ]


def _wish(labels: LabelChoice) -> Callable[..., Wish]:
    """Reads the choices: those of labels, then the others."""

    def wish(*given: Any) -> Wish:
        first = len(labels.inputs)
        number, guidance, steps, sampler, grid, seed = given[first:]
        return Wish(
            labels=labels.read(given[:first]),
            num_per_label=int(number),
            sampler=sampler,
            grid=None if grid == _OWN else grid,
            steps=int(steps),
            guidance=float(guidance),
            seed=int(seed or 0),
        )

    return wish


def _telling(work: Callable[..., Any]) -> Callable[..., Any]:
    """Has what is refused told on the page."""

    def told(*given: Any) -> Any:
        try:
            return work(*given)
        except UserError as error:
            raise gr.Error(str(error), duration=None) from error

    return told


def _picture(label: str, **more: Any) -> gr.Image:
    """A picture as it is: without loss, and with its pixels kept apart."""
    gr.Markdown(label)  # Above it: the label of an image covers its upper left corner.
    return gr.Image(
        show_label=False,
        type="pil",
        format="png",
        interactive=False,
        elem_classes="picture",
        alt_text=label,
        buttons=["download", "fullscreen"],
        **more,
    )


def _tabs(
    studio: Studio, chosen: list[gr.components.Component], wish: Callable[..., Wish]
) -> None:
    def draw(*given: Any) -> tuple[Image.Image, str]:
        asked = wish(*given)
        return studio.draw(asked).grid(), studio.command(asked)

    def film(*given: Any) -> str:
        path = Path(tempfile.mkdtemp(prefix="ccdiff-demo-")) / "film.gif"
        studio.film(wish(*given)).save(path)
        return str(path)

    def fill_in(painted: dict[str, Any], *given: Any) -> Image.Image:
        asked = wish(*given)
        image, hidden = _painted(painted, studio.model.pipeline.image_shape)
        return studio.fill_in(asked, image, hidden)

    with gr.Tab("Draw"):
        button = gr.Button("Draw", variant="primary", elem_id="draw")
        drawn = _picture("Samples, one row per label", elem_id="drawn")
        line = gr.Code(
            label="The same on the command line",
            language="shell",
            elem_id="line",
            wrap_lines=True,
            lines=2,
            max_lines=6,
            interactive=False,
        )
        button.click(_telling(draw), chosen, [drawn, line], api_visibility="private")
    with gr.Tab("Film"):
        button = gr.Button("Film", variant="primary", elem_id="film")
        # By its path: a GIF that is opened and written again is a still.
        gr.Markdown("From noise to image: $x_t$ on the left, what is foreseen on the right")
        moving = gr.Image(
            show_label=False,
            type="filepath",
            interactive=False,
            elem_classes="picture",
            elem_id="moving",
            alt_text="A film from noise to image",
        )
        button.click(_telling(film), chosen, moving, api_visibility="private")
    with gr.Tab("Strips"):
        button = gr.Button("Over guidance", interactive=studio.guided, elem_id="guidance")
        scales = _picture(
            f"One seed over guidance {', '.join(f'{s:g}' for s in SCALES)}", elem_id="scales"
        )
        button.click(
            _telling(lambda *given: studio.over_guidance(wish(*given))),
            chosen,
            scales,
            api_visibility="private",
        )
        button = gr.Button("Over steps", elem_id="steps")
        counts = _picture(f"One seed over steps {', '.join(map(str, STEPS))}", elem_id="counts")
        button.click(
            _telling(lambda *given: studio.over_steps(wish(*given))),
            chosen,
            counts,
            api_visibility="private",
        )
    if studio.beside is not None:
        with gr.Tab("Two runs"):
            button = gr.Button("Draw with both", variant="primary", elem_id="both")
            with gr.Row():
                with gr.Column(min_width=160):
                    first = _picture("This run", elem_id="this")
                with gr.Column(min_width=160):
                    second = _picture("The other, from the same noise", elem_id="other")
            button.click(
                _telling(lambda *given: studio.both(wish(*given))),
                chosen,
                [first, second],
                api_visibility="private",
            )
    with gr.Tab("Fill in"):
        gr.Markdown("Put in an image, or start from one drawn, and paint over what to draw anew.")
        start = gr.Button("Start from a drawn one", elem_id="start")
        canvas = gr.ImageMask(
            type="numpy",
            height=_CANVAS + 80,
            canvas_size=(_CANVAS, _CANVAS),
            label="Paint over the part that is to be drawn anew",
            layers=False,
            transforms=(),
            brush=gr.Brush(default_size=_CANVAS // 6, colors=["#c1572f"], color_mode="fixed"),
        )
        button = gr.Button("Fill in", variant="primary", elem_id="fill")
        filled = _picture("Filled in, one row per label", elem_id="filled")
        start.click(
            _telling(lambda *given: _large(studio, wish(*given))),
            chosen,
            canvas,
            api_visibility="private",
        )
        button.click(_telling(fill_in), [canvas, *chosen], filled, api_visibility="private")


def _large(studio: Studio, asked: Wish) -> Image.Image:
    """The first image that is asked for, large enough to be painted on."""
    image = studio.draw(asked)[0].convert("RGB")
    scale = max(1, _CANVAS // max(image.size))
    size = (image.width * scale, image.height * scale)
    return image.resize(size, Image.Resampling.NEAREST)


def _painted(
    painted: dict[str, Any] | None, shape: tuple[int, int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The image under the paint, uint8 [C, H, W], and where there is paint, bool [H, W]."""
    if painted is None or painted["background"] is None:
        raise UserError("put in an image first, or start from one drawn")
    channels, height, width = shape
    back = Image.fromarray(np.asarray(painted["background"], dtype=np.uint8))
    small = back.convert("L" if channels == 1 else "RGB").resize((width, height))
    array = np.asarray(small, dtype=np.uint8).reshape(height, width, channels)
    layers = [np.asarray(layer)[..., 3] for layer in painted["layers"]]
    paint = np.max(layers, axis=0) if layers else np.zeros(back.size[::-1], np.uint8)
    cells = Image.fromarray(paint.astype(np.uint8)).resize((width, height), Image.Resampling.BOX)
    hidden = torch.from_numpy(np.asarray(cells) > 127)
    return torch.from_numpy(array.copy()).permute(2, 0, 1).contiguous(), hidden
