"""What the page asks for is what the labels of a model are."""

import pytest

pytest.importorskip("gradio", reason="the extra demo is not installed")

from ccdiff.demo.labels import ABSENT, OPEN, PRESENT, label_choice
from ccdiff.diffusion.conditioning import MultiHot, OneHot
from ccdiff.diffusion.continuous import Continuous
from ccdiff.errors import UserError
from ccdiff.generation.labels import parse_labels

pytestmark = pytest.mark.filterwarnings("ignore")  # Those of gradio and its friends.


def values_of(choice):
    """What the page gives where nothing was changed."""
    return [box.value for box in choice.inputs]


@pytest.mark.parametrize("n", [3, 40])
def test_classes_are_rows(n):
    conditioning = OneHot([f"c{k}" for k in range(n)], dim=4)
    choice = label_choice(conditioning)
    assert parse_labels(choice.read(values_of(choice)), conditioning).y.tolist() == [0, 1, 2]
    assert choice.read([["c2"]]) == ["c2"]
    with pytest.raises(UserError, match="choose a label"):
        choice.read([[]])


@pytest.mark.parametrize("n", [3, 40])
@pytest.mark.parametrize("drop", [0.0, 0.1])
def test_attributes_are_present_absent_or_open(n, drop):
    conditioning = MultiHot([f"a{k}" for k in range(n)], dim=4, attribute_drop=drop)
    choice = label_choice(conditioning)
    few = len(choice.inputs) == n
    assert few == (n == 3)
    if few:
        states = [c if isinstance(c, str) else c[0] for c in choice.inputs[0].choices]
        assert (OPEN in states) == (drop > 0)
    first = parse_labels(choice.read(values_of(choice)), conditioning)
    assert first.y[0].tolist() == [1] + [0] * (n - 1)
    assert (first.drop is not None) == (drop > 0)
    rest = OPEN if drop else ABSENT
    given = [PRESENT, ABSENT, *[rest] * (n - 2)] if few else [["a0"], ["a1"]]
    asked = parse_labels(choice.read(given), conditioning)
    assert asked.y[0].tolist() == [1] + [0] * (n - 1)
    if drop:
        assert asked.drop[0].tolist() == [False, False] + [True] * (n - 2)
    nothing = [ABSENT] * n if few else [[], [f"a{k}" for k in range(n)]]
    assert parse_labels(choice.read(nothing), conditioning).y[0].tolist() == [0] * n


def test_an_attribute_is_not_both():
    choice = label_choice(MultiHot([f"a{k}" for k in range(40)], dim=4, attribute_drop=0.1))
    with pytest.raises(UserError, match="a3 cannot be both"):
        choice.read([["a3"], ["a3"]])


def test_numbers_lie_in_the_range_of_the_training_images():
    conditioning = Continuous(["angle", "size"], dim=4, number_drop=0.1)
    for name, values in (("low", (-90.0, 0.0)), ("high", (90.0, 4.0)), ("mean", (10.0, 2.0))):
        for k, value in enumerate(values):
            getattr(conditioning, name)[k] = value
    choice = label_choice(conditioning)
    angle = choice.inputs[0]
    assert (angle.minimum, angle.maximum, angle.value) == (-90, 90, 10)
    assert parse_labels(choice.read([30, False, 1.5, False]), conditioning).y.tolist() == [
        [30, 1.5]
    ]
    y = parse_labels(choice.read([30, False, 1.5, True]), conditioning).y
    assert y[0, 0] == 30
    assert y[0, 1].isnan()
    with pytest.raises(UserError, match="at least one number"):
        choice.read([0, True, 0, True])
