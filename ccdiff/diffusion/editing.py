"""Working on given images with the same samplers: inversion, interpolation, inpainting, SDEdit.

Images are float [B, C, H, W] in [-1, 1]; all functions take any :data:`Denoise`.
"""

import torch
from torch import Tensor

from ccdiff.diffusion.denoiser import Denoise
from ccdiff.diffusion.levels import Level, expand_like
from ccdiff.diffusion.samplers import (
    AnyNoise,
    GivenNoise,
    OnStep,
    Sampler,
    integrate,
)
from ccdiff.diffusion.schedules import Schedule
from ccdiff.errors import UserError

__all__ = ["blend", "inpaint", "invert", "rework", "slerp"]


def invert(
    sampler: Sampler,
    denoise: Denoise,
    schedule: Schedule,
    x0: Tensor,
    *,
    on_step: OnStep | None = None,
) -> Tensor:
    """The noise that ``sampler`` turns into ``x0``, up to the error of the solver.

    The probability-flow ODE run backwards: Song et al., Denoising Diffusion Implicit Models, 2021
    (arXiv:2010.02502), section 4.3. ``sample`` with
    :class:`~ccdiff.diffusion.samplers.GivenNoise` of the result returns the image.

    Arguments:
        sampler: A deterministic method and its grid.
        denoise: Model or oracle. Guided models are harder to invert: they bend the path.
        schedule: The schedule to work under.
        x0: Images.
        on_step: Called after each step.

    Returns:
        Noise of about unit variance, with the shape of ``x0``.

    Raises:
        UserError: Where the sampler draws noise.
    """
    if sampler.stochastic:
        raise UserError(
            f"a path that draws noise has no inverse, but sampler={sampler.name} does: take a "
            "deterministic one, such as sampler=heun or sampler=ddim with sampler.eta=0"
        )
    times = sampler.times(schedule).flip(0)
    x = schedule.alpha(times[0]) * x0
    x = integrate(sampler, denoise, schedule, x, times, GivenNoise(), on_step=on_step)
    return x / schedule.at(times[-1]).std


def rework(
    sampler: Sampler,
    denoise: Denoise,
    schedule: Schedule,
    x0: Tensor,
    noise: AnyNoise,
    *,
    start: float,
    on_step: OnStep | None = None,
) -> Tensor:
    """Adds noise to images up to the time ``start`` and samples from there.

    Meng et al., SDEdit: Guided Image Synthesis and Editing with Stochastic Differential
    Equations, 2022 (arXiv:2108.01073), algorithm 1.

    Arguments:
        sampler: The method and its grid, of which the part below ``start`` is run.
        denoise: Model, guided model or oracle.
        schedule: The schedule to work under.
        x0: Images to start from.
        noise: Noise that is added, and that of every step.
        start: How much is made anew, in (0, 1]: towards 0 the image itself, at 1 plain sampling.
        on_step: Called after each step.

    Returns:
        Images, with the shape of ``x0``.
    """
    if not 0 < start <= 1:
        raise UserError(f"start must be in (0, 1], got {start}")
    times = _times_from(sampler.times(schedule), start, schedule)
    x = _diffuse(x0, schedule.at(times[0]), noise)
    return integrate(sampler, denoise, schedule, x, times, noise, on_step=on_step)


def _diffuse(x0: Tensor, level: Level, noise: AnyNoise) -> Tensor:
    """``x_t`` of clean images."""
    return level.alpha * x0 + level.sigma * noise.randn(x0.shape)


def _times_from(times: Tensor, start: float, schedule: Schedule) -> Tensor:
    """The grid with ``start`` in place of its nearest time, as noise levels go, but never of 0."""
    first = torch.tensor(start, dtype=times.dtype).clamp(max=times[0])
    nearest = (schedule.log_snr(times[:-1]) - schedule.log_snr(first)).abs().argmin()
    return torch.cat([first.unsqueeze(0), times[nearest + 1 :]])


