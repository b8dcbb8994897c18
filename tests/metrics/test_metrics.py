"""Distances, neighbours, scores and intervals against other implementations and their laws."""

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from ccdiff.metrics.agreement import (
    Attributes,
    Confusion,
    Numbers,
    agreements,
    label_agreement,
)
from ccdiff.metrics.frechet import Moments, frechet_distance
from ccdiff.metrics.intervals import bootstrap, half_samples, of_answers
from ccdiff.metrics.kernel import kernel_distance
from ccdiff.metrics.neighbours import copying, manifold, nearest
from ccdiff.metrics.score import ClassScore


def features(n: int, *, dim: int = 16, seed: int = 0, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dim, generator=generator) + shift


def sklearn_mmd(x: Tensor, y: Tensor) -> float:
    """The unbiased estimate, written out once more."""
    a, b = x.double().numpy(), y.double().numpy()
    xx, yy, xy = (polynomial_kernel(*pair, degree=3, coef0=1) for pair in ((a,), (b,), (a, b)))
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (xx, yy)]
    return sum(within) - 2 * xy.mean()


def test_kernel_distance_equals_sklearns_kernel():
    x, y = features(80), features(60, seed=1, shift=0.3)
    assert kernel_distance(x, y) == pytest.approx(sklearn_mmd(x, y), rel=1e-9)


def test_kernel_distance_in_subsets_comes_to_the_same():
    x, y = features(400), features(300, seed=1, shift=0.3)
    whole = kernel_distance(x, y)
    parts = kernel_distance(x, y, subset_size=100)
    assert parts == pytest.approx(whole, rel=0.1)
    assert parts != whole
    assert parts == kernel_distance(x, y, subset_size=100), "it is drawn alike at every call"


def test_kernel_distance_of_equal_distributions_is_about_nothing():
    """Unbiased: over many pairs of sets the mean is zero, where a biased one would be above."""
    pairs = [(features(50, seed=2 * i), features(50, seed=2 * i + 1)) for i in range(40)]
    values = torch.tensor([kernel_distance(x, y) for x, y in pairs])
    assert values.mean().abs() < 3 * values.std() / 40**0.5
    assert (values < 0).any()


@pytest.mark.slow
def test_equal_torch_fidelity_on_the_same_features():
    """Slow for its import alone."""
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    x, y = features(300, dim=32).double(), features(300, dim=32, seed=1, shift=0.4).double()
    stats = [fid_features_to_statistics(u) for u in (x, y)]
    fid = fid_statistics_to_metric(*stats, False)["frechet_inception_distance"]
    assert frechet_distance(Moments(x), Moments(y)) == pytest.approx(fid, rel=1e-6)
    kid = kid_features_to_metric(x, y, kid_subsets=1, kid_subset_size=300, verbose=False)
    expected = kid["kernel_inception_distance_mean"]
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-6)
    prc = prc_features_to_metric(x, y, verbose=False)
    ours = manifold(x, y)
    assert (ours.precision, ours.recall) == pytest.approx((prc["precision"], prc["recall"]))
    score = ClassScore()
    score.add(4 * x)
    isc = isc_features_to_metric(4 * x, splits=1)["inception_score_mean"]
    assert score.value == pytest.approx(isc, rel=1e-6)


def ball(of: Tensor, k: int) -> np.ndarray:
    near = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(of.double().numpy())
    return near.kneighbors()[0][:, k - 1]


def test_manifold_equals_sklearns_neighbours():
    samples, real = features(70, dim=3), features(90, dim=3, seed=1, shift=0.5)
    gaps = np.linalg.norm(samples.double()[:, None] - real.double()[None], axis=2)
    inside = gaps <= ball(real, 3)
    crowd = gaps <= ball(real, 5)
    reached = gaps <= ball(samples, 3)[:, None]
    found = manifold(samples, real)
    assert found.precision == pytest.approx(inside.any(1).mean())
    assert found.recall == pytest.approx(reached.any(0).mean())
    assert found.density == pytest.approx(crowd.sum() / (5 * len(samples)))
    assert found.coverage == pytest.approx(crowd.any(0).mean())
    assert 0.1 < found.precision < 1
    assert 0.1 < found.recall < 1


