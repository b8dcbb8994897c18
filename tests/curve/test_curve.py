"""Quality against cost in one command: the table, the picture, the errors, the tracker."""

import csv
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cli import TINY, call, rarely, succeed
from parts import concrete
from PIL import Image

from ccdiff.curve.__main__ import list_arguments
from ccdiff.curve.plot import plot_curve
from ccdiff.curve.table import Measurement, Setting, summarise
from ccdiff.curve.variance import variance_kept
from ccdiff.diffusion.oracle import GaussianOracle
from ccdiff.diffusion.samplers import DDIM, DDPM, BatchNoise, Heun, Sampler, sample
from ccdiff.diffusion.schedules import Cosine
from ccdiff.metrics.classifier import Classifier
from ccdiff.metrics.intervals import Interval
from ccdiff.metrics.judge import Reading
from ccdiff.runs.tracker import TrackerSession, WandbTracker

QUICK = (
    "device=cpu",
    "precision=fp32",
    "num_per_label=2",
    "reference_steps=12",
    "solution_steps=40",
)
COMMAND = "ccdiff.curve"
DISTANCE = "fd_classifier_to_heldout"


def untrained(train, *, num_labels: int, flip: bool, device: object) -> Classifier:
    """Stands in for the training of the classifier, which has its own tests."""
    torch.manual_seed(0)
    return Classifier((1, 8, 8), num_labels=num_labels).eval()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("curve")
    steps = rarely(40)
    succeed("train.py", *TINY, *steps, "hydra.run.dir=outputs/one", cwd=folder)
    return folder / "outputs" / "one"


class Recorder(TrackerSession):
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.images: list[str] = []
        self.tables: dict[str, list] = {}
        self.steps: set[int] = set()

    def metrics(self, values, *, step):
        self.values |= values
        self.steps.add(step)

    def image(self, key, path, *, step):
        self.images.append(key)
        self.steps.add(step)
        assert path.exists()

    def table(self, key, rows, *, step):
        self.tables[key] = rows


