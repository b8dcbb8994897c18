r"""Guidance: from a denoiser and labels to the :data:`Denoise` that samplers run.

Guidance leads away from an estimate that follows the label less,
``x0_hat = reference + w (conditional - reference)``: ``w = 1`` is plain conditional and ``w = 0``
is the reference, both exact and for one call of the network. The same ``w`` guides ``eps_hat`` and
the score, which are affine in ``x0_hat``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor

from ccdiff.diffusion.conditioning import MultiHot, label_index
from ccdiff.diffusion.denoiser import Denoise, Denoiser, bind_label
from ccdiff.diffusion.levels import Level, expand_like
from ccdiff.diffusion.widest import widest_dtype
from ccdiff.errors import UserError

__all__ = ["CFG", "AttributeGuidance", "AutoGuidance", "Guidance", "NoGuidance"]


@dataclass(frozen=True, kw_only=True)
class Guidance(ABC):
    """The contract: labels of a batch in, :data:`Denoise` out."""

    @abstractmethod
    def __call__(self, denoiser: Denoiser, y: Tensor, drop: Tensor | None = None) -> Denoise:
        """The guided denoise function for a batch.

        Arguments:
            denoiser: The trained model.
            y: Labels, [B] or [B, K].
            drop: Labels that are not told, bool [B], or [B, K] for attributes.

        Raises:
            UserError: Where the model was not trained for this guidance, with the fix.
        """


@dataclass(frozen=True, kw_only=True)
class NoGuidance(Guidance):
    """Plain conditional sampling."""

    def __call__(self, denoiser: Denoiser, y: Tensor, drop: Tensor | None = None) -> Denoise:
        return bind_label(denoiser, y, drop)


Model = Callable[[Tensor, Level, Tensor, Tensor], Tensor]
"""``(x_t, level, y, drop) -> x0_hat``, as a :class:`Denoiser` is called."""


class Term(NamedTuple):
    """An estimate in a weighted sum: that of ``model`` where the labels ``drop`` are hidden."""

    weight: float
    model: Model
    drop: Tensor


@dataclass(frozen=True, kw_only=True)
class _Extrapolation(Guidance):
    """Shared by all that guide: a sum of estimates, whose weights add up to 1.

    Arguments:
        scale: ``w``.
        log_snr_range: Guidance acts where ``log_snr`` is in this range; elsewhere the estimate is
            plain conditional. Kynkäänniemi et al., Applying Guidance in a Limited Interval
            Improves Sample and Distribution Quality in Diffusion Models, 2024 (arXiv:2404.07724).
        rescale: phi, how far to bring the standard deviation of each guided estimate back to that
            of the conditional one, in [0, 1]. Lin et al., Common Diffusion Noise Schedules and
            Sample Steps are Flawed, 2023 (arXiv:2305.08891), eq. 15 and 16, applied to ``x0_hat``.
    """

    scale: float = 2.0
    log_snr_range: Sequence[float] = (-inf, inf)
    rescale: float = 0.0

    def __post_init__(self) -> None:
        if len(self.log_snr_range) != 2 or not self.log_snr_range[0] < self.log_snr_range[1]:
            raise ValueError(
                f"guidance.log_snr_range must be [low, high], got {list(self.log_snr_range)}"
            )
        if not 0 <= self.rescale <= 1:
            raise ValueError(f"guidance.rescale must be in [0, 1], got {self.rescale}")

    @abstractmethod
    def terms(self, denoiser: Denoiser, y: Tensor, drop: Tensor) -> list[Term]:
        """The estimates to add up, the plain conditional one first even if its weight is zero."""

    def __call__(self, denoiser: Denoiser, y: Tensor, drop: Tensor | None = None) -> Denoise:
        shown = torch.zeros(len(y), dtype=torch.bool, device=y.device) if drop is None else drop
        first, *others = self.terms(denoiser, y, shown)
        terms = [first, *others] if self.rescale > 0 or first.weight != 0 else others
        terms = [term for term in terms if term is first or term.weight != 0]

        def guided(x_t: Tensor, level: Level) -> Tensor:
            estimates = _estimates(terms, x_t, level, y)
            if len(terms) == 1:
                return estimates[0]
            x0_hat = torch.zeros_like(x_t)
            for term, estimate in zip(terms, estimates, strict=True):
                x0_hat = x0_hat + term.weight * estimate
            return _rescale(x0_hat, like=estimates[0], share=self.rescale)

        if tuple(self.log_snr_range) == (-inf, inf):
            return guided
        plain = bind_label(denoiser, y, drop)

        def guided_in_range(x_t: Tensor, level: Level) -> Tensor:
            low, high = self.log_snr_range
            inside = (low <= level.log_snr) & (level.log_snr <= high)
            if inside.all():
                return guided(x_t, level)
            if not inside.any():
                return plain(x_t, level)
            return torch.where(expand_like(inside, x_t), guided(x_t, level), plain(x_t, level))

        return guided_in_range


def _estimates(terms: Sequence[Term], x_t: Tensor, level: Level, y: Tensor) -> list[Tensor]:
    """``x0_hat`` of every term; the terms of one model share one batch."""
    estimates: list[Tensor] = []
    for model, group in groupby(terms, key=lambda term: term.model):
        drops = [term.drop for term in group]
        n = len(drops)
        xs, ys = torch.cat([x_t] * n), torch.cat([y] * n)
        batch = model(xs, level.repeat(n), ys, torch.cat(drops))
        estimates += batch.chunk(n)
    return estimates


def _rescale(x0_hat: Tensor, *, like: Tensor, share: float) -> Tensor:
    """``x0_hat`` with part of its standard deviation, of each sample, replaced by another's."""
    if share == 0:
        return x0_hat
    ratio = like.flatten(1).std(1) / x0_hat.flatten(1).std(1)
    return expand_like(1 + share * (ratio - 1), x0_hat) * x0_hat


