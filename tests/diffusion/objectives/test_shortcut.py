"""Shortcuts: two half steps are the whole one at best, and steps learned are those drawn."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ccdiff.diffusion.conditioning import MultiHot, OneHot
from ccdiff.diffusion.denoiser import Denoiser, bind_label
from ccdiff.diffusion.levels import Level, Reach, straight_step
from ccdiff.diffusion.objectives import Denoising, Draw, Shortcut
from ccdiff.diffusion.objectives.shortcut import two_as_one
from ccdiff.diffusion.oracle import GaussianOracle
from ccdiff.diffusion.predictions import Clean
from ccdiff.diffusion.samplers import GivenNoise, ShortcutSampler, check_sampler, integrate
from ccdiff.diffusion.samplers.grids import LogSNR
from ccdiff.diffusion.schedules import Cosine, Flow, Schedule
from ccdiff.diffusion.times import UniformTimes
from ccdiff.diffusion.weightings import SNR, FlowWeighting, Uniform
from ccdiff.errors import UserError

PARTS = {"times": UniformTimes()}


class OfAnOracle(nn.Module):
    """A network whose estimates are an oracle's, under ``prediction=clean``."""

    interval = True

    def __init__(self, oracle, schedule: Schedule) -> None:
        super().__init__()
        self.oracle, self.schedule = oracle, schedule

    def forward(self, x: Tensor, log_snr: Tensor, tokens: Tensor, toward: Tensor) -> Tensor:
        level = self.schedule.at_log_snr(log_snr.double())
        after = self.schedule.at_log_snr(toward.double())
        c_in = Clean().coefficients(*level.scales_like(x)).c_in
        x_t = x.double() / c_in
        away = self.oracle(x_t, level.leading_to(after))
        here = self.oracle(x_t, level)
        return torch.where((log_snr == toward)[:, None, None, None], here, away)


def denoiser_of(
    network: nn.Module, *, schedule: Schedule, drop=0.0, conditioning=None
) -> Denoiser:
    return Denoiser(
        network,
        conditioning=conditioning or OneHot(["a", "b", "c"], dim=8, drop=drop),
        prediction=Clean(),
        schedule=schedule,
        reaches=Shortcut.reaches,
    )


def gaussian(std: float = 0.5) -> GaussianOracle:
    mean, width = (torch.tensor(value, dtype=torch.float64) for value in (0.3, std))
    return GaussianOracle(mean=mean, std=width)


def levels(schedule: Schedule, *times: float) -> list[Level]:
    return [schedule.at(torch.full((6,), t, dtype=torch.float64)) for t in times]


@pytest.mark.parametrize("schedule", [Cosine(), Flow()], ids=repr)
@pytest.mark.parametrize("end", [0.0, 0.25])
def test_two_steps_are_one_by_the_estimate_of_both(schedule, end):
    """Of any estimates; and where they are exact, it is the exact one."""
    now, middle, after = levels(schedule, 0.875, 0.5, end)
    x_t, first, second = torch.randn(3, 6, 1, 2, 2, dtype=torch.float64)
    x_m = straight_step(first, x_t, now, middle)
    both = straight_step(second, x_m, middle, after)
    one = straight_step(two_as_one(first, second, now, middle, after), x_t, now, after)
    torch.testing.assert_close(one, both)
    oracle = gaussian()
    first = oracle(x_t, now.leading_to(middle))
    second = oracle(straight_step(first, x_t, now, middle), middle.leading_to(after))
    exact = oracle(x_t, now.leading_to(after))
    torch.testing.assert_close(two_as_one(first, second, now, middle, after), exact)


