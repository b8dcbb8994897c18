"""From labels and seeds to images as data sets hold them, in batches, with a film if asked."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ccdiff.data import to_data
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.guidance import Guidance
from ccdiff.diffusion.samplers import SampleNoise, Sampler, check_sampler, sample
from ccdiff.diffusion.schedules import Schedule
from ccdiff.diffusion.thresholding import Threshold
from ccdiff.errors import UserError
from ccdiff.generation.batch_size import Portions, largest_batch_size
from ccdiff.generation.film import Frames, frame_steps
from ccdiff.seeding import seed_for

__all__ = ["NotFinite", "Pipeline", "check_finite", "sample_seeds"]


def sample_seeds(seed: int, titles: Sequence[str], num_per_label: int) -> list[int]:
    """One seed per image, row by row: a function of the seed, the label and the place in its row.

    So a picture stays the same whichever other labels are asked for.
    """
    return [seed_for(seed, "sample", title, j) for title in titles for j in range(num_per_label)]


class NotFinite(UserError):
    """What was sampled is no image: it holds numbers that are not finite."""


def check_finite(x: Tensor) -> None:
    """Looks at what was sampled, [N, ...], before it becomes pixels, which hide it.

    Raises:
        NotFinite: With how many of the samples are no images, and what may be the reason.
    """
    bad = int((~torch.isfinite(x)).flatten(1).any(1).sum())
    if bad:
        raise NotFinite(
            f"{bad} of {len(x)} samples hold numbers that are not finite, so they are no images: "
            f"is the guidance scale a number of the usual size, has the model diverged in "
            f"training, is the precision enough (precision=fp32)?"
        )


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """How to draw images from a trained denoiser.

    Arguments:
        sampler: The method.
        guidance: Makes the denoise function of a labelled batch.
        threshold: Keeps estimates in range.
        image_shape: (C, H, W).
        schedule: The schedule to sample under; None is the one of training.
        batch_size: Images at a time; it never changes an image, but for rounding.
        portions: Draws fewer at a time once memory has run out.
    """

    sampler: Sampler
    guidance: Guidance
    threshold: Threshold
    image_shape: tuple[int, int, int]
    schedule: Schedule | None = None
    batch_size: int = 256
    portions: Portions = field(default_factory=Portions, repr=False, compare=False)

    @torch.no_grad()
    def __call__(
        self,
        denoiser: Denoiser,
        y: Tensor,
        drop: Tensor | None,
        *,
        seeds: Sequence[int],
        num_frames: int = 0,
        on_step: Callable[[int], object] | None = None,
    ) -> tuple[Tensor, Frames]:
        """Draws one image per label.

        Arguments:
            denoiser: In evaluation mode, on the device to use.
            y: Labels [N] or [N, K].
            drop: Labels to hide, or None.
            seeds: One per image.
            num_frames: How many frames to keep, as :func:`~ccdiff.generation.film.frame_steps`
                spreads them.
            on_step: Called after each step with the number of images that took it.

        Returns:
            Images uint8 [N, C, H, W], or points float32 [N, 2, 1, 1], on the CPU, and the frames.

        Raises:
            NotFinite: Where what comes out is no image.
            UserError: Where the sampler cannot go by the model's estimates.
        """
        check_sampler(self.sampler, denoiser)
        parts = []
        for start in range(0, len(y), self.batch_size):
            rows = range(start, min(start + self.batch_size, len(y)))

            def draw(part: slice, rows: range = rows) -> tuple[Tensor, Frames]:
                here = slice(rows[part].start, rows[part].stop)
                hidden = None if drop is None else drop[here]
                return self._batch(denoiser, y[here], hidden, seeds[here], num_frames, on_step)

            parts += self.portions(len(rows), draw)
        images, films = zip(*parts, strict=True)
        return torch.cat(images), Frames.cat(films)

    def largest_batch_size(
        self, denoiser: Denoiser, y: Tensor, drop: Tensor | None, *, processes: int = 1
    ) -> int:
        """The batch size for which memory will do, found by a step with very few images.

        Arguments:
            denoiser: In evaluation mode, on the device to use.
            y: A label, [1] or [1, K].
            drop: Labels to hide, or None.
            processes: How many share the memory.
        """
        brief = replace(self, sampler=self.sampler.brief())

        def draw(n: int) -> None:
            hidden = None if drop is None else drop.repeat_interleave(n, dim=0)
            brief(denoiser, y.repeat_interleave(n, dim=0), hidden, seeds=range(n))

        device = next(denoiser.parameters()).device
        return largest_batch_size(draw, device, processes=processes)

    def _batch(
        self,
        denoiser: Denoiser,
        y: Tensor,
        drop: Tensor | None,
        seeds: Sequence[int],
        num_frames: int,
        on_step: Callable[[int], object] | None,
    ) -> tuple[Tensor, Frames]:
        device = next(denoiser.parameters()).device
        y, drop = y.to(device), None if drop is None else drop.to(device)
        schedule = self.schedule or denoiser.schedule
        denoise = self.threshold(self.guidance(denoiser, y, drop))
        path = schedule.at(self.sampler.times(schedule)).log_snr if num_frames else None
        dims = math.prod(self.image_shape)
        keep = [] if path is None else frame_steps(path, num_frames, dims=dims)
        x_t, x0_hats = [], []

        def after_step(i: int, x: Tensor, x0_hat: Tensor) -> None:
            if i in keep:
                # Without waiting: the images, which come last, are waited for.
                x_t.append(to_data(x).to("cpu", non_blocking=True))
                x0_hats.append(to_data(x0_hat).to("cpu", non_blocking=True))
            if on_step is not None:
                on_step(len(x))

        noise = SampleNoise(seeds, device=device)
        shape = (len(y), *self.image_shape)
        x = sample(self.sampler, denoise, schedule, shape, noise, on_step=after_step)
        check_finite(x)
        images = to_data(x).cpu()
        none = images.new_empty(0, *shape)
        if path is None:
            return images, Frames(none, none, torch.empty(0, dtype=torch.float64))
        return images, Frames(torch.stack(x_t), torch.stack(x0_hats), path[keep])
