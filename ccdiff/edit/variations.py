"""What ``python -m ccdiff.edit`` makes of a given image, in several versions."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from ccdiff.diffusion.editing import inpaint, rework
from ccdiff.edit.tasks import Given, Pictures, Task, side_by_side
from ccdiff.errors import UserError

__all__ = ["Img2Img", "Inpaint"]


@dataclass(frozen=True, kw_only=True)
class _Variations(Task):
    """Shared by tasks that make several versions of each image.

    Arguments:
        variations: Results per image.
    """

    variations: int = 4

    adds_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.variations < 1:
            raise ValueError(f"task.variations must be at least 1, got {self.variations}")

    def beside(self, shown: Tensor, results: Tensor, given: Given) -> Pictures:
        """What was given [N, ...] on the left of its results [N * variations, ...]."""
        columns = results.unflatten(0, (-1, self.variations)).unbind(1)
        return Pictures(
            images=side_by_side(shown, *columns),
            columns=self.variations + 1,
            titles=given.labels.titles,
        )


@dataclass(frozen=True, kw_only=True)
class Inpaint(_Variations):
    """Fills in a part of each image; the rest stays exactly as it is.

    Arguments:
        variations: Results per image.
        mask: ``left``, ``right``, ``top``, ``bottom`` or ``center``: a half, or the half-sized
            square in the middle; or an image file that is white where to fill in.
        resamples: How often each stretch of the path is run, so that both parts come to agree.
        jump: Steps in a stretch.
    """

    mask: str = "center"
    resamples: int = 10
    jump: int = 1

    def __call__(self, given: Given) -> Pictures:
        x0 = given.images()
        unknown = self._unknown(given).to(x0.device)
        if unknown.all() or not unknown.any():
            share = "all" if unknown.all() else "none"
            raise UserError(
                f"task.mask={self.mask} marks {share} of the image: it must be white where to "
                f"fill in, and black where to keep"
            )
        results = inpaint(
            given.sampler,
            given.denoise_rows(self.variations),
            given.schedule,
            x0.repeat_interleave(self.variations, dim=0),
            ~unknown,
            given.noise(self.variations),
            resamples=self.resamples,
            jump=self.jump,
            on_step=given.on_step,
        )
        return self.beside(torch.where(unknown, 0.0, x0), results, given)

    def _unknown(self, given: Given) -> Tensor:
        """Where to fill in, bool [1, H, W]."""
        _, height, width = given.image_shape
        unknown = torch.zeros(1, height, width, dtype=torch.bool)
        half, row, column = (slice(None), slice(None)), height // 2, width // 2
        parts = {
            "left": (half[0], slice(column)),
            "right": (half[0], slice(column, None)),
            "top": (slice(row), half[1]),
            "bottom": (slice(row, None), half[1]),
            "center": (slice(row // 2, row // 2 + row), slice(column // 2, column // 2 + column)),
        }
        if self.mask in parts:
            unknown[0, *parts[self.mask]] = True
            return unknown
        path = Path(self.mask).expanduser()
        if not path.exists():
            raise UserError(
                f"task.mask={self.mask} is no file, and none of {', '.join(parts)} either"
            )
        return given.read_mask(path) > 127


@dataclass(frozen=True, kw_only=True)
class Img2Img(_Variations):
    """Noise is added to each image, and taken away again for its label.

    Arguments:
        variations: Results per image.
        start: How much is made anew, in (0, 1]: towards 0 the image itself, at 1 plain sampling.
    """

    start: float = 0.6

    def __call__(self, given: Given) -> Pictures:
        x0 = given.images()
        results = rework(
            given.sampler,
            given.denoise_rows(self.variations),
            given.schedule,
            x0.repeat_interleave(self.variations, dim=0),
            given.noise(self.variations),
            start=self.start,
            on_step=given.on_step,
        )
        return self.beside(x0, results, given)
