"""How fast training is: operations counted, the device's peak measured, their ratio logged."""

import itertools
import json
import logging
import time
from types import SimpleNamespace

import pytest
import torch
from faults import composed, train
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ccdiff.data import Split, to_float
from ccdiff.diffusion.objectives import Denoising, Objective
from ccdiff.diffusion.times import UniformTimes
from ccdiff.diffusion.weightings import SNR
from ccdiff.runs.folder import Run
from ccdiff.runs.log import read_metrics
from ccdiff.runs.tracker import NoTracker
from ccdiff.system.device import make_current
from ccdiff.train import assembly
from ccdiff.training.monitor import speed
from ccdiff.training.monitor.speed import Speed, matmul_peak
from ccdiff.training.operations import measure

CPU = torch.device("cpu")


@pytest.fixture
def objective() -> Objective:
    return Denoising(weighting=SNR(), times=UniformTimes())


@pytest.fixture
def split() -> Split:
    return Split(torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8), torch.arange(5) % 3)


class TwoLayers(nn.Module):
    """A network whose operations are easy to count."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.last = nn.Conv2d(4, 1, 1, bias=False)

    def forward(self, x, log_snr, tokens):
        return self.last(self.first(x))


def test_operations_are_those_of_the_formula(make_denoiser, objective, split):
    """Two for each weight and pixel, once forward, twice backward but for what needs no gradient.

    Images need none, so the first layer goes back once, and the tokens of the label lead nowhere.
    """
    first, last, tokens = 2 * 64 * 1 * 4 * 9, 2 * 64 * 4 * 1, 2 * 4 * 8
    size = measure(make_denoiser(TwoLayers()), objective, split)
    assert size.flops == first + last + tokens
    assert size.training_flops == 2 * first + 3 * last + tokens


def test_operations_counted_are_those_done(make_unet, make_denoiser, objective, split, generator):
    """Counting comes to what a real step of a batch does, as torch counts it, wherever it is done.

    What gradient checkpointing does a second time is not counted.
    """
    denoiser = make_denoiser()
    size = measure(denoiser, objective, split)
    assert size == measure(denoiser, objective, split, place="cpu")
    assert size == measure(make_denoiser(make_unet(gradient_checkpointing=True)), objective, split)
    assert denoiser.training
    with FlopCounterMode(display=False) as counter:
        loss = objective(denoiser, to_float(split.images), split.labels, generator).mean()
        forward = counter.get_total_flops()
        loss.backward()
    assert size.flops * len(split) == forward
    # Kernels of attention may compute its weights again on the way back.
    done = counter.get_total_flops()
    assert size.training_flops * len(split) == pytest.approx(done, rel=0.005)


def test_utilisation_is_the_share_of_the_peak():
    row = Speed(flops_per_image=2_000, peak_flops_per_second=1e6).figures(images_per_second=50.0)
    assert row == {"train/flops_per_second": 1e5, "train/mfu": 0.1}


def test_a_share_that_cannot_be_is_not_told(tmp_path, monkeypatch, caplog):
    assert "train/mfu" not in Speed(2_000, 1e6).figures(images_per_second=501.0)
    assert Speed(2_000, 1e6).figures(images_per_second=500.0)["train/mfu"] == 1.0
    monkeypatch.setattr(assembly, "matmul_peak", lambda device, dtype: 1.0)
    with caplog.at_level(logging.INFO, "ccdiff"):
        train(composed(), tmp_path, trainer__steps=3)
    assert "images/s  " in caplog.text
    assert "of peak" not in caplog.text
    assert all("train/mfu" not in row for row in read_metrics(Run(tmp_path).metrics))


@pytest.mark.parametrize("stalled", [{0}, {1}, {0, 1, 2, 3}, {7}, {6, 12, 18}], ids=str)
def test_the_peak_does_not_depend_on_a_stall(monkeypatch, stalled):
    """Products are slow once cold, or once something else has the device, and quick otherwise."""
    calls = itertools.count()

    def seconds(a, b):
        return 2 * len(a) ** 3 / 1e12 + (30.0 if next(calls) in stalled else 0.0)

    monkeypatch.setattr(speed, "_SIZES", (256, 512, 1024))
    monkeypatch.setattr(speed, "_seconds", seconds)
    matmul_peak.cache_clear()
    assert matmul_peak(CPU, torch.float32) == pytest.approx(1e12)
    assert next(calls) == 3 * (1 + speed._REPEATS), "a stall has ended the growth of sizes"
    matmul_peak.cache_clear()


def test_the_peak_is_that_of_the_fastest_product(monkeypatch):
    """Sizes grow while there is time; the fastest counts, wherever it is."""
    seen = []

    def seconds(a, b):
        n = len(a)
        seen.append(n)
        return 2 * n**3 / {256: 1e9, 512: 3e9}.get(n, 2e9)

    monkeypatch.setattr(speed, "_SIZES", (256, 512, 1024))
    monkeypatch.setattr(speed, "_SECONDS", 1e9)
    monkeypatch.setattr(speed, "_seconds", seconds)
    before = torch.get_rng_state(), torch.backends.cuda.matmul.fp32_precision
    matmul_peak.cache_clear()
    assert matmul_peak(CPU, torch.float32) == pytest.approx(3e9)
    assert set(seen) == {256, 512, 1024}
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.backends.cuda.matmul.fp32_precision == before[1]
    seen.clear()
    assert matmul_peak(CPU, torch.float32) == pytest.approx(3e9)
    assert not seen, "measured twice in a process"
    matmul_peak.cache_clear()
    monkeypatch.setattr(speed, "_SECONDS", 0.0)
    assert matmul_peak(CPU, torch.float32) == pytest.approx(1e9)
    assert set(seen) == {256}
    matmul_peak.cache_clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_peak_is_measured_on_this_machine(dtype):
    """It is what a product reaches here, within what else the machine is doing."""
    a = torch.ones(512, 512, dtype=dtype)
    taken = []
    for _ in range(10):
        start = time.perf_counter()
        a @ a
        taken.append(time.perf_counter() - start)
    reached = 2 * 512**3 / min(taken)
    matmul_peak.cache_clear()
    assert reached / 8 < matmul_peak(CPU, dtype) < 8 * reached


def test_a_gpu_is_timed_on_the_stream_that_computes(monkeypatch):
    """The current device may be another one, whose stream has nothing to wait for."""
    happened = []

    class Event:
        def __init__(self, *, enable_timing):
            assert enable_timing

        def record(self, stream=None):
            happened.append(stream)

        def synchronize(self):
            happened.append("waited")

        def elapsed_time(self, end):
            return 250.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: f"of {device}")
    monkeypatch.setattr(torch, "mm", lambda a, b: happened.append("product"))
    assert speed._seconds(SimpleNamespace(is_cuda=True, device="cuda:1"), None) == 0.25
    assert happened == ["of cuda:1", "product", "of cuda:1", "waited"]


def test_the_device_of_a_training_becomes_the_current_one(monkeypatch):
    current = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    for name in ("cpu", "cuda", "cuda:1"):
        make_current(torch.device(name))
    assert current == [torch.device("cuda:1")]


def test_a_run_tells_its_speed(tmp_path, monkeypatch, caplog):
    told = {}

    def session(self, info):
        told.update(info.config)
        return plain(self, info)

    plain = NoTracker.session
    monkeypatch.setattr(NoTracker, "session", session)
    monkeypatch.setattr(assembly, "matmul_peak", lambda device, dtype: 1e12)
    with caplog.at_level(logging.INFO, "ccdiff"):
        train(composed(), tmp_path)
    record = json.loads((tmp_path / "record.json").read_text())
    flops = record["flops_per_image"]
    assert record["peak_flops_per_second"] == 1e12
    assert told["flops_per_image"] == flops
    assert told["peak_flops_per_second"] == 1e12
    assert "in float32, whose peak is 1 TFLOP/s" in caplog.text
    for row in read_metrics(Run(tmp_path).metrics):
        if "train/loss" in row:
            achieved = flops * row["train/images_per_second"]
            assert row["train/flops_per_second"] == pytest.approx(achieved)
            assert row["train/mfu"] == pytest.approx(achieved / 1e12)
            assert f"{100 * row['train/mfu']:.1f} % of peak" in caplog.text
    assert "time: data" in caplog.text
