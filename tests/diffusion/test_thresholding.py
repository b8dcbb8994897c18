import pytest
import torch

from ccdiff.diffusion.denoiser import Denoise
from ccdiff.diffusion.schedules import Cosine
from ccdiff.diffusion.thresholding import Clip, Dynamic, Unlimited

LEVEL = Cosine().at(torch.tensor(0.5))


def constant(x0_hat: torch.Tensor) -> Denoise:
    return lambda x_t, level: x0_hat


def test_clip_limits_and_none_does_not():
    x0_hat = torch.tensor([[-3.0, -0.5, 0.0, 0.9, 1.2]])
    assert Clip()(constant(x0_hat))(x0_hat, LEVEL).tolist() == [
        [-1.0, -0.5, 0.0, x0_hat[0, 3], 1.0]
    ]
    assert torch.equal(Unlimited()(constant(x0_hat))(x0_hat, LEVEL), x0_hat)


def test_dynamic_scales_a_sample_by_its_own_high_quantile():
    x0_hat = torch.stack([torch.linspace(-4, 4, 101), torch.linspace(-0.8, 0.8, 101)])
    limited = Dynamic(quantile=0.5)(constant(x0_hat))(x0_hat, LEVEL)
    # Half of the first sample lies beyond 2; the second is in range and stays as it is.
    torch.testing.assert_close(limited[0], (x0_hat[0] / 2).clamp(-1, 1))
    assert torch.equal(limited[1], x0_hat[1])


def test_dynamic_takes_images_of_any_precision():
    for dtype in (torch.float32, torch.float64):
        x0_hat = 5 * torch.randn(3, 1, 8, 8, dtype=dtype)
        limited = Dynamic()(constant(x0_hat))(x0_hat, LEVEL)
        assert limited.dtype == dtype
        assert limited.abs().max() <= 1


def test_an_impossible_quantile_is_refused():
    for quantile in (0.0, 1.1):
        with pytest.raises(ValueError, match=r"quantile must be in \(0, 1\]"):
            Dynamic(quantile=quantile)