def test_manifold_block_by_block_is_the_same(monkeypatch):
    samples, real = features(50, dim=3), features(40, dim=3, seed=1, shift=0.5)
    whole, near = manifold(samples, real), nearest(samples, real)
    monkeypatch.setattr("ccdiff.metrics.neighbours._BLOCK", 7)
    assert manifold(samples, real) == whole
    assert torch.equal(nearest(samples, real).which, near.which)


def test_a_model_of_one_mode_has_precision_without_recall():
    real = torch.cat([features(100, dim=4), features(100, dim=4, seed=1, shift=20.0)])
    found = manifold(features(200, dim=4, seed=2), real)
    assert found.precision > 0.9
    assert found.recall < 0.55
    assert found.coverage < 0.55


def test_nearest_is_the_smallest_distance():
    x, y = features(9, dim=4), features(31, dim=4, seed=1)
    gaps = torch.cdist(x.double(), y.double())
    found = nearest(x, y)
    torch.testing.assert_close(found.distance, gaps.min(1).values)
    assert torch.equal(found.which, gaps.argmin(1))


def test_copies_are_told_from_new_images():
    training, heldout = features(500, dim=4), features(300, dim=4, seed=1)
    of_heldout = nearest(heldout, training).distance
    new = nearest(features(300, dim=4, seed=2), training).distance
    assert copying(new, of_heldout) == pytest.approx(0.5, abs=0.08)
    copies = nearest(training[:300] + 1e-3, training).distance
    assert copying(copies, of_heldout) > 0.97
    unlike = nearest(features(300, dim=4, shift=9.0), training).distance
    assert copying(unlike, of_heldout) < 0.03
    assert copying(of_heldout, of_heldout) == pytest.approx(0.5), "ties count as half"


def test_score_is_that_of_the_definition_and_streams():
    logits = 3 * features(50, dim=10)
    p = logits.double().softmax(1)
    expected = (p * (p / p.mean(0)).log()).sum(1).mean().exp().item()
    score = ClassScore()
    for part in logits.split(7):
        score.add(part)
    assert score.value == pytest.approx(expected, rel=1e-9)


def test_score_reaches_the_number_of_classes_and_no_further():
    score = ClassScore()
    score.add(1e3 * torch.eye(10))
    assert score.value == pytest.approx(10)
    same = ClassScore()
    same.add(1e3 * torch.eye(10)[:1].expand(20, 10))
    assert same.value == pytest.approx(1)


def test_confusion_counts_what_is_taken_for_what():
    y = torch.tensor([0, 0, 1, 2])
    logits = torch.eye(3)[[0, 1, 1, 0]]
    confusion = Confusion(3)
    for part in (slice(0, 1), slice(1, 4)):
        confusion.add(logits[part], y[part])
    assert confusion.counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert confusion.per_class.tolist() == [0.5, 1, 0]
    share = confusion.counts.diagonal().sum() / confusion.counts.sum()
    assert share == label_agreement(logits, y) == agreements(logits, y).mean()


def test_attributes_equal_sklearns_report():
    from sklearn.metrics import balanced_accuracy_score, precision_recall_fscore_support

    logits = features(60, dim=4)
    y = (features(60, dim=4, seed=1) > 0.3).to(torch.uint8)
    attributes = Attributes(4)
    for part in (slice(0, 20), slice(20, 60)):
        attributes.add(logits[part], y[part])
    expected = precision_recall_fscore_support(y.numpy(), (logits > 0).numpy().astype(int))
    found = np.array(attributes.scores).T
    np.testing.assert_allclose(found[:3], expected[:3])
    answers = (logits > 0).numpy().astype(int)
    balanced = [balanced_accuracy_score(y[:, k], answers[:, k]) for k in range(4)]
    np.testing.assert_allclose(found[3], balanced)
    np.testing.assert_allclose(found[4], y.double().mean(0))
    assert label_agreement(logits, y) == pytest.approx(np.mean(balanced))


