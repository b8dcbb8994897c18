"""What the page can do, without the page: drawing, films, strips, filling in, and the command."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from ccdiff.data import in_plane, to_float, to_uint8
from ccdiff.diffusion.editing import inpaint
from ccdiff.diffusion.samplers import SampleNoise
from ccdiff.errors import UserError
from ccdiff.generation.film import Film, film
from ccdiff.generation.images import Images
from ccdiff.generation.labels import parse_labels
from ccdiff.generation.pipeline import check_finite
from ccdiff.pictures import grid, png
from ccdiff.system.typed import as_typed
from ccdiff.trained.choices import chosen_pipeline
from ccdiff.trained.model import Model

__all__ = ["FIRST", "SCALES", "STEPS", "Studio", "Wish"]

SCALES = (1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
STEPS = (2, 4, 8, 16, 32)
_FRAMES = 40
_RESAMPLES = 4


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is asked for on the page.

    Arguments:
        labels: One row for each, as :func:`~ccdiff.generation.labels.parse_labels` reads them.
        num_per_label: Images in a row.
        sampler: An option of ``sampler=``.
        grid: An option of ``sampler/grid=``; None is that of the sampler.
        steps: Of the sampler.
        guidance: Scale of classifier-free guidance, 1 is none.
        seed: The same gives the same images.
    """

    labels: Sequence[str]
    num_per_label: int = 4
    sampler: str = "dpmpp_2m"
    grid: str | None = None
    steps: int = 16
    guidance: float = 1.0
    seed: int = 0


FIRST = Wish(labels=())
"""What the page asks for where nothing was changed, but for the labels."""


@dataclass(frozen=True, kw_only=True)
class Studio:
    """Draws what is asked for.

    Arguments:
        model: The run.
        reference: How the user called it, for the command.
        beside: A second run, or None.
    """

    model: Model
    reference: str
    beside: Model | None = None

    def __post_init__(self) -> None:
        if in_plane(self.model.pipeline.image_shape):
            raise UserError(
                f"the page shows images, and run={self.reference} draws points of the plane: "
                f"python -m ccdiff.inspect part=field run={self.reference} shows them"
            )
        if self.beside is not None and (
            self.beside.label_names != self.model.label_names
            or self.beside.pipeline.image_shape != self.model.pipeline.image_shape
        ):
            raise UserError(
                "beside= takes a run with images of the same size and with the same labels: "
                f"{self.beside!r} is not like {self.model!r}"
            )

    @property
    def label_names(self) -> tuple[str, ...]:
        """One per class or attribute."""
        return self.model.label_names

    @property
    def guided(self) -> bool:
        """Whether the model was trained with hidden labels, so that it can be guided."""
        return all(
            m.denoiser.conditioning.drop > 0 for m in (self.model, self.beside) if m is not None
        )

    def warm_up(self) -> float:
        """Draws a picture that nobody sees, as the first one takes seconds; returns how many.

        Code is loaded, networks find their algorithms, matrices get their memory.
        """
        start = time.perf_counter()
        for model in (self.model, self.beside):
            if model is not None:
                y = model.denoiser.conditioning.example().repeat_interleave(12, dim=0)
                pipeline = chosen_pipeline(
                    model.pipeline, model.run, sampler=FIRST.sampler, steps=FIRST.steps
                )
                images, _ = pipeline(model.denoiser, y, None, seeds=range(12))
        png(grid(images, columns=4, titles=["", "", ""]))
        return time.perf_counter() - start

    def draw(self, wish: Wish, *, frames: int = 0, model: Model | None = None) -> Images:
        """The images that are asked for, by the run or by another model."""
        return (model or self.model).sample(
            list(wish.labels),
            num_per_label=wish.num_per_label,
            seed=wish.seed,
            sampler=wish.sampler,
            grid=wish.grid,
            steps=wish.steps,
            guidance=wish.guidance,
            frames=frames,
        )

    def film(self, wish: Wish) -> Film:
        """From noise to images, one of each label; beside ``x_t`` what is foreseen."""
        images = self.draw(replace(wish, num_per_label=1), frames=_FRAMES)
        return film(images.frames, columns=1, titles=list(images.labels))

    def over_guidance(self, wish: Wish) -> Image.Image:
        """One seed of each label over guidance scales.

        Raises:
            UserError: Where the model was not trained to be guided.
        """
        return self._strip([replace(wish, guidance=scale) for scale in SCALES])

    def over_steps(self, wish: Wish) -> Image.Image:
        """One seed of each label over numbers of steps."""
        return self._strip([replace(wish, steps=steps) for steps in STEPS])

    def _strip(self, wishes: Sequence[Wish]) -> Image.Image:
        drawn = [self.draw(replace(wish, num_per_label=1)) for wish in wishes]
        cells = torch.stack([images.tensor for images in drawn], dim=1).flatten(0, 1)
        return grid(cells, columns=len(wishes), titles=list(drawn[0].labels))

    def both(self, wish: Wish) -> tuple[Image.Image, Image.Image]:
        """What both runs draw from the same noise.

        Raises:
            UserError: Where there is no second run.
        """
        if self.beside is None:
            raise UserError("start the page with beside=<a second run> to see two side by side")
        return self.draw(wish).grid(), self.draw(wish, model=self.beside).grid()

    def fill_in(self, wish: Wish, image: Tensor, hidden: Tensor) -> Image.Image:
        """Draws the hidden part of an image anew, in a row for each label.

        Arguments:
            wish: How.
            image: uint8 [C, H, W].
            hidden: What is to be drawn, bool [H, W].

        Raises:
            UserError: Where nothing is hidden.
        """
        if not hidden.any():
            raise UserError("paint over the part that is to be drawn anew")
        denoiser = self.model.denoiser
        pipeline = chosen_pipeline(
            self.model.pipeline,
            self.model.run,
            sampler=wish.sampler,
            grid=wish.grid,
            steps=wish.steps,
            guidance=wish.guidance,
        )
        images = self.draw(replace(wish, steps=1))  # For the labels and seeds of all images.
        y, drop, _ = parse_labels(list(wish.labels), denoiser.conditioning)
        n, device = wish.num_per_label, next(denoiser.parameters()).device
        y = y.repeat_interleave(n, dim=0).to(device)
        drop = None if drop is None else drop.repeat_interleave(n, dim=0).to(device)
        x = inpaint(
            pipeline.sampler,
            pipeline.threshold(pipeline.guidance(denoiser, y, drop)),
            denoiser.schedule,
            to_float(image.to(device)).expand(len(images), *image.shape),
            ~hidden.to(device),
            SampleNoise(images.seeds, device=device),
            resamples=_RESAMPLES,
        )
        check_finite(x)
        return replace(images, tensor=to_uint8(x).cpu()).grid()

    def command(self, wish: Wish) -> str:
        """What draws the same images on the command line."""
        labels = ",".join(f'"{_escaped(label)}"' for label in wish.labels)
        guidance = (
            ["guidance=none"]
            if wish.guidance == 1
            else ["guidance=cfg", f"guidance.scale={wish.guidance:g}"]
        )
        arguments = [
            f"run={self.reference}",
            f"labels=[{labels}]",
            f"num_per_label={wish.num_per_label}",
            f"seed={wish.seed}",
            f"sampler={wish.sampler}",
            *([] if wish.grid is None else [f"sampler/grid={wish.grid}"]),
            f"sampler.steps={wish.steps}",
            *guidance,
            "precision=fp32",  # As a Model draws.
        ]
        return " ".join([as_typed("sample"), *map(shlex.quote, arguments)])


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"')
