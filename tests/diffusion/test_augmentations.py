"""Augmentations: zeros change nothing, numbers say all, and samplers know nothing of them."""

from math import cos, pi, sin

import pytest
import torch
from parts import awaken, concrete

from ccdiff.diffusion.augmentations import Augmentation, Flip, Geometric, NoAugmentation
from ccdiff.diffusion.conditioning import OneHot
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.objectives import Consistency, Denoising
from ccdiff.diffusion.predictions import Noise
from ccdiff.diffusion.schedules import Cosine
from ccdiff.diffusion.times import UniformTimes
from ccdiff.diffusion.weightings import SNR

BASE = Denoising(weighting=SNR(), times=UniformTimes())
EVERY = [cls() for cls in concrete(Augmentation)]
SOME = [Flip(), Geometric(probability=0.5)]


@pytest.fixture
def make_told(make_unet):
    """Builds a denoiser that is told as many numbers."""

    def make(told: int) -> Denoiser:
        conditioning = OneHot(["a", "b", "c"], dim=8)
        parts = {"conditioning": conditioning, "prediction": Noise(), "schedule": Cosine()}
        return awaken(Denoiser(make_unet(), told=told, **parts))

    return make


def numbers(**given: float) -> torch.Tensor:
    """Those of :class:`Geometric` for one image."""
    names = ["across", "down", "scale", "cos", "sin", "x", "y", "right", "below"]
    return torch.tensor([[given.get(name, 0.0) for name in names]])


@pytest.mark.parametrize("augmentation", EVERY, ids=repr)
def test_zeros_change_not_a_bit(augmentation):
    x0 = torch.randn(3, 2, 5, 8)
    assert torch.equal(augmentation.apply(x0, torch.zeros(3, augmentation.told)), x0)


@pytest.mark.parametrize("augmentation", EVERY, ids=repr)
def test_what_is_drawn_is_one_row_for_each_image(augmentation, generator):
    drawn = augmentation.draw(7, generator)
    assert drawn.shape == (7, augmentation.told)
    assert drawn.dtype == torch.float32
    again = augmentation.draw(7, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)


@pytest.mark.parametrize("augmentation", SOME, ids=repr)
def test_every_number_is_drawn_and_every_change_seen(augmentation, generator):
    drawn = augmentation.draw(400, generator)
    share = (drawn != 0).float().mean(0)
    assert ((share > 0.4) & (share < 0.6)).all()
    for column in range(augmentation.told):
        one = torch.zeros(1, augmentation.told)
        one[0, column] = drawn[:, column].abs().max()
        x0 = torch.randn(1, 1, 6, 8)
        assert not torch.allclose(augmentation.apply(x0, one), x0), column


@pytest.mark.parametrize("cls", [Flip, Geometric])
def test_no_change_has_its_probability(cls, generator):
    assert not cls(probability=0.0).draw(50, generator).any()


def test_changes_are_those_of_the_image():
    x0 = torch.randn(1, 2, 6, 6)
    change = Geometric().apply
    cases = {
        "mirrored": (numbers(across=1), x0.flip(-1)),
        "upside down": (numbers(down=1), x0.flip(-2)),
        "half a turn": (numbers(cos=-2), x0.flip(-1, -2)),
        # From the x axis to the y axis, which points down.
        "a quarter": (numbers(cos=-1, sin=1), x0.rot90(-1, (-2, -1))),
    }
    for name, (given, expected) in cases.items():
        found = change(x0, given)
        torch.testing.assert_close(
            found, expected, rtol=1e-4, atol=1e-4, msg=lambda m, n=name: n + m
        )


def test_a_move_is_in_fractions_of_the_side():
    x0 = torch.randn(1, 1, 6, 8)
    right = Geometric().apply(x0, numbers(right=2 / 8))
    torch.testing.assert_close(right[..., 2:], x0[..., :-2], rtol=1e-4, atol=1e-4)
    below = Geometric().apply(x0, numbers(below=1 / 6))
    torch.testing.assert_close(below[..., 1:, :], x0[..., :-1, :], rtol=1e-4, atol=1e-4)


