"""The main job, run as a user runs it: train, look into the run directory, go on, sweep."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cli import ROOT, TINY, call, rarely, succeed
from omegaconf import OmegaConf
from PIL import Image

from ccdiff.runs.checkpoints import load_checkpoint


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished tiny run."""
    folder = tmp_path_factory.mktemp("train")
    succeed("train.py", *TINY, "hydra.run.dir=run", cwd=folder)
    return folder / "run"


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_run_directory_explains_itself(run):
    cfg = OmegaConf.load(run / "config.yaml")
    assert cfg.conditioning.label_names == [str(i) for i in range(10)]
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == [
        "step_00000003.pt",
        "step_00000006.pt",
    ]
    assert {p.name for p in (run / "samples").iterdir()} == {
        *("raw_00000003.png", "ema_00000003.png", "raw_00000006.png", "ema_00000006.png"),
        *("grid.png", "denoising.gif"),
    }
    with Image.open(run / "samples" / "denoising.gif") as film:
        assert film.n_frames > 1


def test_metrics_have_every_figure_at_its_step(run):
    logged = [(row["step"], sorted(row)[0].split("/")[0]) for row in rows(run)]
    assert logged == [(2, "step"), (3, "heldout"), (4, "step"), (6, "step"), (6, "heldout")]
    heldout = [row for row in rows(run) if "heldout/eps_mse" in row]
    bins = [value for key, value in heldout[0].items() if key.startswith("heldout/eps_mse_")]
    assert len(bins) == 8
    assert heldout[0]["heldout/eps_mse"] == pytest.approx(sum(bins) / 8)


def test_resuming_goes_on_as_if_never_stopped(run, tmp_path):
    untold = ("tracker=none", "hydra.run.dir=part")
    succeed("train.py", *TINY, *untold, "trainer.steps=3", cwd=tmp_path)
    succeed("train.py", "resume=part", "trainer.steps=6", cwd=tmp_path)
    whole = load_checkpoint(run / "checkpoints" / "step_00000006.pt")
    parts = load_checkpoint(tmp_path / "part" / "checkpoints" / "step_00000006.pt")
    for state in ("denoiser", "ema"):
        assert all(torch.equal(parts[state][k], v) for k, v in whole[state].items()), state
    assert [row["step"] for row in rows(tmp_path / "part")][-1] == 6
    assert OmegaConf.load(tmp_path / "part" / "config.yaml").model.channels == [8, 16]


def test_accumulation_changes_nothing_but_memory(tmp_path):
    arguments = (*TINY, *rarely(3), "trainer.precision=fp32", "tracker=none")
    succeed("train.py", *arguments, "trainer.accumulate=4", "hydra.run.dir=split", cwd=tmp_path)
    succeed("train.py", *arguments, "hydra.run.dir=whole", cwd=tmp_path)
    split, whole = (
        load_checkpoint(tmp_path / name / "checkpoints" / "step_00000003.pt")["denoiser"]
        for name in ("split", "whole")
    )
    for key, value in whole.items():
        # Adam divides by the gradient's size, so where that is rounding error signs may differ.
        assert (split[key] - value).abs().median() < 1e-5, key


def test_a_run_is_never_overwritten(run):
    done = call("train.py", *TINY, f"hydra.run.dir={run}", cwd=run.parent)
    assert done.status != 0
    assert "resume=" in done.printed
    assert len(rows(run)) == 5


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["model=unet_huge"], ["unet_huge", "unet_large"]),
        (["trainer.steps=abc"], ["trainer.steps", "abc"]),
        (["model.channels=8"], ["model.channels", "a list", "got 8"]),
        (["conditioning=multihot"], ["multihot", "conditioning=onehot"]),
        (["data=mnist", "data.download=false"], ["MNIST", "download=True", "data.root"]),
        (["resume=nowhere"], ["nowhere", "no such"]),
        (["trainer.device=cuda:9"], ["cuda:9", "auto"]),
        (["optimizer.lr=1e30", "trainer.warmup=0", *TINY], ["diverged", "optimizer.lr"]),
    ],
    ids=lambda value: value[0] if "=" in value[0] else "",
)
def test_bad_input_is_one_clear_error(arguments, parts, tmp_path):
    done = call("train.py", *arguments, "tracker=none", cwd=tmp_path)
    assert done.status != 0
    assert "Traceback" not in done.printed
    for part in parts:
        assert part in done.printed


