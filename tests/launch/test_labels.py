"""What was typed is what is looked up, whatever the grammar of overrides makes of it."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from ccdiff.launch.labels import label_arguments

NAMES = [
    *("1_0", "3", "007", "1e3", "1.0", "-3", "0x1F", "inf", "nan"),
    *("true", "False", "null", "None", "yes", "on", "~"),
    *("cat", "5_o_Clock_Shadow", "-Male", "Größe 38", "ß", "łódź", "жук", "猫", "a b  c"),
    *("it's", "a=b", "a:b", "a/b", "100%", "x$y", "@home", "#1", "a+b", "a*b", "don't know", "&"),
]


def arrives(*arguments: str) -> object:
    (override,) = OverridesParser.create().parse_overrides(label_arguments([*arguments]))
    return override.value()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_arrives_as_it_was_typed(name):
    assert arrives(f"labels=[{name}]") == [name]
    assert arrives(f"labels=[cat,{name}, dog]") == ["cat", name, "dog"]
    assert arrives(f"labels=['{name}']" if "'" not in name else f'labels=["{name}"]') == [name]
    if name not in ("null",):
        assert arrives(f"labels={name}") == name


def test_rows_of_attributes_and_of_bits():
    assert arrives('labels=["Young,Smiling,-Male",Eyeglasses]') == [
        "Young,Smiling,-Male",
        "Eyeglasses",
    ]
    assert arrives("labels=[[Young,-Male],[0,1,0]]") == [["Young", "-Male"], ["0", "1", "0"]]


def test_what_is_hydras_stays():
    assert arrives("labels=null") is None
    assert arrives("labels=[]") == []
    for given in ("run=1_0", "labels", "other=[true]", "labels=choice(a,b)", "labels="):
        assert label_arguments([given]) == [given]
    (sweep,) = OverridesParser.create().parse_overrides(label_arguments(["labels=1_0,true"]))
    assert sweep.is_sweep_override()
