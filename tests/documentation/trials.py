"""How a documented command is tried: with what it is shortened, or why it is not run at all."""

import re
import shutil
from itertools import count
from pathlib import Path

import pytest
from cli import TINY, succeed

from tests.documentation.pages import Call, Command, call_of, commands

COMMANDS = commands()
CALLS = {c: k for c in COMMANDS if (k := call_of(c)) is not None}
EXTENDING = "docs/extending.md"
RUN = "outputs/2026-11-23/10-15-02"
SWEEP = "multirun/2026-11-23/10-15-02"

SMALL = [s for s in TINY if s.startswith("model.")]
QUICK = [
    *(s for s in TINY if not s.startswith(("model.", "trainer.steps"))),
    *("trainer.steps=2", "trainer.samples_per_label=1", "trainer.heldout_every=2"),
    *("trainer.sample_every=2", "trainer.checkpoint_every=2", "sampler.steps=2"),
]
DRAWN = ["device=cpu", "precision=fp32"]
"""Settings that shorten a command, after those that it is documented with."""
SHORTER: dict[str, list[str]] = {
    "sample.py": [*DRAWN, "sampler.steps=2", "num_per_label=1"],
    "ccdiff.evaluate": [
        *(*DRAWN, "sampler.steps=2", "n=40", "batch_size=40", "heldout_images=32"),
        *("likelihood_images=2", "likelihood_steps=2"),
    ],
    "ccdiff.curve": [
        *(*DRAWN, "steps=2", "seeds=0", "num_per_label=2", "reference_steps=2"),
        "solution_steps=2",
    ],
    "ccdiff.edit": [*DRAWN, "sampler.steps=2"],
    "ccdiff.fit": [*DRAWN, "steps=[2]", "images=4", "tries=2", "solution_steps=4"],
    "ccdiff.inspect": [],
    "ccdiff.export": [],
    "ccdiff.prepare": [],
}

LATER = count(3)
"""Steps to which the run is taken, further by each command that goes on with it."""

LACKING = {
    r"data=(mnist|cifar10|celebahq)": "a data set that is not there",
    r"experiment=": "a data set that is not there",
    r"(weights|ema)=0": "a run with ema=posthoc; has its own tests",
    r"sweep=study": "a data set that is not there",
    r"cat,dog|Young|Group_|angle: 30|part=field": "a run on another data set",
    r"extractor=inception": "weights that are fetched",
    r"sampler=fitted sampler\.steps": "what was fitted for so many steps",
    r"samples=": "pictures of others",
    r"push=|hub:": "the Hugging Face hub, and has its own tests",
    r"format=(onnx|web)": "the extra onnx, and has its own tests",
    r"hydra/launcher=": "a cluster, or several GPUs",
}
"""What keeps a command from being run here, however short."""

OTHERS = {
    r"pip install uv": "fetches",
    r"uv venv": "fetches",
    r"uv pip install --torch-backend=cpu -e \.": "fetches",
    r"uv sync( --extra \w+)+": "fetches; the extras are looked up below",
    r"uv export .*": "needs uv.lock",
    r"uv run pytest.*": "this",
    r"uv run (ruff (check|format) \.|mypy|pre-commit install)": "of .ci/run, or changes the clone",
    r"uv run --group docs mkdocs (serve|build --strict)": "of .ci/run, or never ends",
    r"uv run (--group bench )?python -m tests\.benchmarks\.\w+.*": "takes minutes",
    r"uv run tests/faults\.py .*": "takes minutes",
    r"(PYTHONPATH=carried/site )?python -m tests\.gpu(\.carry)? .*": "has its own tests",
    r"\.ci/run": "runs this",
    r"export PYTHONPATH=\. CCDIFF_ALLOW=my_parts": "is done below",
    r'eval "\$\(ccdiff -sc install=bash\)"': "is for the shell of a user",
    r"ccdiff -sc install=fish \| source": "is for the shell of a user",
    r"ccdiff --help": "has its own test",
    r"wandb sweep conf/wandb/grid\.yaml": "needs an account",
    r"python -m ccdiff\.dashboard": "needs an account",
    r"python -m http\.server -d page": "never ends",
    r"uv run trackio show .*": "never ends",
    r"uv run --with jupyterlab jupyter lab docs/notebooks": "never ends; has its own tests",
    r"#SBATCH .*": "is for SLURM",
    r"if \[ \$\? -eq 75 \].*": "is for SLURM",
}
"""Commands that are none of the suite's, or cannot be composed: why they are not run."""


def other_text(command: Command) -> str:
    text = command.text if command.text.startswith("#") else command.text.partition(" #")[0]
    return re.sub(r"^uv run --extra \w+ ", "", text.strip())


def lacking(called: Call) -> str | None:
    if called.launcher:
        return "several processes"
    if called.script == "ccdiff.demo":
        return "a page, which never ends and has its own tests"
    line = " ".join(called.arguments)
    return next((why for pattern, why in LACKING.items() if re.search(pattern, line)), None)