@pytest.mark.parametrize("wrong", ["conditioning=multihot", "model.groups=5"])
def test_what_does_not_fit_is_told_before_a_folder_is_read(wrong, tmp_path):
    for name in ("cat", "dog"):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for i in range(12):
            Image.new("L", (8, 8), color=i).save(folder / f"{i}.png")
    where = [f"data.root={tmp_path / 'pictures'}", f"data.cache={tmp_path / 'prepared'}"]
    size = ["data.image_size=8", "data.channels=1"]
    done = call("train.py", "data=folder", *where, *size, *TINY, wrong, cwd=tmp_path)
    assert done.status == 1
    assert wrong.partition("=")[0].rpartition(".")[2] in done.printed
    assert not (tmp_path / "prepared").exists()


def test_guidance_that_the_model_will_not_know_is_told_before_the_first_step(tmp_path):
    done = call("train.py", *TINY, "guidance=cfg", "hydra.run.dir=run", cwd=tmp_path)
    assert done.status == 1
    assert "conditioning.drop=0.1" in done.printed
    assert not (tmp_path / "run" / "record.json").exists()


def test_ctrl_c_while_libraries_load_ends_the_command(tmp_path):
    code = (
        "import runpy, sys\n"
        "class CtrlC:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'numpy.linalg':\n"
        "            sys.meta_path.remove(self)\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, CtrlC())\n"
        "sys.argv = ['train.py', 'tracker=none']\n"
        f"runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
    assert "interrupted" in done.stdout + done.stderr


UNCOMPILED = """
import runpy, sys
from ccdiff.config.build import build_denoiser
from ccdiff.config.options import compose, options
from ccdiff.nn.unfilled import unfilled
for overrides in (*([f"model={name}"] for name in options("model")), ["conditioning=multihot"]):
    with unfilled():
        network = build_denoiser(compose("train", overrides))
    assert all(p.is_meta for p in network.parameters())
assert "torch._dynamo" not in sys.modules, "opened"
runpy.run_path(sys.argv[0], run_name="__main__")
assert "torch._dynamo" not in sys.modules, "trained"
"""


def test_torch_compile_is_not_imported_where_nothing_is_compiled(tmp_path):
    """It takes 4 s; a process of its own has nothing loaded before."""
    code = f"import sys; sys.argv.pop(0){UNCOMPILED}"
    arguments = (str(ROOT / "train.py"), *TINY, "trainer.steps=1", "tracker=none")
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]


COMMANDS = ("curve", "edit", "evaluate", "export", "inspect", "prepare")
HELP = """
import contextlib, io, runpy, sys
from hydra.core.global_hydra import GlobalHydra

for script in sys.argv[1].split():
    for flags in ("--help", "--cfg job"):
        sys.argv = [script, *flags.split()]
        run = runpy.run_path if script.endswith(".py") else runpy.run_module
        GlobalHydra.instance().clear()
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
            run(script, run_name="__main__")
        wanted = "usage: " if flags == "--help" else ":"
        assert wanted in printed.getvalue(), (sys.argv, printed.getvalue())
        loaded = {"torch", "wandb", "matplotlib"} & set(sys.modules)
        assert not loaded, (sys.argv, loaded)
"""


def test_help_and_config_of_every_command_are_quick(tmp_path):
    """They load none of what takes seconds; a process of its own has nothing loaded before."""
    scripts = [str(ROOT / "train.py"), str(ROOT / "sample.py")]
    scripts += [f"ccdiff.{command}" for command in COMMANDS]
    command = [sys.executable, "-c", HELP, " ".join(scripts)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())
