"""Texts of a command are what was typed, whatever the grammar of overrides makes of it."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from cli import call
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from ccdiff.config.build import check_slots
from ccdiff.config.schema import TrainConfig
from ccdiff.errors import UserError
from ccdiff.launch.texts import quoted, read_otherwise, text_arguments, text_keys

TYPED = [
    *("12e4567", "1.10", "1_000", "007", "1e3", "0x1F", "inf", "NaN", "-0", "+5", "1.", "5"),
    *("true", "False", "null_", "None", "~/runs", "a=b", "größe", "猫", "it's", "a b  c", "x (1)"),
    *("C:\\runs\\", "a#b", "seed-0+lr-1", "100%", "a:b", "run(copy)", "../x", "a/b.pt"),
]


@dataclass
class Inner:
    root: str | None = None
    size: int = 1


@dataclass
class Keys:
    run: str | None = None
    name: str = ""
    n: int = 0
    batch_size: int | str = "auto"
    group: Any = None
    data: Inner = field(default_factory=Inner)


def arrives(argument: str) -> object:
    (written,) = text_arguments([argument], Keys)
    (override,) = OverridesParser.create().parse_overrides([written])
    return override.value()


@pytest.mark.parametrize("typed", TYPED)
def test_text_arrives_as_it_was_typed(typed):
    if typed.count("\\") == 0:
        for key in ("run", "+run", "name", "data.root", "hydra.run.dir"):
            assert str(arrives(f"{key}={typed}")) == typed
    (override,) = OverridesParser.create().parse_overrides([f"run={quoted(typed)}"])
    assert override.value() == typed


def test_other_keys_and_what_is_hydras_stay():
    given = [
        *("n=1_000", "batch_size=1_0", "group=1.10", "data.size=1_0", "--multirun", "~run", "run"),
        *("run=null", "run=NULL", "run=", "run='1_0'", 'run="1.10"', "run=[1_0]", "run=${name}"),
        *("run=choice(1_0,b)", "run=a\\,b", "unknown=1_0"),
    ]
    assert text_arguments(given, Keys) == given


def test_each_run_of_a_sweep_is_what_was_typed():
    (written,) = text_arguments(["run=1_0,a,'b,c',1.10"], Keys)
    (override,) = OverridesParser.create().parse_overrides([written])
    assert override.is_sweep_override()
    choices = override.value().list
    assert [getattr(one, "text", one) for one in choices] == ["1_0", "a", "b,c", "1.10"]


def test_the_keys_that_take_text():
    assert set(text_keys(Keys)) == {"run", "name", "data.root"}
    assert {"resume", "trainer.device", "evaluate.cache"} <= set(text_keys(TrainConfig))


def test_a_group_takes_as_text_what_was_typed():
    config = OmegaConf.create(
        {
            "data": {
                "_target_": "ccdiff.data.Folder",
                "root": 1.1,
                "image_size": 16,
                "flip": False,
                "cache": True,
                "channels": "3",
            }
        }
    )
    typed = read_otherwise(["data.root=1.10", "data.cache=True", "data.image_size=1_6", "seed=x"])
    assert typed == {"data.root": "1.10", "data.cache": "True", "data.image_size": "1_6"}
    check_slots(config, typed=typed)
    assert (config.data.root, config.data.cache) == ("1.10", "True")
    assert (config.data.image_size, config.data.channels) == (16, 3)
    config.data.root = 1.1
    with pytest.raises(UserError, match=r"data\.root must be text"):
        check_slots(config, typed={"data.cache": "True"})
    config.data.channels = 1.5
    with pytest.raises(UserError, match=r"data\.channels must be a whole number, got 1\.5"):
        check_slots(config, typed={"data.channels": "1.5", "data.root": "1.10"})


@pytest.mark.parametrize(
    ("script", "argument", "told"),
    [
        ("sample.py", "run=12e4567", "12e4567"),
        ("ccdiff.evaluate", "run=1.10", "1.10"),
        ("ccdiff.export", "run=1_000", "1_000"),
        ("train.py", "resume=1_000", "1_000"),
        ("train.py", "resume=größe", "größe"),
        ("ccdiff.curve", "run=~/1_0", "1_0"),
    ],
)
def test_a_run_that_is_not_there_is_named_as_it_was_typed(tmp_path, script, argument, told):
    done = call(script, argument, cwd=tmp_path)
    assert done.status == 1
    assert told in done.printed
    assert "Traceback" not in done.printed


def test_nothing_of_this_hides_what_the_grammar_refuses():
    with pytest.raises(HydraException):
        OverridesParser.create().parse_overrides(text_arguments(["n=größe"], Keys))
