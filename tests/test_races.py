"""Races of learners to a label agreement: what is timed, whose turn it is, who has arrived."""

import itertools

import pytest
import torch
from torch import nn

from ccdiff.data import Split
from ccdiff.diffusion.guidance import CFG
from tests.benchmarks.learners import Learner, Ours
from tests.benchmarks.racing import Racer, race
from tests.benchmarks.racing import table as race_table


class Pupil(Learner):
    """Takes a fixed time per step, and draws ever better images."""

    def __init__(self, clock: list[float], seconds: float) -> None:
        super().__init__(nn.Linear(9, 1), batch_size=10)
        self.clock, self.seconds, self.steps = clock, seconds, 0

    def loss(self) -> torch.Tensor:
        return self.network(torch.ones(10, 9)).sum()

    def step(self) -> None:
        self.steps += 1
        self.clock[0] += self.seconds

    def draw_by(self, *, scale: float, steps: int) -> None:
        raise NotImplementedError

    def draw(self, y: torch.Tensor) -> torch.Tensor:
        self.clock[0] += 100
        return torch.full((len(y), 1, 1, 1), self.steps, dtype=torch.uint8)


def run_race(*seconds: float, judge, limit: float = 1000.0) -> list[Racer]:
    clock = [0.0]
    racers = [Racer(f"{each}", Pupil(clock, each)) for each in seconds]
    race(racers, judge, target=0.95, first=8.0, limit=limit, clock=lambda: clock[0])
    return racers


def steps_over_hundred(learner: Pupil) -> float:
    return learner.draw(torch.zeros(1)).item() / 100


def test_a_race_times_training_alone():
    quick, slow = run_race(0.25, 1.0, judge=steps_over_hundred)
    for racer, each in ((quick, 0.25), (slow, 1.0)):
        assert racer.seconds == racer.learner.steps * each
        assert racer.images == racer.learner.steps * 10
        assert racer.judging == 100 * len(racer.looks)
        end = racer.reached(0.95)
        assert end is racer.looks[-2]
        assert end.agreement >= 0.95 > racer.looks[-3].agreement
        assert end.images == end.seconds / each * 10


def test_cases_take_turns_by_their_training_and_looks_are_closer_near_the_target():
    order = []

    def judge(learner: Pupil) -> float:
        order.append((learner.seconds, learner.steps * learner.seconds))
        return steps_over_hundred(learner)

    run_race(0.25, 0.5, judge=judge)
    # Whoever is behind goes next, so training grows along the whole race.
    after = [seconds for _, seconds in order]
    assert after == sorted(after)
    times = [seconds for each, seconds in order if each == 0.5]
    leaps = [b / a for a, b in itertools.pairwise(times)]
    near = [seconds / 50 >= 0.7 for seconds in times[:-1]]
    assert near == sorted(near)
    assert 0 < sum(near) < len(near)
    for leap, close in zip(leaps, near, strict=True):
        assert leap == pytest.approx(1.15 if close else 1.6, abs=0.06)


def test_the_target_is_reached_by_two_looks_in_a_row():
    seen = iter([0.5, 0.96, 0.9, 0.97, 0.95, 0.1])
    (racer,) = run_race(1.0, judge=lambda learner: next(seen))
    assert [look.agreement for look in racer.looks] == [0.5, 0.96, 0.9, 0.97, 0.95]
    assert racer.reached(0.95) is racer.looks[3]
    assert racer.reached(0.975) is None


def test_a_case_that_does_not_reach_the_target_stops_at_the_limit():
    def judge(learner: Pupil) -> float:
        learner.draw(torch.zeros(1))
        return 0.25 / learner.seconds

    never, quick = run_race(1.0, 0.25, judge=judge, limit=30)
    assert never.reached(0.95) is None
    assert 30 / 1.6 < never.seconds <= 30
    lines = race_table({"quick": [quick], "never": [never]}, {"quick": 1e9, "never": 2e9}, 0.95)
    first, second = lines.splitlines()[2:]
    assert first == "| quick | 0.00 M | 1.000 | 10 | 320 | 8 (8) | 1.0 | 200 |"
    assert second.startswith(
        "| never | 0.00 M | 2.000 | 10 |  | not in 21 (at most 25.0 %) | > 2.6 "
    )


