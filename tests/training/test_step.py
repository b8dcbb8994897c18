"""One optimizer step: bad gradients do no harm, and nothing waits for the device."""

import ast
import inspect
import textwrap
from copy import deepcopy
from functools import partial

import pytest
import torch
from ema_pytorch import EMA
from faults import same
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ccdiff.data import Batches, Split
from ccdiff.diffusion import conditioning
from ccdiff.diffusion.couplings import Coupling, Independent, Optimal
from ccdiff.diffusion.objectives import Denoising
from ccdiff.diffusion.times import UniformTimes
from ccdiff.diffusion.weightings import SNR
from ccdiff.settings import TrainerSettings
from ccdiff.training import nonfinite
from ccdiff.training.monitor.timing import StepTimer, clock_of
from ccdiff.training.muon import Muon
from ccdiff.training.nonfinite import Diverged
from ccdiff.training.state import TrainState
from ccdiff.training.step import Update

CPU = torch.device("cpu")
FUSED = partial(torch.optim.AdamW, lr=1e-2, fused=True)
PLAIN = partial(torch.optim.AdamW, lr=1e-2)


@pytest.fixture
def make_update(make_denoiser, generator):
    """Builds an update of 4 of 12 random images with some optimizer."""
    images = torch.randint(256, (12, 1, 8, 8), generator=generator, dtype=torch.uint8)
    split = Split(images, torch.arange(12) % 3)
    model = make_denoiser()

    def make(optimizer, coupling: Coupling | None = None) -> Update:
        denoiser = deepcopy(model).train()
        return Update(
            TrainState(denoiser, EMA(denoiser), optimizer(denoiser.parameters())),
            objective=Denoising(weighting=SNR(), times=UniformTimes()),
            batches=Batches(split, batch_size=4, seed=0, device="cpu", placement="device"),
            flip=True,
            settings=TrainerSettings(steps=100, batch_size=4, accumulate=2, warmup=0, cooldown=0),
            seed=0,
            timer=StepTimer(clock_of(CPU)),
            coupling=coupling,
        )

    return make


def test_images_get_the_noises_of_their_coupling(make_update):
    any_noise, near = (make_update(PLAIN, c).batch() for c in (Independent(), Optimal()))
    assert torch.equal(near.x0, any_noise.x0)
    assert torch.equal(near.draw.t, any_noise.draw.t)
    expected = Optimal()(near.x0, near.y, near.draw.drop, any_noise.draw.eps)
    assert torch.equal(near.draw.eps, expected)
    # And the default is what there was before there was a choice.
    assert torch.equal(make_update(PLAIN).batch().draw.eps, any_noise.draw.eps)


def test_processes_that_share_a_batch_couple_it_as_one_would(make_update):
    """Each takes its rows of the whole; with as few images, each by itself would find others."""
    update = make_update(PLAIN, Optimal(by_label=False))
    whole = update.batch()
    for rows in (slice(0, 2), slice(2, 4)):
        update.rows = rows
        part = update.batch()
        assert torch.equal(part.x0, whole.x0[rows])
        assert torch.equal(part.y, whole.y[rows])
        assert torch.equal(part.draw.eps, whole.draw.eps[rows])


def spoil(monkeypatch, at: int) -> None:
    """Makes a gradient infinite at one step, also where the step is taken again."""
    drawn = Update.batch

    def batch(self):
        parameter, bad = self.parameters[0], self.state.step == at
        parameter._backward_hooks = None
        if bad:
            parameter.register_hook(lambda grad: grad.index_fill(0, torch.tensor(0), torch.inf))
        return drawn(self)

    monkeypatch.setattr(Update, "batch", batch)


def held(update: Update) -> dict:
    """What a bad gradient must not touch."""
    state = update.state
    return deepcopy({"w": state.denoiser.state_dict(), "o": state.optimizer.state_dict()})


def test_a_fused_optimizer_leaves_out_a_bad_step_that_is_told_a_step_later(
    make_update, monkeypatch
):
    spoil(monkeypatch, at=2)
    update = make_update(FUSED)
    update(), update()
    before = held(update)
    update()
    assert update.state.step == 3
    with pytest.raises(Diverged, match="diverged at step 2"):
        update()
    assert update.state.step == 2
    assert same(held(update), before)
    assert all(p.grad is None for p in update.parameters)


def test_a_bad_step_is_told_where_it_must_be_certain(make_update, monkeypatch):
    spoil(monkeypatch, at=1)
    update = make_update(FUSED)
    update()
    update.settle()
    before = held(update)
    update()
    with pytest.raises(Diverged, match="diverged at step 1"):
        update.settle()
    assert update.state.step == 1
    assert same(held(update), before)
    update.settle()


@pytest.mark.parametrize("optimizer", [PLAIN, Muon])
def test_with_other_optimizers_it_is_told_at_once(make_update, monkeypatch, optimizer):
    spoil(monkeypatch, at=1)
    update = make_update(optimizer)
    update()
    before = held(update)
    with pytest.raises(Diverged, match="diverged at step 1"):
        update()
    assert update.state.step == 1
    assert same(held(update), before)


def test_being_ready_to_leave_out_a_step_changes_no_bit(make_update, monkeypatch):
    ready = make_update(FUSED)
    monkeypatch.setattr(nonfinite, "_skips", lambda optimizer: False)
    plain = make_update(FUSED)
    assert (ready.guard.late, plain.guard.late) == (True, False)
    for _ in range(3):
        ready(), plain()
    assert same(held(ready), held(plain))


class Asked(TorchDispatchMode):
    """Notes what would have the program wait for a GPU: values, and shapes made of values.

    Arguments:
        known: Tensors that stay on the CPU, which may be read.
    """

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.known = {tensor.data_ptr() for tensor in known}
        self.ops: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in ("index", "index_put_"):
            reads = any(one is not None and one.dtype is torch.bool for one in args[1])
        else:
            reads = name in ("_local_scalar_dense", "nonzero", "equal", "masked_select")
        if reads and args[0].data_ptr() not in self.known:
            self.ops.append(name)
        return func(*args, **(kwargs or {}))


def test_a_step_asks_the_device_for_nothing(make_update, monkeypatch):
    # Torch's own looks whether labels are in range, but only on a CPU.
    monkeypatch.setattr(conditioning, "one_hot", lambda y, n: torch.eye(n)[y])
    update = make_update(FUSED)
    update()
    # The flag is of the step before.
    monkeypatch.setattr(update.guard, "left_out", lambda: False)
    with Asked([update.state.ema.initted, update.state.ema.step]) as asked:
        loss = update()
        assert asked.ops == []
        assert loss.isfinite()
        assert asked.ops == ["_local_scalar_dense"]


def test_a_step_is_read_on_one_screen():
    source = textwrap.dedent(inspect.getsource(Update.__call__))
    docstring, *body = ast.parse(source).body[0].body
    assert isinstance(docstring, ast.Expr)
    assert body[-1].end_lineno - body[0].lineno < 30
