"""Training on many processes as on one: each takes its rows of every batch.

Gradients are averaged by DistributedDataParallel (Li et al., 2020, arXiv:2006.15704), while the
backward pass still computes; with ``trainer.shard=zero1`` each process keeps the optimizer's
state of a share of the parameters (ZeRO, stage 1: Rajbhandari et al., 2020, arXiv:1910.02054).
Weights, averaged weights and noise follow from the same arithmetic everywhere, so none of them
is ever sent, and checkpoints are those of one process.
"""

import inspect
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.objectives import Objective
from ccdiff.distributed.group import ask_main, barrier, broadcast, gather, sum_tensor_
from ccdiff.distributed.ranks import is_main, rank, world_size
from ccdiff.errors import UserError
from ccdiff.seeding import seed_for
from ccdiff.settings import Shard, TrainerSettings
from ccdiff.system.stopping import Interrupted, asked_to_stop
from ccdiff.training.optimizers import uncompiled
from ccdiff.training.state import Hook, LabelledDraw, TrainState

if TYPE_CHECKING:
    from torch.distributed.optim import ZeroRedundancyOptimizer

__all__ = [
    "Losses",
    "OnMain",
    "averaging",
    "check_divides",
    "collect_optimizer",
    "load_optimizer",
    "make_optimizer",
    "mean_over_ranks",
    "memory",
    "replicate",
    "seed_apart",
]


class Losses(nn.Module):
    """The loss of each sample, as a module, because DistributedDataParallel wraps one.

    Arguments:
        denoiser: The model under training.
        objective: The loss.
    """

    def __init__(self, denoiser: Denoiser, objective: Objective) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.objective = objective

    def forward(self, part: LabelledDraw) -> Tensor:
        """Losses [B] of a part of a batch."""
        return self.objective.at(self.denoiser, part.x0, part.y, part.draw)


def replicate(denoiser: Denoiser, objective: Objective) -> nn.Module:
    """The losses of ``denoiser``, with gradients averaged over processes, if there are more."""
    losses = Losses(denoiser, objective)
    if world_size() == 1:
        return losses
    # Gradients that live in what is sent save a copy of the model.
    return DistributedDataParallel(losses, gradient_as_bucket_view=True)


def averaging(losses: nn.Module, wanted: bool) -> AbstractContextManager[object]:
    """Within, a backward pass averages gradients over processes, or only adds them up here."""
    if wanted or not isinstance(losses, DistributedDataParallel):
        return nullcontext()
    return cast(AbstractContextManager[object], losses.no_sync())


def make_optimizer(
    make: Callable[[Iterable[nn.Parameter]], Optimizer],
    parameters: Iterable[nn.Parameter],
    *,
    shard: Shard,
) -> Optimizer:
    """The optimizer, its state divided among the processes where ``shard`` says so.

    Arguments:
        make: Builds it for some parameters.
        parameters: All of them.
        shard: How to divide it.

    Raises:
        UserError: Where it refuses its settings.
    """
    try:
        if shard is Shard.none or world_size() == 1:
            # What wraps it in the config's name refuses settings as is done below.
            return uncompiled(inspect.unwrap(make))(parameters)
        # Imported here: it takes seconds, which only a run that divides its optimizer should pay.
        from torch.distributed.optim import ZeroRedundancyOptimizer

        return ZeroRedundancyOptimizer(parameters, cast(type[Optimizer], make))
    except (TypeError, ValueError) as error:
        raise UserError(f"the optimizer refuses its settings (optimizer.*): {error}") from error


def _divided(optimizer: Optimizer) -> "ZeroRedundancyOptimizer | None":
    """The optimizer, if its state is divided."""
    if "torch.distributed.optim" not in sys.modules:
        return None
    from torch.distributed.optim import ZeroRedundancyOptimizer

    return optimizer if isinstance(optimizer, ZeroRedundancyOptimizer) else None