class Tracked:
    """What the tracker was told."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.info = None

    @contextmanager
    def session(self, info):
        self.info = info
        yield self.recorder


@pytest.fixture(scope="module")
def tracked() -> Tracked:
    return Tracked()


@pytest.fixture(scope="module")
def printed() -> list[str]:
    """What the command of the table said, line by line."""
    return []


@pytest.fixture(scope="module")
def table(run, tracked, printed) -> list[dict[str, str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ccdiff.metrics.classifier.train_classifier", untrained)
        patch.setattr(WandbTracker, "session", lambda self, info: tracked.session(info))
        chosen = ("sampler=ddim,heun,ddpm", "steps=10,3", "seeds=0,1")
        done = succeed(COMMAND, f"run={run}", *chosen, *QUICK, cwd=run)
    printed += done.printed.splitlines()
    with (run / "curve" / "001" / "curve.csv").open() as file:
        return list(csv.DictReader(file))


def row(table: list[dict[str, str]], sampler: str, steps: int) -> dict[str, str]:
    (found,) = [r for r in table if (r["sampler"], r["steps"]) == (sampler, str(steps))]
    return found


def test_the_table_has_a_row_for_everything(table):
    assert [(r["sampler"], r["steps"], r["calls"]) for r in table] == [
        ("ddpm", "12", "12"),
        ("ddim", "3", "3"),
        ("ddim", "10", "10"),
        ("heun", "3", "5"),
        ("heun", "10", "19"),
        ("ddpm", "3", "3"),
        ("ddpm", "10", "10"),
        ("training images", "", ""),
    ]
    for measured in table[:-1]:
        assert (measured["seeds"], measured["images_per_seed"]) == ("2", "20")
        assert 0 <= float(measured["label_agreement_classifier"]) <= 1
        distance = float(measured[DISTANCE])
        assert float(measured[f"{DISTANCE}_sd"]) > 0
        assert float(measured[f"{DISTANCE}_low"]) < distance < float(measured[f"{DISTANCE}_high"])
        assert float(measured["seconds_per_image"]) > 0


def test_more_steps_come_closer_to_the_solution_from_the_same_noise(table):
    errors = {
        (name, n): float(row(table, name, n)["rms_to_solution"])
        for name in ("ddim", "heun")
        for n in (3, 10)
    }
    assert errors["ddim", 10] < 0.6 * errors["ddim", 3]
    assert errors["heun", 10] < 0.6 * errors["heun", 3]
    # Other noise would leave them as far apart as any two images.
    assert errors["heun", 10] < 0.1


def test_a_sampler_that_draws_noise_solves_nothing(table):
    assert row(table, "ddpm", 10)["rms_to_solution"] == ""


def test_a_picture_is_drawn(table, run):
    with Image.open(run / "curve" / "001" / "curve.png") as picture:
        assert min(picture.size) > 800
        assert len(picture.convert("RGB").resize((200, 200)).getcolors(40000)) > 100
    assert (run / "curve" / "001" / "config.yaml").exists()


def test_the_tracker_goes_on_with_the_run(table, run, tracked):
    checkpoint = torch.load(next((run / "checkpoints").iterdir()), weights_only=True)
    assert tracked.info.tracker_id == checkpoint["tracker_id"] is not None
    assert tracked.recorder.images == ["curve"]
    assert tracked.recorder.steps == {40}
    logged = tracked.recorder.values[f"curve/heun_10/{DISTANCE}"]
    assert logged == pytest.approx(float(row(table, "heun", 10)[DISTANCE]), rel=1e-4)
    header, *lines = tracked.recorder.tables["curve/table"]
    assert header == list(table[0])
    assert [line[0] for line in lines] == [r["sampler"] for r in table]


def test_nothing_is_overwritten_and_the_grid_is_a_choice(table, run, monkeypatch):
    before = (run / "curve" / "001" / "curve.csv").read_bytes()
    monkeypatch.setattr(WandbTracker, "session", lambda self, info: Tracked().session(info))
    one = ("sampler=ddim", "steps=4", "seeds=3", "sampler/grid=log_snr", "sampler.eta=0.5")
    one += ("schedule=linear",)
    succeed(COMMAND, f"run={run}", *one, *QUICK, cwd=run)
    assert (run / "curve" / "001" / "curve.csv").read_bytes() == before
    with (run / "curve" / "002" / "curve.csv").open() as file:
        ddim = row(list(csv.DictReader(file)), "ddim", 4)
    assert ddim["grid"] == "logsnr"
    assert ddim["rms_to_solution"] == "", "with eta it draws noise"
    assert ddim[f"{DISTANCE}_sd"] == "", "one seed has no spread"
    assert float(ddim[f"{DISTANCE}_low"]) < float(ddim[DISTANCE]) < float(ddim[f"{DISTANCE}_high"])


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["sampler=huen"], ["huen", "did you mean heun"]),
        (["sampler=ddim,ddim"], ["sampler", "once"]),
        (["steps=10,0"], ["steps", "0"]),
        (["seeds=0,0"], ["seeds", "once"]),
        (["num_per_label=0"], ["num_per_label", "0"]),
        (["solution=ddpm"], ["solution=ddpm", "deterministic"]),
        (["sampler=heun", "sampler.eta=1"], ["heun", "eta"]),
        (["sampler.steps=4"], ["sampler.steps=4", "steps=5,10"]),
        (["data.root=elsewhere"], ["data.root=elsewhere", "Digits"]),
        (["extractor=path"], ["extractor.file="]),
        (["guidance=cfg"], ["conditioning.drop=0"]),
        (["run=nowhere"], ["there is no run nowhere"]),
        (["run=null"], ["run="]),
        (["out=."], ["out=.", "not empty"]),
    ],
    ids=lambda value: " ".join(value) if "=" in value[0] else "",
)
def test_bad_input_is_one_clear_error(arguments, parts, run, table):
    done = call(COMMAND, f"run={run}", *QUICK, *arguments, cwd=run)
    assert done.status != 0
    assert "Traceback" not in done.printed
    for part in parts:
        assert part in done.printed


def test_commas_become_lists():
    given = ["run=a,b", "sampler=ddim,heun", "steps=5", "seeds=[0,1]", "sampler/grid=karras"]
    assert list_arguments([*given, "sampler.eta=0.5", "--help"]) == [
        "run=a,b",
        "samplers=[ddim,heun]",
        "steps=[5]",
        "seeds=[0,1]",
        "--help",
        "sampler_overrides=['sampler/grid=karras','sampler.eta=0.5']",
    ]


def measurement(seconds: float, gap: float | None, agreement: float) -> Measurement:
    reading = Reading(agreement, Interval(agreement - 0.1, agreement + 0.1))
    return Measurement(
        seconds_per_image=seconds,
        rms_to_solution=gap,
        readings={"label_agreement_classifier": reading, DISTANCE: Reading(3.0, Interval(2, 4))},
    )


def test_a_row_is_mean_and_standard_deviation():
    measured = [measurement(1.0, 0.5, 0.8), measurement(3.0, None, 0.9)]
    of_two = summarise(Setting("heun", Heun(steps=3)), measured, variance_kept=1.0)
    assert of_two.calls == 5
    assert of_two.metrics["seconds_per_image"] == (2.0, pytest.approx(2**0.5), 2)
    assert of_two.metrics["rms_to_solution"] == (0.5, None, 1)
    # Student's quantile for two values is 12.706, and their standard error half their distance.
    span = of_two.intervals["label_agreement_classifier"]
    assert span == pytest.approx((0.85 - 12.706 * 0.05, 1.0), rel=1e-4), "no share exceeds 1"
    nothing = summarise(Setting("ddim", DDIM(steps=3)), measured[1:], variance_kept=1.0)
    assert nothing.metrics["rms_to_solution"] is None
    assert "curve/ddim_3/rms_to_solution" not in nothing.flat()
    assert nothing.intervals["label_agreement_classifier"] == pytest.approx((0.8, 1.0))


@pytest.mark.parametrize("gap", [None, 0.0, 0.1])
@pytest.mark.parametrize("steps", [12, 1000])
def test_few_points_make_a_picture_too(gap, steps, tmp_path):
    """Of the reference alone, of the solution against itself: a log axis has no room for zero."""
    measured = measurement(1.0, None, 0.9)
    rows = [summarise(Setting("ddpm", DDPM(steps=steps)), [measured], variance_kept=1.0)]
    if gap is not None:
        again = replace(measured, rms_to_solution=gap)
        rows.append(summarise(Setting("ddim", DDIM(steps=10)), [again], variance_kept=0.7))
    real = {name: reading.value for name, reading in measured.readings.items()}
    plot_curve(rows, real, tmp_path / "curve.png", title="few")
    with Image.open(tmp_path / "curve.png") as picture:
        assert min(picture.size) > 800


@pytest.mark.parametrize("others", [(), (0.053490251302719117,), (0.0535,)])
def test_values_that_are_about_the_same_have_room_on_the_axis(others, monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(
        "ccdiff.curve.plot.save_figure", lambda figure, *_, **__: figures.append(figure)
    )
    measured = [measurement(1.0, gap, 0.9) for gap in (None, 0.053490251302719116, *others)]
    rows = [
        summarise(Setting(f"way {i}", DDIM(steps=2)), [one], variance_kept=1.0)
        for i, one in enumerate(measured)
    ]
    real = {name: reading.value for name, reading in measured[0].readings.items()}
    plot_curve(rows, real, tmp_path / "curve.png", title="equal")
    (figure,) = figures
    logs = [axes.get_ylim() for axes in figure.axes if axes.get_yscale() == "log"]
    assert len(logs) == 6
    for low, high in logs:
        assert high > 1.01 * low


@pytest.mark.parametrize("kind", concrete(Sampler), ids=lambda kind: kind.__name__)
def test_the_variance_kept_is_that_of_many_samples(kind):
    """Exact by linearity, so also a test that a newcomer's sampler is linear and draws no more."""
    sampler, schedule, std = kind(steps=6), Cosine(), 0.4
    noise = BatchNoise(torch.Generator().manual_seed(0), dtype=torch.float64)
    oracle = GaussianOracle(mean=torch.tensor(0.0), std=torch.tensor(std).double())
    x = sample(sampler, oracle, schedule, (40_000, 1, 1, 1), noise)
    assert variance_kept(sampler, schedule, std=std) == pytest.approx(
        float(x.var()) / std**2, rel=0.03
    )


def test_an_ode_solver_of_many_steps_keeps_the_variance_and_of_few_does_not():
    few, many = (variance_kept(Heun(steps=n), Cosine(), std=0.5) for n in (4, 200))
    assert abs(many - 1) < 0.02 < abs(few - 1)


def test_a_sampler_that_is_off_in_variance_is_told(table, printed):
    told = [line for line in printed if "times its variance" in line]
    for measured in table[:-1]:
        setting = "{sampler} with {steps} steps on the grid {grid}".format(**measured)
        off = abs(float(measured["variance_kept"]) - 1) > 0.1
        assert any(setting in line for line in told) == off, setting
    assert float(row(table, "ddim", 3)["variance_kept"]) < 0.5, "three steps lose most of it"
