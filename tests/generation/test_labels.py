import pytest
import torch

from ccdiff.diffusion.conditioning import MultiHot, OneHot, label_index
from ccdiff.diffusion.continuous import Continuous
from ccdiff.errors import UserError
from ccdiff.generation.labels import parse_labels

ANIMALS = OneHot(["cat", "dog", "great white shark"], dim=4)
DIGITS = OneHot([str(digit) for digit in range(10)], dim=4)
COUNTS = OneHot(["3", "1", "2"], dim=4)
NAMES = ["Young", "Male", "Smiling", "Wearing Hat"]
CLOSED = MultiHot(NAMES, dim=4)
OPEN = MultiHot(NAMES, dim=4, attribute_drop=0.1)


@pytest.mark.parametrize(
    ("request_", "indices"),
    [
        (None, [0, 1, 2]),
        ("dog", [1]),
        (2, [2]),
        ("2", [2]),
        (["cat", "dog"], [0, 1]),
        (["dog", 0, "great white shark"], [1, 0, 2]),
        ([1, 1], [1, 1]),
        (" cat ", [0]),
    ],
)
def test_classes_are_names_or_indices(request_, indices):
    y, drop, titles = parse_labels(request_, ANIMALS)
    assert y.tolist() == indices
    assert y.dtype == torch.int64
    assert drop is None
    assert titles == [ANIMALS.label_names[i] for i in indices]


def test_a_class_named_by_a_number_comes_before_the_index():
    assert parse_labels([3, "1"], COUNTS).y.tolist() == [0, 1]
    # No class is named 0, so it is an index.
    assert parse_labels([0], COUNTS).titles == ["3"]
    assert parse_labels([3, 7], DIGITS).y.tolist() == [3, 7]


@pytest.mark.parametrize(
    ("request_", "y", "hidden", "titles"),
    [
        (["Young,Smiling,-Male"], [[1, 0, 1, 0]], [[0, 0, 0, 1]], ["Young, -Male, Smiling"]),
        ("Young", [[1, 0, 0, 0]], [[0, 1, 1, 1]], ["Young"]),
        (["Wearing Hat", "-Young"], [[0, 0, 0, 1], [0, 0, 0, 0]], None, None),
        ([["Young", "-Male"]], [[1, 0, 0, 0]], [[0, 0, 1, 1]], ["Young, -Male"]),
        (" - Male , Young ,", [[1, 0, 0, 0]], [[0, 0, 1, 1]], ["Young, -Male"]),
        ([[0, 1, 1, 0]], [[0, 1, 1, 0]], [[0, 0, 0, 0]], ["-Young, Male, Smiling, -Wearing Hat"]),
        ("", [[0, 0, 0, 0]], [[1, 1, 1, 1]], ["anything"]),
    ],
)
def test_rows_of_attributes(request_, y, hidden, titles):
    labels = parse_labels(request_, OPEN)
    assert labels.y.tolist() == y
    assert labels.y.dtype == torch.uint8
    assert labels.drop.dtype == torch.bool
    if hidden is not None:
        assert labels.drop.int().tolist() == hidden
        assert labels.titles == titles
    same = parse_labels(request_, CLOSED)
    assert same.y.tolist() == y
    assert same.drop is None


def test_without_attribute_drop_what_is_not_named_is_absent_and_not_said():
    assert parse_labels(["Young,-Male", ""], CLOSED).titles == ["Young", "none"]


def test_names_that_begin_with_a_minus_or_look_like_numbers():
    odd = MultiHot(["-x", "x", "7"], dim=4)
    assert parse_labels(["-x"], odd).y.tolist() == [[1, 0, 0]]
    assert parse_labels(["x,--x"], odd).y.tolist() == [[0, 1, 0]]
    assert parse_labels([7], odd).y.tolist() == [[0, 0, 1]]


