"""The kit of the benchmarks: what it counts and how it sets one case against another."""

import argparse
import json
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from cli import TINY
from torch import nn

from ccdiff.metrics.judge import Reading
from ccdiff.runs.log import read_metrics
from ccdiff.settings import Compile
from ccdiff.train import job as experiment
from tests.benchmarks import (
    data_overhead,
    ema,
    end_to_end,
    first_step,
    growth,
    long_steps,
    memory,
    sampling,
    scaling,
    soak,
    train_step,
)
from tests.benchmarks.kit import Case, count, durations, interleave, measure_flops, shares, table
from tests.benchmarks.ours import NOISE, assembled, bare_step, loop
from tests.gpu import speed
from tests.gpu.timed import PREPARE

SMALL = [*(setting for setting in TINY if setting.startswith("model.")), "trainer.device=cpu"]


def test_operations_are_counted_per_image_forwards_and_backwards():
    layer = nn.Linear(30, 20)
    x = torch.randn(4, 30)
    forward = 2 * 30 * 20
    assert measure_flops(lambda: layer(x), images=4) == forward
    # The gradient of the weight alone, since that of the input is not asked for.
    assert measure_flops(lambda: layer(x).sum().backward(), images=4) == 2 * forward


def test_cases_take_turns_and_warm_up():
    calls = []
    cases = {name: Case(run=lambda name=name: calls.append(name), images=1) for name in "ab"}
    taken = interleave(cases, rounds=2, warmup=1)
    assert "".join(calls) == "baabba"
    assert [len(taken[name]) for name in "ab"] == [2, 2]


def test_ratios_are_taken_round_by_round_and_per_image():
    layer = nn.Linear(9, 1)
    cases = {
        "peer": Case(run=lambda: None, images=10, network=layer, flops=1e9),
        "ours": Case(run=lambda: None, images=20),
    }
    # The machine was twice as slow in the second round.
    lines = table(cases, {"peer": [1.0, 2.0, 1.0], "ours": [0.5, 1.0, 0.5]}).splitlines()
    assert count(layer) == 10
    assert lines[2] == "| peer | 0.00 M | 1.000 | 10.0 | 10 | 1.00 (1.00 to 1.00) |"
    assert lines[3].endswith("| 40.0 |  | 4.00 (4.00 to 4.00) |")


def test_durations_are_of_one_thing_each():
    taken = {"first": [0.2, 0.4, 0.2], "other": [0.1, 0.2, 0.3]}
    lines = durations(taken, each="step", per=10).splitlines()
    assert lines[2] == "| first | 20 | 20 to 40 | 1.00 |"
    assert lines[3] == "| other | 20 | 10 to 30 | 0.50 |"


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """A tiny training on noise."""
    size = ("data.image_size=8", "trainer.batch_size=16", "trainer.log_every=2", "ema.beta=0.5")
    return assembled(*NOISE, *SMALL, *size, folder=tmp_path_factory.mktemp("run"))


def test_the_loop_goes_on_and_leaves_its_rows(training):
    run = loop(training, steps=3)
    before = training.state.step
    averaged = training.state.averaged.network.stem.weight.clone()
    run()
    run()
    assert training.state.step == before + 6
    steps = [row["step"] - before for row in read_metrics(training.run.metrics)]
    assert steps[-1] == 6
    assert 3 in steps
    assert not torch.equal(training.state.averaged.network.stem.weight, averaged)


def test_the_bare_step_is_a_step_of_the_same_training(training):
    before = training.state.step
    weight = training.state.denoiser.network.stem.weight.clone()
    step = bare_step(training)
    step()
    step()
    assert training.state.step == before + 2
    assert not torch.equal(training.state.denoiser.network.stem.weight, weight)


def test_a_fit_finds_the_law_that_made_the_times():
    x = np.array([8.0, 16, 32, 64, 128])
    found = growth.fit(x, 0.3 + 0.02 * x**1.5)
    assert (found.a, found.b, found.p) == pytest.approx((0.3, 0.02, 1.5), rel=1e-6)
    assert found.r2 == pytest.approx(1)
    # No negative cost of a step as such, however the times are bent.
    bent = growth.fit(x, np.array([1.0, 3, 5, 9, 30]))
    assert bent.a >= 0
    assert bent.r2 < 0.999
    assert growth.fit(x, 1 / x).r2 < 0


