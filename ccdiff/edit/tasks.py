"""What ``python -m ccdiff.edit`` does along a path; each task is a record of its settings."""

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from ccdiff.data import to_uint8
from ccdiff.diffusion.denoiser import Denoise
from ccdiff.diffusion.editing import blend, invert, slerp
from ccdiff.diffusion.samplers import GivenNoise, OnStep, SampleNoise, Sampler, sample
from ccdiff.diffusion.schedules import Schedule
from ccdiff.errors import UserError
from ccdiff.generation.film import frame_steps
from ccdiff.generation.labels import Labels
from ccdiff.generation.pipeline import check_finite, sample_seeds

__all__ = [
    "Given",
    "Interpolate",
    "Invert",
    "Pictures",
    "Strip",
    "Task",
    "side_by_side",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a task works on, on the device of the model.

    Arguments:
        sampler: The method.
        schedule: The schedule to work under.
        denoise: Makes the denoise function of labels and of those left open.
        x0: Images, float [N, C, H, W] in [-1, 1], or None where none were asked for.
        labels: One per row; as many as images where there are any.
        image_shape: ``(C, H, W)``.
        seed: Of all randomness.
        read_mask: Reads an image file as gray, uint8 [1, H, W].
        on_step: To be called after each step.
    """

    sampler: Sampler
    schedule: Schedule
    denoise: Callable[[Tensor, Tensor | None], Denoise]
    x0: Tensor | None
    labels: Labels
    image_shape: tuple[int, int, int]
    seed: int
    read_mask: Callable[[Path], Tensor]
    on_step: OnStep

    def images(self) -> Tensor:
        """The images.

        Raises:
            UserError: Where none were given.
        """
        if self.x0 is None:
            raise UserError(
                "which images? pass images=[my.png], or numbers of held-out ones: images=[0,1]"
            )
        return self.x0

    def denoise_rows(self, times: int = 1) -> Denoise:
        """The denoise function of every row's label, each ``times`` times."""
        y, drop, _ = self.labels
        rows = [u if u is None else u.repeat_interleave(times, dim=0) for u in (y, drop)]
        return self.denoise(rows[0], rows[1])  # type: ignore[arg-type]

    def noise(self, columns: int = 1) -> SampleNoise:
        """Noise for ``columns`` images of each row."""
        rows = range(len(self.labels.titles))
        titles = self.labels.titles if self.x0 is None else [f"image {i}" for i in rows]
        return SampleNoise(sample_seeds(self.seed, titles, columns), device=self.labels.y.device)


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What a task made.

    Arguments:
        images: uint8 [N, C, H, W], row by row.
        columns: Images per row.
        titles: One per row.
        film: Whether each row is one movement.
        extra: Other arrays to keep, by name.
    """

    images: Tensor
    columns: int
    titles: Sequence[str]
    film: bool = False
    extra: dict[str, Tensor] = field(default_factory=dict)


def side_by_side(*columns: Tensor) -> Tensor:
    """Columns [N, C, H, W] side by side in N rows, as uint8 [N * len(columns), C, H, W].

    Raises:
        NotFinite: Where one holds what is no image.
    """
    for column in columns:
        check_finite(column)
    return to_uint8(torch.stack(columns, 1).flatten(0, 1)).cpu()


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """The contract: given images and labels in, pictures out."""

    adds_noise: ClassVar[bool] = False
    """Whether given images are mixed with noise that is drawn for it."""

    @abstractmethod
    def __call__(self, given: Given) -> Pictures:
        """Does it."""


@dataclass(frozen=True, kw_only=True)
class Strip(Task):
    """What each image is foreseen to be, ``x0_hat``, at steps spread over the path.

    Arguments:
        frames: Columns; the last one is the image.
    """

    frames: int = 10

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"task.frames must be at least 1, got {self.frames}")

    def __call__(self, given: Given) -> Pictures:
        if given.x0 is not None:
            raise UserError("task=strip starts from noise: leave out images, and pass labels")
        path = given.schedule.at(given.sampler.times(given.schedule)).log_snr
        keep = frame_steps(path, self.frames, dims=math.prod(given.image_shape))
        foreseen: list[Tensor] = []

        def on_step(i: int, x: Tensor, x0_hat: Tensor) -> None:
            given.on_step(i, x, x0_hat)
            if i in keep:
                foreseen.append(x if i == given.sampler.steps else x0_hat)

        shape = (len(given.labels.titles), *given.image_shape)
        sample(
            given.sampler,
            given.denoise_rows(),
            given.schedule,
            shape,
            given.noise(),
            on_step=on_step,
        )
        return Pictures(
            images=side_by_side(*foreseen),
            columns=len(foreseen),
            titles=given.labels.titles,
            film=True,
        )


@dataclass(frozen=True, kw_only=True)
class Invert(Task):
    """Each image, the noise behind it, and the image that this noise gives."""

    def __call__(self, given: Given) -> Pictures:
        x0, denoise = given.images(), given.denoise_rows()
        noise = invert(given.sampler, denoise, given.schedule, x0, on_step=given.on_step)
        back = sample(
            given.sampler,
            denoise,
            given.schedule,
            x0.shape,
            GivenNoise(noise),
            on_step=given.on_step,
        )
        errors = (back.clamp(-1, 1) - x0).square().flatten(1).mean(1).sqrt()
        for title, error in zip(given.labels.titles, errors.tolist(), strict=True):
            log.info(
                "%s: comes back with an RMS error of %.4f (black to white is 2)", title, error
            )
        # Three standard deviations from black to gray.
        return Pictures(
            images=side_by_side(x0, noise / 3, back),
            columns=3,
            titles=given.labels.titles,
            extra={"noise": noise.cpu()},
        )


@dataclass(frozen=True, kw_only=True)
class Interpolate(Task):
    """Between two ends: noise on a great circle, labels by mixing their estimates.

    The ends are two images, inverted first, or two labels, or one label with two seeds.

    Arguments:
        frames: Columns, both ends among them.
        to_seed: Seed of the noise at the far end; None is the same noise.
    """

    frames: int = 9
    to_seed: int | None = None

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise ValueError(f"task.frames must be at least 2, got {self.frames}")

    def __call__(self, given: Given) -> Pictures:
        y, drop, titles = given.labels
        if len(y) not in (1, 2) or (
            len(y) == 1 and (given.x0 is not None or self.to_seed is None)
        ):
            raise UserError(
                f"task=interpolate goes between two ends, got {len(y)}: pass labels=[a,b], "
                "images=[a,b], or one label with seed=0 task.to_seed=1"
            )
        share = torch.linspace(0, 1, self.frames, device=y.device)
        ends = [self._along(row) for row in self._ends(given)]
        noise = slerp(ends[0], ends[-1], share)
        drops = [None, None] if drop is None else [self._along(row) for row in drop]
        follow = [
            given.denoise(self._along(row), hidden) for row, hidden in zip(y, drops, strict=False)
        ]
        denoise = blend(follow[0], follow[-1], share) if len(follow) == 2 else follow[0]
        # Whatever a stochastic sampler draws is the same in all frames.
        then = SampleNoise([given.seed] * self.frames, device=y.device)
        x = sample(
            given.sampler,
            denoise,
            given.schedule,
            noise.shape,
            GivenNoise(noise, then=then),
            on_step=given.on_step,
        )
        check_finite(x)
        return Pictures(
            images=to_uint8(x).cpu(),
            columns=self.frames,
            titles=[" to ".join(dict.fromkeys(titles))],
            film=True,
        )

    def _along(self, row: Tensor) -> Tensor:
        """One row for all frames."""
        return row.unsqueeze(0).expand(self.frames, *row.shape)

    def _ends(self, given: Given) -> Tensor:
        """The noise of both ends, [2, C, H, W]."""
        if given.x0 is not None:
            return invert(
                given.sampler,
                given.denoise_rows(),
                given.schedule,
                given.x0,
                on_step=given.on_step,
            )
        last = given.seed if self.to_seed is None else self.to_seed
        seeds = [sample_seeds(seed, ["interpolate"], 1)[0] for seed in (given.seed, last)]
        shape = torch.Size((2, *given.image_shape))
        return SampleNoise(seeds, device=given.labels.y.device).randn(shape)
