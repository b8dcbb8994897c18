"""The denoiser: network, conditioning, prediction and schedule as one map to ``x0_hat``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn

from ccdiff.diffusion.conditioning import Conditioning
from ccdiff.diffusion.predictions import Coefficients, Prediction
from ccdiff.diffusion.schedules import Schedule

__all__ = ["Denoise", "Denoiser", "Network", "bind_label", "expand_like"]

Denoise = Callable[[Tensor, Tensor], Tensor]
"""``(x_t, t) -> x0_hat``: all that samplers know. ``t`` is [B], or a scalar, best of the CPU."""


class Network(Protocol):
    """``F(x, log_snr, tokens)``: images [B, C, H, W], noise levels [B], tokens [B, L, D]."""

    def __call__(self, x: Tensor, log_snr: Tensor, tokens: Tensor) -> Tensor: ...


def expand_like(scale: Tensor, x: Tensor) -> Tensor:
    """Views a per-sample ``scale``, scalar or [B], so that it broadcasts over ``x`` [B, ...].

    Raises:
        ValueError: Where ``scale`` is neither.
    """
    if scale.ndim == 0:
        return scale
    if scale.ndim != 1 or len(scale) != len(x):
        raise ValueError(f"expected a scalar or [{len(x)}], got shape {tuple(scale.shape)}")
    return scale.reshape(-1, *[1] * (x.ndim - 1))


def _for_each(scalar: Tensor, x: Tensor) -> Tensor:
    """float32 [B] on the device of ``x`` [B, ...], given that or a scalar."""
    if scalar.ndim == 0 and scalar.device.type == "cpu":
        # Written there, as a copy to a device would wait until its queue is empty.
        return torch.full((len(x),), scalar.item(), dtype=torch.float32, device=x.device)
    return scalar.to(torch.float32).expand(len(x))


class Denoiser(nn.Module):
    """``x0_hat = c_skip x_t + c_out F(c_in x_t, log_snr, tokens(y, drop))``.

    The one place of broadcasting and autocast.

    Arguments:
        network: ``F``.
        conditioning: Labels to tokens.
        prediction: The coefficients.
        schedule: The schedule that the model is trained under.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        conditioning: Conditioning,
        prediction: Prediction,
        schedule: Schedule,
    ) -> None:
        super().__init__()
        self.network = network
        self.conditioning = conditioning
        self.prediction = prediction
        self.schedule = schedule
        self.autocast_dtype: torch.dtype | None = None
        self.compiled: Network | None = None
        """A compiled ``F`` to train with."""

    def coefficients(self, x_t: Tensor, t: Tensor) -> Coefficients:
        """The coefficients at ``t``, ready to multiply ``x_t``."""
        alpha, sigma = self.schedule.scales(self.schedule.log_snr(t))
        return self.prediction.coefficients(expand_like(alpha, x_t), expand_like(sigma, x_t))

    def output(self, x_t: Tensor, t: Tensor, y: Tensor, drop: Tensor | None = None) -> Tensor:
        """The raw network output ``F``, in the shape and dtype of ``x_t``.

        Arguments:
            x_t: Noisy images [B, C, H, W].
            t: Times [B], or a scalar; one of the CPU spares a GPU many small operations.
            y: Labels, [B] or [B, K].
            drop: Labels to hide, bool [B] (or [B, K] for attributes).
        """
        log_snr = _for_each(self.schedule.log_snr(t), x_t)
        c_in = self.coefficients(x_t, t).c_in
        dtype = self.autocast_dtype
        with torch.autocast(x_t.device.type, dtype=dtype) if dtype else nullcontext():
            tokens = self.conditioning(y, drop)
            network = self.compiled if self.compiled and self.training else self.network
            return network((c_in * x_t).to(x_t.dtype), log_snr, tokens).to(x_t.dtype)

    @contextmanager
    def eager(self) -> Iterator[None]:
        """Within, nothing is compiled, so that hooks of single layers are called."""
        compiled, self.compiled = self.compiled, None
        try:
            yield
        finally:
            self.compiled = compiled

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor, drop: Tensor | None = None) -> Tensor:
        """``x0_hat``; arguments and shapes as for :meth:`output`."""
        c_skip, c_out, _ = self.coefficients(x_t, t)
        return (c_skip * x_t + c_out * self.output(x_t, t, y, drop)).to(x_t.dtype)


def bind_label(denoiser: Denoiser, y: Tensor, drop: Tensor | None = None) -> Denoise:
    """The conditional :data:`Denoise` of ``denoiser`` for labels ``y`` of a batch."""

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        return denoiser(x_t, t, y, drop)

    return denoise