def test_lines_cross_at_the_base_and_no_point_is_timed_twice():
    points = growth.points(growth.LINES)
    assert tuple(growth.BASE.values()) in points
    assert len(points) == sum(map(len, growth.LINES.values())) - (len(growth.LINES) - 1)


def test_shares_tell_what_products_take_and_how_fast_they_are():
    layer = nn.Conv2d(16, 16, 3, padding=1)
    x = torch.randn(8, 16, 32, 32)
    flops = measure_flops(lambda: layer(x), images=8)
    cases = {
        "alone": Case(run=lambda: layer(x), images=8, flops=flops),
        "beside others": Case(run=lambda: layer(x).exp().exp().exp().log().sin(), images=8),
    }
    alone, beside, product = (
        line.split(" | ") for line in shares(cases, side=64).splitlines()[2:]
    )
    share, else_ = (float(alone[i].rstrip("%")) for i in (2, 4))
    assert share > 50
    assert share + else_ == pytest.approx(100, abs=1)
    assert float(alone[3]) > 0
    assert float(beside[2].rstrip("%")) < share
    assert float(beside[5].split()[0]) > float(alone[5].split()[0])
    assert product[0] == "| two matrices of 64 x 64"


def run_main(module, monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments])
    # It would be for the rest of the process, and later tests read what is logged.
    monkeypatch.setattr("logging.disable", lambda level: None)
    module.main()


COMMANDS = sorted(
    path.stem
    for path in Path(growth.__file__).parent.glob("*.py")
    if "__main__" in path.read_text()
)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_benchmark_explains_itself(name, monkeypatch, capsys):
    if name in ("time_to_agreement", "time_to_good"):
        pytest.importorskip("azula")
    module = import_module(f"tests.benchmarks.{name}")
    assert f"python -m {module.__name__}" in module.__doc__
    with pytest.raises(SystemExit) as stop:
        run_main(module, monkeypatch, "--help")
    assert stop.value.code == 0
    # Whatever the width of the terminal.
    told = "".join(capsys.readouterr().out.split())
    assert "".join(module.__doc__.splitlines()[0].split()) in told


def test_what_feeding_costs_is_set_against_one_batch(monkeypatch, tmp_path):
    tiny = {"shape": (3, 8, 8), "batch_size": 4, "patch": 2}
    sets = {"in memory": {"num": 12, **tiny}, "on disk": {"num": 12, **tiny}}
    monkeypatch.setattr(data_overhead, "SETS", sets)
    for name in sets:
        lines = data_overhead.compare(name, tmp_path, 1).splitlines()
        assert [line.split(" | ")[0] for line in lines[2:]] == ["| one batch", "| the set"]


def test_a_set_that_is_made_on_disk_is_read_back(tmp_path, capsys):
    split = data_overhead.on_disk(300, (3, 2, 2), tmp_path)
    assert split.rows is not None
    assert split.images[299].unique().tolist() == [299 % 255]
    assert data_overhead.step_for((3, 2, 2), 2)(split.images[:4], split.labels[:4]) is None
    data_overhead.peak(8, tmp_path)
    assert int(capsys.readouterr().out) > 50


def test_what_many_gpus_would_gain_is_told(monkeypatch, capsys):
    run_main(scaling, monkeypatch, "--model", "unet_mnist", "--step-seconds", "1", "--gpus", "1")
    assert capsys.readouterr().out.splitlines()[-1].count("32 (100 %)") == 3


def test_a_soak_ends_in_a_picture(monkeypatch, tmp_path):
    monkeypatch.setattr(soak, "_JOBS", 1)
    monkeypatch.setattr(experiment, "run_experiment", experiment.run_experiment)  # put back
    table = soak.soak(0, tmp_path)
    assert len(table.read_text().splitlines()) == 2
    assert soak.draw(table).stat().st_size > 1000
    assert not (tmp_path / "runs").exists()


