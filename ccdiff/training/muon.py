"""Muon: steps whose matrices have singular values near one, for hidden layers.

Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024
(https://kellerjordan.github.io/posts/muon/), with the scale of Liu et al., Muon is Scalable for
LLM Training, 2025 (arXiv:2502.16982), section 2.2, by which learning rate and weight decay mean
what they do for AdamW.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adamw import adamw

__all__ = ["Muon", "orthogonalisers"]

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Of the quintic whose iteration drives singular values in (0, 1] to within 0.3 of one."""


def orthogonalisers(matrices: Sequence[Tensor], *, iterations: int = 5) -> list[Tensor]:
    """For each matrix ``U S V^T`` what turns it into ``U V^T``, roughly.

    It is to be multiplied from the side on which the matrix is shorter; singular values end
    between 0.7 and 1.2. Each iteration multiplies a matrix by a polynomial of its Gram matrix on
    the shorter side. The polynomials commute with it, so they are multiplied up alone: for all
    matrices at once that are as short, with the work of squares.

    Arguments:
        matrices: float32 [rows, columns] each.
        iterations: Of Newton and Schulz; each makes small singular values 3.4 times larger.

    Returns:
        Symmetric and as large as the shorter side, each.
    """
    alike = defaultdict(list)
    for i, m in enumerate(matrices):
        alike[min(m.shape)].append(i)
    factors: list[Tensor] = [torch.empty(0)] * len(matrices)
    for indices in alike.values():
        grams = torch.stack([_gram(matrices[i]) for i in indices])
        # Their traces are the squared norms of the matrices.
        squares = grams.diagonal(dim1=1, dim2=2).sum(1)[:, None, None].clamp(min=1e-24)
        whole = _newton_schulz(grams / squares, iterations) * squares.rsqrt()
        for i, factor in zip(indices, whole, strict=True):
            factors[i] = factor
    return factors


def _gram(m: Tensor) -> Tensor:
    """On the shorter side."""
    return m @ m.mT if len(m) <= m.shape[1] else m.mT @ m


def _newton_schulz(gram: Tensor, iterations: int) -> Tensor:
    """What to multiply matrices by, from the left, given their ``X X^T`` [N, rows, rows]."""
    a, b, c = _NEWTON_SCHULZ
    whole = torch.eye(gram.shape[1], device=gram.device).expand_as(gram)
    for i in range(iterations):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        whole = factor @ whole if i else factor
        if i < iterations - 1:
            gram = factor @ gram @ factor
    return whole


def _stacked(weight: Tensor) -> int:
    """Of how many matrices, one above the other, a weight consists; 0 where it is none."""
    return getattr(weight, "hidden_matrices", 1 if weight.ndim == 4 else 0)


def _by_memory(x: Tensor, weight: Tensor) -> Tensor:
    """``x``, like ``weight``, with dimensions in the order in which ``weight`` is stored.

    The order of the columns makes no difference to what is done with a matrix.
    """
    if weight.ndim < 4 or not weight.is_contiguous(memory_format=torch.channels_last):
        return x
    return x.movedim(1, -1)


def _gradients(weights: list[Tensor]) -> list[Tensor]:
    return [p.grad for p in weights if p.grad is not None]


class Muon(Optimizer):
    """Muon for weights between hidden features, AdamW for all others.

    The former are those of convolutions, as matrices [out, in * kernel], and of linear layers
    whose weight says by its attribute ``hidden_matrices`` of how many matrices, one above the
    other, it consists (queries, keys and values are three). Embeddings, modulations and the last
    layer of a transformer do not: Jordan et al., section "When should you use Muon?".

    Arguments:
        params: Parameters.
        lr: Learning rate; the root mean square of a step is about 0.2 of it, as with AdamW.
        momentum: Of the gradients of matrices, with Nesterov's look ahead.
        betas: Of AdamW.
        eps: Of AdamW.
        weight_decay: Decoupled, for all, in units of ``lr``.

    Raises:
        ValueError: Where a value is out of range.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-3,
        *,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        for name, value in (("momentum", momentum), ("betas", betas[0]), ("betas", betas[1])):
            if not 0 <= value < 1:
                raise ValueError(f"optimizer.{name} must be in [0, 1), got {value}")
        for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
            if value < 0:
                raise ValueError(f"optimizer.{name} must not be negative, got {value}")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults)

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether ``found_inf``, a tensor, is to be set on it: torch's word for fused optimizers.

        Where it is 1 a step changes nothing. A CPU has no need of it, as it is never waited for.
        """
        return any(p.is_cuda for group in self.param_groups for p in group["params"])

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; ``closure``, where given, computes the loss once more."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            self._step_matrices([p for p in moved if _stacked(p)], group)
            self._step_others([p for p in moved if not _stacked(p)], group)
        return loss

    def _left_out(self) -> Tensor | None:
        """Whether the step at hand is to change nothing, bool on the device; None: it is not."""
        found_inf = getattr(self, "found_inf", None)
        return None if found_inf is None else found_inf.bool()

    def _moments(self, weights: list[Tensor], name: str) -> list[Tensor]:
        for p in weights:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p)
        return [self.state[p][name] for p in weights]

    def _step_matrices(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        if not weights:
            return
        grads = _gradients(weights)
        means = self._moments(weights, "momentum")
        left_out = self._left_out()
        if left_out is not None:
            # A mean that moves towards itself stays what it is.
            grads = [torch.where(left_out, m, g) for m, g in zip(means, grads, strict=True)]
        torch._foreach_lerp_(means, grads, 1 - group["momentum"])
        ahead = torch._foreach_lerp(grads, means, group["momentum"])
        matrices: list[Tensor] = []
        steps: list[Tensor] = []
        for p, step in zip(weights, ahead, strict=True):
            matrices += _by_memory(p, p).view(len(p), -1).chunk(_stacked(p))
            steps += _by_memory(step, p).flatten(1).float().chunk(_stacked(p))
        kept = 1 - group["lr"] * group["weight_decay"]
        for matrix, step, factor in zip(matrices, steps, orthogonalisers(steps), strict=True):
            rate = 0.2 * max(step.shape) ** 0.5 * group["lr"]
            pair = (factor, step) if len(factor) == len(step) else (step, factor)
            # Decay, product and update in one pass over the weights.
            if left_out is None:
                matrix.addmm_(*pair, beta=kept, alpha=-rate)
            else:
                moved = torch.addmm(matrix, *pair, beta=kept, alpha=-rate)
                matrix.copy_(torch.where(left_out, matrix, moved))

    def _step_others(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        if not weights:
            return
        for p in weights:
            step = self.state[p].get("step", 0.0)
            # Checkpoints have had a number here; and where they are loaded, it stays on the CPU.
            if not isinstance(step, Tensor) or step.device != p.device:
                self.state[p]["step"] = torch.as_tensor(step, dtype=torch.float32).to(p.device)
        adamw(
            weights,
            _gradients(weights),
            self._moments(weights, "exp_avg"),
            self._moments(weights, "exp_avg_sq"),
            [],
            [self.state[p]["step"] for p in weights],
            fused=True,
            found_inf=getattr(self, "found_inf", None),
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
