r"""Average velocities, by which a network learns to take long steps: MeanFlow.

On the straight path ``z = x / (alpha + sigma)``, whose time is ``tau = sigma / (alpha + sigma)``
under any schedule, the average velocity from ``tau`` to ``rho`` is
``u(z, rho, tau) = (z - z_rho) / (tau - rho)`` along the ODE. Differentiated along it, with
``dz/dtau = v``, that is ``u = v - (tau - rho) du/dtau``: Geng et al., Mean Flows for One-step
Generative Modeling, 2025 (arXiv:2505.13447), eq. 6, which is regressed to, with the network's own
derivative on the right (eq. 9 and 10).

Here a network's estimate that leads from one level to another is ``g = z - tau u``, and with
``v = eps - x0 = (z - x0) / tau`` the same identity reads
``g = x0 + (1 - rho / tau) (g - x0 - tau dg/dtau)``: the target of denoising and a correction,
which vanishes where the two times are one.
"""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.levels import Level, Reach, expand_like
from ccdiff.diffusion.objectives.core import (
    Draw,
    LongSteps,
    pull_of_guidance,
    same_dropout,
)
from ccdiff.errors import UserError

__all__ = ["MeanFlow", "along_the_path"]


@dataclass(frozen=True, kw_only=True)
class MeanFlow(LongSteps):
    """``w(log_snr) |g - sg(x0' + (1 - rho / tau) (g - x0' - tau dg/dtau))|^2``.

    ``sg`` takes no gradient of what it holds, and ``x0'`` is ``x0``, moved by guidance if any is
    asked for. With ``weighting=flow`` the square is that of the velocity, as in the paper. The
    derivative is taken in forward mode (a product with the Jacobian, no differences), of those
    images alone whose two times differ.

    Arguments:
        weighting: ``w``, the weight on the squared error of the estimate.
        times: Where training looks; of two draws, ``tau`` is the later and ``rho`` the earlier.
        share: Of the images whose two times differ, in (0, 1]; the others are denoised. Table 1a.
        guidance: The scale of classifier-free guidance that the network learns to follow without
            a second call; 1 is none. The velocity is moved by
            ``(1 - 1 / guidance) (u(c) - u(no label))``: section 4.2 and appendix B.2, with
            ``omega = 1`` and ``kappa = 1 - 1 / guidance``.
        power: ``p`` of the weight ``1 / (error + 1e-3)^p`` of each image, by which large errors
            count less (section 4.3); 0 is none. With 1, losses are all near 1.
    """

    power: float = 1.0

    reaches: ClassVar[frozenset[Reach]] = frozenset(Reach)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.power < 0:
            raise ValueError(f"objective.power must not be negative, got {self.power}")

    def draw(
        self, denoiser: Denoiser, x0: Tensor, generator: torch.Generator, *, step: int = 0
    ) -> Draw:
        """The same, and the second levels; every so many images the two differ."""
        draw = super().draw(denoiser, x0, generator, step=step)
        n, device = len(x0), draw.t.device
        others = self.times(n, generator)[torch.randperm(n, generator=generator, device=device)]
        ahead = self.every_so_many(n)
        apart = ahead.to(device, non_blocking=True)
        t = torch.where(apart, torch.maximum(draw.t, others), draw.t)
        r = torch.where(apart, torch.minimum(draw.t, others), draw.t)
        return draw._replace(t=t, toward=denoiser.schedule.log_snr(r), ahead=ahead)

    def at(self, denoiser: Denoiser, x0: Tensor, y: Tensor, draw: Draw) -> Tensor:
        level = denoiser.schedule.at(draw.t)
        after = level if draw.toward is None else denoiser.schedule.at_log_snr(draw.toward)
        alpha, sigma = level.scales_like(x0)
        x_t = alpha * x0 + sigma * draw.eps
        moved = x0
        if self.guidance != 1:
            scale = self.guidance
            moved = x0 + pull_of_guidance(denoiser, x_t, level, y, draw.drop, scale=scale)
        correction = moved - x0
        if draw.ahead is not None and len(rows := draw.ahead.nonzero().squeeze(1)):
            drop = None if draw.drop is None else draw.drop[rows]
            with same_dropout(denoiser, x0.device):
                estimate, derivative = along_the_path(
                    denoiser,
                    x_t[rows],
                    moved[rows],
                    level=_at(level, rows),
                    after=_at(after, rows),
                    y=y[rows],
                    drop=drop,
                )
            left = 1 - after.tau[rows] / level.tau[rows]
            further = expand_like(left, estimate) * (estimate - moved[rows] - derivative)
            correction = correction.index_add(0, rows.to(x0.device), further)
        target = denoiser.prediction.target(x0, draw.eps, alpha, sigma)
        output = denoiser.output(x_t, level.leading_to(after), y, draw.drop)
        error = denoiser.coefficients(x0, level).c_out * (output - target) - correction
        loss = self.weighting(level.log_snr) * error.square().flatten(1).mean(1)
        return loss if self.power == 0 else loss / (loss.detach() + 1e-3) ** self.power


def _at(level: Level, rows: Tensor) -> Level:
    return level.schedule.at_log_snr(level.log_snr[rows])


@torch.no_grad()
def along_the_path(
    denoiser: Denoiser,
    x_t: Tensor,
    x0: Tensor,
    *,
    level: Level,
    after: Level,
    y: Tensor,
    drop: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """A network's estimate ``g`` that leads to ``after``, and ``tau dg/dtau``, each [B, C, H, W].

    The path leads from the noisy image straight away from ``x0``, so that ``tau dz/dtau`` is
    ``z - x0`` and ``tau d log_snr/dtau`` is ``-2 (alpha + sigma) / alpha``. Attention is computed
    step by step, as the fused forms have no derivative in forward mode.

    Arguments:
        denoiser: Told of both levels; its network is not compiled here.
        x_t: Noisy images [B, C, H, W].
        x0: The clean end of the path, [B, C, H, W].
        level: Levels of ``x_t``, [B].
        after: Levels to which estimates shall lead, [B], which stay where they are.
        y: Labels, [B] or [B, K].
        drop: Labels to hide, bool [B] or [B, K].

    Raises:
        UserError: Where an operation of the network has no derivative in forward mode.
    """
    total = level.alpha + level.sigma
    z = x_t / expand_like(total, x_t)
    with forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH), denoiser.eager():
        with warnings.catch_warnings():
            # What torch says of itself when the first is made.
            warnings.filterwarnings("ignore", ".*torch.jit.script.* is deprecated")
            log_snr = forward_ad.make_dual(level.log_snr, -2 * total / level.alpha)
        moving = denoiser.schedule.at_log_snr(log_snr)
        images = expand_like(moving.alpha + moving.sigma, z) * forward_ad.make_dual(z, z - x0)
        try:
            estimate = denoiser(images, moving.leading_to(after), y, drop)
        except NotImplementedError as error:
            raise UserError(
                f"objective=meanflow needs the network's derivative in forward mode, which one of "
                f"its operations has not: {str(error).splitlines()[0]}"
            ) from error
        value, tangent = forward_ad.unpack_dual(estimate)
    return value, torch.zeros_like(value) if tangent is None else tangent
