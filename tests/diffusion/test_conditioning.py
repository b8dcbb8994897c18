from itertools import product
from math import sqrt

import pytest
import torch
from parts import concrete

from ccdiff.diffusion.conditioning import Conditioning, MultiHot, OneHot
from ccdiff.diffusion.continuous import Continuous
from ccdiff.errors import UserError

NAMES = ["round", "red", "heavy"]

CLASSES = torch.arange(3)
ATTRIBUTES = torch.tensor(list(product([0, 1], repeat=3)), dtype=torch.uint8)
NUMBERS = torch.tensor(list(product([-1.5, 0.0, 2.0], repeat=3)))


@pytest.fixture(params=concrete(Conditioning), ids=lambda cls: cls.__name__)
def conditioning(request) -> Conditioning:
    return request.param(NAMES, dim=16, drop=0.25)


@pytest.fixture
def labels(conditioning) -> torch.Tensor:
    """Every label there is, of the kind that the conditioning takes."""
    for kind in (CLASSES, ATTRIBUTES, NUMBERS):
        try:
            conditioning.check(kind)
        except UserError:
            continue
        return kind
    raise AssertionError(f"{type(conditioning).__name__} takes no kind of labels")


def all_true(labels: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(labels), dtype=torch.bool)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).detach().norm())


def test_tokens_have_the_stated_shape(conditioning, labels):
    tokens = conditioning(labels)
    assert tokens.shape == (len(labels), conditioning.num_tokens, 16)
    assert tokens.dtype == torch.float32


def test_no_two_labels_look_alike_and_none_like_the_null(conditioning, labels):
    hidden = conditioning(labels[:1], all_true(labels[:1]))
    looks = [*conditioning(labels), hidden[0]]
    for i, one in enumerate(looks):
        assert distance(one, torch.zeros_like(one)) > 1
        for other in looks[:i]:
            assert distance(one, other) > 1


def test_a_row_without_attributes_is_not_the_null():
    conditioning = MultiHot(NAMES, dim=16)
    nothing = torch.zeros(1, 3, dtype=torch.uint8)
    told, hidden = conditioning(nothing), conditioning(nothing, torch.tensor([True]))
    # In every single attribute, not only in some of them.
    assert (told - hidden).norm(dim=-1).min() > 1
    assert told.norm(dim=-1).min() > 1


def test_labels_are_hidden_per_sample(conditioning, labels):
    drop = torch.arange(len(labels)) % 2 == 0
    told = conditioning(labels)
    hidden = conditioning(labels, all_true(labels))
    mixed = conditioning(labels, drop)
    assert torch.equal(mixed[drop], hidden[drop])
    assert torch.equal(mixed[~drop], told[~drop])
    assert torch.equal(told, conditioning(labels, ~all_true(labels)))


def test_a_hidden_label_leaves_no_trace(conditioning, labels):
    hidden = conditioning(labels, all_true(labels))
    assert torch.equal(hidden, hidden[:1].expand_as(hidden))


def test_a_mask_of_attributes_hides_them_one_by_one():
    conditioning = MultiHot(NAMES, dim=16)
    drop = torch.zeros(len(ATTRIBUTES), 3, dtype=torch.bool)
    drop[:, 1] = True
    told = conditioning(ATTRIBUTES)
    hidden = conditioning(ATTRIBUTES, all_true(ATTRIBUTES))
    mixed = conditioning(ATTRIBUTES, drop)
    assert torch.equal(mixed[:, [0, 2]], told[:, [0, 2]])
    assert torch.equal(mixed[:, 1], hidden[:, 1])


def test_an_attribute_changes_its_own_token_only():
    conditioning = MultiHot(NAMES, dim=16)
    without, with_red = conditioning(torch.tensor([[1, 0, 0], [1, 1, 0]], dtype=torch.uint8))
    assert torch.equal(without[[0, 2]], with_red[[0, 2]])
    assert distance(without[1], with_red[1]) > 1


def test_the_null_is_learned_from_hidden_labels_only(conditioning, labels):
    everything = all_true(labels)

    def moved_by_a_step(drop: torch.Tensor | None) -> tuple[float, float]:
        """How far one step of gradient descent moves the null and the labels."""
        before = conditioning(labels, everything).detach(), conditioning(labels).detach()
        conditioning.zero_grad()
        conditioning(labels, drop).square().sum().backward()
        with torch.no_grad():
            for parameter in conditioning.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
        after = conditioning(labels, everything).detach(), conditioning(labels).detach()
        return distance(before[0], after[0]), distance(before[1], after[1])

    null, told = moved_by_a_step(None)
    assert null == 0
    assert told > 1
    null, told = moved_by_a_step(everything)
    assert null > 1
    assert told == 0


def test_nothing_depends_on_the_training_mode(conditioning, labels):
    drop = torch.arange(len(labels)) % 2 == 0
    training = conditioning.train()(labels), conditioning(labels, drop)
    evaluating = conditioning.eval()(labels), conditioning(labels, drop)
    for one, other in zip(training, evaluating, strict=True):
        assert torch.equal(one, other)
    masks = [
        conditioning.train(mode).draw_drop(99, torch.Generator().manual_seed(0))
        for mode in (True, False)
    ]
    assert torch.equal(*masks)
    assert masks[0].any()


@pytest.mark.parametrize("drop", [0.1, 0.5])
def test_masks_hide_the_stated_share(conditioning, generator, drop):
    conditioning.drop, n = drop, 100_000
    mask = conditioning.draw_drop(n, generator)
    assert mask.shape == (n,)
    assert mask.dtype == torch.bool
    assert abs(float(mask.double().mean()) - drop) < 5 * sqrt(drop * (1 - drop) / n)


