"""Configs that are read again: with the names of today, and nothing in them looked up."""

import pytest
import yaml
from hydra.utils import get_object
from omegaconf import OmegaConf

from ccdiff.config.names import MOVED, as_of_0_1_0, renamed, with_new_names
from ccdiff.config.saved import load_composed, read_config
from ccdiff.errors import UserError

OLD_TARGETS = [
    "ccdiff.conditioning.MultiHot",
    "ccdiff.conditioning.OneHot",
    "ccdiff.data.CIFAR10",
    "ccdiff.data.CelebAHQ",
    "ccdiff.data.Digits",
    "ccdiff.data.Folder",
    "ccdiff.data.MNIST",
    "ccdiff.edit_tasks.Interpolate",
    "ccdiff.edit_tasks.Invert",
    "ccdiff.edit_tasks.Strip",
    "ccdiff.edit_variations.Img2Img",
    "ccdiff.edit_variations.Inpaint",
    "ccdiff.evaluation.extractors.ClassifierSource",
    "ccdiff.evaluation.local.LocalFile",
    "ccdiff.evaluation.pretrained.DinoV2",
    "ccdiff.evaluation.pretrained.Inception",
    "ccdiff.grids.Karras",
    "ccdiff.grids.LogSNR",
    "ccdiff.grids.Quadratic",
    "ccdiff.grids.Trailing",
    "ccdiff.grids.Uniform",
    "ccdiff.guidance.AttributeGuidance",
    "ccdiff.guidance.AutoGuidance",
    "ccdiff.guidance.CFG",
    "ccdiff.guidance.NoGuidance",
    "ccdiff.nn.UNet",
    "ccdiff.predictions.Clean",
    "ccdiff.predictions.EDM",
    "ccdiff.predictions.FlowVelocity",
    "ccdiff.predictions.Noise",
    "ccdiff.predictions.Velocity",
    "ccdiff.samplers.DDIM",
    "ccdiff.samplers.DDPM",
    "ccdiff.samplers.DPMpp2M",
    "ccdiff.samplers.Euler",
    "ccdiff.samplers.Heun",
    "ccdiff.samplers.StochasticHeun",
    "ccdiff.samplers.UniPC",
    "ccdiff.schedules.Cosine",
    "ccdiff.schedules.Flow",
    "ccdiff.schedules.Linear",
    "ccdiff.schedules.Quadratic",
    "ccdiff.schedules.Sigmoid",
    "ccdiff.sweeps.SweepCallback",
    "ccdiff.thresholding.Clip",
    "ccdiff.thresholding.Dynamic",
    "ccdiff.thresholding.Unlimited",
    "ccdiff.times.LogitNormal",
    "ccdiff.times.Stratified",
    "ccdiff.times.UniformTimes",
    "ccdiff.training.muon.Muon",
    "ccdiff.training.trackers.NoTracker",
    "ccdiff.training.trackers.WandbTracker",
    "ccdiff.weaker.load_weaker",
    "ccdiff.weightings.EDMWeighting",
    "ccdiff.weightings.FlowWeighting",
    "ccdiff.weightings.MinSNR",
    "ccdiff.weightings.SNR",
    "ccdiff.weightings.Uniform",
]
"""All that the YAML of version 0.1.0 names."""


@pytest.mark.parametrize("old", OLD_TARGETS)
def test_what_a_config_of_before_names_is_still_there(old):
    found = renamed(old)
    assert found in MOVED.values() or found.rpartition(".")[2] == old.rpartition(".")[2]
    assert callable(get_object(found))


def test_names_of_today_stay_and_those_of_before_come_back():
    node = {"a": [{"_target_": old, "b": 1} for old in OLD_TARGETS], "_target_": 3, "c": None}
    today = with_new_names(node)
    assert today["a"][0]["_target_"] == "ccdiff.diffusion.conditioning.MultiHot"
    assert with_new_names(today) == today
    assert as_of_0_1_0(today) == node
    assert renamed("ccdiff.grids_of_my_own.Thing") == "ccdiff.grids_of_my_own.Thing"
    assert not set(MOVED) & set(MOVED.values())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: {b: '${oc.env:CCDIFF_PROBE}'}", "a.b is .*stands for"),
        ("a: [1, '${b}']\nb: 2", r"a\[1\] is .*stands for"),
        ("a: 'x ${b} y'", "stands for"),
        ("a: ???", "stands for"),
        ("a: !!binary aGk=", "bytes"),
        ("a: &x [1, 2]\nb: *x", "aliases"),
        ("- 1\n- 2", "no keys"),
        ("", "no keys"),
        ("a: [1", "damaged"),
        ("a: !!python/object/apply:os.getcwd []", "damaged"),
        ("[" * 3000, "damaged"),
        ("a: 1\na: 2", "damaged"),
    ],
)
def test_what_is_no_saved_config_is_refused(text, told, monkeypatch):
    monkeypatch.setenv("CCDIFF_PROBE", "read from the environment")
    with pytest.raises(UserError, match=told) as caught:
        read_config(text, source="config.yaml")
    assert "read from the environment" not in str(caught.value)


def test_values_stay_what_they_are():
    values = {"a": 1, "b": 1e-05, "c": None, "d": ["no", "1", "&", "*"], "e": {"f": True}}
    assert read_config(yaml.safe_dump(values), source="x") == values


def test_what_hydra_composed_refers_to_itself_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("CCDIFF_PROBE", "read from the environment")
    path = tmp_path / "config.yaml"
    path.write_text("a: ${b.c}\nb: {c: 3, d: '${oc.env:CCDIFF_PROBE}'}\ne: ${b}\nf: ${b.d}")
    read = yaml.safe_load(path.read_text()) | {"a": 3, "f": "${oc.env:CCDIFF_PROBE}"}
    assert OmegaConf.to_container(load_composed(path), resolve=False) == read