@dataclass(frozen=True, kw_only=True)
class CFG(_Extrapolation):
    """Classifier-free: the reference is the same model with the label hidden.

    Ho & Salimans, Classifier-Free Diffusion Guidance, 2022 (arXiv:2207.12598), eq. 6, whose ``w``
    is ours less 1. Both estimates come from one call with a doubled batch.

    Arguments:
        scale: ``w``: 1 is plain conditional, 0 unconditional.
        log_snr_range: ``[low, high]``: where guidance acts; conditional elsewhere.
        rescale: phi, in [0, 1]: how far to bring back the standard deviation of ``x0_hat``.
    """

    def terms(self, denoiser: Denoiser, y: Tensor, drop: Tensor) -> list[Term]:
        if self.scale != 1:
            _require_null(denoiser)
        hidden = torch.ones_like(drop)
        return [Term(self.scale, denoiser, drop), Term(1 - self.scale, denoiser, hidden)]


def _require_null(denoiser: Denoiser) -> None:
    if denoiser.conditioning.drop == 0:
        raise UserError(
            "this guidance needs the model's estimate without a label, but the model was trained "
            "with conditioning.drop=0 and has never seen a hidden label: train it with "
            "conditioning.drop=0.1, or use guidance=none or guidance=autoguidance"
        )


