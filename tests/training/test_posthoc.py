"""Averages put together afterwards against those tracked, and what a run keeps for them."""

import pytest
import torch
from cli import TINY, call, rarely, succeed
from ema_pytorch import KarrasEMA
from omegaconf import OmegaConf
from torch import nn

from ccdiff.errors import UserError
from ccdiff.metrics.cache import keep
from ccdiff.runs.averages import tracked_weights
from ccdiff.runs.checkpoints import open_checkpoint
from ccdiff.runs.folder import Run
from ccdiff.trained.averages import averaged_weights, profile_of, width_of
from ccdiff.trained.run import trained_denoiser
from ccdiff.training.posthoc import PostHoc, SaveSnapshot
from ccdiff.training.state import TrainState

ASKED = (0.03, 0.07, 0.15, 0.2)


def walk(steps: int, *ema: KarrasEMA, net: nn.Linear, snap=None) -> None:
    """A walk of weights towards a goal, as of training with noisy gradients."""
    generator = torch.Generator().manual_seed(0)
    goal = torch.randn(net.weight.shape, generator=generator)
    for step in range(1, steps + 1):
        with torch.no_grad():
            noise = torch.randn(net.weight.shape, generator=generator)
            net.weight += 0.01 * (goal - net.weight) + 0.05 * noise
        for one in ema:
            one.update()
        if snap:
            snap(step)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a small network, with averages of other widths that were tracked beside it."""
    torch.manual_seed(0)
    net = nn.Linear(16, 16, bias=False)
    ema = PostHoc(net)
    tracked = {width: KarrasEMA(net, sigma_rel=width, update_every=1) for width in ASKED}
    run = Run(tmp_path_factory.mktemp("run"))
    state = TrainState(net, ema, torch.optim.SGD(net.parameters(), 1.0))
    save = SaveSnapshot(every=5, run=run)

    def snap(step: int) -> None:
        state.step = step
        if step % save.every == 0:
            save(state)

    walk(205, ema, *tracked.values(), net=net, snap=snap)
    return run, ema, tracked


def put_together(run: Run, ema: PostHoc, width: float, *, step: int = 205) -> torch.Tensor:
    checkpoint = {"ema": ema.state_dict(), "step": step}
    widths = OmegaConf.create({"sigma_rels": [0.05, 0.1]})
    return averaged_weights(checkpoint, run, ema=widths, sigma_rel=width)["weight"]


@pytest.mark.parametrize("width", ASKED)
def test_it_is_the_average_that_would_have_been_tracked(trained, width):
    run, ema, tracked = trained
    exact = tracked[width].ema_model.weight
    found = put_together(run, ema, width)
    assert (found - exact).norm() < 0.01 * exact.norm()
    others = [t.ema_model.weight for w, t in tracked.items() if w != width]
    assert all((found - other).norm() > 0.01 * exact.norm() for other in others)


def test_a_tracked_width_is_itself(trained):
    run, ema, _ = trained
    for width, weights in zip((0.05, 0.1), tracked_weights(ema.state_dict()), strict=True):
        assert torch.allclose(put_together(run, ema, width), weights["weight"], atol=1e-6)


def test_snapshots_of_later_steps_do_not_count(trained, tmp_path):
    run, ema, _ = trained
    before = put_together(run, ema, 0.07)
    later = run.snapshot(206)
    keep({"0": {"weight": torch.ones(16, 16)}, "1": {"weight": torch.ones(16, 16)}}, later)
    assert torch.equal(put_together(run, ema, 0.07), before)
    run.set_aside_after(205)
    assert not later.exists()
    assert later.with_name(f"{later.name}.aside").exists()
    assert len(run.snapshots()) == 41


@pytest.mark.parametrize(
    "averages",
    [{}, {"0": 1, "1": 2}, {str(i): {"weight": torch.ones(3, 3)} for i in range(2)}],
    ids=["empty", "numbers", "another shape"],
)
def test_a_snapshot_of_something_else_is_refused(trained, averages):
    run, ema, _ = trained
    path = run.snapshot(4)
    keep(averages, path)
    with pytest.raises(UserError, match=r"step_00000004\.pt is damaged or of another model"):
        put_together(run, ema, 0.07)
    path.unlink()


def test_too_few_snapshots_are_told(trained, caplog, tmp_path):
    run, ema, _ = trained
    few = Run(tmp_path)
    few.snapshot(0).parent.mkdir()
    path = run.snapshots()[100]
    few.snapshot(100).write_bytes(path.read_bytes())
    put_together(few, ema, 0.07)
    assert not caplog.text
    put_together(few, ema, 0.01)
    assert "2 snapshots of widths 0.05, 0.1 give an average of width 0.01 only roughly" in (
        caplog.text
    )
    with pytest.raises(UserError, match="no snapshots in"):
        put_together(Run(tmp_path / "elsewhere"), ema, 0.07)


def test_profiles_add_up_to_one():
    steps = [step for step in range(10, 401, 10) for _ in range(2)]
    found = profile_of(steps, [0.05, 0.1] * 40, step=400, sigma_rel=0.15)
    assert found.weights.sum().item() == pytest.approx(1, abs=1e-3)
    assert found.off < 0.01


@pytest.mark.parametrize("text", ["0", "-0.1", "0.3", "inf", "nan"])
def test_what_is_no_width_is_refused(text):
    with pytest.raises(UserError, match=r"a width lies between 0 and 0\.2887"):
        width_of(text)
    assert width_of("ema") is None


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"sigma_rels": [0.1]}, "two widths or more"),
        ({"sigma_rels": [0.1, 0.1]}, "no two alike"),
        ({"sigma_rels": [0.1, 0.3]}, "between 0 and 0.2887"),
        ({"snapshots": 1}, "ema.snapshots must be at least 2"),
    ],
)
def test_what_cannot_be_tracked_is_refused(settings, told):
    with pytest.raises(UserError, match=told):
        PostHoc(nn.Linear(1, 1), **settings)


def test_a_run_is_drawn_from_at_a_width_that_it_did_not_track(tmp_path):
    out = tmp_path / "run"
    arguments = (*TINY, *rarely(6), "ema=posthoc", "ema.snapshots=3", f"hydra.run.dir={out}")
    succeed("train.py", *arguments, cwd=tmp_path)
    assert list(Run(out).snapshots()) == [2, 4, 6]
    _, checkpoint = open_checkpoint(str(out))
    wide, ema = (
        trained_denoiser(checkpoint, weights=weights, run=Run(out)).state_dict()
        for weights in ("0.08", "ema")
    )
    assert wide.keys() == ema.keys()
    assert any(not torch.equal(wide[name], ema[name]) for name in wide)
    for name, value in wide.items():
        assert (value - ema[name]).norm() < 0.1 * ema[name].norm() + 1e-3, name
    succeed(
        "sample.py", f"run={out}", "weights=0.08", "labels=[3]", "num_per_label=1", cwd=tmp_path
    )
    done = call("sample.py", f"run={out}", "weights=0.5", cwd=tmp_path)
    assert done.status == 1
    assert "a width lies between" in done.printed


def test_other_runs_have_no_width_to_choose(trained):
    run, ema, _ = trained
    with pytest.raises(UserError, match="trained with ema=posthoc"):
        averaged_weights(
            {"ema": ema.state_dict(), "step": 205}, run, ema=OmegaConf.create(), sigma_rel=0.1
        )