def test_the_learner_of_this_suite_learns_from_its_overrides_and_draws_the_same_twice():
    split = Split(torch.randint(0, 256, (64, 1, 28, 28), dtype=torch.uint8), torch.arange(64) % 10)
    tiny = ["model.channels=[8,8]", "model.bottleneck=8", "model.head_channels=8"]
    overrides = ["experiment=mnist_fast", "trainer.batch_size=4", "sampler.steps=2", *tiny]
    learner = Ours(split, overrides, seed=0)
    y = torch.arange(3)
    before = learner.draw(y)
    assert before.shape == (3, 1, 28, 28)
    assert torch.equal(before, learner.draw(y))
    assert learner.batch_size == 4
    assert learner.flops() > 0
    assert all(p.grad is None for p in learner.network.parameters())
    for _ in range(3):
        learner.step()
    after = learner.draw(y)
    assert not torch.equal(before, after)
    learner.draw_by(scale=1.5, steps=3)
    assert learner.pipeline.guidance == CFG(scale=1.5)
    assert not torch.equal(after, learner.draw(y))
    learner.draw_by(scale=2.0, steps=2)  # The recipe's own scale.
    assert torch.equal(after, learner.draw(y))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of diffusers
@pytest.mark.parametrize(
    ("kind", "patch", "clean"),
    [
        *(("Diffusers", 1, False), ("DDPMPytorch", 1, False), ("Azula", 1, False)),
        *(("Diffusers", 2, True), ("DDPMPytorch", 2, False), ("Azula", 2, True)),
    ],
)
def test_a_peer_learns_and_draws_the_same_twice(kind, patch, clean):
    pytest.importorskip("denoising_diffusion_pytorch")
    from tests.benchmarks import peer_learners

    split = Split(torch.randint(0, 256, (64, 1, 28, 28), dtype=torch.uint8), torch.arange(64) % 10)
    recipe = peer_learners.Recipe(
        channels=(8, 8), blocks=1, patch=patch, batch_size=4, steps=8, clean=clean
    )
    learner = getattr(peer_learners, kind)(split, recipe, seed=0)
    for _ in range(3):
        learner.step()
    y = torch.arange(3)
    before = learner.draw(y)
    assert before.shape == (3, 1, 28, 28)
    assert torch.equal(before, learner.draw(y))
    learner.step()
    after = learner.draw(y)
    assert not torch.equal(before, after)
    assert learner.flops() > 0
    for scale, steps in ((300.0, 8), (3.0, 4)):
        learner.draw_by(scale=scale, steps=steps)
        assert not torch.equal(after, learner.draw(y))
    learner.draw_by(scale=3.0, steps=8)
    assert torch.equal(after, learner.draw(y))


def test_good_is_what_meets_every_demand_and_the_least_guided_of_those():
    pytest.importorskip("azula")
    from tests.benchmarks.time_to_good import Found, Row, Standard, best
    from tests.benchmarks.time_to_good import table as good_table

    real = Found(scale=1, steps=14, agreement=0.99, distance=0.3, recall=0.9)
    standard = Standard(real=real)
    assert standard.shortfall(real) == 0
    dull = Found(scale=2, steps=14, agreement=1.0, distance=0.5, recall=0.45)
    far = Found(scale=1, steps=14, agreement=0.99, distance=1.2, recall=0.9)
    wrong = Found(scale=1, steps=14, agreement=0.97, distance=0.3, recall=0.9)
    short = [standard.shortfall(found) for found in (dull, far, wrong)]
    assert short == pytest.approx([1 - 0.45 / 0.765, 1.0, 2.0])
    good = [
        Found(scale=scale, steps=14, agreement=0.995, distance=0.5, recall=0.8)
        for scale in (1.4, 1.2)
    ]
    assert best([dull, *good], standard) is good[1]
    assert best([wrong, dull, far], standard) is dull
    rows = [
        Row(name=name, parameters=10, flops=1e9, steps=7, seconds=seconds, looks=looks)
        for name, seconds, looks in (("ours", 2, good), ("theirs", 8, [dull, far]))
    ]
    first, second, last = good_table(rows, standard).splitlines()[2:]
    assert first.endswith("| 7 | 2 | 1.0 | 1.2, 14 | 99.5% | 0.50 | 0.80 | yes |")
    assert second.endswith("| 7 | 8 | 4.0 | 2, 14 | 100.0% | 0.50 | 0.45 | no |")
    assert last.endswith("| 99.0% | 0.30 | 0.90 | |")
