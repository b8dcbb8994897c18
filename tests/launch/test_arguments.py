"""Commands take from a run what is not chosen anew: no flag is typed twice."""

import shutil
from pathlib import Path

import pytest
import yaml
from cli import ROOT, TINY, call, succeed

LOG_SNR = yaml.safe_load((ROOT / "conf/sampler/grid/log_snr.yaml").read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("arguments") / "my run"
    chosen = ("sampler=heun", "sampler.steps=2", "sampler/grid=trailing", "threshold=none")
    guidance = ("conditioning.drop=0.1", "guidance=cfg_interval", "guidance.scale=3")
    tiny = (argument for argument in TINY if argument != "sampler.steps=3")
    arguments = (*tiny, *chosen, *guidance, "trainer.steps=2", "tracker=none")
    succeed("train.py", *arguments, f"hydra.run.dir='{folder}'", cwd=folder.parent)
    return folder


def config(*arguments: str, cwd: Path, script: str = "sample.py") -> dict:
    """What Hydra composes."""
    return yaml.safe_load(succeed(script, *arguments, "--cfg", "job", cwd=cwd).printed)


@pytest.mark.parametrize("script", ["sample.py", "ccdiff.evaluate"])
def test_a_run_is_sampled_as_it_was_trained_to_be(run, script):
    trained = yaml.safe_load((run / "config.yaml").read_text())
    asked = config("run='my run'", cwd=run.parent, script=script)
    assert "Heun" in asked["sampler"]["_target_"]
    assert asked["guidance"]["scale"] == 3
    for group in ("sampler", "threshold", "guidance"):
        assert asked[group] == trained[group]


def test_settings_and_groups_that_are_chosen_stay(run):
    asked = config("run='my run'", "sampler.steps=7", "guidance=none", cwd=run.parent)
    assert "Heun" in asked["sampler"]["_target_"]
    assert "Trailing" in asked["sampler"]["grid"]["_target_"]
    assert asked["sampler"]["steps"] == 7
    assert "NoGuidance" in asked["guidance"]["_target_"]
    assert "Unlimited" in asked["threshold"]["_target_"]
    asked = config("run='my run'", "sampler=ddim", "threshold=clip", cwd=run.parent)
    assert "DDIM" in asked["sampler"]["_target_"]
    assert "Clip" in asked["threshold"]["_target_"]
    assert asked["guidance"]["scale"] == 3


def test_a_grid_is_replaced_and_keeps_nothing_of_the_one_before(run):
    asked = config("run='my run'", "sampler/grid=log_snr", cwd=run.parent)
    assert "Heun" in asked["sampler"]["_target_"]
    assert asked["sampler"]["grid"] == LOG_SNR


def test_a_checkpoint_without_its_run_knows_too(run, tmp_path):
    shutil.copy(run / "checkpoints/step_00000002.pt", tmp_path / "alone.pt")
    assert config("run=alone.pt", cwd=tmp_path)["guidance"]["scale"] == 3


def test_a_run_that_is_not_there_is_told(tmp_path):
    done = call("sample.py", "run=nowhere", cwd=tmp_path)
    assert done.status == 1
    assert "there is no run nowhere" in done.printed


def test_several_runs_must_have_one_sampler(run):
    both = ("-m", "run=my_run,other")
    done = call("sample.py", *both, cwd=run.parent)
    assert done.status == 1
    assert "names several runs" in done.printed
    chosen = ("sampler=ddim", "threshold=clip", "guidance=none")
    assert "names several" not in call("sample.py", *both, *chosen, cwd=run.parent).printed


def test_going_on_takes_another_grid(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    more = ("resume=run", "trainer.steps=3", "sampler/grid=log_snr")
    succeed("train.py", *more, cwd=tmp_path)
    grid = yaml.safe_load((tmp_path / "run/config.yaml").read_text())["sampler"]["grid"]
    assert grid == LOG_SNR


@pytest.mark.parametrize("group", ["sampler", "threshold", "guidance"])
def test_every_choice_can_be_taken_over(tmp_path, group):
    for path in sorted((ROOT / "conf" / group).glob("*.yaml")):
        if path.stem == "autoguidance":
            continue  # It names another run.
        chosen = config(f"{group}={path.stem}", "--resolve", cwd=tmp_path, script="train.py")
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(chosen))
        (tmp_path / "step_00000001.pt").touch()
        assert config("run=step_00000001.pt", cwd=tmp_path)[group] == chosen[group], path.stem