def collect_optimizer(optimizer: Optimizer) -> None:
    """Brings a divided state to rank 0, so that its ``state_dict`` is whole; all ranks call it."""
    if divided := _divided(optimizer):
        divided.consolidate_state_dict()


def load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Loads a whole state; of a divided optimizer each process keeps its share."""
    divided = _divided(optimizer)
    if divided is None:
        optimizer.load_state_dict(state)
        _lay_out_as_weights(optimizer)
        return
    # It empties the state that it is given.
    divided.load_state_dict({**state, "state": dict(state["state"])})
    # It has loaded its share twice: where it steps, and here, where nothing looks.
    divided.state.clear()
    _lay_out_as_weights(divided.optim)
    # It leaves the count of steps on the CPU, but fused optimizers want it with the weights.
    for group in divided.optim.param_groups:
        for parameter in group["params"]:
            values = divided.optim.state[parameter]
            if (group.get("fused") or group.get("capturable")) and "step" in values:
                values["step"] = values["step"].to(parameter.device)


def _lay_out_as_weights(optimizer: Optimizer) -> None:
    """Gives loaded moments the memory layout of their weights.

    Fused optimizers walk weight, gradient and moments in the order of memory, and would mix up
    those of a checkpoint whose weights were laid out in another way.
    """
    for weight, moments in optimizer.state.items():
        for name, moment in moments.items():
            if isinstance(moment, Tensor) and moment.shape == weight.shape:
                moments[name] = torch.empty_like(weight, dtype=moment.dtype).copy_(moment)


def check_divides(settings: TrainerSettings) -> None:
    """Raises UserError where batches do not divide among the processes, with what would do."""
    parts = world_size() * settings.accumulate
    below = settings.batch_size // parts * parts
    if settings.batch_size == below:
        return
    fitting = f"{below + parts}" if below == 0 else f"{below} or {below + parts}"
    raise UserError(
        f"trainer.batch_size={settings.batch_size} does not divide among {world_size()} processes "
        f"in trainer.accumulate={settings.accumulate} parts each: use {fitting}, or another "
        f"number of processes"
    )


def seed_apart(seed: int, step: int) -> None:
    """Has what networks draw on their own, such as dropout, differ between processes.

    At each step, so that a run that goes on draws the same; of rank 0 checkpoints keep the state.
    """
    if not is_main():
        torch.manual_seed(seed_for(seed, "rank", rank(), step))


def mean_over_ranks(loss: Tensor) -> Tensor:
    """The mean of a loss over processes, whose shares of a batch are equal."""
    return sum_tensor_(loss) / world_size()


def memory(device: torch.device) -> dict[str, float]:
    """The most memory that each of several processes has taken, in GiB; on rank 0."""
    if world_size() == 1:
        return {}
    taken = {}
    if device.type == "cuda":
        taken["gpu_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
    try:
        import resource
    except ImportError:  # Windows has none.
        pass
    else:
        taken["memory_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        f"system/rank{i}/{key}": value
        for i, one in enumerate(gather(taken))
        for key, value in one.items()
    }


@dataclass(frozen=True)
class OnMain:
    """A hook that rank 0 runs while the other processes wait.

    Arguments:
        hook: What to run.
        saves: Whether it may write a checkpoint, for which the state must be whole.
    """

    hook: Hook
    saves: bool = False

    @property
    def name(self) -> str:
        """That of the hook."""
        return self.hook.name

    @property
    def every(self) -> int:
        """Steps between calls."""
        return self.hook.every

    def __call__(self, state: TrainState) -> None:
        if self.saves:
            collect_optimizer(state.optimizer)
        reason = None
        if is_main():
            try:
                self.hook(state)
            except Interrupted as interrupted:
                reason = str(interrupted)
        barrier(meanwhile=_tell_main if not is_main() else None)
        if (reason := broadcast(reason)) is not None:
            raise Interrupted(reason)


def _tell_main() -> None:
    """Has rank 0 leave its hook where this rank was told to stop."""
    if (reason := asked_to_stop()) is not None:
        ask_main(reason)