def test_growth_draws_and_prints(monkeypatch, tmp_path, capsys):
    base = {"batch": 2.0, "pixels": 8.0, "width": 0.25}
    monkeypatch.setattr(growth, "BASE", base)
    monkeypatch.setattr(growth, "LINES", {"batch": (2, 4), "pixels": (8, 16), "width": (0.25,)})
    # Times of such tiny networks follow no law that a test may rely on.
    monkeypatch.setattr(growth, "fit", lambda x, t, powers=None: growth.Fit(0.1, 0.2, 1.0, 0.9))
    run_main(growth, monkeypatch, str(tmp_path), "--rounds", "1", "model.num_blocks=1")
    assert (tmp_path / "growth.png").stat().st_size > 1000
    rows = capsys.readouterr().out.splitlines()
    assert sum(row.startswith(("| 2 | ", "| 4 | ")) for row in rows) == 3
    assert rows[-1] == "| GFLOPs | 0.1 + 0.2 x^1.00 | 0.9000 |"


PEERS = {
    "denoising-diffusion-pytorch": "denoising_diffusion_pytorch",
    "diffusers": "diffusers",
    "azula": "azula",
}
"""The package of each."""


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("denoising-diffusion-pytorch", train_step.ddpm_pytorch),
        ("diffusers", train_step.diffusers),
        ("azula", train_step.azula),
    ],
)
def test_a_peer_of_like_size_takes_steps(name, case):
    pytest.importorskip(PEERS[name])
    args = argparse.Namespace(device="cpu", batch_size=2, bf16=True, overrides=[])
    ours = train_step.ours(args)
    theirs = case(args, channels_last=True)
    assert theirs.flops == pytest.approx(ours.flops, rel=0.1)
    for timed in (ours, theirs):
        before = [p.detach().clone() for p in timed.network.parameters()]
        timed.run()
        assert not all(map(torch.equal, before, timed.network.parameters()))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of diffusers
@pytest.mark.parametrize("peer", ["diffusers", "azula"])
def test_a_peer_draws_in_as_many_operations(peer):
    pytest.importorskip(PEERS[peer])
    args = argparse.Namespace(device="cpu", images=2, steps=3)
    ours, theirs = sampling.ours(args, None), getattr(sampling, peer)(args, autocast=False)
    assert theirs.flops == pytest.approx(ours.flops, rel=0.1)
    for case in (ours, theirs):
        # Once for each step, whatever the sampler does around it.
        assert measure_flops(case.run, images=2) == pytest.approx(case.flops, rel=0.01)


@pytest.mark.filterwarnings("ignore")  # Theirs.
@pytest.mark.parametrize("case", [c for c in speed.cases() if c.kind in speed.PACKAGES])
def test_a_peer_is_timed_as_on_a_gpu(case):
    """What ``tests.gpu`` compiles there and times."""
    pytest.importorskip(speed.PACKAGES[case.kind])
    small = replace(case, size=16, batch=2, compile=Compile.none, tiny=True)
    found = PREPARE[case.kind](small, torch.device("cpu"))(0.01)
    assert found["images_per_second"] > 0
    assert found["gflop_per_image"] > 0


@pytest.mark.parametrize("name", memory.CASES)
def test_memory_of_a_training_is_measured(name):
    if name in PEERS:
        pytest.importorskip(PEERS[name])
    found = memory.measure(memory.CASES[name], 8, 16, SMALL)
    assert found["process"] >= found["peak"] >= 0
    assert found["parameters"] > 1000
    assert found["flops"] > 1000


def test_averages_are_timed(monkeypatch, capsys):
    pytest.importorskip("diffusers")
    run_main(
        ema, monkeypatch, "--models", "unet_mnist", "--updates", "1", "--rounds", "1", *SMALL[:5]
    )
    rows = capsys.readouterr().out.splitlines()
    assert sum(row.startswith("|") for row in rows) == 2 + 5


def test_a_process_is_timed_until_it_says_so(tmp_path):
    endless = "import itertools\nfor i in itertools.count(): print('step', i)"
    assert first_step.until("step 1", [sys.executable, "-c", endless], cwd=tmp_path) > 0
    with pytest.raises(RuntimeError, match="never said 'step 1':\nhello"):
        first_step.until("step 1", [sys.executable, "-c", "print('hello')"], cwd=tmp_path)
    assert first_step.until_its_end([sys.executable, "-c", ""], cwd=tmp_path) > 0


