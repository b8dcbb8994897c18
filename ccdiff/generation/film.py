"""Films from noise to images: which steps are frames, and what a frame shows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ccdiff.pictures import INK, PAPER, font, grid, save_gif

__all__ = ["FILM_COLUMNS", "Film", "Frames", "film", "frame_steps", "seen"]

FILM_COLUMNS = 8
"""Most images in a row of a film, which shows each of them twice."""
_SECONDS = 3.0
_SHORTEST = 0.02
"""Seconds of a frame: browsers show shorter ones for a tenth of a second."""
_HEAD = 12
_LINE = 20
_GUTTER = 14


class Frames(NamedTuple):
    """What is seen on the way from noise to images, on the CPU.

    Arguments:
        x_t: The images as they were after some steps, uint8 [F, N, C, H, W].
        x0_hat: What these steps foresaw of them, uint8 [F, N, C, H, W].
        log_snr: Noise levels after the steps, float64 [F].
    """

    x_t: Tensor
    x0_hat: Tensor
    log_snr: Tensor

    def of(self, images: Sequence[int]) -> "Frames":
        """The frames of some of the images; copies, so that those of others can go."""
        return Frames(self.x_t[:, images], self.x0_hat[:, images], self.log_snr)

    @staticmethod
    def cat(parts: "Sequence[Frames]") -> "Frames":
        """The frames of all images of several batches, which took the same steps."""
        x_t, x0_hat, log_snr = zip(*parts, strict=True)
        return Frames(torch.cat(x_t, dim=1), torch.cat(x0_hat, dim=1), log_snr[0])


def seen(log_snr: Tensor, dims: int) -> Tensor:
    """How much of an image is seen at a noise level: 0 where nothing is, 1 where all of it is.

    ``arctan(alpha / sigma)``, as a share of a right angle, tells how far the image stands out of
    the noise of ``x_t`` to the eye. A network foresees it earlier, out of all pixels at once,
    whose signal adds up: for ``x0_hat`` it is the same at ``log_snr + log(dims)``. This is the
    mean of both, as a film shows both.

    Arguments:
        log_snr: Noise levels, any shape.
        dims: Numbers in an image, ``C * H * W``.
    """
    angles = [torch.atan(torch.exp((log_snr + gain) / 2)) for gain in (0.0, math.log(dims))]
    return sum(angles, torch.zeros_like(log_snr)) / math.pi


def frame_steps(log_snr: Tensor, frames: int, *, dims: int) -> list[int]:
    """At most ``frames`` step numbers in 1..steps, the last always among them.

    Spread evenly over what is seen, and not over the steps, most of which show noise or an image
    that no longer changes.

    Arguments:
        log_snr: Noise levels of the path, before the first step and after each, [steps + 1].
        frames: How many; all steps where there are no more.
        dims: Numbers in an image, ``C * H * W``.
    """
    steps = len(log_snr) - 1
    if frames >= steps or frames <= 0:
        return list(range(1, steps + 1)) if frames > 0 else []
    after = seen(log_snr[1:].double(), dims)
    wanted = torch.linspace(after[0].item(), after[-1].item(), frames, dtype=torch.float64)
    kept: list[int] = []
    for i, share in enumerate(wanted):
        nearest = int((after - share).abs().argmin()) + 1
        earliest = kept[-1] + 1 if kept else 1
        # Where several fall on one step, the next ones are taken, as long as enough are left.
        kept.append(max(earliest, min(nearest, steps - (frames - 1 - i))))
    kept[-1] = steps
    return kept


@dataclass(frozen=True, kw_only=True)
class Film:
    """Pictures to be shown one after the other.

    Arguments:
        pictures: All of one size, at least one.
        seconds: How long each is shown.
    """

    pictures: Sequence[Image.Image]
    seconds: Sequence[float]

    def save(self, path: Path) -> None:
        """Writes a looping GIF that rests on its last picture."""
        save_gif(self.pictures, path, seconds=self.seconds)


def film(frames: Frames, *, columns: int, titles: Sequence[str] = ()) -> Film:
    """``x_t`` and beside it the ``x0_hat`` that is foreseen, with the log-SNR, in 3 seconds.

    A picture is shown for as long as what is seen takes to get to the next one.

    Arguments:
        frames: At least one, of images in rows.
        columns: Images per row.
        titles: One per row, or none.
    """
    dims = math.prod(frames.x_t.shape[2:])
    share = seen(frames.log_snr.double(), dims)
    gaps = share.diff().clamp(min=0)
    total = max(gaps.sum().item(), 1e-9)
    seconds = [max(_SHORTEST, _SECONDS * gap / total) for gap in gaps.tolist()]
    pictures = [
        _picture(x_t, x0_hat, log_snr, columns, titles)
        for x_t, x0_hat, log_snr in zip(
            frames.x_t, frames.x0_hat, frames.log_snr.tolist(), strict=True
        )
    ]
    return Film(pictures=pictures, seconds=[*seconds, 1.5])


def _picture(
    x_t: Tensor, x0_hat: Tensor, log_snr: float, columns: int, titles: Sequence[str]
) -> Image.Image:
    left, right = grid(x_t, columns=columns, titles=titles), grid(x0_hat, columns=columns)
    letters = font(_HEAD)
    margin = left.width - right.width
    level = f"log-SNR {log_snr:+.1f}"
    width = max(left.width + _GUTTER + right.width, int(letters.getlength("log-SNR -00.0")) + 14)
    picture = Image.new("RGB", (width, left.height + 2 * _LINE), PAPER)
    picture.paste(left, (0, _LINE))
    picture.paste(right, (left.width + _GUTTER, _LINE))
    draw = ImageDraw.Draw(picture)
    below = _LINE + left.height + _LINE // 2
    for x, y, text in (
        (margin + 3, _LINE // 2, "x_t"),
        (left.width + _GUTTER + 3, _LINE // 2, "x0_hat"),
        (6, below, level),
    ):
        draw.text((x, y), text, fill=INK, font=letters, anchor="lm")
    return picture