@dataclass(frozen=True, kw_only=True)
class AutoGuidance(_Extrapolation):
    """The reference is a weak model of the same data: an earlier checkpoint or a smaller run.

    Karras et al., Guiding a Diffusion Model with a Bad Version of Itself, 2024
    (arXiv:2406.02507), eq. 3. Neither model needs to know a hidden label.

    Arguments:
        weak: The weak model, of whatever network, prediction and schedule.
        scale: ``w``: 1 is the model itself, 0 the weak one.
        log_snr_range: ``[low, high]``: where guidance acts; conditional elsewhere.
        rescale: phi, in [0, 1]: how far to bring back the standard deviation of ``x0_hat``.
    """

    weak: Denoiser

    def terms(self, denoiser: Denoiser, y: Tensor, drop: Tensor) -> list[Term]:
        weak = self.weak.to(y.device)
        weak.autocast_dtype = denoiser.autocast_dtype
        ours, theirs = denoiser.conditioning.label_names, weak.conditioning.label_names
        if ours != theirs:
            raise UserError(
                f"the weak model was trained on other labels, {_brief(theirs)}, than the model, "
                f"{_brief(ours)}: pass guidance.weak.run=<a run on the same data>"
            )
        if weak.reaches != denoiser.reaches:
            raise UserError(
                "the weak model was trained by another objective than the model, so that their "
                "estimates lead elsewhere: pass guidance.weak.run=<a run of the same objective>"
            )
        return [Term(self.scale, denoiser, drop), Term(1 - self.scale, weak, drop)]


def _brief(names: Sequence[str]) -> str:
    return f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''} ({len(names)})"


@dataclass(frozen=True, kw_only=True)
class AttributeGuidance(_Extrapolation):
    r"""A weight for each attribute: the label is told in groups of equal weight, one by one.

    ``x0_hat = e_0 + \sum_j w_j (e_j - e_{j-1})``, where ``e_j`` is told the first ``j`` groups.
    By the chain rule this is the score of ``p(x) \prod_j p(group_j | x, earlier groups)^{w_j}``.
    Groups go by ``|w_j - 1|``, so what weighs 1 forms the context of the rest, and one attribute
    set apart from a weight of 1 costs one estimate: ``e_2 + (w_2 - 1)(e_2 - e_1)``.

    One weight for all is :class:`CFG`. Weight 0 is the attribute not told; a negative weight leads
    away from what the label says of it. Liu et al., Compositional Visual Generation with
    Composable Diffusion Models, 2022 (arXiv:2206.01714), do so for independent attributes.

    Arguments:
        weights: ``w`` of single attributes, by name; None for no exceptions to ``scale``.
        scale: ``w`` of all other attributes.
        log_snr_range: ``[low, high]``: where guidance acts; conditional elsewhere.
        rescale: phi, in [0, 1]: how far to bring back the standard deviation of ``x0_hat``.
    """

    weights: Mapping[str, float] | None = None
    scale: float = 1.0

    def terms(self, denoiser: Denoiser, y: Tensor, drop: Tensor) -> list[Term]:
        conditioning = denoiser.conditioning
        if not isinstance(conditioning, MultiHot):
            raise UserError(
                "guidance=attributes weighs attributes of 0 and 1, and the model knows none: use "
                "guidance=cfg"
            )
        names = conditioning.label_names
        weights = [self.scale] * len(names)
        for name, weight in (self.weights or {}).items():
            weights[label_index(name, names)] = weight
        of_attribute = torch.tensor(weights, dtype=widest_dtype(y.device), device=y.device)
        drop = (drop if drop.ndim == 2 else drop.unsqueeze(1)).expand(len(y), len(names))
        in_use = of_attribute.expand_as(drop)[~drop].unique().tolist()
        groups = sorted((w for w in in_use if w != 0), key=lambda w: abs(w - 1))
        masks = [torch.ones_like(drop)]
        for weight in groups:
            masks.append(torch.where(of_attribute == weight, drop, masks[-1]))
        shares = [w - next_w for w, next_w in pairwise([1.0, *groups, 0.0])]
        terms = [Term(w, denoiser, mask) for w, mask in zip(shares, masks, strict=True)]
        if 0 in in_use:
            terms.append(Term(0.0, denoiser, drop))
        if terms[0].weight != 0:
            _require_null(denoiser)
        if conditioning.attribute_drop == 0 and any(term.weight != 0 for term in terms[1:-1]):
            raise UserError(
                "weights of single attributes need estimates in which some are not told, but the "
                "model was trained with conditioning.attribute_drop=0: train it with "
                "conditioning.attribute_drop=0.1, or use guidance=cfg with one scale for all"
            )
        return terms[::-1]