@pytest.mark.parametrize(
    ("request_", "conditioning", "message"),
    [
        ("dgo", ANIMALS, r"'dgo'; did you mean dog\? \(there are 3: cat, dog"),
        ("CAT", ANIMALS, r"did you mean cat\?"),
        ("zebra", ANIMALS, "no label is named 'zebra' .there are 3: cat, dog, great white shark"),
        (3, ANIMALS, r"class index 3 is outside 0\.\.2"),
        (-1, ANIMALS, r"class index -1 is outside 0\.\.2"),
        ("-4", ANIMALS, r"class index -4 is outside"),
        ([], ANIMALS, "empty"),
        ([["cat"]], ANIMALS, "one class per image"),
        ([True], ANIMALS, "neither a name nor a number"),
        (1.5, ANIMALS, "neither a name nor a number"),
        ([None], ANIMALS, "neither a name nor a number"),
        (None, OPEN, r"pass labels='\[\"Young,-Male\"\]'.*Wearing Hat"),
        ("Young,Yuong", OPEN, r"no label is named 'Yuong'; did you mean Young\?"),
        ("young", OPEN, r"did you mean Young\?"),
        ("-Mael", OPEN, r"no label is named 'Mael'; did you mean Male\?"),
        ("Young,Male,Young", OPEN, "names Young twice"),
        ("Young,-Young", OPEN, "names both Young and -Young"),
        ("-Male,Male", OPEN, "names both Male and -Male"),
        ([[0, 1, 1]], OPEN, "no label is named '0'"),
        ([[0, 1, 2, 0]], OPEN, "no label is named '0'"),
    ],
)
def test_bad_labels_say_what_would_be_right(request_, conditioning, message):
    with pytest.raises(UserError, match=message):
        parse_labels(request_, conditioning)


def test_many_names_are_not_all_listed():
    names = [f"class {i:03d}" for i in range(1000)]
    with pytest.raises(UserError) as error:
        label_index("class 0042", names)
    assert "class 042" in str(error.value)
    assert len(str(error.value)) < 200
    with pytest.raises(UserError, match=r"there are 1000: class 000, .*\.\.\."):
        label_index("zzz", names)


def test_a_row_means_to_the_model_what_it_says():
    """Unnamed is hidden, and hidden is not absent: the tokens differ."""
    y, drop, _ = parse_labels(["Young", "Young,-Male,-Smiling,-Wearing Hat"], OPEN)
    tokens = OPEN(y, drop)
    assert torch.equal(tokens[0, 0], tokens[1, 0])
    assert torch.equal(tokens[0, 1:], OPEN.null[1:])
    assert torch.equal(tokens[1, 1:], OPEN.absent[1:])


def test_attribute_drop_hides_single_attributes_independently(generator):
    draws = MultiHot(NAMES, dim=4, drop=0.1, attribute_drop=0.2).draw_drop(50_000, generator)
    assert draws.shape == (50_000, 4)
    assert draws.dtype == torch.bool
    hidden = draws.double()
    # One is hidden with its row, or alone; two both with the row, or each alone.
    one, two = 0.1 + 0.9 * 0.2, 0.1 + 0.9 * 0.2**2
    for k in range(4):
        assert hidden[:, k].mean().item() == pytest.approx(one, abs=0.01)
    assert (hidden[:, 0] * hidden[:, 3]).mean().item() == pytest.approx(two, abs=0.01)
    whole = draws.all(1).double().mean().item()
    assert whole == pytest.approx(0.1 + 0.9 * 0.2**4, abs=0.01)


def test_without_attribute_drop_whole_rows_are_drawn_as_ever():
    rows, same = (
        MultiHot(NAMES, dim=4, drop=0.3, **settings).draw_drop(
            100, torch.Generator().manual_seed(0)
        )
        for settings in ({}, {"attribute_drop": 0.0})
    )
    assert rows.shape == (100,)
    assert torch.equal(rows, same)
    for bad in (-0.1, 1.0):
        with pytest.raises(UserError, match="attribute_drop must be"):
            MultiHot(NAMES, dim=4, attribute_drop=bad)


