"""Command lines: flags anywhere, the nearest real key, one line for what is wrong, the wheel."""

import errno
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from cli import ROOT, TINY, call, succeed
from hatchling.builders.wheel import WheelBuilder
from hydra._internal.utils import get_args_parser
from packaging.specifiers import SpecifierSet

from ccdiff.__main__ import COMMANDS
from ccdiff.errors import UserError
from ccdiff.launch.arguments import flags_first
from ccdiff.launch.explain import explained
from ccdiff.runs.tracker import WandbTracker

FIXTURE = ROOT / "tests/runs/version_0_1_0"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize(
    ("flag", "first"),
    [
        (["--cfg", "job"], "--cfg=job"),
        (["-c", "all"], "--cfg=all"),
        (["--resolve"], "--resolve"),
        (["-p", "model"], "--package=model"),
        (["--config-dir", "my conf"], "--config-dir=my conf"),
        (["--config-dir=x"], "--config-dir=x"),
        (["-cd", "x"], "--config-dir=x"),
        (["-cn", "x"], "--config-name=x"),
        (["-cp", "x"], "--config-path=x"),
        (["-m"], "--multirun"),
        (["--multi"], "--multirun"),
        (["-r"], "--run"),
        (["-h"], "--help"),
        (["--hydra-help"], "--hydra-help"),
        (["-sc"], "--shell-completion"),
        (["-i", "plugins"], "--info=plugins"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_flag_stands_anywhere(flag, first):
    one, two = "run=latest", "sampler=mine"
    for order in ([*flag, one, two], [one, *flag, two], [one, two, *flag]):
        assert flags_first(order) == [first, one, two]
    # And Hydra understands it.
    assert get_args_parser().parse_args([first, one, two]).overrides == [one, two]


@pytest.mark.parametrize("script", ["sample.py", "ccdiff.evaluate"])
def test_a_run_and_flags_go_together_in_any_order(script, tmp_path):
    run, flags = f"run='{FIXTURE / 'run'}'", ("--cfg", "job")
    orders = [(*flags, run, "seed=4"), (run, *flags, "seed=4"), (run, "seed=4", *flags)]
    shown = [yaml.safe_load(succeed(script, *order, cwd=tmp_path).printed) for order in orders]
    assert shown[0] == shown[1] == shown[2]
    assert shown[0]["seed"] == 4
    assert shown[0]["sampler"]["_target_"].endswith("Heun")


def test_options_of_ones_own_are_found_for_a_run(tmp_path):
    (tmp_path / "my conf/sampler").mkdir(parents=True)
    mine = (ROOT / "conf/sampler/ddim.yaml").read_text().replace("steps: ", "steps: 1")
    (tmp_path / "my conf/sampler/mine.yaml").write_text(mine)
    extra, run = ("--config-dir", "my conf"), f"run='{FIXTURE / 'run'}'"
    for order in (
        (*extra, run, "sampler=mine"),
        (run, *extra, "sampler=mine"),
        (run, "sampler=mine", *extra),
    ):
        shown = yaml.safe_load(succeed("sample.py", *order, "--cfg", "job", cwd=tmp_path).printed)
        assert shown["sampler"]["_target_"].endswith("DDIM")
        assert shown["sampler"]["steps"] > 100
    resumed = (f"resume='{FIXTURE / 'run'}'", "sampler=mine", *extra, "--cfg", "job")
    shown = yaml.safe_load(succeed("train.py", *resumed, cwd=tmp_path).printed)
    assert shown["sampler"]["_target_"].endswith("DDIM")
    assert shown["model"]["bottleneck"] == 4


@pytest.mark.parametrize(
    ("script", "arguments", "told"),
    [
        ("train.py", ["trainer.step=5"], "did you mean trainer.steps?"),
        ("train.py", ["modle=unet_large"], "did you mean model?"),
        ("train.py", ["lr=3"], "did you mean optimizer.lr?"),
        ("train.py", ["data.numbers=[angle]"], "options chosen: it belongs to data=afhq, "),
        ("train.py", ["sampler.grid.rho=3"], "options chosen: it belongs to sampler/grid=karras"),
        ("train.py", ["-m", "trainer.step=5,6"], "did you mean trainer.steps?"),
        ("train.py", [f"resume='{FIXTURE / 'run'}'", "trainer.stesp=9"], "trainer.steps?"),
        ("train.py", ["data=digist"], "no data=digist: did you mean digits?"),
        ("train.py", ["sampler/grid=karas"], "no sampler/grid=karas: did you mean karras?"),
        ("train.py", ["trainer.steps=abc"], "trainer.steps: Value 'abc'"),
        ("train.py", ["trainer.steps=null"], "trainer.steps: it must not be null"),
        ("train.py", ["trainer.precision=fp8"], "trainer.precision: Invalid value 'fp8'"),
        ("train.py", ["trainer=7"], "takes the name of an option"),
        ("train.py", ["labels=[3"], "in quotes"),
        ("train.py", ["experiment=null"], "experiment"),
        ("train.py", ["--resolve"], "--cfg"),
        ("train.py", ["hydra.run.dir=file/run"], "file"),
        ("train.py", [f"resume='{FIXTURE / 'run'}'", "hydra.run.dir=elsewhere"], "leave one of"),
        ("sample.py", ["weigths=raw"], "did you mean weights?"),
        ("ccdiff.evaluate", ["heldout_imges=3"], "did you mean heldout_images?"),
        ("ccdiff.edit", ["task=strip", "task.frame=3"], "did you mean task.frames?"),
        ("ccdiff.export", ["outt=3"], "did you mean out?"),
        ("ccdiff.export", ["run="], "run= names no run"),
        ("train.py", ["init_from="], "init_from= names no run"),
        ("ccdiff.fit", ["run=x", "steps=5"], "it takes a list, such as steps=[1,2]"),
        ("sample.py", [f"run='{FIXTURE / 'run'}'", "out="], "out= names no folder"),
        ("sample.py", [f"run='{FIXTURE / 'run'}'", "out=."], "out=. is not empty: pass another"),
        ("train.py", ["tracker.entity=a/b"], "tracker.entity must be"),
        ("train.py", ["ema.beta=2"], "ema.beta must be from 0 to 1, got 2"),
        ("train.py", ["ema.beta=nan"], "ema.beta must be"),
        ("train.py", ["ema.update_every=0"], "ema.update_every must be at least 1, got 0"),
        ("train.py", ["evaluate.cache=file/cache"], "evaluate.cache=file/cache: "),
    ],
)
def test_what_is_wrong_is_told_in_a_line(tmp_path, script, arguments, told):
    (tmp_path / "file").touch()
    done = call(script, *arguments, cwd=tmp_path)
    assert done.status == 1
    assert told in done.printed
    assert "Traceback" not in done.printed
    assert "HYDRA_FULL_ERROR" not in done.printed
    assert not list(tmp_path.rglob("*.pt"))


def test_a_log_that_cannot_be_written_is_told_by_its_file():
    refused = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "run/train.log")
    error = ValueError("Unable to configure handler 'file'")
    error.__cause__ = refused
    assert explained(error, [], "train").startswith("run/train.log: Permission denied. The folder")


def test_nothing_of_a_runs_folder_is_composed_but_its_values(tmp_path):
    """A stranger's run holds settings of Hydra, which could run code, and options of groups."""
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints/step_00000006.pt").touch()
    text = (FIXTURE / "run/config.yaml").read_text()
    for added, told in (
        ("hydra:\n  job_logging: {root: {level: probe}}\n", "'hydra'"),
        ("defaults:\n- hydra/job_logging: mine\n", "'defaults'"),
    ):
        (run / "config.yaml").write_text(text + added)
        done = call("train.py", "resume=run", "trainer.steps=9", "--cfg", "job", cwd=tmp_path)
        assert done.status == 1
        assert told in done.printed
    (run / "config.yaml").write_text(text)
    (run / "hydra/job_logging").mkdir(parents=True)
    (run / "hydra/job_logging/default.yaml").write_text("root: {level: probe}\n")
    done = succeed("train.py", "resume=run", "--cfg", "hydra", cwd=tmp_path)
    assert "probe" not in done.printed


def test_a_damaged_config_of_a_run_is_told_and_the_checkpoints_taken(tmp_path, caplog):
    shutil.copytree(FIXTURE / "run", tmp_path / "run")
    (tmp_path / "run/config.yaml").write_text("- 1\n")
    done = succeed("sample.py", "run=run", "--cfg", "job", cwd=tmp_path)
    assert "the checkpoint has its own copy" in caplog.text
    assert "samplers.Heun" in done.printed


def test_a_run_without_its_config_is_no_sweep(tmp_path):
    shutil.copytree(FIXTURE / "run", tmp_path / "run")
    (tmp_path / "run/config.yaml").unlink()
    done = succeed("sample.py", "run=run", "--cfg", "job", cwd=tmp_path)
    assert "samplers.Heun" in done.printed


@pytest.mark.parametrize("project", ["a/b", "what?", "", "x" * 129])
def test_a_project_that_wandb_refuses_is_refused_before_data_are_read(project):
    with pytest.raises(UserError, match=r"tracker\.project"):
        WandbTracker(project=project, entity=None, mode="offline")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return Path(path)


def test_the_wheel_holds_all_that_commands_read(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {
        p.relative_to(ROOT)
        for kind in ("html", "css", "js", "py")
        for p in (ROOT / "ccdiff").rglob(f"*.{kind}")
    }
    assert {path.as_posix() for path in files} <= names
    confs = {path.relative_to(ROOT).as_posix() for path in (ROOT / "conf").rglob("*.yaml")}
    assert {f"ccdiff/{path}" for path in confs} <= names
    assert {name.split("/")[0] for name in names} == {
        "ccdiff",
        f"ccdiff-{PROJECT['version']}.dist-info",
    }


def installed(wheel: Path, *arguments: str, cwd: Path) -> str:
    """``ccdiff <arguments>`` from an unpacked wheel and not from this clone."""
    site = wheel.parent / "site packages"
    if not site.exists():
        zipfile.ZipFile(wheel).extractall(site)
    cwd.mkdir(exist_ok=True)
    code = "import ccdiff.__main__ as m; import sys; sys.argv[0] = 'ccdiff'; m.main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_installed_command_finds_its_configs_from_any_folder(wheel, tmp_path):
    shown = installed(wheel, "train", "--cfg", "job", "seed=3", cwd=tmp_path / "a folder")
    assert yaml.safe_load(shown)["seed"] == 3


@pytest.mark.slow
def test_what_is_installed_works_as_the_clone_does(wheel, tmp_path):
    cwd = tmp_path / "a folder"
    installed(wheel, "train", *TINY, "tracker=none", "hydra.run.dir=run", cwd=cwd)
    installed(wheel, "sample", "run=run", "out=drawn", "num_per_label=1", cwd=cwd)
    assert (cwd / "drawn/grid.png").exists()
    for name in COMMANDS:
        assert installed(wheel, name, "--help", cwd=cwd)
    record = (cwd / "run/record.json").read_text()
    assert '"command": "ccdiff train' in record


def completed(line: str, monkeypatch, capsys) -> list[str]:
    monkeypatch.setenv("COMP_LINE", line)
    done = succeed("ccdiff", "-sc", "query=bash", cwd=ROOT)
    return done.printed.split()


def test_tab_completes_commands_groups_and_options(monkeypatch, capsys):
    assert completed("ccdiff ", monkeypatch, capsys) == list(COMMANDS)
    assert completed("ccdiff e", monkeypatch, capsys) == ["evaluate", "edit", "export"]
    assert "data=mnist" in completed("ccdiff train data=", monkeypatch, capsys)
    assert "sampler=ddim" in completed("ccdiff sample run=x sampler=d", monkeypatch, capsys)


def test_python_3_14_is_excluded_for_as_long_as_hydra_does_not_start_there():
    """Its argparse formats each text of help when it is added; 1.3.8 of Hydra adds no text."""
    (help_,) = [a.help for a in get_args_parser()._actions if a.dest == "shell_completion"]
    assert not isinstance(help_, str), "Hydra may be ready for 3.14: raise requires-python"
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert allowed.contains("3.13.9")
    assert not allowed.contains("3.14.0")


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_memory_that_runs_out_is_told_in_a_line_with_what_takes_less(
    tmp_path, monkeypatch, device
):
    def step(update):
        if device == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0")
        torch.empty(1 << 60)

    monkeypatch.setattr("ccdiff.training.step.Update.__call__", step)
    done = call("train.py", *TINY, "tracker=none", f"hydra.run.dir={tmp_path / 'r'}", cwd=tmp_path)
    assert done.status == 1
    assert "trainer.accumulate, model.gradient_checkpointing=true" in done.printed
    first = (
        "CUDA out of memory. Tried to allocate 2.00 GiB"
        if device == "cuda"
        else "(Cannot allocate memory)"
    )
    assert f"{first}: there is no memory for so much" in done.printed
    assert "Traceback" not in done.printed
