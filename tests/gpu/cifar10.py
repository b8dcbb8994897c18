"""CIFAR-10 in minutes: trained by ``experiment=cifar10_fast``, judged by ``ccdiff.evaluate``.

The steps are chosen by the speed that was measured, so that training, drawing and judging end in
the time there is; the learning rate falls to zero at whatever step is the last.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ccdiff.metrics.figures import Figure
from ccdiff.runs.log import metric_rows
from tests.gpu.bench import ROOT, Bench
from tests.gpu.layout import noise, write_batches
from tests.gpu.speed import FAST

__all__ = ["run"]

_BATCH = 512
"""Images per step of the recipe."""
_RATE = 6_000.0
"""Images per second that are reckoned with where the recipe's speed could not be measured."""
_LOOKS = 3
_START, _LOOK, _END = 50.0, 6.0, 15.0
"""Seconds until the first step (of a network that was compiled before; else three times as much),
for a look at samples on the way, and for the last pictures and checkpoint."""
_EVALUATION = 60.0
_FIGURES = (
    "fd_",
    "fid",
    "label_agreement",
    "precision",
    "recall",
    "density",
    "coverage",
    "spread",
)
"""How names of figures begin that the row of an evaluation has."""
_TINY = (
    *("model.channels=[8,16]", "model.bottleneck=16", "model.attention=[false,true]"),
    *("model.head_channels=8", "model.groups=4", "model.embed_dim=16", "trainer.batch_size=8"),
    *("sampler.steps=2", "evaluate.steps=2", "trainer.samples_per_label=1"),
    *("trainer.heldout_images=16", "model.patch=4"),
)


@dataclass
class _Part:
    """What one case leaves to the next.

    Arguments:
        folder: Of runs and data.
        root: Of the data set, once it is there.
        rate: Images per second of the recipe's training.
        run: The trained run, once there is one.
    """

    folder: Path
    root: Path | None = None
    rate: float | None = None
    run: Path | None = None
    looks: list[dict] = field(default_factory=list)

    @property
    def cache(self) -> Path:
        return self.folder / "cache"


def run(bench: Bench) -> None:
    """Data, judge, speed, training with looks on the way, 10,000 images, pictures."""
    part = _Part(bench.scratch / "cifar10")
    part.folder.mkdir(parents=True, exist_ok=True)
    bench.case(lambda bench: _data(bench, part), name="data and judge", needs=10)
    if part.root is None:
        return
    timed = [row for row in bench.rows if row["case"] == FAST]
    part.rate = next((row["images_per_second"] for row in timed if "outcome" not in row), None)
    if part.rate is None:
        bench.case(lambda bench: _speed(bench, part), name="speed", needs=200)
    bench.case(lambda bench: _train(bench, part), name="training", needs=150)
    if part.run is not None:
        bench.case(lambda bench: _pictures(bench, part), name="pictures", needs=0)
        bench.case(lambda bench: _evaluate(bench, part), name="evaluation", needs=20)
        if not bench.miniature:
            bench.case(
                lambda bench: _evaluate(bench, part, guidance="none"),
                name="evaluation without guidance",
                needs=40,
            )
        bench.case(lambda bench: _inception(bench, part), name="FID", needs=0)


def _data(bench: Bench, part: _Part) -> None:
    """Finds or makes the data set; takes along what was carried for judging."""
    started = time.monotonic()
    if bench.miniature:
        root, of = part.folder / "data", "noise"
        write_batches(noise(part.folder / "noise.npz"), root)
    elif bench.data is not None:
        root, of = bench.data, "as distributed"
    else:
        npz = next(_carried(bench, "cifar10-jpeg.npz"), None)
        if npz is None:
            told = "no CIFAR-10: pass data=<folder of cifar-10-batches-py>, or carry its npz"
            bench.row("data", outcome="skipped", told=told)
            return
        root, of = part.folder / "data", "JPEG of quality 75"
        write_batches(npz, root)
    judges = list(_carried(bench, "classifiers/*.pt"))
    for judge in judges:
        kept = part.cache / "classifiers" / judge.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(judge, kept)
    part.root = root
    bench.row(
        "data",
        images=of,
        judges_carried=len(judges),
        seconds=time.monotonic() - started,
    )


def _carried(bench: Bench, pattern: str) -> Iterator[Path]:
    yield from sorted(bench.carried.rglob(pattern)) if bench.carried else ()