def test_letters_composed_in_two_ways_are_the_same_name():
    composed, apart = "Gr\u00f6\u00dfe", "Gro\u0308\u00dfe"
    for known, typed in ((composed, apart), (apart, composed)):
        asked = parse_labels([typed], OneHot(["cat", known], dim=4))
        assert asked.y.tolist() == [1]
        assert asked.titles == [known]
        rows = parse_labels([f"-{typed}", f"cat,{typed}"], MultiHot(["cat", known], dim=4))
        assert rows.y.tolist() == [[0, 0], [1, 1]]
    # Where both are names, each is its own.
    assert parse_labels([apart, composed], OneHot([composed, apart], dim=4)).y.tolist() == [1, 0]


def test_bits_may_arrive_as_text():
    rows = parse_labels([["0", "1", "1", "0"], [1, 0, 0, 0]], CLOSED)
    assert rows.y.tolist() == [[0, 1, 1, 0], [1, 0, 0, 0]]
    # Unless they are what the attributes are called.
    assert parse_labels([["1", "0"]], MultiHot(["0", "1"], dim=4)).y.tolist() == [[1, 1]]


def numbers(*names: str, **settings) -> Continuous:
    conditioning = Continuous(names, dim=4, **settings)
    spread = torch.tensor([[0.0], [100.0]]).expand(2, len(names)) + torch.arange(len(names))
    conditioning.fit(spread)
    return conditioning


@pytest.mark.parametrize(
    "request_",
    [
        {"angle": 30, "size": 2.5},
        [{"size": "2.5", "angle": "30"}],
        "angle=30,size=2.5",
        ["angle = 30, size = 2.5"],
        [["angle=30", "size=2.5"]],
        ["30, 2.5"],
        [[30, 2.5]],
    ],
)
def test_rows_of_numbers(request_):
    labels = parse_labels(request_, numbers("angle", "size"))
    assert labels.y.tolist() == [[30, 2.5]]
    assert labels.y.dtype == torch.float32
    assert labels.drop is None
    assert labels.titles == ["angle=30, size=2.5"]


def test_a_single_number_needs_no_name():
    labels = parse_labels([10, "20.5", {"angle": -3}], numbers("angle"))
    assert labels.titles == ["angle=10", "angle=20.5", "angle=-3"]


def test_numbers_that_are_not_named_are_left_open_or_asked_for():
    labels = parse_labels({"size": 2}, numbers("angle", "size", number_drop=0.1))
    assert labels.y[0].isnan().tolist() == [True, False]
    assert labels.titles == ["size=2"]
    with pytest.raises(UserError, match=r"size=2 does not name angle.*number_drop=0\.1"):
        parse_labels({"size": 2}, numbers("angle", "size", drop=0.1))


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (None, r"which numbers\?.*angle: 50, size: 51.*angle from 0 to 100, size from 1 to 101"),
        ({"angel": 3, "size": 1}, "no label is named 'angel'; did you mean angle"),
        ({"angle": "wide", "size": 1}, "angle=wide is no finite number"),
        ({"angle": float("inf"), "size": 1}, "angle=inf is no finite number"),
        ({"angle": 1e39, "size": 1}, "no finite number"),
        ({"angle": True, "size": 1}, "angle=True is no finite number"),
        ("angle=3,angle=4", "names angle twice"),
        ("angle=3,4", "'4' is no name=number; the numbers are angle, size"),
    ],
)
def test_numbers_that_are_none_are_refused(request_, reason):
    with pytest.raises(UserError, match=reason):
        parse_labels(request_, numbers("angle", "size"))


def test_a_number_outside_of_the_training_images_is_told(caplog):
    parse_labels([{"angle": 50}, {"angle": 101}], numbers("angle"))
    assert "angle=101 lies outside of the training images, which go from 0 to 100" in caplog.text
    assert len(caplog.records) == 1
