"""Muon: steps whose matrices have singular values near one, for the convolutions.

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

__all__ = ["Muon", "orthogonalised"]

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Of the quintic whose iteration drives singular values in (0, 1] to within 0.3 of one."""


def orthogonalised(matrices: Sequence[Tensor], *, iterations: int = 5) -> list[Tensor]:
    """``U V^T`` of each matrix ``U S V^T``, roughly: singular values from 0.7 to 1.2.

    Each iteration multiplies a matrix by a polynomial of its Gram matrix on the shorter side. The
    polynomials commute with it, so they are multiplied up alone: for all matrices at once that
    are as short, with the work of squares.

    Arguments:
        matrices: float32 [rows, columns] each.
        iterations: Of Newton and Schulz; each makes small singular values 3.4 times larger.
    """
    wide = [m if len(m) <= m.shape[1] else m.mT for m in matrices]
    wide = [m / m.norm().clamp(min=1e-12) for m in wide]
    alike = defaultdict(list)
    for i, m in enumerate(wide):
        alike[len(m)].append(i)
    for indices in alike.values():
        gram = torch.stack([wide[i] @ wide[i].mT for i in indices])
        factors = _newton_schulz(gram, iterations)
        for i, factor in zip(indices, factors, strict=True):
            wide[i] = factor @ wide[i]
    return [w if len(m) <= m.shape[1] else w.mT for w, m in zip(wide, matrices, strict=True)]


def _newton_schulz(gram: Tensor, iterations: int) -> Tensor:
    """What to multiply matrices by, from the left, given their ``X X^T`` [N, rows, rows]."""
    a, b, c = _NEWTON_SCHULZ
    identity = torch.eye(gram.shape[1], device=gram.device)
    whole = identity.expand_as(gram)
    for i in range(iterations):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c) + a * identity
        whole = factor @ whole
        if i < iterations - 1:
            gram = factor @ gram @ factor
    return whole


def _gradients(weights: list[Tensor]) -> list[Tensor]:
    return [p.grad for p in weights if p.grad is not None]


class Muon(Optimizer):
    """Muon for weights of convolutions, as matrices [out, in * kernel]; AdamW for all others.

    Arguments:
        params: Parameters.
        lr: Learning rate; the root mean square of a step is about 0.2 of it, as with AdamW.
        momentum: Of the gradients of convolutions, with Nesterov's look ahead.
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

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; ``closure``, where given, computes the loss once more."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if not moved:
                continue
            torch._foreach_mul_(moved, 1 - group["lr"] * group["weight_decay"])
            self._step_convolutions([p for p in moved if p.ndim == 4], group)
            self._step_others([p for p in moved if p.ndim != 4], group)
        return loss

    def _moments(self, weights: list[Tensor], name: str) -> list[Tensor]:
        for p in weights:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p)
        return [self.state[p][name] for p in weights]

    def _step_convolutions(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        if not weights:
            return
        grads = _gradients(weights)
        means = self._moments(weights, "momentum")
        torch._foreach_lerp_(means, grads, 1 - group["momentum"])
        ahead = torch._foreach_lerp(grads, means, group["momentum"])
        # In the order of memory of channels_last; that of the columns makes no difference.
        rows = [step.movedim(1, -1).flatten(1).float() for step in ahead]
        for p, step in zip(weights, orthogonalised(rows), strict=True):
            rate = 0.2 * max(step.shape) ** 0.5 * group["lr"]
            laid = p.movedim(1, -1)
            laid.sub_(step.reshape(laid.shape), alpha=rate)

    def _step_others(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        if not weights:
            return
        beta1, beta2 = group["betas"]
        grads = _gradients(weights)
        means, squares = self._moments(weights, "exp_avg"), self._moments(weights, "exp_avg_sq")
        counts = [self._count(p) for p in weights]
        torch._foreach_lerp_(means, grads, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, value=1 - beta2)
        scales = torch._foreach_sqrt(squares)
        torch._foreach_div_(scales, [(1 - beta2**n) ** 0.5 for n in counts])
        torch._foreach_add_(scales, group["eps"])
        rates = [-group["lr"] / (1 - beta1**n) for n in counts]
        torch._foreach_addcdiv_(weights, means, scales, rates)

    def _count(self, p: Tensor) -> int:
        """Steps of a weight, with this one."""
        self.state[p]["step"] = 1 + self.state[p].get("step", 0)
        return int(self.state[p]["step"])
