"""Every option of every group composes, and builds what it names; found by listing conf/."""

import abc
import copy
import functools
import inspect
from pathlib import Path
from typing import Generic, Protocol

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

import ccdiff
from ccdiff.config import schema
from ccdiff.config.build import build_denoiser, instantiate
from ccdiff.config.slots import SLOTS
from ccdiff.errors import UserError
from ccdiff.settings import Shard
from ccdiff.training.ddp import make_optimizer

ROOT = Path(ccdiff.__file__).parent.parent
CONF = ROOT / "conf"
# A group's options are its files; folders inside are groups of their own.
OPTIONS = sorted(
    (path.parent.name, path.stem)
    for group in CONF.iterdir()
    if group.is_dir() and group.name != "wandb"  # what W&B's agents read
    for path in group.glob("*.yaml")
)
EXPERIMENTS = [option for group, option in OPTIONS if group == "experiment"]

PLUGINS = {("sweep", "search"): "hydra_plugins.hydra_optuna_sweeper"}
"""What options need that is an extra."""

schema.register()


def composed(*overrides: str, name: str = "train") -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name, list(overrides))


@functools.cache
def with_option(group: str, option: str) -> DictConfig:
    """The config with one choice, which is for reading: composing takes longer than most tests."""
    return composed(f"{group}={option}")


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda value: value)
def test_every_option_composes_and_resolves(group, option):
    if plugin := PLUGINS.get((group, option)):
        pytest.importorskip(plugin)
    cfg = copy.deepcopy(with_option(group, option))
    OmegaConf.resolve(cfg)
    assert not OmegaConf.missing_keys(cfg)


# Groups whose options are no objects of one kind by themselves.
APART = ("experiment", "sweep", "trainer", "evaluate", "data", "model", "guidance")
# What classes of different kinds have in common.
COMMON = {object, abc.ABC, Generic, Protocol, torch.nn.Module}


@pytest.mark.parametrize("group", sorted({group for group, _ in OPTIONS} - set(APART)))
def test_options_of_a_group_can_stand_for_each_other(group):
    """Each builds an object, or what will build one, and all of a group have a base in common."""
    kinds = {}
    for option in (option for other, option in OPTIONS if other == group):
        built = inspect.unwrap(instantiate(with_option(group, option)[group]))
        kinds[option] = built.func if isinstance(built, functools.partial) else type(built)
    shared = set.intersection(*(set(inspect.getmro(kind)) for kind in kinds.values()))
    if group == "ema":  # A library's, without a base: what is called of them is what they share.
        assert all({"update", "state_dict"} <= set(dir(kind)) for kind in kinds.values())
    else:
        assert shared - COMMON, kinds


@pytest.mark.parametrize("data", [o for g, o in OPTIONS if g == "data"])
@pytest.mark.parametrize("model", [o for g, o in OPTIONS if g == "model"])
def test_every_model_takes_every_data_set(model, data):
    cfg = composed(f"model={model}", f"data={data}")
    if not cfg.data.label_names:
        cfg.data.label_names = ["first", "second"]
    if cfg.data.image_size is None:
        pytest.fail(f"conf/data/{data}.yaml states no image_size")
    with torch.device("meta"):
        denoiser = build_denoiser(cfg)
        x = torch.zeros(2, cfg.data.channels, cfg.data.image_size, cfg.data.image_size)
        names = len(cfg.data.label_names)
        y = torch.zeros(2, dtype=torch.long)
        if cfg.conditioning._target_.endswith("MultiHot"):
            y = torch.zeros(2, names, dtype=torch.uint8)
        assert denoiser(x, denoiser.schedule.at(torch.zeros(2)), y).shape == x.shape


