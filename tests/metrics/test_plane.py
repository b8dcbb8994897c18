"""Distances of points of the plane, against what they are known to be."""

import pytest
import torch

from ccdiff.data import Gaussians
from ccdiff.metrics.plane import ExactClassifier, energy_distance, sliced_wasserstein

MOVE = torch.tensor([0.3, -0.4])


@pytest.mark.parametrize("m", [1000, 700])
def test_moved_points_are_as_far_as_they_were_moved(m):
    """By v, each line sees its part of v, whose square is half of ``|v|^2`` on average."""
    points = torch.randn(1000, 2)
    assert sliced_wasserstein(points, points) == 0
    moved = sliced_wasserstein(points, (points + MOVE)[:m])
    assert moved == pytest.approx(0.5 / 2**0.5, rel=1e-5 if m == 1000 else 0.15)


def test_gaussians_are_as_far_as_their_means_and_widths_say():
    """``E (d . v)^2 + (s - r)^2`` on each line of N(0, s^2) and N(v, r^2)."""
    first, second = torch.randn(40_000, 2), 0.5 * torch.randn(30_000, 2) + MOVE
    expected = (0.25 / 2 + 0.5**2) ** 0.5
    assert sliced_wasserstein(first, second) == pytest.approx(expected, rel=0.02)


def test_the_energy_of_likes_is_about_zero_and_that_of_others_is_not():
    first, second = torch.randn(3000, 2), torch.randn(2000, 2)
    assert abs(energy_distance(first, second)) < 5e-3
    assert energy_distance(first, second + MOVE) > 0.05
    # Two points against one that stands twice: by hand.
    pair, same = torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.zeros(2, 2)
    assert energy_distance(pair, same) == pytest.approx(2 * 1 - 2 - 0)


def test_the_exact_classifier_finds_what_can_be_found():
    data = Gaussians(image_size=1, channels=2, flip=False, std=0.15)
    train, heldout = data.load()
    classifier = ExactClassifier(data.exact, heldout)
    found = (classifier.logits(train.images).argmax(1) == train.labels).double().mean().item()
    assert classifier.heldout_accuracy == pytest.approx(found, abs=0.03)
    # As many as the nearest centre, which is the rule of Bayes for equal round Gaussians.
    nearest = torch.cdist(train.images.flatten(1), data.centres.flatten(0, 1)).argmin(1)
    assert found == pytest.approx((nearest == train.labels).double().mean().item())
