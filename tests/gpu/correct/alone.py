"""``python -m tests.gpu.correct.alone <device>``: one process as a group, by NCCL or gloo.

The product makes no group for one process, so it is made here as it would be for several.
"""

import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from ccdiff.distributed import group
from tests.gpu.bench import Bench
from tests.gpu.correct.kit import FP32, apart, steps_of, training_of, without_tf32

__all__ = ["main"]


def main(device: str) -> None:
    """Prints ``= <what>: True`` for each that is as it should be."""
    cuda = device.startswith("cuda")
    store = dist.HashStore()
    dist.init_process_group(
        "nccl" if cuda else "gloo",
        store=store,
        rank=0,
        world_size=1,
        timeout=timedelta(seconds=60),
        device_id=torch.device("cuda", torch.cuda.current_device()) if cuda else None,
    )
    control = dist.new_group(backend="gloo") if cuda else dist.group.WORLD
    group._together = group._Together(control, store, 60.0)
    tell("an object comes back", group.broadcast({"a": 1}) == {"a": 1})
    tell("objects are gathered", group.gather("one") == ["one"])
    ones = group.sum_tensor_(torch.ones(4, device=device))
    tell(f"a tensor on {device} is added up", ones.tolist() == [1.0] * 4)
    tell("what nobody gives is agreed on", group.agreed(None) is None)
    tell("what one gives is agreed on", group.agreed("stop") == "stop")
    group.barrier()
    with tempfile.TemporaryDirectory() as folder, without_tf32():
        bench = Bench(
            device=torch.device(device), out=Path(folder), seconds=60, miniature=not cuda
        )
        losses = []
        for wrapped in (False, True):
            training = training_of(bench, Path(folder) / str(wrapped))
            make = training._update

            def replicated(make=make, wrapped=wrapped):
                update = make()
                if wrapped:
                    update.losses = DistributedDataParallel(
                        update.losses, gradient_as_bucket_view=True
                    )
                return update

            training._update = replicated
            losses.append(torch.stack(steps_of(training, 4)))
        same = apart(*losses) < FP32
        tell("losses under DistributedDataParallel are the same to rounding", same)
    group._together = None
    dist.destroy_process_group()


def tell(what: str, passed: bool) -> None:
    """Prints it at once."""
    print(f"= {what}: {passed}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
