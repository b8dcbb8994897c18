"""How big a model is: its parameters, and operations by torch's formulas.

They are counted without its ``FlopCounterMode``, which hides from torch's compiler, and imports
all of it to do so: 4 s.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ccdiff.data import Split, to_float
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.objectives import Draw, Objective

__all__ = ["OperationCounter", "Size", "measure", "place_to_count"]

_COUNTED = 20
"""Images of a batch whose operations are counted, where images differ in them."""
# One such image takes 0.1 s and 150 MiB of unet_large. A larger one could take more memory than
# the training, which may recompute activations.
_FEW_PIXELS = 64 * 64


class OperationCounter(TorchDispatchMode):
    """Within, counts the floating-point operations of convolutions, matrix products, attention.

    Attributes:
        total: So far; a multiplication and an addition are two.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0


def _counted(
    counter: OperationCounter,
    func: Any,
    types: Sequence[type],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> Any:
    kwargs = kwargs or {}
    out = func(*args, **kwargs)
    # With gradients, what comes here has been taken apart into what has formulas.
    if formula := flop_registry.get(func._overloadpacket):
        counter.total += int(formula(*args, **kwargs, out_val=out))
    return out


# Only what stands in the body of a class does torch hide from its compiler.
OperationCounter.__torch_dispatch__ = _counted  # type: ignore[method-assign,assignment]


@dataclass(frozen=True)
class Size:
    """How big a model is.

    Arguments:
        parameters: Trainable numbers.
        flops: Floating-point operations of one forward pass for one image.
        training_flops: Those of a training step for one image, forward and backward.
    """

    parameters: int
    flops: int
    training_flops: int

    def __str__(self) -> str:
        return (
            f"{self.parameters / 1e6:.2f} million parameters, "
            f"{self.flops / 1e9:.3f} GFLOPs per image forward, "
            f"{self.training_flops / 1e9:.3f} in a training step"
        )


def measure(
    denoiser: Denoiser, objective: Objective, split: Split, *, place: str = "meta"
) -> Size:
    """Counts parameters and operations, by default without computing anything.

    Operations are those of convolutions and matrix products; what is computed a second time to
    save memory is not counted. Of an objective of two noise levels it is the mean over images, of
    which not all may take the further calls that it makes.

    Arguments:
        denoiser: The model.
        objective: Its loss.
        split: Of whose images the first is taken.
        place: Device to count on. On ``meta`` nothing is computed, but what torch needs for that
            takes 4 s to import; on ``cpu`` one image is passed through.
    """
    # Networks recompute activations in training mode only.
    ghost = copy.deepcopy(denoiser).to(place).eval()
    one = split.take(1)
    x0, y = to_float(one.images.to(place)), one.labels.to(place)
    draw = Draw(torch.zeros(1, device=place), torch.zeros_like(x0), None)
    n, generator = 1, torch.Generator().manual_seed(0)
    shape = torch.Size((_COUNTED, *x0.shape[1:]))
    drawn = objective.draw(denoiser, torch.empty(shape), generator)
    if drawn.toward is not None:
        n = _COUNTED
        x0, y = x0.expand(shape), y.expand(n, *y.shape[1:])
        draw = Draw(
            torch.zeros(n, device=place),
            torch.zeros_like(x0),
            None,
            toward=drawn.toward.to(place),
            ahead=drawn.ahead,
        )
    # Fused kernels of attention would be counted with what they compute a second time.
    with OperationCounter() as counter, sdpa_kernel(SDPBackend.MATH):
        loss = objective.at(ghost, x0, y, draw).sum()
        flops = counter.total
        loss.backward()
    parameters = sum(p.numel() for p in denoiser.parameters() if p.requires_grad)
    return Size(parameters, flops // n, counter.total // n)


def place_to_count(device: torch.device, image_shape: tuple[int, int, int]) -> str:
    """Where :func:`measure` is to count: small images on the CPU, if that trains them."""
    _, height, width = image_shape
    quick = device.type == "cpu" and height * width <= _FEW_PIXELS
    return "cpu" if quick else "meta"
