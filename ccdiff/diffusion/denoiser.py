"""The denoiser: network, conditioning, prediction and schedule as one map to ``x0_hat``."""

import logging
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from ccdiff.diffusion.conditioning import Conditioning
from ccdiff.diffusion.levels import Level, Reach, expand_like
from ccdiff.diffusion.predictions import Coefficients, Prediction
from ccdiff.diffusion.schedules import Schedule
from ccdiff.errors import UserError

__all__ = ["Denoise", "Denoiser", "Network", "bind_label", "compile_network"]

log = logging.getLogger(__name__)

Denoise = Callable[[Tensor, Level], Tensor]
"""``(x_t, level) -> x0_hat`` for images [B, ...]: all that samplers know of a model."""


class Network(Protocol):
    """``F(x, log_snr, tokens)``: images [B, C, H, W], noise levels [B], tokens [B, L, D].

    A network whose attribute ``interval`` is true takes a fourth tensor, the noise levels [B]
    toward which its estimates lead.
    """

    def __call__(self, x: Tensor, log_snr: Tensor, tokens: Tensor, *toward: Tensor) -> Tensor: ...


def _for_each(scalar: Tensor, x: Tensor) -> Tensor:
    """float32 [B] on the device of ``x`` [B, ...], given that or a scalar."""
    if scalar.ndim == 0 and scalar.device.type == "cpu":
        # Written there, as a copy to a device would wait until its queue is empty.
        return torch.full((len(x),), scalar.item(), dtype=torch.float32, device=x.device)
    return scalar.to(torch.float32).expand(x.shape[0])  # Not len(x), which fixes it in exports.