def loss_of(denoiser: Denoiser, oracle: GaussianOracle, *, ahead: Tensor, steps: int) -> Tensor:
    """The error of the estimate, of noisy images whose clean ones cost nothing by themselves."""
    schedule, n = denoiser.schedule, len(ahead)
    torch.manual_seed(1)
    size = ahead / steps
    t = (torch.rand(n, dtype=torch.float64) / size).floor() * size + size
    level, after = schedule.at(t), schedule.at(t - size)
    x_t = torch.randn(n, 1, 2, 2, dtype=torch.float64)
    alpha, sigma = level.scales_like(x_t)
    x0 = oracle(x_t, level)
    draw = Draw(t, (x_t - alpha * x0) / sigma, None, after.log_snr, ahead)
    objective = Shortcut(weighting=Uniform(), steps=steps, **PARTS)
    return objective.at(denoiser, x0, torch.zeros(n).long(), draw).sqrt()


@pytest.mark.parametrize("schedule", [Cosine(), Flow()], ids=repr)
def test_exact_steps_of_a_gaussian_are_the_solution(schedule):
    """And short ones taken for long ones are not."""
    exact, short = (OfAnOracle(gaussian(), schedule) for _ in range(2))
    short.oracle = lambda x, level: gaussian()(x, replace(level, toward=None))
    ahead = 2 ** (2 + torch.arange(60) % 6)  # All sizes but the smallest.
    left = [
        loss_of(denoiser_of(network, schedule=schedule), gaussian(), ahead=ahead, steps=128)
        for network in (exact, short)
    ]
    assert left[0].max() < 1e-5
    assert (left[1] > 1e-3).float().mean() > 0.5


def test_the_smallest_steps_are_two_of_a_solver(make_unet):
    """So that they miss the ODE by the square of their length, and the more are learned, less."""
    schedule = Flow()
    denoiser = denoiser_of(OfAnOracle(gaussian(), schedule), schedule=schedule)
    left = [
        loss_of(denoiser, gaussian(), ahead=torch.full((200,), 2), steps=steps).mean()
        for steps in (16, 64, 256)
    ]
    assert left[0] > 1e-3
    assert left[0] / left[1] == pytest.approx(4, rel=0.3)
    assert left[1] / left[2] == pytest.approx(4, rel=0.3)