def blob(side: int, at: tuple[float, float], width: tuple[float, float]) -> torch.Tensor:
    """A Gaussian at a place from the middle, in pixels, [1, 1, side, side]."""
    axis = torch.arange(side) - (side - 1) / 2
    down = torch.exp(-((axis - at[1]) ** 2) / (2 * width[1] ** 2))
    return (down[:, None] * torch.exp(-((axis - at[0]) ** 2) / (2 * width[0] ** 2)))[None, None]


def test_turns_and_scales_move_things_where_they_should():
    x0, angle = blob(33, (6.0, 0.0), (2.0, 2.0)), pi / 5
    turned = Geometric().apply(x0, numbers(cos=cos(angle) - 1, sin=sin(angle)))
    expected = blob(33, (6 * cos(angle), 6 * sin(angle)), (2.0, 2.0))
    assert (turned - expected).abs().max() < 0.05
    larger = Geometric().apply(x0, numbers(scale=0.5))
    assert (larger - blob(33, (6 * 2**0.5, 0.0), (2 * 2**0.5,) * 2)).abs().max() < 0.05
    wide = Geometric().apply(blob(33, (0, 0), (2.0, 2.0)), numbers(x=0.5))
    assert (wide - blob(33, (0, 0), (2 * 2**0.5, 2 / 2**0.5))).abs().max() < 0.05


def test_a_turn_is_one_in_pixels_also_of_rectangles():
    x0 = torch.zeros(1, 1, 9, 21)
    x0[..., 4, 9:12] = 1.0
    turned = Geometric().apply(x0, numbers(cos=-1, sin=1))
    assert (turned[0, 0, 3:6, 10] > 0.9).all()
    # Farther away the edges mirror it.
    assert turned[..., 6:15].sum().item() == pytest.approx(3, abs=0.05)


def test_none_leaves_objective_and_denoiser_alone(make_told):
    assert NoAugmentation().added_to(BASE) is BASE
    assert not [name for name in make_told(0).state_dict() if "augment" in name]


@pytest.mark.parametrize("augmentation", SOME, ids=repr)
def test_training_sees_changed_images_and_is_told_how(augmentation, make_told, generator):
    denoiser, objective = make_told(augmentation.told), augmentation.added_to(BASE)
    x0, y = torch.randn(6, 1, 8, 8), torch.arange(6) % 3
    draw = objective.draw(denoiser, x0, generator)
    changed = augmentation.apply(x0, draw.told)
    plain = draw._replace(told=None)
    found = objective.at(denoiser, x0, y, draw)
    untold = BASE.at(denoiser, changed, y, plain)
    told = draw.told.any(1)
    assert told.any()
    assert torch.equal(found == untold, ~told) or torch.allclose(found[~told], untold[~told])
    assert not torch.allclose(found[told], untold[told])
    # And what is drawn besides is what it would be without.
    expected = BASE.draw(denoiser, x0, torch.Generator().manual_seed(0))
    assert torch.equal(draw.eps, expected.eps)


def test_a_sampler_gets_what_zeros_would(make_told):
    denoiser = make_told(9)
    x, y = torch.randn(2, 1, 8, 8), torch.tensor([0, 1])
    level = denoiser.schedule.at(torch.tensor([0.3, 0.8]))
    plain = denoiser(x, level, y)
    with denoiser.telling(torch.zeros(2, 9)):
        torch.testing.assert_close(denoiser(x, level, y), plain)
    with denoiser.telling(torch.ones(2, 9)):
        assert not torch.allclose(denoiser(x, level, y), plain)
    assert torch.equal(denoiser(x, level, y), plain)


def test_steps_go_by_what_the_objective_teaches():
    steps = Consistency(weighting=SNR(), times=UniformTimes())
    assert Flip().added_to(steps).reaches == steps.reaches
    assert Flip().added_to(BASE).reaches == BASE.reaches


def test_a_part_of_a_draw_has_its_numbers(make_told, generator):
    draw = Flip().added_to(BASE).draw(make_told(1), torch.empty(6, 1, 8, 8), generator)
    assert torch.equal(draw.part(slice(2, 5)).told, draw.told[2:5])


@pytest.mark.parametrize(
    ("cls", "wrong"),
    [
        (Flip, {"probability": 1.1}),
        (Geometric, {"probability": -0.1}),
        (Geometric, {"move": -1.0}),
    ],
)
def test_impossible_values_are_refused_by_name(cls, wrong):
    with pytest.raises(ValueError, match=f"augment.{next(iter(wrong))}"):
        cls(**wrong)