def test_what_does_not_look_at_rare_attributes_agrees_by_half():
    y = (torch.rand(4000, 40, generator=torch.Generator().manual_seed(0)) < 0.1).to(torch.uint8)
    assert label_agreement(torch.full(y.shape, -1.0), y) == pytest.approx(0.5)
    guesses = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    assert label_agreement(guesses, y) == pytest.approx(0.5, abs=0.01)
    assert label_agreement(y.float() - 0.5, y) == pytest.approx(1)
    # An attribute that all or none have is known by one recall.
    y[:, 0], y[:, 1] = 1, 0
    assert label_agreement(y.float() - 0.5, y) == pytest.approx(1)


def test_numbers_are_scored_where_they_were_asked_for():
    y = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    found = 0.5 * y + torch.randn(60, 3, generator=torch.Generator().manual_seed(1))
    y[::4, 1] = torch.nan
    numbers = Numbers(3)
    for part in (slice(7), slice(7, None)):
        numbers.add(found[part], y[part])
    for k, score in enumerate(numbers.scores):
        there = ~y[:, k].isnan()
        a, b = found[there, k].double().numpy(), y[there, k].double().numpy()
        assert score.error == pytest.approx(np.abs(a - b).mean())
        assert score.correlation == pytest.approx(np.corrcoef(a, b)[0, 1])
    errors = (found.double() - y.double()).abs()
    assert label_agreement(found, y) == pytest.approx(errors[~errors.isnan()].mean().item())
    assert agreements(y.nan_to_num(), y).abs().max() == 0


def test_interval_of_a_mean_is_that_of_theory():
    values = features(400, dim=1).squeeze(1)
    low, high = bootstrap(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std().item() / 20, rel=0.1)
    assert bootstrap(values) == (low, high)


def test_nearly_all_answers_right_leave_the_interval_of_the_binomial():
    """Draws from answers that are all alike know of nothing else, and leave no width."""
    right = torch.ones(60)
    assert of_answers(right) == pytest.approx((0.025 ** (1 / 60), 1))
    assert of_answers(1 - right) == pytest.approx((0, 1 - 0.025 ** (1 / 60)))
    # One more right answer never lowers the end that has to be beyond a goal.
    lows = [of_answers((torch.arange(60) < n).float()).low for n in range(50, 61)]
    assert lows == sorted(lows)
    half = (torch.arange(60) < 30).float()
    assert of_answers(half) == bootstrap(half)
    errors = torch.full((60,), 0.7)
    assert of_answers(errors) == bootstrap(errors)


def test_half_samples_give_the_deviation_of_the_whole():
    """Twenty halves give it to about a sixth, so the mean over many sets of images is taken."""
    widths = []
    for seed in range(30):
        values = features(100, dim=1, seed=seed).squeeze(1)
        mean = values.mean().item()
        ((low, high),) = half_samples(
            lambda part, values=values: [values[part].mean().item()], 100, [mean]
        )
        assert (low + high) / 2 == pytest.approx(mean)
        widths.append((high - low) / (2 * 1.96 * values.std().item() / 10))
    assert sum(widths) / len(widths) == pytest.approx(1, abs=0.15)


def test_the_kernel_distance_of_features_with_an_offset_is_no_rounding():
    """Features of mean 30, as after a ReLU: cubes of their products are large and nearly equal."""
    generator = torch.Generator().manual_seed(0)
    first, second = (30 + torch.randn(300, 64, generator=generator) for _ in range(2))
    second[:, 0] += 0.05

    def exact(dtype) -> float:
        def kernel(a, b):
            return (a @ b.T / dtype(64) + dtype(1)) ** 3

        def off_diagonal(k):
            n = len(k)
            return (k.sum(dtype=dtype) - k.trace(dtype=dtype)) / dtype(n * (n - 1))

        x, y = first.numpy().astype(dtype), second.numpy().astype(dtype)
        both = kernel(x, y).mean(dtype=dtype)
        return float(off_diagonal(kernel(x, x)) + off_diagonal(kernel(y, y)) - 2 * both)

    true = exact(np.longdouble)
    assert kernel_distance(first, second) == pytest.approx(true, rel=1e-3)
    assert abs(exact(np.float32) - true) > 0.1 * abs(true), "in single precision it would be"
