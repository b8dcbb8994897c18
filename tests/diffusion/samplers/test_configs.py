"""Every sampler, grid, guidance and threshold can be chosen from a command line."""

from dataclasses import fields
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from parts import concrete

import ccdiff
from ccdiff.config import schema
from ccdiff.config.build import instantiate
from ccdiff.diffusion.guidance import Guidance
from ccdiff.diffusion.samplers import BatchNoise, Sampler, sample
from ccdiff.diffusion.samplers.grids import Grid
from ccdiff.diffusion.schedules import Cosine
from ccdiff.diffusion.thresholding import Threshold
from ccdiff.errors import UserError

CONF = Path(ccdiff.__file__).parents[1] / "conf"

schema.register()


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("sample", list(overrides))


@pytest.mark.parametrize(
    ("group", "base"),
    [
        ("sampler", Sampler),
        ("sampler/grid", Grid),
        ("guidance", Guidance),
        ("threshold", Threshold),
    ],
)
def test_every_class_has_a_file(group, base):
    files = [OmegaConf.load(CONF / group / f"{option}.yaml") for option in options(group)]
    named = {get_class(cfg._target_) for cfg in files if "_target_" in cfg}
    assert named == set(concrete(base))


@pytest.mark.parametrize("grid", [o for o in options("sampler/grid") if o != "fitted"])
@pytest.mark.parametrize("sampler", options("sampler"))
def test_every_sampler_takes_every_grid(sampler, grid):
    cfg = composed(f"sampler={sampler}", f"sampler/grid={grid}", "sampler.steps=4")
    built = instantiate(cfg.sampler)
    assert isinstance(built, Sampler)
    assert built.steps == 4
    assert type(built.grid) is get_class(cfg.sampler.grid._target_)
    noise = BatchNoise(torch.Generator().manual_seed(0))
    x = sample(built, lambda x_t, level: 0 * x_t, Cosine(), (1, 2), noise)
    assert x.isfinite().all()


@pytest.mark.parametrize("sampler", options("sampler"))
def test_files_state_every_setting(sampler):
    """What can be set is seen in the file, and in --cfg job."""
    cfg = composed(f"sampler={sampler}").sampler
    built = instantiate(cfg)
    assert set(cfg) - {"_target_"} == {field.name for field in fields(built)}
    assert built.name == sampler, "one name everywhere: that of the option"


@pytest.mark.parametrize("guidance", [o for o in options("guidance") if o != "autoguidance"])
def test_every_guidance_builds(guidance):
    cfg = composed(f"guidance={guidance}").guidance
    built = instantiate(cfg)
    assert isinstance(built, Guidance)
    assert set(cfg) - {"_target_"} == {field.name for field in fields(built)}


def test_weights_of_attributes_come_from_the_command_line():
    built = instantiate(
        composed(
            "guidance=attributes", "guidance.weights={Young: 3, 5_o_Clock_Shadow: -1}"
        ).guidance
    )
    assert built.weights == {"Young": 3, "5_o_Clock_Shadow": -1}


def test_a_fitted_grid_asks_for_its_fit():
    with pytest.raises(UserError, match=r"python -m ccdiff\.fit run="):
        instantiate(composed("sampler/grid=fitted").sampler)


def test_autoguidance_asks_for_its_weak_model():
    with pytest.raises(UserError, match=r"pass guidance\.weak\.run="):
        instantiate(composed("guidance=autoguidance").guidance)
    with pytest.raises(UserError, match="no such file or folder"):
        instantiate(composed("guidance=autoguidance", "guidance.weak.run=/nowhere").guidance)
