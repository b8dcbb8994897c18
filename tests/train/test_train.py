"""The main job, run as a user runs it: train, look into the run directory, go on, sweep."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cli import ROOT, TINY, call, succeed
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


def wandb_records(run: Path) -> list[dict]:
    """The offline record of a run, read back by W&B's own tool."""
    (folder,) = (run / "wandb").glob("offline-run-*")
    command = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", folder]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


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
    succeed("train.py", *TINY, "hydra.run.dir=part", "trainer.steps=3", cwd=tmp_path)
    succeed("train.py", "resume=part", "trainer.steps=6", cwd=tmp_path)
    whole = load_checkpoint(run / "checkpoints" / "step_00000006.pt")
    parts = load_checkpoint(tmp_path / "part" / "checkpoints" / "step_00000006.pt")
    for state in ("denoiser", "ema"):
        assert all(torch.equal(parts[state][k], v) for k, v in whole[state].items()), state
    assert [row["step"] for row in rows(tmp_path / "part")][-1] == 6
    assert OmegaConf.load(tmp_path / "part" / "config.yaml").model.channels == [8, 16]


def test_accumulation_changes_nothing_but_memory(run, tmp_path):
    arguments = (*TINY, "trainer.accumulate=4", "trainer.precision=fp32", "tracker=none")
    succeed("train.py", *arguments, "hydra.run.dir=split", cwd=tmp_path)
    arguments = (*TINY, "trainer.precision=fp32", "tracker=none")
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


def test_sweep_is_one_wandb_group_of_separate_runs(tmp_path):
    arguments = [key for key in TINY if "steps" not in key]
    sweep = ("-m", "schedule=cosine,linear", "seed=0,1", "hydra.sweep.dir=sweep")
    small = ("trainer.steps=2", "sampler.steps=2")
    succeed("train.py", *sweep, *small, *arguments, cwd=tmp_path)
    seen = set()
    for job in sorted((tmp_path / "sweep").glob("schedule-*+seed-*")):
        records = wandb_records(job)
        text = json.dumps(records)
        cfg = OmegaConf.load(job / "config.yaml")
        schedule = cfg.schedule._target_.split(".")[-1].lower()
        seen.add((schedule, cfg.seed))
        (start,) = [r["run"] for r in records if "run" in r]
        assert start["run_group"].endswith("sweep")
        assert start["job_type"] == "train"
        assert f"schedule={schedule}" in start["tags"]
        assert f"seed={cfg.seed}" in start["tags"]
        (end,) = [r["exit"] for r in records if "exit" in r]
        assert end.get("exit_code", 0) == 0
        assert "samples/ema" in text
    assert seen == {("cosine", 0), ("cosine", 1), ("linear", 0), ("linear", 1)}


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["model=unet_huge"], ["unet_huge", "unet_large"]),
        (["trainer.steps=abc"], ["trainer.steps", "abc"]),
        (["model.channels=8"], ["UNet", "of the wrong type", "channels=8,"]),
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


@pytest.mark.parametrize("command", ["curve", "edit", "evaluate", "export", "inspect", "prepare"])
def test_every_command_has_help(command, tmp_path):
    done = succeed(f"ccdiff.{command}", "--help", cwd=tmp_path)
    assert "Powered by Hydra" in done.printed


@pytest.mark.parametrize("script", ["train.py", "sample.py"])
@pytest.mark.parametrize("flags", [["--help"], ["--cfg", "job"]], ids=" ".join)
def test_help_and_config_need_no_torch(script, flags, tmp_path):
    code = (
        "import runpy, sys\n"
        f"sys.argv = {[script, *flags]}\n"
        f"runpy.run_path({str(ROOT / script)!r}, run_name='__main__')\n"
        "sys.exit('torch' in sys.modules or 'wandb' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "schedule" in done.stdout or "sampler" in done.stdout
