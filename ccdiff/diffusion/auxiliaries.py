"""What may be added to any objective: losses on what the network makes of a whole batch."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor, nn

from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.levels import Reach
from ccdiff.diffusion.objectives.core import Draw, Objective, WrappedObjective
from ccdiff.errors import UserError

__all__ = ["Auxiliary", "Contrastive", "Dispersive", "NoAuxiliary"]


@dataclass(frozen=True, kw_only=True)
class Auxiliary(ABC):
    """The contract: :meth:`added_to`, which makes an objective of an objective."""

    @abstractmethod
    def added_to(self, objective: Objective) -> Objective:
        """The objective whose loss is that of ``objective`` and more."""


@dataclass(frozen=True, kw_only=True)
class NoAuxiliary(Auxiliary):
    """Nothing is added."""

    def added_to(self, objective: Objective) -> Objective:
        return objective


@dataclass(frozen=True, kw_only=True)
class _Watching(Auxiliary):
    """What looks at the network while the loss is computed, and adds to it.

    A batch is what is computed at once: with ``trainer.accumulate``, or several processes, a part
    of it.
    """

    def added_to(self, objective: Objective) -> Objective:
        if objective.reaches != {Reach.HERE}:
            raise UserError(
                f"auxiliary={type(self).__name__.lower()} is for objectives that denoise, and not "
                f"for {type(objective).__name__}, which teaches steps: use auxiliary=none"
            )
        return _Joint(
            weighting=objective.weighting,
            times=objective.times,
            objective=objective,
            auxiliary=self,
        )

    @abstractmethod
    def watching(self, denoiser: Denoiser) -> AbstractContextManager[list[Tensor]]:
        """Within, what the network returns or computes on its way is put into the list."""

    @abstractmethod
    def loss(
        self,
        seen: Tensor,
        objective: Objective,
        denoiser: Denoiser,
        x0: Tensor,
        y: Tensor,
        draw: Draw,
    ) -> Tensor:
        """What is added to the loss of each sample: float32 [B], or a scalar for all.

        Arguments:
            seen: The last that was put into the list, [B, ...].
            objective: What is added to.
            denoiser: The model under training.
            x0: Clean images in [-1, 1], float32 [B, C, H, W].
            y: Their labels, [B] or [B, K].
            draw: Times, noise and drop mask.
        """


@dataclass(frozen=True, kw_only=True)
class Contrastive(_Watching):
    """``-weight w(log_snr) c_out^2 |F - F*_j|^2`` with the target of an image of another label.

    Stoica et al., Contrastive Flow Matching, 2025 (arXiv:2506.05350), section 3, for any
    prediction: ``F*_j`` is made of the image and noise of the next one in the batch whose label
    differs in what is told, at the noise level of this one. Nothing is added for an image whose
    label is hidden, since what is learned without a label is the mean over all, nor where no other
    label is in the batch. What is learned at best is ``(F - weight m) / (1 - weight)``, where
    ``F`` is what the objective alone would teach, and ``m`` the mean target of other labels.

    Arguments:
        weight: The paper's lambda, in [0, 1).
    """

    weight: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.weight < 1:
            raise ValueError(f"auxiliary.weight must be in [0, 1), got {self.weight}")

    def watching(self, denoiser: Denoiser) -> AbstractContextManager[list[Tensor]]:
        return denoiser.recording()

    def loss(
        self,
        seen: Tensor,
        objective: Objective,
        denoiser: Denoiser,
        x0: Tensor,
        y: Tensor,
        draw: Draw,
    ) -> Tensor:
        other, found = next_of_another_label(y, draw.drop)
        level = denoiser.schedule.at(draw.t)
        _, c_out, _ = denoiser.coefficients(x0, level)
        target = denoiser.prediction.target(x0[other], draw.eps[other], *level.scales_like(x0))
        squared_error = (seen - target).square().flatten(1).mean(1)
        scale = objective.weighting(level.log_snr) * c_out.flatten().square()
        return -self.weight * found * scale * squared_error


def next_of_another_label(y: Tensor, drop: Tensor | None) -> tuple[Tensor, Tensor]:
    """For each of a batch the number of the next one, around its end, whose label differs.

    Arguments:
        y: Labels, [B] or [B, K].
        drop: Labels that are hidden, bool [B] or [B, K]: what is hidden differs from nothing.

    Returns:
        int64 [B], and float32 [B]: 1, or 0 where there is none.
    """
    n = len(y)
    rows = y.reshape(n, -1)
    following = (torch.arange(n, device=y.device)[:, None] + torch.arange(n, device=y.device)) % n
    differs = rows[following] != rows[:, None]  # [B, B, K]: the k-th after each, itself first.
    if drop is not None:
        differs = differs & ~drop.reshape(n, -1)[:, None]
    differs = differs.any(-1)
    first = differs.int().argmax(1, keepdim=True)
    return following.gather(1, first).squeeze(1), differs.any(1).float()


@dataclass(frozen=True, kw_only=True)
class Dispersive(_Watching):
    """``weight log mean_ij exp(-|z_i - z_j|^2 / temperature)``: features of a batch spread out.

    ``z`` are the features of a layer, and the square is the mean over them. Wang & He, Diffuse
    and Disperse: Image Generation with Representation Regularization, 2025 (arXiv:2506.09027),
    section 3: the InfoNCE loss without positive pairs, with the squared distance. It is one number
    for a batch, so the same is added to each of its samples.

    Arguments:
        weight: The paper's lambda.
        temperature: The paper's tau.
        layer: Dotted name of a module of the network; None is the one that the network names as
            its ``features``: the block at a quarter of the depth of a transformer, as in the
            paper, or the first at the bottleneck of a U-Net. Networks do not run compiled while
            it is watched.
    """

    weight: float = 0.5
    temperature: float = 0.5
    layer: str | None = None

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError(f"auxiliary.weight must not be negative, got {self.weight}")
        if self.temperature <= 0:
            raise ValueError(f"auxiliary.temperature must be positive, got {self.temperature}")

    @contextmanager
    def watching(self, denoiser: Denoiser) -> Iterator[list[Tensor]]:
        seen: list[Tensor] = []
        module = self._module(denoiser.network)
        handle = module.register_forward_hook(lambda _module, _given, out: seen.append(out))
        try:
            with denoiser.eager():
                yield seen
        finally:
            handle.remove()

    def _module(self, network: nn.Module) -> nn.Module:
        name = self.layer if self.layer is not None else getattr(network, "features", None)
        modules = dict(network.named_modules())
        if not isinstance(name, str) or name not in modules or not name:
            raise UserError(
                f"auxiliary.layer must name a module of the network, got {name!r}; there are "
                f"{', '.join(list(modules)[1:8])}, ..."
            )
        return modules[name]

    def loss(
        self,
        seen: Tensor,
        objective: Objective,
        denoiser: Denoiser,
        x0: Tensor,
        y: Tensor,
        draw: Draw,
    ) -> Tensor:
        z = seen.flatten(1).float()
        apart = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist")
        exponents = -(apart.square() / z.shape[1]) / self.temperature
        return self.weight * (exponents.flatten().logsumexp(0) - 2 * log(len(z)))


@dataclass(frozen=True, kw_only=True)
class _Joint(WrappedObjective):
    """An objective and what is added to it."""

    auxiliary: _Watching

    def at(self, denoiser: Denoiser, x0: Tensor, y: Tensor, draw: Draw) -> Tensor:
        with self.auxiliary.watching(denoiser) as seen:
            loss = self.objective.at(denoiser, x0, y, draw)
        return loss + self.auxiliary.loss(seen[-1], self.objective, denoiser, x0, y, draw)
