"""Points of the plane: drawn from the density that the exact denoiser is of."""

import pytest
import torch
from parts import concrete

from ccdiff.data import Gaussians, Moons, PointSet, Rings, Split, to_data, to_float
from ccdiff.diffusion.oracle import FiniteOracle, GaussianOracle
from ccdiff.diffusion.samplers import DDIM, GivenNoise, Heun, UniPC, integrate
from ccdiff.diffusion.schedules import Cosine
from ccdiff.errors import UserError

FACTS = {"image_size": 1, "channels": 2, "flip": False}
LEVELS = (-3.0, 0.0, 3.0)


@pytest.fixture(params=concrete(PointSet), ids=lambda cls: cls.__name__)
def points(request) -> PointSet:
    return request.param(**FACTS, n=5000)


def level(log_snr: float):
    return Cosine().at_log_snr(torch.tensor(log_snr, dtype=torch.float64))


def test_points_are_the_same_each_time_and_those_held_out_are_others(points):
    (train, heldout), (again, _) = points.load(), points.load()
    assert torch.equal(train.images, again.images)
    assert torch.equal(train.labels, again.labels)
    counts = train.count_labels(len(points.names))
    assert counts.max() - counts.min() <= 1
    assert len(heldout) == len(train) // 10
    ours, others = (set(map(tuple, s.images.flatten(1).tolist())) for s in (train, heldout))
    assert not ours & others
    # So that samplers may keep estimates in range.
    assert (train.images.abs() > 1).float().mean() < 1e-3
    assert type(points)(**FACTS, n=5000, seed=1).load()[0].images[0, 0] != train.images[0, 0]


def test_the_density_is_one_and_is_that_of_the_points(points):
    axis = torch.arange(-1.2, 1.2, 0.02)
    cells = torch.cartesian_prod(axis, axis).reshape(-1, 2, 1, 1)
    mass = points.exact.log_density(cells).exp() * 0.02**2
    assert mass.sum().item() == pytest.approx(1, abs=1e-3)
    train, _ = points.load()
    near = (cells.flatten(1) - torch.tensor([0.4, 0.3])).norm(dim=1) < 0.4
    found = (train.images.flatten(1) - torch.tensor([0.4, 0.3])).norm(dim=1) < 0.4
    for k in range(len(points.names)):
        share = (found & (train.labels == k)).float().mean().item()
        assert mass[near, k].sum().item() == pytest.approx(share, abs=0.02)


def test_labels_are_as_sure_as_they_are_said_to_be(points):
    """The rule of Bayes is calibrated, and right as often as it says."""
    train, _ = points.load()
    logs = points.exact.log_density(train.images)
    sure, taken = logs.softmax(1).max(1)
    right = (taken == train.labels).double()
    assert sure.mean().item() == pytest.approx(right.mean().item(), abs=5e-3)
    assert right.mean() > 0.97
    given = points.exact.log_given(train.images, train.labels)
    share = train.count_labels(len(points.names)) / len(train)
    expected = logs.gather(1, train.labels[:, None])[:, 0] - share.log()[train.labels]
    torch.testing.assert_close(given, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("log_snr", LEVELS)
@pytest.mark.parametrize("hidden", [False, True])
def test_no_other_estimate_is_better_than_the_exact_one(points, log_snr, hidden):
    train, _ = points.load()
    x0, y = train.images.double(), train.labels
    at = level(log_snr)
    x_t = at.alpha * x0 + at.sigma * torch.randn_like(x0)
    drop = torch.full((len(y),), hidden)
    x0_hat = points.exact(x_t, at, y, drop)
    assert (x0_hat - x0).flatten(1).mean(0).abs().max() < 0.03
    best = (x0_hat - x0).square().mean()
    towards = x_t / at.alpha - x0_hat
    for other in (x0_hat + 0.03, x0_hat - 0.03, x0_hat + 0.1 * towards, x0_hat - 0.1 * towards):
        assert (other - x0).square().mean() > best
    if not hidden:
        assert (points.exact(x_t, at, y, ~drop) - x0).square().mean() > best


@pytest.mark.parametrize("log_snr", LEVELS)
def test_a_class_is_exact_in_closed_form(log_snr):
    data, at = Gaussians(**FACTS), level(log_snr)
    x_t, y = torch.randn(64, 2, 1, 1, dtype=torch.float64), torch.arange(64) % 8
    exact = data.exact
    one = GaussianOracle(
        mean=data.centres[y].double().reshape(-1, 2, 1, 1), std=torch.tensor(0.08).double()
    )
    torch.testing.assert_close(exact(x_t, at, y), one(x_t, at), rtol=1e-6, atol=1e-6)
    everything = FiniteOracle(points=exact.points.double(), std=exact.std)
    hidden = torch.arange(64) % 2 == 0
    found = exact(x_t, at, y, hidden)
    torch.testing.assert_close(found[hidden], everything(x_t, at)[hidden])
    torch.testing.assert_close(found[~hidden], exact(x_t, at, y)[~hidden])


@pytest.mark.parametrize("sampler", [DDIM(steps=1), Heun(steps=1), UniPC(steps=1)], ids=repr)
def test_samplers_keep_their_order_on_exact_fields(sampler):
    exact, schedule = Moons(**FACTS).exact, Cosine()
    x, y = torch.randn(8, 2, 1, 1, dtype=torch.float64), torch.arange(8) % 2
    denoise = exact.bound(y, torch.arange(8) > 3, like=x)
    ends = schedule.at(torch.tensor([0.9, 0.25], dtype=torch.float64)).log_snr.tolist()

    def end(method, steps: int) -> torch.Tensor:
        times = schedule.time(torch.linspace(*ends, steps + 1, dtype=torch.float64))
        return integrate(method, denoise, schedule, x, times, GivenNoise())

    solution = end(UniPC(steps=1), 400)
    counts = torch.tensor([80.0, 160.0], dtype=torch.float64)
    errors = torch.stack([(end(sampler, int(n)) - solution).norm() for n in counts])
    falls = -(errors.log().diff() / counts.log().diff())
    assert falls[-1].item() == pytest.approx(sampler.order, abs=0.3)


def test_points_stay_points_and_images_become_pixels():
    plane, image = torch.randn(3, 2, 1, 1), torch.randn(3, 1, 4, 4)
    assert torch.equal(to_float(to_data(plane)), plane)
    assert to_data(image).dtype == torch.uint8
    labels = torch.zeros(3, dtype=torch.long)
    Split(plane, labels)
    for wrong in (image, to_data(image).float(), plane.to(torch.uint8), plane.double()):
        with pytest.raises(ValueError, match="must be uint8"):
            Split(wrong, labels)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"flip": True}, "data.flip mirrors images"),
        ({"channels": 3}, "points have two coordinates"),
        ({"image_size": 8}, "data.channels must be 1"),
        ({"std": 0.0}, "data.std must be positive"),
        ({"n": 20}, "data.n must be at least 10 for each class"),
        ({"label_names": ["a"]}, "must name 3 classes"),
        ({"radii": ()}, "data.radii must name"),
    ],
    ids=str,
)
def test_what_is_no_set_of_points_is_refused(settings, told):
    with pytest.raises(UserError, match=told):
        Rings(**{**FACTS, **settings})
