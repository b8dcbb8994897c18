"""A config, perhaps a stranger's, may build the classes of this suite and nothing else."""

import sys

import pytest
from omegaconf import OmegaConf

from ccdiff.config.allowed import ENVIRONMENT, check_targets
from ccdiff.config.build import instantiate
from ccdiff.diffusion.schedules import Cosine
from ccdiff.errors import UserError


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.Popen",
        "torch.load",
        "torch.hub.load",
        "builtins.exec",
        "ccdiffx.Evil",
        # What modules of the suite import is not theirs.
        "ccdiff.system.stopping.os.kill",
        "ccdiff.launch.entry.sys.exit",
        "ccdiff.runs.folder.Path",
        "ccdiff.train.job.run_experiment",
        "ccdiff.pictures.save_png",
        7,
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_other_targets_are_refused_before_anything_is_built(target, nested):
    node = {"_target_": target, "_partial_": True}
    if nested:
        node = {"_target_": "ccdiff.diffusion.schedules.Cosine", "offset": [{"deep": node}]}
    with pytest.raises(UserError, match=ENVIRONMENT):
        instantiate(OmegaConf.create(node))


def test_looking_at_a_target_imports_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "evil_package.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="evil_package"):
        check_targets({"_target_": "evil_package.Model"})
    assert "evil_package" not in sys.modules


def test_a_package_of_the_user_may_be_allowed(tmp_path, monkeypatch):
    (tmp_path / "my_own_package.py").write_text("class Thing:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    node = {"_target_": "my_own_package.Thing"}
    with pytest.raises(UserError, match="my_own_package"):
        instantiate(node)
    monkeypatch.setenv(ENVIRONMENT, "other,my_own_package")
    assert type(instantiate(node)).__name__ == "Thing"


def test_the_suite_itself_is_allowed():
    assert instantiate({"_target_": "ccdiff.diffusion.schedules.Cosine"}) == Cosine()
    with pytest.raises(UserError, match=r"schedules\.Cosinus cannot be found"):
        instantiate({"_target_": "ccdiff.diffusion.schedules.Cosinus"})
