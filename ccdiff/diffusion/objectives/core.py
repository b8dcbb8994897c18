"""What an objective is: randomness of a batch, and the loss of each of its samples."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.levels import Level, Reach
from ccdiff.diffusion.times import TimeDensity
from ccdiff.diffusion.weightings import Weighting
from ccdiff.errors import UserError

__all__ = [
    "Draw",
    "LongSteps",
    "Objective",
    "WrappedObjective",
    "check_hidden_labels",
    "pull_of_guidance",
    "same_dropout",
]


class Draw(NamedTuple):
    """The randomness of a batch: times [B], noise [B, C, H, W], labels to hide [B] or [B, K].

    Objectives of two levels draw besides the ``log_snr`` [B] of the cleaner one, and may say for
    which images it is another one at all: bool [B], or how many steps ahead, [B], on the CPU, so
    that a GPU is not waited for. And the numbers [B, P] by which an augmentation changes images,
    where there is one.
    """

    t: Tensor
    eps: Tensor
    drop: Tensor | None
    toward: Tensor | None = None
    ahead: Tensor | None = None
    told: Tensor | None = None

    def part(self, rows: slice | Tensor) -> "Draw":
        """The same for some rows of the batch, a slice or their numbers on the CPU."""
        rest = (None if values is None else values[rows] for values in self[2:])
        return Draw(self.t[rows], self.eps[rows], *rest)


@dataclass(frozen=True, kw_only=True)
class Objective(ABC):
    """The contract: :meth:`at`, the loss of each sample; what is random comes from :meth:`draw`.

    Arguments:
        weighting: ``w``, the weight on the squared ``x0`` error.
        times: Where training looks.
    """

    weighting: Weighting
    times: TimeDensity

    reaches: ClassVar[frozenset[Reach]] = frozenset({Reach.HERE})
    """Which steps go by the estimates that it teaches."""

    def __call__(
        self, denoiser: Denoiser, x0: Tensor, y: Tensor, generator: torch.Generator
    ) -> Tensor:
        """The loss of each sample [B] at the first step, with randomness from ``generator``."""
        return self.at(denoiser, x0, y, self.draw(denoiser, x0, generator))

    def draw(
        self, denoiser: Denoiser, x0: Tensor, generator: torch.Generator, *, step: int = 0
    ) -> Draw:
        """Times, noise and drop mask for a batch.

        Arguments:
            denoiser: The model under training.
            x0: Stands for the images: its shape [B, C, H, W], dtype and device count.
            generator: On the device of ``x0``.
            step: Optimizer steps taken, for what changes in the course of training.
        """
        t = self.times(len(x0), generator)
        eps = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
        return Draw(t, eps, denoiser.conditioning.draw_drop(len(x0), generator))

    @abstractmethod
    def at(self, denoiser: Denoiser, x0: Tensor, y: Tensor, draw: Draw) -> Tensor:
        """The loss of each sample for a given draw, with nothing random of its own.

        Arguments:
            denoiser: The model under training.
            x0: Clean images in [-1, 1], float32 [B, C, H, W].
            y: Their labels, [B] or [B, K].
            draw: As :meth:`draw` returns it, or rows of it.

        Returns:
            Mean over pixels of the weighted squared error, float32 [B].
        """


@dataclass(frozen=True, kw_only=True)
class WrappedObjective(Objective):
    """An objective around another one, whose draws and reach it has.

    Arguments:
        objective: The other one.
    """

    objective: Objective

    @property
    def reaches(self) -> frozenset[Reach]:  # type: ignore[override]
        """Those of the other one."""
        return self.objective.reaches

    def draw(
        self, denoiser: Denoiser, x0: Tensor, generator: torch.Generator, *, step: int = 0
    ) -> Draw:
        return self.objective.draw(denoiser, x0, generator, step=step)


@dataclass(frozen=True, kw_only=True)
class LongSteps(Objective):
    """What teaches long steps to some images of a batch, while the others are denoised.

    Arguments:
        share: Of the images that learn long steps, in (0, 1].
        guidance: The scale of classifier-free guidance that the network learns to follow without
            a second call, at least 1; 1 is none.
    """

    share: float = 0.25
    guidance: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(
                f"objective.share must be in (0, 1], got {self.share}: with 0 no long step is "
                f"learned, which is objective=denoising"
            )
        if self.guidance < 1:
            raise ValueError(f"objective.guidance must be at least 1, got {self.guidance}")

    def draw(
        self, denoiser: Denoiser, x0: Tensor, generator: torch.Generator, *, step: int = 0
    ) -> Draw:
        """The same.

        Raises:
            UserError: Where guidance is asked for, and labels are never hidden.
        """
        if self.guidance != 1:
            check_hidden_labels(denoiser, "objective.guidance")
        return super().draw(denoiser, x0, generator, step=step)

    def every_so_many(self, n: int) -> Tensor:
        """Which of ``n`` images learn long steps, bool [n] on the CPU.

        The first is one of them, so that a batch of one shows all that may fail.
        """
        return (self.share * torch.arange(n + 1, dtype=torch.float64)).ceil().diff() > 0


def check_hidden_labels(denoiser: Denoiser, what: str) -> None:
    """Refuses guidance that is learned of a model which always sees its labels.

    Arguments:
        denoiser: The model under training.
        what: Asks for it, as it is typed.

    Raises:
        UserError: Where no label is ever hidden.
    """
    if denoiser.conditioning.drop == 0:
        raise UserError(
            f"{what} leads away from the estimate without a label, which the model never learns "
            f"with conditioning.drop=0: pass conditioning.drop=0.1"
        )


@torch.no_grad()
def pull_of_guidance(
    denoiser: Denoiser, x_t: Tensor, level: Level, y: Tensor, drop: Tensor | None, *, scale: float
) -> Tensor:
    """``(1 - 1 / scale) (g(c) - g(no label))``, to be added to the image that ``g`` is taught.

    The best ``g`` is then what classifier-free guidance of that scale makes of two estimates.

    Arguments:
        denoiser: Gives ``g``.
        x_t: Noisy images [B, C, H, W].
        level: Of these, [B].
        y: Their labels, [B] or [B, K].
        drop: Labels to hide, of which nothing is added; bool [B] or [B, K].
        scale: At least 1.

    Returns:
        Images of the shape of ``x_t``, without gradients.
    """
    shown = torch.zeros(len(y), dtype=torch.bool, device=y.device) if drop is None else drop
    drops = torch.cat([shown, torch.ones_like(shown)])
    both = denoiser(torch.cat([x_t, x_t]), level.repeat(2), torch.cat([y, y]), drops)
    told, untold = both.chunk(2)
    return (1 - 1 / scale) * (told - untold)


@contextmanager
def same_dropout(denoiser: Denoiser, device: torch.device) -> Iterator[None]:
    """Within, dropout draws what it will draw again afterwards: two estimates want the same.

    Arguments:
        denoiser: Without dropout nothing is done.
        device: Where it is.
    """
    drops = (m.p for m in denoiser.modules() if isinstance(m, nn.modules.dropout._DropoutNd))
    if not any(drops):
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
