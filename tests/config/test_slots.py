"""A group builds what the group is for, from plain values of the types that its class wants."""

import builtins
import os
import pathlib
from contextlib import suppress

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import OmegaConf
from parts import concrete

from ccdiff.config import schema
from ccdiff.config.build import build_objective, check_slots, instantiate, plain
from ccdiff.config.slots import SLOTS
from ccdiff.errors import UserError
from ccdiff.launch.arguments import CONF

schema.register()
OPTIONS = [(slot, path.stem) for slot in SLOTS for path in sorted((CONF / slot).glob("*.yaml"))]


def composed(*overrides: str):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", list(overrides))


@pytest.mark.parametrize(("slot", "option"), OPTIONS, ids=lambda value: value)
def test_every_option_is_what_its_group_is_for(slot, option):
    cfg = composed(f"{slot}={option}")
    before = plain(cfg)
    check_slots(cfg)
    assert plain(cfg) == before


def every_target() -> list[str]:
    found = set()
    for slot in SLOTS:
        for base in SLOTS[slot].bases:
            if base.startswith("ccdiff."):
                found |= {f"{c.__module__}.{c.__name__}" for c in concrete(get_object(base))}
    return sorted(found)


@pytest.mark.parametrize("slot", [slot for slot in SLOTS if slot != "task"])
def test_no_other_class_of_the_package_is_taken(slot):
    """Not one that is meant for another group, nor one that is for none."""
    cfg = composed()
    bases = tuple(get_object(base) for base in SLOTS[slot].bases)
    foreign = [t for t in every_target() if not issubclass(get_object(t), bases)]
    assert len(foreign) > 20
    for target in [*foreign, "ccdiff.runs.log.RunLog", "ccdiff.system.background.Background"]:
        cfg[slot] = {"_target_": target}
        with pytest.raises(UserError, match=rf"{slot}|cannot be found"):
            instantiate(cfg[slot])


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("data.flip=no", False),
        ("data.flip=off", False),
        ("data.flip=On", True),
        ("model.label_film=no", False),
        ("model.label_film=1", True),
        ("optimizer.fused=no", False),
        ("sampler.steps=1e1", 10),
        ("sampler.steps='12'", 12),
        ("optimizer.lr='1e-3'", 1e-3),
    ],
)
def test_words_become_values(override, value):
    cfg = composed(override)
    check_slots(cfg)
    found = OmegaConf.select(cfg, override.partition("=")[0].lstrip("+"))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["data.flip=maybe"], "data.flip must be true or false"),
        (["data.flip=2"], "data.flip must be true or false"),
        (["data.flip=null"], "data.flip must be true or false"),
        (["sampler.steps=2.5"], "sampler.steps must be a whole number"),
        (["sampler.steps=true"], "sampler.steps must be a whole number, got true"),
        (["sampler.steps=inf"], "sampler.steps must be a whole number"),
        (["guidance=cfg", "guidance.scale=nan"], "guidance.scale must be a"),
        (["guidance=cfg", "guidance.scale=inf"], "guidance.scale must be a finite"),
        (["guidance=cfg", "guidance.scale=abc"], "guidance.scale must be a number"),
        (["guidance=cfg", "guidance.log_snr_range=[nan,1]"], "log_snr_range"),
        (["guidance=cfg", "guidance.log_snr_range=5"], "log_snr_range must be a list"),
        (["optimizer.lr=nan"], "optimizer.lr must be a number"),
        (["optimizer.lr=inf"], r"optimizer.lr must be a finite number, got inf"),
        (["optimizer.fused=perhaps"], "optimizer.fused must be true or false"),
        (["+optimizer.lrr=1"], "did you mean optimizer.lr?"),
        (["model.channels=8"], "model.channels must be a list"),
        (["model.channels=[8,x]"], r"model.channels\[1\] must be a whole"),
        (["model.bottleneck=null"], "model.bottleneck must be a whole number"),
        (["model.dropout=yes"], "model.dropout must be a number"),
        (["+model.widht=3"], "takes no model.widht"),
        (["experiment=mnist_fast", "ema=posthoc"], "~ema.update_every leaves it out"),
        (["conditioning.dim=1.5"], "conditioning.dim must be a whole"),
        (["sampler.grid=5"], "sampler.grid must be"),
        (["sampler.grid._target_=ccdiff.diffusion.schedules.Cosine"], "sampler.grid must be"),
        (["+sampler.steps2={_target_:ccdiff.diffusion.schedules.Cosine}"], "sampler"),
        (["data.placement={_target_:ccdiff.diffusion.schedules.Cosine}"], "data.placement"),
        (["optimizer._partial_=false"], "optimizer._partial_ must be true"),
        (["+sampler._partial_=true"], "sampler._partial_ must be false"),
        (["+sampler._args_=[1]"], "sampler"),
        (["objective._target_=ccdiff.diffusion.times.Stratified"], "is no Objective"),
        (["+objective.times=1"], "objective.times is no setting"),
        (["+optimizer.params=[]"], "optimizer.params is no setting"),
        (["tracker.project=3"], "tracker.project must be text"),
        (["ema.beta=nan"], "ema.beta"),
        (["times=logit_normal", "times.std=nan"], "times.std"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else None,
)
def test_what_a_class_does_not_take_is_refused_with_the_key(overrides, told):
    with pytest.raises(UserError, match=told):
        check_slots(composed(*overrides))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["objective=meanflow", "objective.share=2"], "objective.share must be in"),
        (["objective=consistency", "objective.factor=0.5"], "objective.factor must be above 1"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else None,
)
def test_what_an_objective_refuses_is_bad_input(overrides, told):
    with pytest.raises(UserError, match=told):
        build_objective(composed(*overrides))


@pytest.mark.parametrize("option", sorted(p.stem for p in (CONF / "optimizer").glob("*.yaml")))
def test_what_an_optimizer_refuses_is_bad_input(option):
    make = instantiate(composed(f"optimizer={option}", "optimizer.lr=-1").optimizer)
    with pytest.raises(UserError, match="-1"):
        make([torch.nn.Parameter(torch.zeros(2, 2))])


def test_building_does_no_work(monkeypatch):
    """A config from elsewhere may be built to look at it: nothing is read, made or written."""
    # Loading another model is what autoguidance is for.
    options = [pair for pair in OPTIONS if pair != ("guidance", "autoguidance")]
    nodes = [composed(f"{slot}={option}")[slot] for slot, option in options]
    for node in nodes:
        with suppress(UserError):  # A folder that is not given.
            instantiate(node)  # Imports, which read files.

    def refuse(*args, **kwargs):
        raise AssertionError(f"a constructor does work: {args}")

    for name in ("mkdir", "write_text", "write_bytes", "touch", "unlink", "iterdir", "open"):
        monkeypatch.setattr(pathlib.Path, name, refuse)
    monkeypatch.setattr(os, "makedirs", refuse)
    monkeypatch.setattr(builtins, "open", refuse)
    for node in nodes:
        with suppress(UserError):
            instantiate(node)
