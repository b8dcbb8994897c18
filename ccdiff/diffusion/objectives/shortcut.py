"""Long steps learned from two of half their length: shortcut models.

Frans et al., One Step Diffusion via Shortcut Models, 2024 (arXiv:2410.12557). A network that is
told how far a step goes learns the step of size ``2 d`` from its own two steps of size ``d``
(eq. 4), and infinitely short ones from images (eq. 5). So it takes no solver and no derivative:
two calls more, of some of the images.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.levels import Level, Reach, expand_like, straight_step
from ccdiff.diffusion.objectives.core import (
    Draw,
    LongSteps,
    pull_of_guidance,
    same_dropout,
)

__all__ = ["Shortcut", "two_as_one"]


@dataclass(frozen=True, kw_only=True)
class Shortcut(LongSteps):
    """``w(log_snr) |g - sg(g*)|^2`` of some images, and denoising of the others.

    ``g`` is the estimate by which one step leads from ``t`` to ``t - size``, ``g*`` that of the
    two steps of half the size, and ``sg`` takes no gradient of what it holds. Sizes are 1, 1/2,
    1/4, ... 2/steps, each as often as any other, and ``t`` is a multiple of the size, so that what
    is learned are the steps of uniform grids of 1, 2, 4, ... steps under any schedule. The halves
    of the smallest go by estimates of their own level. All of this is the paper's (section 3.2),
    with ``weighting=flow`` its error of the velocity too; but targets are by the network that is
    trained, where the paper has its average.

    Arguments:
        weighting: ``w``, the weight on the squared error of the estimate.
        times: Where the images that are denoised look.
        share: Of the images that learn steps, in (0, 1]; the paper has 1/4.
        steps: Of the finest grid, a power of two; the paper's 128.
        guidance: The scale of classifier-free guidance that estimates of the level itself learn to
            follow without a second call, and so all steps that are learned from them; 1 is none.
            As :class:`MeanFlow` has it. The paper guides the halves of the smallest steps alone:
            where a network hardly tells these from no step, both become guided, and the next ones
            are guided twice.
    """

    steps: int = 128

    reaches: ClassVar[frozenset[Reach]] = frozenset({Reach.HERE, Reach.HALVES})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 2 or self.steps & (self.steps - 1):
            raise ValueError(f"objective.steps must be 2, 4, 8, 16, ..., got {self.steps}")
        if self.guidance != 1 and self.share == 1:
            raise ValueError(
                "objective.guidance is learned from the images that are denoised: "
                "objective.share must be below 1"
            )

    def draw(
        self, denoiser: Denoiser, x0: Tensor, generator: torch.Generator, *, step: int = 0
    ) -> Draw:
        """The same, and of every so many images a step of the finest grid's 2, 4, 8, ... steps."""
        draw = super().draw(denoiser, x0, generator, step=step)
        n, device = len(x0), draw.t.device
        chosen = self.every_so_many(n)
        # In turn, and further at each step, as a small batch has not one of each size.
        sizes = self.steps.bit_length() - 1
        ahead = torch.where(chosen, 2 ** (1 + (chosen.cumsum(0) + step) % sizes), 0)
        spans = ahead.to(device, non_blocking=True)
        size = spans / self.steps
        places = torch.rand(n, generator=generator, device=device) / size.clamp(min=1e-6)
        t = torch.where(spans > 0, (places.floor() + 1) * size, draw.t)
        t = torch.minimum(t, torch.ones_like(t))  # Should a random number be rounded up to 1.
        return draw._replace(t=t, toward=denoiser.schedule.log_snr(t - size), ahead=ahead)

    def at(self, denoiser: Denoiser, x0: Tensor, y: Tensor, draw: Draw) -> Tensor:
        level = denoiser.schedule.at(draw.t)
        after = level if draw.toward is None else denoiser.schedule.at_log_snr(draw.toward)
        alpha, sigma = level.scales_like(x0)
        x_t = alpha * x0 + sigma * draw.eps
        correction = torch.zeros_like(x0)
        if draw.ahead is not None and len(rows := draw.ahead.nonzero().squeeze(1)):
            halved = self._halved(denoiser, x_t[rows], y[rows], draw.part(rows))
            correction = correction.index_add(0, rows.to(x0.device), halved - x0[rows])
        if self.guidance != 1:
            rows = torch.arange(len(x0))
            rows = rows if draw.ahead is None else rows[draw.ahead == 0]
            pulled = self._pull(denoiser, x_t[rows], y[rows], draw.part(rows))
            correction = correction.index_add(0, rows.to(x0.device), pulled)
        target = denoiser.prediction.target(x0, draw.eps, alpha, sigma)
        output = denoiser.output(x_t, level.leading_to(after), y, draw.drop)
        error = denoiser.coefficients(x0, level).c_out * (output - target) - correction
        return self.weighting(level.log_snr) * error.square().flatten(1).mean(1)

    @torch.no_grad()
    def _halved(self, denoiser: Denoiser, x_t: Tensor, y: Tensor, draw: Draw) -> Tensor:
        """``g*`` of images that all learn a step, [B, C, H, W]."""
        assert draw.ahead is not None
        assert draw.toward is not None
        half = draw.ahead.to(x_t.device, non_blocking=True) / (2 * self.steps)
        now, after = denoiser.schedule.at(draw.t), denoiser.schedule.at_log_snr(draw.toward)
        middle = denoiser.schedule.at(draw.t - half)
        # Those of the smallest steps go by estimates of the level itself.
        to_middle, to_after = (
            one.leading_to(one.schedule.at_log_snr(torch.where(half * self.steps == 1, *levels)))
            for one, levels in (
                (now, (now.log_snr, middle.log_snr)),
                (middle, (middle.log_snr, after.log_snr)),
            )
        )
        # Not compiled, since batches of other sizes are compiled anew.
        with denoiser.eager():
            with same_dropout(denoiser, x_t.device):
                first = denoiser(x_t, to_middle, y, draw.drop)
            x_m = straight_step(first, x_t, now, middle)
            with same_dropout(denoiser, x_t.device):
                second = denoiser(x_m, to_after, y, draw.drop)
        return two_as_one(first, second, now, middle, after)

    def _pull(self, denoiser: Denoiser, x_t: Tensor, y: Tensor, draw: Draw) -> Tensor:
        """What guidance adds to the images that are denoised, [B, C, H, W]."""
        if not len(x_t):
            return torch.zeros_like(x_t)
        level = denoiser.schedule.at(draw.t)
        with denoiser.eager():
            return pull_of_guidance(denoiser, x_t, level, y, draw.drop, scale=self.guidance)


def two_as_one(first: Tensor, second: Tensor, now: Level, middle: Level, after: Level) -> Tensor:
    """The estimate by which one straight step leads where two of them do.

    ``(1 - c) first + c second``, where ``c = tau (tau_m - tau_s) / (tau_m (tau - tau_s))`` with
    :attr:`Level.tau`, so that the way to the clean image is the second's alone.
    On the straight path the mean of the two velocities, weighted by length: the paper's eq. 4.

    Arguments:
        first: Estimate of the step from ``now`` to ``middle``, [B, ...].
        second: Of the step from there to ``after``, [B, ...].
        now: Where the steps begin, [B].
        middle: Where the first one ends, [B].
        after: Where the second one ends, [B], at less noise.
    """
    tau, tau_m, tau_s = now.tau, middle.tau, after.tau
    c = expand_like(tau * (tau_m - tau_s) / (tau_m * (tau - tau_s)), first)
    return first + c * (second - first)