def test_first_steps_take_turns():
    calls = []
    cases = {name: lambda i, name=name: calls.append((name, i)) or 1.0 for name in "ab"}
    assert first_step.measured(cases, rounds=2) == {"a": [1.0, 1.0], "b": [1.0, 1.0]}
    assert calls == [("b", 0), ("a", 0), ("a", 1), ("b", 1)]


@pytest.mark.parametrize("name", first_step.PEERS)
def test_a_peer_takes_its_first_step(name, monkeypatch, capsys):
    pytest.importorskip(PEERS[name])
    monkeypatch.setattr(first_step, "BATCH", 2)
    first_step.PEERS[name]()
    assert first_step.DONE in capsys.readouterr().out


@pytest.mark.slow
def test_the_first_step_of_training_is_timed(monkeypatch, capsys):
    run_main(first_step, monkeypatch, "--rounds", "1", "--cases", "tracker=none", "help")
    out = capsys.readouterr().out
    assert "| python train.py tracker=none | " in out
    assert "| python train.py --help | " in out


@pytest.mark.filterwarnings("ignore")
def test_everybody_trains_from_the_same_folder(tmp_path):
    for package in (*PEERS.values(), "accelerate"):
        pytest.importorskip(package)
    args = argparse.Namespace(
        images=120, root=None, batch_size=16, steps=1, workers=0, overrides=SMALL
    )
    cases = end_to_end.against_peers(args, tmp_path)
    assert len(cases) == 1 + len(PEERS)
    for case in cases.values():
        weights = [p.detach().clone() for p in case.network.parameters()]
        # diffusers' first step is taken at a rate of nought.
        case.run()
        case.run()
        after = list(case.network.parameters())
        assert not all(map(torch.equal, weights, after))
        assert case.flops > 0
        assert case.images == 16
    assert len(list(tmp_path.glob("images/*/*.png"))) == 120


def test_the_loop_is_set_against_the_bare_step(tmp_path):
    args = argparse.Namespace(steps=2, overrides=[*NOISE, *SMALL, "data.image_size=8"])
    cases = end_to_end.over_the_step(args, tmp_path)
    for case in cases.values():
        case.run()
        assert case.images == 2 * 64
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [4]


def test_long_steps_are_judged_alike():
    class Half:
        """A judge to whom every second image is right."""

        def readings(self, images, y, against):
            assert images.dtype == torch.uint8
            means = {"label_agreement_x": 0.5, "fd_classifier": images.float().mean().item()}
            return {name: Reading(value=v, interval=None) for name, v in means.items()}

    ways = {
        ("black", 1): lambda y: -torch.ones(len(y), 1, 2, 2),
        ("white", 2): lambda y: torch.ones(len(y), 1, 2, 2),
    }
    results = long_steps.judged(ways, Half(), torch.zeros(4).long(), None)
    assert [(r.name, r.calls, r.agreement, r.distance) for r in results] == [
        ("black", 1, 0.5, 0.0),
        ("white", 2, 0.5, 255.0),
    ]
    assert "| white | 2 | 50.0% | 255 |" in long_steps.table(results[::-1])


def test_the_same_images_are_shown_in_more_and_more_calls():
    ways = {
        ("black", 1): lambda y: -torch.ones(len(y), 1, 2, 2),
        ("gray", 2): lambda y: torch.zeros(len(y), 1, 2, 2),
    }
    shown = long_steps.side_by_side(ways, [0, 1, 2]).convert("L")
    # On the left of eight columns, for two numbers of calls, are the names; above, the numbers.
    side = 58
    left, top = shown.width - 8 * side, shown.height - 2 * side
    seen = [
        [shown.getpixel((left + side * column + 20, top + side * row + 20)) for column in range(8)]
        for row in range(2)
    ]
    heads = [shown.crop((left + 4 * side * i, 0, left + 4 * side * (i + 1), 20)) for i in (0, 1)]
    assert all(head.getextrema()[0] < 128 for head in heads)
    assert seen == [[*[0] * 3, *[255] * 5], [*[255] * 4, *[128] * 3, 255]]