def _settings(bench: Bench, part: _Part, steps: int) -> list[str]:
    """The recipe, of so many steps."""
    return [
        "experiment=cifar10_fast",
        f"data.root={part.root}",
        "data.verify=false",
        "data.download=false",
        "tracker=none",
        f"trainer.device={bench.device}",
        f"trainer.steps={steps}",
        f"trainer.warmup={max(1, min(200, steps // 20))}",
        f"trainer.cooldown={6 * steps // 10}",
        f"evaluate.cache={part.cache}",
        *(_TINY if bench.miniature else ()),
    ]


def _command(bench: Bench, script: str, *arguments: str, on_wait: Callable[[], None]) -> int:
    """Runs a command of the product; returns its exit status.

    Arguments:
        bench: Its log gets the end of the output. In miniature the command is run in this process.
        script: ``train.py`` or a module.
        arguments: Its own.
        on_wait: Called twice a second meanwhile, and at the end.
    """
    if bench.miniature:
        from tests.cli import call

        done = call(script, *arguments, cwd=bench.scratch)
        bench.log(f"$ {script} {' '.join(arguments)} -> {done.status}\n{done.printed[-4000:]}")
        on_wait()
        return done.status
    place = [str(ROOT / script)] if script.endswith(".py") else ["-m", script]
    output = bench.scratch / "output.txt"
    with output.open("w") as file:
        running = subprocess.Popen(
            [sys.executable, *place, *arguments],
            cwd=bench.scratch,
            env=bench.environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            while running.poll() is None:
                time.sleep(0.5)
                on_wait()
        finally:
            running.kill()
            running.wait()
            bench.log(f"$ {script} {' '.join(arguments)} -> {running.returncode}")
            bench.log(output.read_text(errors="replace")[-6000:])
    on_wait()
    return running.returncode


def _speed(bench: Bench, part: _Part) -> None:
    """Measures the recipe's training where the part ``speed`` has not."""
    folder = part.folder / "speed"
    steps = 4 if bench.miniature else 60
    arguments = _settings(bench, part, steps)
    status = _command(
        *(bench, "train.py", *arguments, f"hydra.run.dir={folder}", "evaluate.every=0"),
        *(f"trainer.log_every={steps // 3}",),
        on_wait=lambda: None,
    )
    rates = [r["train/images_per_second"] for r in _metrics(folder) if "train/loss" in r]
    if status or not rates:
        raise RuntimeError(f"train.py ended with {status}: see log.txt")
    part.rate = rates[-1]
    bench.row("speed of the recipe", images_per_second=part.rate)


def _train(bench: Bench, part: _Part) -> None:
    """Trains for as long as there is time; what was measured on the way is written as it comes."""
    rate, batch = part.rate or _RATE, 8 if bench.miniature else _BATCH
    start = _START if part.rate else 3 * _START
    room = bench.remaining() - start - _LOOKS * _LOOK - _END - _EVALUATION
    steps = 6 if bench.miniature else max(300, int(room * rate / batch))
    until = bench.remaining() - _END - _EVALUATION / 2
    bench.row("plan", steps=steps, batch=batch, reckoned_images_per_second=rate)
    folder, every = part.folder / "run", -(-steps // _LOOKS)
    arguments = [
        *_settings(bench, part, steps),
        f"hydra.run.dir={folder}",
        f"trainer.max_time={max(30, int(until))}",
        f"trainer.log_every={max(1, steps // 30)}",
        *(f"trainer.{what}_every={every}" for what in ("checkpoint", "heldout")),
        f"trainer.sample_every={steps}",
        f"evaluate.every={every}",
        f"evaluate.images={20 if bench.miniature else 2000}",
    ]
    shown = 0

    def look() -> None:
        nonlocal shown
        rows = _metrics(folder)
        part.looks = _by_step(rows)
        for row in part.looks[shown:]:
            figures = {name.partition("/")[2]: row.get(name) for name in _looked_at(row)}
            bench.row(f"step {row['step']} of {steps}, on the way", **figures)
        shown = len(part.looks)

    try:
        status = _command(bench, "train.py", *arguments, on_wait=look)
    finally:  # Also where time ran out: what was saved on the way can be judged.
        if list(folder.glob("checkpoints/*.pt")):
            part.run = folder
    rows = [row for row in _metrics(folder) if "train/loss" in row]
    if not rows or part.run is None:
        raise RuntimeError(f"train.py ended with {status}: see log.txt")
    last = rows[-1]
    bench.row(
        "training",
        steps=last["step"],
        planned=steps,
        images=last["train/images_seen"],
        seconds=last["train/seconds"],
        images_per_second=last["train/images_per_second"],
        mfu=last.get("train/mfu"),
        loss=last["train/loss"],
        status=status,
    )


def _metrics(folder: Path) -> list[dict]:
    file = folder / "metrics.jsonl"
    return list(metric_rows(file)) if file.exists() else []


def _by_step(rows: list[dict]) -> list[dict]:
    """Rows of looks at samples, with the training seconds of the step or of one before."""
    looks, seconds = [], None
    for row in rows:
        seconds = row.get("train/seconds", seconds)
        if any(name.startswith("evaluate/fd") for name in row):
            looks.append({**row, "train/seconds": seconds})
    return looks


def _looked_at(row: dict) -> list[str]:
    wanted = ("train/seconds", "evaluate/fd", "evaluate/label_agreement")
    return [name for name in row if name.startswith(wanted)]


def _evaluate(bench: Bench, part: _Part, extractor: str = "", guidance: str = "") -> None:
    """Draws images and has the product judge them."""
    n = 20 if bench.miniature else 10_000
    name = "-".join(filter(None, (f"{n}", guidance, "fid" if extractor else "")))
    choice = [f"guidance={guidance}"] if guidance else []
    tiny = ["batch_size=20", "heldout_images=20"] if bench.miniature else ["batch_size=1000"]
    started = time.monotonic()
    status = _command(
        *(bench, "ccdiff.evaluate", f"run={part.run}", f"n={n}", f"name={name}"),
        *(*choice, *([extractor] if extractor else []), *tiny, "likelihood_images=0"),
        *(f"cache={part.cache}", f"device={bench.device}"),
        on_wait=lambda: None,
    )
    file = part.run / "evaluation" / name / "metrics.json"
    if status or not file.exists():
        raise RuntimeError(f"ccdiff.evaluate ended with {status}: see log.txt")
    found = [Figure.parsed(plain) for plain in json.loads(file.read_text())["figures"]]
    figures = {figure.key: figure.value for figure in found if figure.key.startswith(_FIGURES)}
    minutes = part.looks[-1]["train/seconds"] / 60 if part.looks else None
    bench.row(
        f"{n} images, guidance {guidance or 'of the recipe'}",
        minutes=minutes,
        **figures,
        seconds=time.monotonic() - started,
    )


def _inception(bench: Bench, part: _Part) -> None:
    """FID, where somebody has carried the weights."""
    weights = next(_carried(bench, "weights-inception-2015-12-05-*.pth"), None)
    if weights is None:
        bench.row("FID", outcome="skipped", told="no weights of Inception were carried")
        return
    _evaluate(bench, part, extractor=f"extractor=inception extractor.weights={weights}")


def _pictures(bench: Bench, part: _Part) -> None:
    """Takes the last grid along, and draws how the loss and the looks went."""
    grids = sorted(part.run.glob("samples/*.png"), key=os.path.getmtime)
    if grids:
        shutil.copyfile(grids[-1], bench.out / "cifar10.png")
    from matplotlib.figure import Figure as Drawing

    rows = [row for row in _metrics(part.run) if "train/loss" in row]
    figure = Drawing(figsize=(6, 3), layout="constrained")
    loss, distance = figure.subplots(1, 2)
    minutes = [row["train/seconds"] / 60 for row in rows]
    loss.plot(minutes, [row["train/loss"] for row in rows])
    loss.set(xlabel="minutes of training", ylabel="train/loss")
    name = next((n for n in (part.looks or [{}])[-1] if n.startswith("evaluate/fd")), None)
    if name is not None:
        looked = [look["train/seconds"] / 60 for look in part.looks]
        distance.plot(looked, [look[name] for look in part.looks], marker="o")
        distance.set(xlabel="minutes of training", ylabel=name.partition("/")[2], yscale="log")
    figure.savefig(bench.out / "cifar10-curve.png", dpi=100)
    shutil.copyfile(part.run / "metrics.jsonl", bench.out / "cifar10-metrics.jsonl")
