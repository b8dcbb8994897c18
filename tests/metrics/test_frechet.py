"""Laws of the Fréchet distance, and its equality with another implementation of the formula."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from ccdiff.metrics.frechet import Moments, frechet_distance


def features(n: int, dim: int, *, seed: int = 0, shift: float = 0.0) -> Tensor:
    """Correlated features of unequal scales."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    return torch.randn(n, dim, generator=generator, dtype=torch.float64) @ mixing + shift


def exactly(mean: Tensor, covariance: Tensor) -> Moments:
    """Moments of a sample that has exactly this mean and covariance."""
    dim = len(mean)
    rows = torch.cat([torch.eye(dim), -torch.eye(dim)]).double() * ((2 * dim - 1) / 2) ** 0.5
    return Moments(rows @ torch.linalg.cholesky(covariance).T + mean)


def test_closed_form_of_commuting_gaussians():
    """``|m_1 - m_2|^2 + sum (s_1 - s_2)^2`` where both covariances share their axes."""
    axes, _ = torch.linalg.qr(features(4, 4))
    s_1, s_2 = torch.tensor([1.0, 2.0, 3.0, 0.5]).double(), torch.tensor([2.0, 2.0, 1.0, 4.0])
    m_1, m_2 = torch.tensor([0.0, 1.0, 2.0, 3.0]).double(), torch.tensor([1.0, 1.0, 0.0, 3.0])
    first, second = (
        exactly(m.double(), axes * s.double().square() @ axes.T)
        for m, s in ((m_1, s_1), (m_2, s_2))
    )
    expected = (m_1 - m_2).square().sum() + (s_1 - s_2).square().sum()
    assert frechet_distance(first, second) == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize(("n", "m"), [(500, 400), (60, 50), (12, 9)], ids=str)
def test_equals_the_formula_with_scipy(n, m):
    """Also with fewer images than features, where no covariance has full rank."""
    dim = 32
    x, y = features(n, dim, seed=1), features(m, dim, seed=2, shift=0.3)
    s_1, s_2 = np.cov(x.numpy(), rowvar=False), np.cov(y.numpy(), rowvar=False)
    # Without full rank the root of the product is found a little off the singular matrix.
    tiny = 1e-12 * np.eye(dim)
    root = np.real(sqrtm((s_1 + tiny) @ (s_2 + tiny)))
    gap = np.square(x.numpy().mean(0) - y.numpy().mean(0)).sum()
    expected = gap + np.trace(s_1) + np.trace(s_2) - 2 * np.trace(root)
    assert frechet_distance(Moments(x), Moments(y)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n", [500, 10], ids=["full rank", "fewer images than features"])
def test_no_distance_to_itself_and_the_same_both_ways(n):
    x, y = Moments(features(n, 16)), Moments(features(n, 16, seed=1))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-9)
    assert frechet_distance(x, y) > 1


@pytest.mark.parametrize("batch", [1, 7, 64, 1000])
def test_streaming_equals_one_batch(batch):
    x = features(100, 8, shift=1000.0)
    streamed = Moments()
    for part in x.split(batch):
        streamed.add(part)
    streamed.add(x[:0])
    assert streamed.n == 100
    torch.testing.assert_close(streamed.mean, x.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(streamed.covariance, x.T.cov(), rtol=1e-8, atol=1e-8)


def test_features_in_single_precision_are_summed_in_double():
    x = features(2000, 4, shift=1000.0).float()
    torch.testing.assert_close(Moments(x).covariance, x.double().T.cov(), rtol=1e-10, atol=1e-10)


def test_what_does_not_compare_is_refused():
    with pytest.raises(ValueError, match="8 and 4"):
        frechet_distance(Moments(features(9, 8)), Moments(features(9, 4)))
    with pytest.raises(ValueError, match="at least 2"):
        frechet_distance(Moments(features(1, 4)), Moments(features(9, 4)))