def test_masks_come_from_the_generator_alone(conditioning):
    def draw(seed: int) -> torch.Tensor:
        return conditioning.draw_drop(99, torch.Generator().manual_seed(seed))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_no_label_is_hidden_unless_asked_for(generator):
    for cls in concrete(Conditioning):
        assert not cls(NAMES, dim=16).draw_drop(1_000_000, generator).any()


@pytest.mark.parametrize(
    ("conditioning", "labels", "fix"),
    [
        (OneHot(NAMES, dim=8), ATTRIBUTES, "use conditioning=multihot"),
        (OneHot(NAMES, dim=8), torch.tensor([0, 3]), r"0\.\.3.*data\.label_names names 3"),
        (OneHot(NAMES, dim=8), torch.tensor([-1, 2]), r"-1\.\.2"),
        (OneHot(NAMES, dim=8), NUMBERS, "3 real numbers.*use conditioning=continuous"),
        (MultiHot(NAMES, dim=8), NUMBERS, "3 real numbers.*use conditioning=continuous"),
        (Continuous(NAMES, dim=8), CLASSES, r"one class.*data\.numbers.*conditioning=onehot"),
        (Continuous(NAMES, dim=8), ATTRIBUTES, "3 attributes.*conditioning=multihot"),
        (Continuous(NAMES, dim=8), NUMBERS[:, :2], r"2 numbers.*data\.label_names names 3"),
        (Continuous(NAMES, dim=8), NUMBERS / 0, "finite numbers"),
        (MultiHot(NAMES, dim=8), CLASSES, "use conditioning=onehot"),
        (MultiHot(NAMES, dim=8), ATTRIBUTES[:, :2], r"2 attributes.*data\.label_names names 3"),
        (MultiHot(NAMES, dim=8), ATTRIBUTES * 2, "0 or 1.*from 0 to 2"),
        (MultiHot(NAMES, dim=8), ATTRIBUTES.long() * 2 - 1, "0 or 1.*from -1 to 1"),
    ],
)
def test_labels_of_the_other_kind_are_refused_with_the_fix(conditioning, labels, fix):
    with pytest.raises(UserError, match=fix):
        conditioning.check(labels)


@pytest.mark.parametrize("cls", concrete(Conditioning), ids=lambda cls: cls.__name__)
@pytest.mark.parametrize(
    ("names", "drop", "message"),
    [
        (NAMES, 1.0, r"conditioning\.drop must be in \[0, 1\), got 1\.0"),
        (NAMES, -0.1, r"got -0\.1"),
        (["cat", "cat"], 0.0, "unique.*cat"),
        ([], 0.0, "at least one"),
    ],
)
def test_bad_settings_are_refused_with_the_value(cls, names, drop, message):
    with pytest.raises(UserError, match=message):
        cls(names, dim=8, drop=drop)


def fitted(labels: torch.Tensor, **settings) -> Continuous:
    conditioning = Continuous(NAMES[: labels.shape[1]], dim=16, **settings)
    conditioning.fit(labels)
    return conditioning


def test_numbers_are_told_apart_in_units_of_their_spread():
    """Whatever unit a table is written in, the model is given the same tokens."""
    numbers = torch.randn(100, 2)
    plain = fitted(numbers)
    other = Continuous(NAMES[:2], dim=16)
    other.load_state_dict(plain.state_dict())
    other.fit(numbers * torch.tensor([1000.0, 1e-3]) + torch.tensor([5.0, 1.0]))
    moved = numbers * torch.tensor([1000.0, 1e-3]) + torch.tensor([5.0, 1.0])
    assert torch.allclose(other(moved), plain(numbers), atol=1e-3)
    assert distance(plain(torch.tensor([[0.1, 0.0]])), plain(torch.tensor([[0.2, 0.0]]))) > 0.02


def test_a_missing_number_is_its_null_and_spoils_no_other():
    numbers = torch.randn(50, 3)
    numbers[::5, 1] = torch.nan
    conditioning = fitted(numbers)
    tokens = conditioning(numbers)
    assert tokens.isfinite().all()
    assert torch.equal(tokens[::5, 1], conditioning.null[1].expand(10, -1))
    assert torch.equal(tokens[:, 0], conditioning(numbers.nan_to_num())[:, 0])
    assert conditioning.missing.tolist() == pytest.approx([0, 0.2, 0])
    assert conditioning.may_be_missing.tolist() == [False, True, False]
    tokens.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in conditioning.parameters())


def test_single_numbers_are_hidden_by_number_drop(generator):
    conditioning = fitted(torch.randn(9, 3), drop=0.1, number_drop=0.5)
    mask = conditioning.draw_drop(10_000, generator)
    assert mask.shape == (10_000, 3)
    assert mask.double().mean().item() == pytest.approx(0.55, abs=0.02)
    assert conditioning.may_be_missing.all()
    # A single number is hidden with the whole label, of which it is all.
    assert fitted(torch.randn(9, 1), drop=0.1).may_be_missing.all()
    assert not fitted(torch.randn(9, 2), drop=0.1).may_be_missing.any()


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (torch.full((8,), 30.0), "round is 30 for all training images"),
        (torch.full((8,), torch.nan), "round is missing in all training images"),
        (1e9 + 64 * torch.arange(8.0), "too fine for float32: subtract the mean"),
    ],
)
def test_numbers_that_teach_nothing_are_refused(column, reason):
    with pytest.raises(UserError, match=reason):
        fitted(torch.stack([column, torch.randn(8)], dim=1))


def test_what_was_fitted_is_part_of_the_weights():
    conditioning = fitted(torch.tensor([[10.0], [20.0], [torch.nan]]))
    state = conditioning.state_dict()
    found = [state[key].item() for key in ("mean", "std", "low", "high")]
    assert found == [15, 5, 10, 20]