def batch(n: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    x0 = 2 * torch.rand(n, 1, 8, 8) - 1
    return x0, torch.randn_like(x0), torch.arange(n) % 3


def test_without_steps_it_is_flow_matching(make_unet):
    denoiser = denoiser_of(make_unet(interval=True), schedule=Flow())
    x0, eps, y = batch()
    t = torch.linspace(0.1, 0.9, len(x0))
    draw = Draw(t, eps, None, Flow().log_snr(t), torch.zeros(len(x0), dtype=torch.long))
    parts = {"weighting": FlowWeighting(), **PARTS}
    plain = Denoising(**parts).at(denoiser, x0, y, draw)
    assert Shortcut(**parts).at(denoiser, x0, y, draw).equal(plain)


@pytest.mark.parametrize(("share", "steps"), [(0.25, 128), (1.0, 8)])
@pytest.mark.parametrize("schedule", [Cosine(), Flow()], ids=repr)
def test_steps_are_those_of_the_grids_that_are_drawn_on(
    make_unet, generator, share, steps, schedule
):
    denoiser = denoiser_of(make_unet(interval=True), schedule=schedule)
    objective = Shortcut(weighting=SNR(), share=share, steps=steps, **PARTS)
    seen: dict[int, int] = {}
    for step in range(24):
        draw = objective.draw(denoiser, torch.empty(16, 1, 2, 2), generator, step=step)
        chosen = draw.ahead > 0
        assert chosen.sum() == 16 * share
        assert draw.ahead[0] > 0
        assert draw.toward[~chosen].equal(schedule.log_snr(draw.t[~chosen]))
        for t, toward, ahead in zip(
            *(v[chosen] for v in (draw.t, draw.toward, draw.ahead)), strict=True
        ):
            count = steps // int(ahead)
            grid = ShortcutSampler(steps=count).times(schedule)
            place = (grid - t).abs().argmin()
            assert (grid[place] - t).abs() < 1e-6
            torch.testing.assert_close(toward, schedule.log_snr(grid[place + 1].float()))
            seen[count] = seen.get(count, 0) + 1
    assert sorted(seen) == [2**k for k in range(steps.bit_length() - 1)]
    assert max(seen.values()) - min(seen.values()) <= 24 + 1
    # All of a batch, and each size at each of its places.
    times = objective.draw(denoiser, torch.empty(40_000, 1, 1, 1), generator)
    finest = times.t[times.ahead == 2] * steps / 2
    assert set(finest.round().long().tolist()) == set(range(1, steps // 2 + 1))


def test_parts_of_a_batch_are_lost_alike(make_unet, generator):
    denoiser = denoiser_of(make_unet(interval=True), schedule=Cosine(), drop=0.1)
    objective = Shortcut(weighting=SNR(), share=0.6, steps=4, guidance=2.0, **PARTS)
    x0, _, y = batch()
    draw = objective.draw(denoiser, x0, generator)
    whole = objective.at(denoiser, x0, y, draw)
    pieces = [
        objective.at(denoiser, x0[rows], y[rows], draw.part(rows))
        for rows in (slice(0, 3), slice(3, 4), slice(4, 8))
    ]
    torch.testing.assert_close(torch.cat(pieces), whole, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("attributes", [False, True])
def test_targets_are_what_two_steps_of_the_sampler_draw(make_unet, attributes):
    """By calls that were not written for it: the sampler, and how far an estimate leads."""
    kind = MultiHot if attributes else OneHot
    conditioning = kind(["a", "b", "c"], dim=8, drop=0.1)
    schedule = Cosine()
    denoiser = denoiser_of(make_unet(interval=True), schedule=schedule, conditioning=conditioning)
    x0, eps, y = batch()
    if attributes:
        y = torch.randint(0, 2, (8, 3), dtype=torch.uint8)
    ahead = torch.tensor([2, 4, 8, 2, 4, 8, 2, 4])
    drop = torch.zeros(8, dtype=torch.bool)
    drop[3] = True
    size = ahead / 8
    t = torch.tensor([0.25, 0.5, 1.0, 0.75, 1.0, 1.0, 1.0, 1.0])
    draw = Draw(t, eps, drop, schedule.log_snr(t - size), ahead)
    objective = Shortcut(weighting=Uniform(), steps=8, **PARTS)
    found = objective.at(denoiser, x0, y, draw)
    for i in range(8):
        now, after = schedule.at(t[i]), schedule.at(t[i] - size[i])
        alpha, sigma = now.scales_like(x0[:1])
        x_t = alpha * x0[i : i + 1] + sigma * eps[i : i + 1]
        denoise = bind_label(denoiser, y[i : i + 1], drop[i : i + 1])

        def by(x, level, i=i, denoise=denoise):
            return denoise(x, level if ahead[i] > 2 else replace(level, toward=None))

        places = torch.stack([t[i], t[i] - size[i] / 2, t[i] - size[i]])
        end = integrate(ShortcutSampler(steps=2), by, schedule, x_t, places, GivenNoise())
        level = now.leading_to(after)
        with torch.no_grad():
            reached = straight_step(denoise(x_t, level), x_t, now, after)
        # The straight step moves by this much of what its estimate does.
        moves = after.alpha - now.alpha * after.sigma / now.sigma
        expected = ((reached - end) / moves).square().mean()
        torch.testing.assert_close(found[i], expected, rtol=2e-3, atol=1e-6)


def test_no_gradient_is_taken_of_targets(make_unet, generator):
    denoiser = denoiser_of(make_unet(interval=True), schedule=Flow())
    objective = Shortcut(weighting=Uniform(), share=1.0, **PARTS)
    x0, _, y = batch()
    draw = objective.draw(denoiser, x0, generator)
    calls: list[bool] = []
    denoiser.network.register_forward_hook(lambda *a: calls.append(a[2].requires_grad))
    objective.at(denoiser, x0, y, draw).sum().backward()
    assert calls == [False, False, True]


class Dropped(nn.Module):
    """A network that returns what dropout leaves."""

    interval = True

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor, log_snr: Tensor, tokens: Tensor, toward: Tensor) -> Tensor:
        return self.dropout(torch.ones_like(x))


def test_dropout_is_the_same_in_all_estimates():
    denoiser = denoiser_of(Dropped(), schedule=Flow(), drop=0.1).train()
    seen: list[Tensor] = []
    denoiser.network.register_forward_hook(lambda *a: seen.append(a[2]))
    x0, eps, y = batch()
    t = torch.full((8,), 0.5)
    draw = Draw(t, eps, None, Flow().log_snr(t - 0.25), torch.full((8,), 2))
    Shortcut(weighting=Uniform(), steps=8, **PARTS).at(denoiser, x0, y, draw)
    assert len(seen) == 3
    assert all(one.equal(seen[0]) for one in seen)


class Said(nn.Module):
    """A network that returns what its tokens say, in every pixel."""

    interval = True

    def forward(self, x: Tensor, log_snr: Tensor, tokens: Tensor, toward: Tensor) -> Tensor:
        return tokens[:, 0, :1, None, None].expand_as(x)


def test_guidance_that_is_learned_is_that_of_two_calls():
    """Of what is denoised; steps are learned of what is guided already, and not once more."""
    x0, hidden, w = torch.full((4, 1, 2, 2), 0.5), 0.1, 3.0
    denoiser = denoiser_of(Said(), schedule=Cosine(), drop=0.1)
    objective = Shortcut(weighting=Uniform(), guidance=w, steps=4, **PARTS)
    y, t = torch.tensor([0, 1, 2, 0]), torch.full((4,), 0.5)
    ahead = torch.tensor([2, 0, 0, 0])
    toward = Cosine().log_snr(t - ahead / 4)
    drop = torch.tensor([False, False, False, True])
    draw = Draw(t, torch.randn_like(x0), drop, toward, ahead)
    with torch.no_grad():
        table = denoiser.conditioning.project.weight.zero_()
        table[0, 3] = hidden
        table[0, :3] = hidden + w * (0.5 - hidden)
        loss = objective.at(denoiser, x0, y, draw)
        assert loss[:3].max() < 1e-10
        assert loss[3].item() == pytest.approx(0.4**2)
        table[0, :3] = 0.5
        assert objective.at(denoiser, x0, y, draw)[1:3].min() > 1e-2


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"share": 0.0}, r"objective\.share must be in \(0, 1\]"),
        ({"steps": 100}, r"objective\.steps must be 2, 4, 8"),
        ({"steps": 1}, r"objective\.steps must be 2, 4, 8"),
        ({"guidance": 0.5}, r"objective\.guidance must be at least 1"),
        ({"guidance": 2.0, "share": 1.0}, r"objective\.share must be below 1"),
    ],
)
def test_settings_out_of_range_are_told(settings, told):
    with pytest.raises(ValueError, match=told):
        Shortcut(weighting=SNR(), **PARTS, **settings)


def test_guidance_needs_a_hidden_label_and_steps_a_network_that_is_told(make_unet, generator):
    denoiser = denoiser_of(make_unet(interval=True), schedule=Cosine())
    objective = Shortcut(weighting=SNR(), guidance=2.0, **PARTS)
    with pytest.raises(UserError, match=r"conditioning\.drop=0\.1"):
        objective.draw(denoiser, batch()[0], generator)
    with pytest.raises(UserError, match=r"model\.interval=true"):
        denoiser_of(make_unet(), schedule=Cosine())


def test_steps_that_were_not_learned_are_doubted(make_unet):
    denoiser = denoiser_of(make_unet(interval=True), schedule=Cosine())
    for steps in (1, 2, 4, 64):
        sampler = ShortcutSampler(steps=steps)
        check_sampler(sampler, denoiser)
        assert sampler.doubt(Cosine()) is None
    assert "sampler.steps=4" in ShortcutSampler(steps=7).doubt(Cosine())
    assert "sampler/grid=uniform" in ShortcutSampler(steps=4, grid=LogSNR()).doubt(Cosine())
    assert Reach.ANYWHERE not in denoiser.reaches
