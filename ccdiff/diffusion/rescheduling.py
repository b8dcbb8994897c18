"""A model that was trained under one schedule, sampled under another.

A network knows noise levels, not times: at equal ``log_snr`` the noisy images of two schedules are
the same up to a scale.
"""

from torch import Tensor

from ccdiff.diffusion.denoiser import Denoise, expand_like
from ccdiff.diffusion.schedules import Schedule

__all__ = ["reschedule"]


def reschedule(denoise: Denoise, *, trained: Schedule, sampled: Schedule) -> Denoise:
    """The :data:`Denoise` for times and images of ``sampled``, given one for those of ``trained``.

    Noise levels beyond the range of ``trained`` are taken as its nearest end, with the images
    brought to the variance they have there.
    """
    if trained == sampled:
        return denoise

    def rescheduled(x_t: Tensor, t: Tensor) -> Tensor:
        log_snr = sampled.log_snr(t.double())
        # Found on the CPU: a bisection is many operations on very little data.
        time = trained.time(log_snr.cpu()).to(t.device)
        size, wanted = (
            (alpha.square() + sigma.square()).sqrt()
            for alpha, sigma in (
                sampled.scales(log_snr),
                trained.scales(trained.log_snr(time)),
            )
        )
        return denoise(expand_like((wanted / size).to(x_t.dtype), x_t) * x_t, time)

    return rescheduled