@pytest.mark.parametrize(
    ("group", "option"),
    [(g, o) for g, o in OPTIONS if g not in ("experiment", "sweep")],
    ids=lambda value: value,
)
def test_every_key_is_an_argument(group, option):
    """A misspelt key in a committed YAML would only show when somebody picks the option."""
    node = with_option(group, option)[group]
    if "_target_" not in node:
        pytest.skip("a typed group: its schema checks the keys")
    accepted = inspect.signature(get_class(node._target_).__init__).parameters
    keys = {key for key in node if key not in ("_target_", "_partial_")}
    assert keys <= set(accepted), f"{node._target_} does not take {keys - set(accepted)}"
    if node._target_.startswith("ccdiff."):
        # What can be set is seen in the file, and can be set on the command line.
        named = {
            n for n, p in accepted.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
        }
        # What is built in part is given its first arguments later.
        later = {"self", *list(accepted)[1 : 1 + (SLOTS[group].later if group in SLOTS else 0)]}
        lacking = named - keys - later
        assert not lacking, f"conf/{group}/{option}.yaml does not state {sorted(lacking)}"


@pytest.mark.parametrize("experiment", [e for e in EXPERIMENTS if ("data", e) in OPTIONS])
def test_experiments_named_after_their_data_hold_the_recipe(experiment):
    cfg = composed(f"experiment={experiment}")
    assert cfg.data._target_.lower().endswith(experiment)
    assert cfg.prediction._target_.endswith("Noise")
    assert cfg.weighting._target_.endswith("SNR")
    assert cfg.schedule._target_.endswith("Cosine")


def test_a_first_look_trains_no_judge():
    """Which would take ten times as long as the training itself."""
    assert composed("experiment=mnist_fast").evaluate.every == 0


def test_explicit_choice_wins_over_experiment():
    cfg = composed("experiment=mnist", "schedule=linear", "trainer.steps=7")
    assert cfg.schedule._target_.endswith("Linear")
    assert cfg.trainer.steps == 7


def test_celebahq_brings_multihot_and_a_choice_wins():
    assert composed("data=celebahq").conditioning._target_.endswith("MultiHot")
    chosen = composed("data=celebahq", "conditioning=onehot")
    assert chosen.conditioning._target_.endswith("OneHot")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model=unet_huge", "unet_large"),
        ("trainer.steps=abc", "trainer.steps|steps"),
        ("trainer.precision=fp8", "bf16"),
        ("trainer.step=5", "step"),
        ("seed=one", "seed"),
    ],
)
def test_wrong_overrides_are_named(override, message):
    with pytest.raises(ConfigCompositionException) as caught:
        composed(override)
    assert any(part in f"{caught.value} {caught.value.__cause__}" for part in message.split("|"))


def test_a_key_that_nothing_reads_is_refused():
    schema.typed(composed(), schema.TrainConfig)
    with pytest.raises(UserError, match=r"modle.*did you mean model"):
        schema.typed(composed("+modle=unet_large"), schema.TrainConfig)
    with pytest.raises(UserError, match=r"trainer\.stpes.*did you mean trainer\.steps"):
        schema.typed(composed("+trainer.stpes=3"), schema.TrainConfig)


@pytest.mark.parametrize(
    "override",
    [
        "trainer.steps=0",
        "trainer.accumulate=3",
        "trainer.grad_clip=-1",
        "trainer.warmup=-1",
        "trainer.cooldown=-1",
        "trainer.profile=-1",
        "trainer.profile=1191",
    ],
)
def test_impossible_settings_are_refused_by_name(override):
    cfg = composed(override)
    with pytest.raises(UserError, match=override.split("=")[0]):
        OmegaConf.to_object(cfg.trainer)


@pytest.mark.parametrize(
    "override", ["model.groups=7", "schedule.max_log_snr=-1", "conditioning.drop=1.5"]
)
def test_refused_values_become_user_errors(override):
    group = override.split(".")[0]
    with pytest.raises(UserError):
        instantiate(composed(override)[group])


def test_values_that_an_optimizer_refuses_become_user_errors():
    make = instantiate(composed("optimizer.lr=-1").optimizer)
    with pytest.raises(UserError, match=r"optimizer\.\*.*learning rate"):
        make_optimizer(make, [torch.nn.Parameter(torch.zeros(1))], shard=Shard.none)