def inpaint(
    sampler: Sampler,
    denoise: Denoise,
    schedule: Schedule,
    x0: Tensor,
    known: Tensor,
    noise: AnyNoise,
    *,
    resamples: int = 10,
    jump: int = 1,
    on_step: OnStep | None = None,
) -> Tensor:
    """Fills in the unknown pixels of images; the known ones stay exactly as they are.

    After each step the known pixels are set to the image at that noise level, and each stretch of
    the path is run several times, with noise added in between, so that both parts come to agree.
    Lugmayr et al., RePaint: Inpainting using Denoising Diffusion Probabilistic Models, 2022
    (arXiv:2201.09865), algorithm 1 and section 4.2.

    Arguments:
        sampler: The method and its grid; the paper's is DDPM with 250 steps.
        denoise: Model, guided model or oracle.
        schedule: The schedule to work under.
        x0: Images of which the known pixels count.
        known: Which pixels are known, bool, broadcastable to ``x0``.
        noise: Source of all randomness.
        resamples: How often each stretch is run; 1 only sets the known pixels.
        jump: Steps in a stretch.
        on_step: Called after each step, numbered within its stretch.

    Returns:
        Images, with the shape of ``x0``.
    """
    if resamples < 1 or jump < 1:
        raise UserError(f"resamples and jump must be at least 1, got {resamples} and {jump}")

    def hold(x_s: Tensor, level: Level) -> Tensor:
        return torch.where(known, x0 if level.t == 0 else _diffuse(x0, level, noise), x_s)

    times = sampler.times(schedule)
    x = schedule.at(times[0]).std * noise.randn(x0.shape)
    for i in range(0, sampler.steps, jump):
        stretch = times[i : i + jump + 1]
        for round_ in range(resamples):
            if round_ > 0:
                x = _renoise(x, schedule.at(stretch[-1]), schedule.at(stretch[0]), noise)
            x = integrate(
                sampler, denoise, schedule, x, stretch, noise, on_step=on_step, constrain=hold
            )
    return x


def _renoise(x_s: Tensor, now: Level, after: Level, noise: AnyNoise) -> Tensor:
    """A draw of the images at ``after`` given those at ``now``, which has less noise."""
    kept = after.alpha / now.alpha
    added = after.sigma.square() - (kept * now.sigma).square()
    return kept * x_s + added.sqrt() * noise.randn(x_s.shape)


def slerp(first: Tensor, second: Tensor, share: Tensor | float) -> Tensor:
    """Noise on the great circle between two noises, so that its variance stays that of noise.

    Shoemake, Animating Rotation with Quaternion Curves, 1985; for noise, Song et al., 2021
    (arXiv:2010.02502), appendix D.5.

    Arguments:
        first: Noise [B, ...], the result at share 0.
        second: Noise [B, ...], the result at share 1.
        share: In [0, 1], a number or one per sample [B].
    """
    share = expand_like(torch.as_tensor(share, dtype=first.dtype, device=first.device), first)
    cosine = torch.cosine_similarity(first.flatten(1), second.flatten(1))
    angle = expand_like(cosine.clamp(-1, 1).acos(), first)
    # Two equal noises span no circle; any weights that add up to 1 are right.
    chord = angle.sin().clamp(min=torch.finfo(angle.dtype).eps)
    from_first = torch.where(angle == 0, 1 - share, ((1 - share) * angle).sin() / chord)
    from_second = torch.where(angle == 0, share, (share * angle).sin() / chord)
    return from_first * first + from_second * second


def blend(first: Denoise, second: Denoise, share: Tensor | float) -> Denoise:
    """Between two labels: ``(1 - share) x0_hat_first + share x0_hat_second`` at every step.

    In terms of scores this samples ``p(x | first)^(1 - share) p(x | second)^share``. It mixes
    estimates, not tokens, so it works for every conditioning and for guided models.

    Arguments:
        first: What to follow at share 0.
        second: What to follow at share 1.
        share: In [0, 1], a number or one per sample [B].
    """

    def blended(x_t: Tensor, level: Level) -> Tensor:
        of_second = expand_like(torch.as_tensor(share, dtype=x_t.dtype, device=x_t.device), x_t)
        return torch.lerp(first(x_t, level), second(x_t, level), of_second)

    return blended
