"""Before the first step: does everything fit together?"""

import logging

import torch
from torch import Tensor, nn

from ccdiff.data import Split, in_plane, to_float
from ccdiff.diffusion.augmentations import Augmentation
from ccdiff.diffusion.auxiliaries import Auxiliary, NoAuxiliary
from ccdiff.diffusion.couplings import Coupling, Independent, Optimal, alike
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.levels import Reach
from ccdiff.diffusion.objectives import Objective
from ccdiff.diffusion.samplers import Sampler
from ccdiff.errors import UserError

__all__ = [
    "check_augment",
    "check_batch",
    "check_coupling",
    "check_fit",
    "check_noise",
    "check_size",
    "check_used",
]

log = logging.getLogger(__name__)

_GRAY_LEVEL = 2 / 255
_NUM_DRAWS = 1 << 16
# In gray levels. Rounding to 8 bits moves a pixel by as much.
_MAX_NOISE_LEFT = 0.5
# Schedules that end in infinite noise are clipped, and few draws come near the clip: to within
# this, the defaults do.
_NEAR_LOG_SNR = 3.0
# Stable Diffusion's 0.068 is known to keep its images from being dark or bright as a whole: Lin
# et al., Common Diffusion Noise Schedules and Sample Steps are Flawed, 2023 (arXiv:2305.08891).
_MAX_SIGNAL = 0.05
# The share of a batch that has a partner for an exchange.
_FEW_PAIRED = 0.1


def check_augment(augmentation: Augmentation, image_shape: tuple[int, int, int]) -> None:
    """Refuses what changes images where the data are none.

    Raises:
        UserError: Where they are points of the plane.
    """
    if augmentation.told and in_plane(image_shape):
        raise UserError(
            f"augment={type(augmentation).__name__.lower()} changes images, and the data are "
            f"points of the plane: use augment=none"
        )


def check_fit(denoiser: Denoiser, objective: Objective, split: Split) -> None:
    """Passes one real batch and its labels through everything.

    Raises:
        UserError: Where labels, images and model do not fit together, with the fix.
    """
    denoiser.conditioning.check(split.labels)
    if denoiser.interval and Reach.HALVES not in denoiser.reaches:
        log.warning(
            "model.interval=true tells the network of a second noise level, of which this "
            "objective says nothing: it is for objective=meanflow and objective=shortcut"
        )
    with torch.no_grad():
        loss = _loss_of_two(denoiser, objective, split)
    if not torch.isfinite(loss).all():
        raise UserError(
            f"the loss of the untrained model is {loss.tolist()}: schedule, prediction and "
            f"weighting do not fit together"
        )


def _loss_of_two(denoiser: Denoiser, objective: Objective, split: Split) -> Tensor:
    """The losses [2] of the first two images, with noise of its own."""
    device = next(denoiser.parameters()).device
    few = split.take(2)
    x0, y = to_float(few.images.to(device)), few.labels.to(device)
    return objective(denoiser, x0, y, torch.Generator(device).manual_seed(0))


def check_size(network: nn.Module, image_shape: tuple[int, int, int]) -> None:
    """Asks a network whether it takes images of a size, where it has a ``check_size`` to ask.

    Arguments:
        network: May have a method ``check_size(height, width)`` that raises a ValueError.
        image_shape: ``(C, H, W)``.

    Raises:
        UserError: Where it does not.
    """
    asked = getattr(network, "check_size", None)
    if asked is None:
        return
    try:
        asked(*image_shape[1:])
    except ValueError as error:
        raise UserError(str(error)) from error


def check_used(denoiser: Denoiser, objective: Objective, split: Split) -> None:
    """Checks that all trainable parameters have a gradient, as averaging between processes wants.

    Raises:
        UserError: Where the loss does not depend on some, with their names.
    """
    trained = {name: p for name, p in denoiser.named_parameters() if p.requires_grad}
    device = next(denoiser.parameters()).device
    # What the network draws on its own must not depend on how many processes there are.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        loss = _loss_of_two(denoiser, objective, split).sum()
        gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    unused = [name for name, found in zip(trained, gradients, strict=True) if found is None]
    if unused:
        raise UserError(
            f"the loss does not depend on {', '.join(unused[:5])} ({len(unused)} of "
            f"{len(trained)} parameters), so several processes cannot average their gradients: "
            f"take out what the network does not use, or train in one process"
        )