class Denoiser(nn.Module):
    """``x0_hat = c_skip x_t + c_out F(c_in x_t, log_snr, tokens(y, drop))``.

    The one place of broadcasting and autocast. A network knows noise levels, not times, and at
    equal ``log_snr`` the noisy images of two schedules are the same up to a scale. So levels may
    be those of any schedule; beyond the range of the model's own they count as its nearer end.

    Arguments:
        network: ``F``.
        conditioning: Labels to tokens.
        prediction: The coefficients.
        schedule: The schedule that the model is trained under.
        reaches: Which steps go by its estimates, which follows from the objective.
        told: P, as many numbers as :meth:`telling` tells of each image.

    Raises:
        UserError: Where estimates shall lead anywhere, and the network is not told where to.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        conditioning: Conditioning,
        prediction: Prediction,
        schedule: Schedule,
        reaches: Set[Reach] = frozenset({Reach.HERE}),
        told: int = 0,
    ) -> None:
        super().__init__()
        self.interval = bool(getattr(network, "interval", False))
        """Whether the network is told toward which level an estimate shall lead."""
        if not self.interval and {Reach.ANYWHERE, Reach.HALVES} & reaches:
            raise UserError(
                "this objective teaches steps between two noise levels, so the network must be "
                "told both: pass model.interval=true"
            )
        self.reaches = frozenset(reaches)
        self.network = network
        self.conditioning = conditioning
        self.prediction = prediction
        self.schedule = schedule
        self.autocast_dtype: torch.dtype | None = None
        self.compiled: Network | None = None
        """A compiled ``F`` to train with."""
        # Added to each token of the label, so that a network need not know of it.
        self.augmentation = nn.Linear(told, conditioning.dim, bias=False) if told else None
        if self.augmentation is not None:
            nn.init.zeros_(self.augmentation.weight)
        self._told: Tensor | None = None
        self._outputs: list[Tensor] | None = None

    def coefficients(self, x_t: Tensor, level: Level) -> Coefficients:
        """The coefficients at ``level``, ready to multiply ``x_t``."""
        return self.prediction.coefficients(*level.scales_like(x_t))

    def output(self, x_t: Tensor, level: Level, y: Tensor, drop: Tensor | None = None) -> Tensor:
        """The raw network output ``F``, in the shape and dtype of ``x_t``.

        Arguments:
            x_t: Noisy images [B, C, H, W].
            level: Their noise levels [B], or one for all; scalars of the CPU spare a GPU many
                small operations.
            y: Labels, [B] or [B, K].
            drop: Labels to hide, bool [B] (or [B, K] for attributes).
        """
        x_t, level = self._on_own_schedule(x_t, level)
        return self._network(x_t, level, self.coefficients(x_t, level).c_in, y, drop)

    def _network(
        self, x_t: Tensor, level: Level, c_in: Tensor, y: Tensor, drop: Tensor | None
    ) -> Tensor:
        log_snr = _for_each(level.log_snr, x_t)
        toward: tuple[Tensor, ...] = ()
        if self.interval:
            toward = (_for_each((level.toward or level).log_snr, x_t),)
        elif level.toward is not None and Reach.END not in self.reaches:
            raise ValueError("the network was asked where to, and knows one noise level only")
        dtype = self.autocast_dtype
        with torch.autocast(x_t.device.type, dtype=dtype) if dtype else nullcontext():
            tokens = self.conditioning(y, drop)
            if self.augmentation is not None and self._told is not None:
                told = self._told.to(self.augmentation.weight.dtype)
                tokens = tokens + self.augmentation(told).unsqueeze(1)
            network = self.compiled if self.compiled and self.training else self.network
            output = network((c_in * x_t).to(x_t.dtype), log_snr, tokens, *toward).to(x_t.dtype)
        if self._outputs is not None:
            self._outputs.append(output)
        return output

    def _on_own_schedule(self, x_t: Tensor, level: Level) -> tuple[Tensor, Level]:
        """The same images, at the scales that the model was trained with."""
        if level.schedule == self.schedule:
            return x_t, level
        own = replace(self.schedule.at_log_snr(level.log_snr), toward=level.toward)
        # Where the level is beyond the range, images get the variance that they have at its end.
        return expand_like((own.std / level.std).to(x_t.dtype), x_t) * x_t, own

    @contextmanager
    def telling(self, told: Tensor) -> Iterator[None]:
        """Within, the network is told by numbers [B, P] how images were changed; else by zeros."""
        before, self._told = self._told, told
        try:
            yield
        finally:
            self._told = before

    @contextmanager
    def recording(self) -> Iterator[list[Tensor]]:
        """Within, raw network outputs are put into the list, in the order of the calls."""
        before, self._outputs = self._outputs, []
        try:
            yield self._outputs
        finally:
            self._outputs = before

    @contextmanager
    def eager(self) -> Iterator[None]:
        """Within, nothing is compiled, so that hooks of single layers are called."""
        compiled, self.compiled = self.compiled, None
        try:
            yield
        finally:
            self.compiled = compiled

    def forward(self, x_t: Tensor, level: Level, y: Tensor, drop: Tensor | None = None) -> Tensor:
        """``x0_hat``; arguments and shapes as for :meth:`output`."""
        x_t, level = self._on_own_schedule(x_t, level)
        c_skip, c_out, c_in = self.coefficients(x_t, level)
        return (c_skip * x_t + c_out * self._network(x_t, level, c_in, y, drop)).to(x_t.dtype)


def bind_label(denoiser: Denoiser, y: Tensor, drop: Tensor | None = None) -> Denoise:
    """The conditional :data:`Denoise` of ``denoiser`` for labels ``y`` of a batch."""

    def denoise(x_t: Tensor, level: Level) -> Tensor:
        return denoiser(x_t, level, y, drop)

    return denoise


def compile_network(denoiser: Denoiser, mode: str) -> None:
    """Compiles the network where it trains, at its first call; elsewhere it stays eager.

    Raw samples and held-out losses come in batches of other sizes, each of which would be
    compiled for seconds and run for less.

    Arguments:
        denoiser: Whose keys stay what they were; copies for averaging are made before.
        mode: As of ``torch.compile``.
    """
    denoiser.compiled = torch.compile(denoiser.network.forward, mode=mode)
    log.info("compiling the network at the first step (%s); this can take a minute", mode)