def _always() -> set[Command]:
    """README's commands, of the others the first of each script, and all parts of one's own."""
    single = {
        command: called
        for command, called in CALLS.items()
        if lacking(called) is None and "-m" not in called.arguments
    }
    chosen: dict[object, Command] = {}
    for command, called in single.items():
        if command.page == "README.md":
            chosen.setdefault(called, command)
    scripts = {CALLS[command].script for command in chosen.values()}
    for command, called in single.items():
        if called.script not in {"ccdiff.dashboard", *scripts}:
            chosen.setdefault(called.script, command)
    return {*chosen.values(), max((c for c in CALLS if c.page == EXTENDING), key=length)}


def length(command: Command) -> int:
    return len(command.text)


def once(calls: dict[Command, Call]) -> list[Command]:
    """Of commands that stand on several pages, the first."""
    seen: dict[Call, Command] = {}
    for command, called in calls.items():
        if called.script != "ccdiff.dashboard":
            seen.setdefault(called, command)
    return list(seen.values())


def shorter(called: Call, folder: Path) -> list[str]:
    """The arguments, followed by those that make a command of minutes one of a second."""
    given = list(called.arguments)
    if called.script != "train.py":
        more = SHORTER.get(called.script, [])
        if called.script == "ccdiff.edit" and "task=inpaint" in given:
            more = [*more, "task.resamples=1"]
        return [*given, *more]
    if "--help" in given or "--cfg" in given:
        return given
    if f"resume={SWEEP}" in given:
        return given
    if f"resume={RUN}" in given:
        return [*given, f"trainer.steps={next(LATER)}"]
    more = [*QUICK, "tracker=none"]  # W&B has its own tests.
    if any(a.startswith("tracker=") for a in given):
        more.pop()
    if "model=convnet" in given or "model=mlp" in given:
        more += ["model.width=8", "model.depth=1"]
    elif "model=vit_small" in given:
        more += ["model.width=8", "model.head_channels=8", "model.depth=1"]
    elif "model=unet_large" in given:
        more += ["model.channels=[8,8,8,8]", "model.bottleneck=8", *SMALL[2:]]
    else:
        more += SMALL
    if "data=folder" in given:
        more += ["data.image_size=8"]
    if any(a.startswith("trainer.profile=") for a in given):
        more += ["trainer.profile=2", "trainer.steps=12"]
    if any(a.startswith("sweep=") for a in given) or "-m" in given:
        if "-m" in given:  # Two runs will do.
            first = next(i for i, a in enumerate(given) if "," in a)
            given = [a if i == first else a.partition(",")[0] for i, a in enumerate(given)]
        return [*given, *more, f"hydra.sweep.dir={_new(folder.parent / 'sweeps')}"]
    if not any(a.startswith("hydra.run.dir=") for a in given):
        # Not below the folder, or it would be run=latest.
        more += [f"hydra.run.dir={_new(folder.parent / 'runs')}"]
    return [*given, *more]


def _new(folder: Path) -> Path:
    """A folder inside another that nobody has used yet."""
    folder.mkdir(exist_ok=True)
    return folder / str(len(list(folder.iterdir())))


def run(called: Call, folder: Path) -> None:
    if called.script == "ccdiff.compare":
        succeed(called.script, *called.arguments, cwd=folder)
        assert (folder / called.arguments[0] / "compare.html").exists()
        return
    if any(a.startswith("against=") for a in called.arguments):
        first = [f"run={RUN}", "name=first", "guidance=cfg", *SHORTER["ccdiff.evaluate"]]
        succeed("ccdiff.evaluate", *first, cwd=folder)
    if called.script == "ccdiff.export":
        shutil.rmtree(folder / "my_model", ignore_errors=True)
    succeed(called.script, *shorter(called, folder), cwd=folder)
    for given in called.arguments:
        if given.startswith("hydra.run.dir="):
            shutil.rmtree(folder / given.partition("=")[2])  # Or it would be run=latest.


def compose(called: Call, folder: Path) -> None:
    if called.launcher[:1] == ("torchrun",):
        from torch.distributed.run import parse_args

        module = not called.script.endswith(".py")
        parse_args([*called.launcher[1:], *(["-m"] if module else []), called.script])
    given = list(called.arguments)
    if any("hydra/launcher=" in a for a in given):
        pytest.importorskip(f"hydra_plugins.{_plugin(given)}")
    if "sweep=search" in given:
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    at_once = {"--help", "--cfg", f"resume={SWEEP}"}
    if called.script == "ccdiff.compare" or at_once & set(given):
        return run(called, folder)
    if "-m" in given:  # The first run of a sweep is what can be composed of it.
        given = [a.partition(",")[0] for a in given if a != "-m"]
    done = succeed(called.script, *given, "--cfg", "job", cwd=folder)
    assert "Traceback" not in done.printed


def _plugin(given: list[str]) -> str:
    slurm = "hydra/launcher=slurm" in given
    return "hydra_submitit_launcher" if slurm else "hydra_joblib_launcher"


ALWAYS = _always()
"""Commands that are run whenever the tests are."""