def check_noise(denoiser: Denoiser, objective: Objective, sampler: Sampler) -> None:
    """Compares the noise that training ends with to the noise that sampling starts from.

    Warns where training never sees the level that ``sampler`` starts from, where the images
    of that level still show the signal, which the noise at the start of sampling does not, and
    where sampling ends in noise that can be seen.

    Raises:
        UserError: Where nothing of the image can be told from the network's output at t = 1,
            as for a prediction of the noise where there is no signal.
    """
    schedule = denoiser.schedule
    end = schedule.log_snr(torch.ones((), dtype=torch.float64))
    alpha, sigma = schedule.scales(end)
    gain = denoiser.prediction.coefficients(alpha, sigma).c_out.abs().item()
    if gain * torch.finfo(torch.float32).eps > _GRAY_LEVEL:
        name = type(denoiser.prediction).__name__
        raise UserError(
            f"at t = 1 the schedule leaves a signal of {alpha.item():.1e}, and {name} multiplies "
            f"the network's output by {gain:.1e} for an image, so that rounding alone moves it by "
            f"gray levels: use prediction=velocity, or schedule.min_log_snr=-15"
        )
    cleanest = schedule.log_snr(torch.zeros((), dtype=torch.float64))
    left = (-cleanest / 2).exp().item() / _GRAY_LEVEL
    if left > _MAX_NOISE_LEFT:
        log.warning(
            "the schedule ends at log-SNR %.1f, where samples keep noise of %.1f gray levels, and "
            "held-out errors at cleaner levels are measured: use schedule.max_log_snr=15, or a "
            "schedule that ends cleaner",
            cleanest.item(),
            left,
        )
    start = schedule.log_snr(sampler.times(schedule)[0])
    signal = torch.sigmoid(start).sqrt().item()
    if signal > _MAX_SIGNAL:
        log.warning(
            "sampling starts from pure noise, but where it starts training images still hold a "
            "signal of %.3f: samples will be off in brightness. Use a schedule that ends noisier",
            signal,
        )
    times = objective.times(_NUM_DRAWS, torch.Generator().manual_seed(0))
    noisiest = schedule.log_snr(times.double()).min()
    if noisiest > start + _NEAR_LOG_SNR:
        log.warning(
            "sampling starts at log-SNR %.1f, but %d draws of training's noise levels get no "
            "further than %.1f: use other times, or schedule.min_log_snr=%.1f",
            start.item(),
            _NUM_DRAWS,
            noisiest.item(),
            min(-0.1, noisiest.item()),
        )


def check_batch(auxiliary: Auxiliary, coupling: Coupling, *, at_once: int) -> None:
    """Refuses what compares the images of a batch where there is one image at a time.

    Arguments:
        auxiliary: A loss beside the objective.
        coupling: Of noises and images.
        at_once: Images that are computed at once: a batch, or its part on a process.

    Raises:
        UserError: Where it would do nothing.
    """
    if at_once > 1:
        return
    for key, part, none in (
        ("auxiliary", auxiliary, NoAuxiliary),
        ("coupling", coupling, Independent),
    ):
        if not isinstance(part, none):
            raise UserError(
                f"{key}={type(part).__name__.lower()} compares images of a batch, of which one at "
                f"a time is computed here: raise trainer.batch_size, lower trainer.accumulate, or "
                f"use {key}={'none' if key == 'auxiliary' else 'independent'}"
            )


def check_coupling(
    coupling: Coupling, sampler: Sampler, labels: Tensor, *, batch_size: int
) -> None:
    """Warns where a coupling does not go with the sampler, or has nothing to exchange.

    Arguments:
        coupling: That of training.
        sampler: What draws: noise that it adds is none that the coupling knows.
        labels: Of the training images, [N] or [N, K].
        batch_size: Images of a batch, among which noises are exchanged.
    """
    if doubt := coupling.doubt(sampler):
        log.warning("%s", doubt)
    if isinstance(coupling, Optimal) and coupling.by_label:
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        some = labels[order[:batch_size]]
        paired = sum(len(members) for members in alike(some, None) if len(members) > 1)
        if paired < _FEW_PAIRED * len(some):
            log.warning(
                "coupling=optimal exchanges noises among images of equal labels, and of %d images "
                "of a batch %d have their labels in common with another: it changes next to "
                "nothing here, see coupling.by_label or use coupling=independent",
                len(some),
                paired,
            )
