"""What a sampler is, and the one loop that runs any of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ccdiff.diffusion.denoiser import Denoise, Denoiser
from ccdiff.diffusion.levels import Level, Reach
from ccdiff.diffusion.samplers.grids import Grid, Uniform
from ccdiff.diffusion.samplers.noise import AnyNoise
from ccdiff.diffusion.schedules import Schedule
from ccdiff.errors import UserError

__all__ = ["Estimate", "OnStep", "Past", "Sampler", "check_sampler", "integrate", "sample"]


class Estimate(NamedTuple):
    """What a step learned on its first call: ``x0_hat`` [B, ...] at a scalar level."""

    level: Level
    x0_hat: Tensor


Past = Sequence[Estimate]
"""First estimates of earlier steps, latest first."""


@dataclass(frozen=True, kw_only=True)
class Sampler(ABC):
    """The contract: :meth:`step`; ``order`` is that of the global error of the ODE it solves.

    Arguments:
        steps: Number of steps from noise to image.
        grid: Where to stop on the way.
        name: What logs, tables and titles call it, which is the option of ``sampler=``; the name
            of the class, in small letters, where none is given.
    """

    steps: int
    grid: Grid = field(default_factory=Uniform)
    name: str = field(default="", compare=False)

    order: ClassVar[int]
    reach: ClassVar[Reach] = Reach.HERE
    """How far its steps go by one estimate, and so which networks it can draw with."""
    calls_per_step: ClassVar[int] = 1
    """Network calls of a step; the last one, onto t = 0, takes a single call in every sampler."""
    memory: ClassVar[int] = 0
    """How many estimates of earlier steps a step wants to see."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"sampler.steps must be at least 1, got {self.steps}")
        if not self.name:
            object.__setattr__(self, "name", type(self).__name__.lower())

    @property
    def stochastic(self) -> bool:
        """Whether steps draw noise, so that the path is not the solution of an ODE."""
        return False

    @property
    def calls(self) -> int:
        """Network calls of a whole run."""
        return self.calls_per_step * (self.steps - 1) + 1

    def times(self, schedule: Schedule) -> Tensor:
        """The grid under ``schedule``, float64 [steps + 1] on the CPU, falling to 0."""
        return self.grid(schedule, self.steps)

    def brief(self) -> "Sampler":
        """The same in a single step, for what asks for memory or time alone."""
        return replace(self, steps=1)

    def missing(self) -> str | None:
        """What must be found before it can draw, and how; None where nothing is missing."""
        return None

    def doubt(self, schedule: Schedule) -> str | None:
        """What speaks against these settings, and what to do; None where nothing is known to."""
        return None

    @abstractmethod
    def step(
        self, denoise: Denoise, x_t: Tensor, now: Level, after: Level, noise: AnyNoise, past: Past
    ) -> Tensor:
        """The samples [B, ...] at the level ``after``, given ``x_t`` at the level ``now``.

        Deterministic samplers step in either direction, stochastic ones only to less noise. The
        last step of sampling is the one where ``after.t == 0``.

        Arguments:
            denoise: ``(x_t, level) -> x0_hat``.
            x_t: Samples at ``now``, [B, ...].
            now: Level of ``x_t``, scalars of the CPU.
            after: Level to go to, scalars of the CPU.
            noise: Source of randomness.
            past: First estimates of earlier steps, latest first, at most ``memory`` of them.
        """


def check_sampler(sampler: Sampler, denoiser: Denoiser) -> None:
    """Raises a UserError where a sampler is not ready, or cannot go by a model's estimates."""
    if missing := sampler.missing():
        raise UserError(missing)
    if sampler.reach in denoiser.reaches:
        return
    asked = f"sampler={sampler.name}"
    if sampler.reach is Reach.HERE:
        raise UserError(
            f"{asked} asks for the direction at each noise level, but the model has learned only "
            f"where the way to the image ends (objective=consistency): use sampler=consistency"
        )
    needed = {
        Reach.END: "objective=consistency, or objective=meanflow model.interval=true",
        Reach.ANYWHERE: "objective=meanflow model.interval=true",
        Reach.HALVES: "objective=shortcut or meanflow, and model.interval=true",
    }[sampler.reach]
    other = "ddim or unipc" if Reach.HERE in denoiser.reaches else "consistency"
    raise UserError(
        f"{asked} takes long steps that a model must have learned, which this one has not: use "
        f"another sampler, such as {other}, or train with {needed} (init_from=<run> begins with "
        f"the weights of a run)"
    )


OnStep = Callable[[int, Tensor, Tensor], None]
"""``(step number from 1, x_s, x0_hat)``, called after each step."""


@torch.no_grad()
def integrate(
    sampler: Sampler,
    denoise: Denoise,
    schedule: Schedule,
    x: Tensor,
    times: Tensor,
    noise: AnyNoise,
    *,
    on_step: OnStep | None = None,
    constrain: Callable[[Tensor, Level], Tensor] | None = None,
) -> Tensor:
    """Carries ``x`` from ``times[0]`` through every time to ``times[-1]``.

    Arguments:
        sampler: The method; its own grid plays no part.
        denoise: Model, guided model or oracle.
        schedule: The schedule to sample under.
        x: Samples at ``times[0]``, [B, ...].
        times: Any monotone times in [0, 1], float64 [N + 1].
        noise: Source of the randomness of every step.
        on_step: Called after each step.
        constrain: ``(x_s, level) -> x_s``, applied to the outcome of each step.

    Returns:
        The samples at ``times[-1]``, with the shape, dtype and device of ``x``.
    """
    past: tuple[Estimate, ...] = ()
    # On the CPU, where scalars cost no kernel launch and no wait.
    levels = [schedule.at(t) for t in times.cpu()]
    for i, (now, after) in enumerate(pairwise(levels), start=1):
        estimates: list[Estimate] = []

        def recording(x_u: Tensor, level: Level, into: list[Estimate] = estimates) -> Tensor:
            into.append(Estimate(level, denoise(x_u, level)))
            return into[-1].x0_hat

        x = sampler.step(recording, x, now, after, noise, past)
        past = (estimates[0], *past)[: sampler.memory]
        if constrain is not None:
            x = constrain(x, after)
        if on_step is not None:
            on_step(i, x, estimates[0].x0_hat)
    return x


def sample(
    sampler: Sampler,
    denoise: Denoise,
    schedule: Schedule,
    shape: Iterable[int],
    noise: AnyNoise,
    *,
    on_step: OnStep | None = None,
) -> Tensor:
    """Runs ``sampler`` over its own grid, from pure noise to t = 0.

    Arguments:
        sampler: The method and its grid.
        denoise: Model, guided model or oracle.
        schedule: The schedule to sample under.
        shape: Shape of the samples, [B, ...].
        noise: Initial noise and that of every step.
        on_step: Called after each step.

    Returns:
        The samples at t = 0, nominally in [-1, 1].
    """
    times = sampler.times(schedule)
    x = schedule.at(times[0]).std * noise.randn(torch.Size(shape))
    return integrate(sampler, denoise, schedule, x, times, noise, on_step=on_step)
