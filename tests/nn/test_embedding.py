from math import pi

import pytest
import torch

from ccdiff.diffusion.schedules import Cosine, Flow
from ccdiff.nn.embedding import NoiseEmbedding, noise_angle


def test_the_noise_angle_rises_from_0_to_1000_with_the_noise():
    log_snr = torch.linspace(15, -15, 301, dtype=torch.float64)
    angle = noise_angle(log_snr)
    assert (angle.diff() > 0).all()
    assert 0 < angle[0] < 1
    assert 999 < angle[-1] < 1000
    assert noise_angle(torch.tensor(0.0)) == 500
    # tan(angle) = sigma / alpha, whatever the schedule.
    t = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    for schedule in (Cosine(), Flow()):
        ratio = torch.tan(noise_angle(schedule.log_snr(t)) * pi / 2000)
        torch.testing.assert_close(ratio, schedule.sigma(t) / schedule.alpha(t))


def test_the_noise_angle_is_the_step_number_of_the_cosine_schedule():
    t = torch.linspace(0.05, 1, 20, dtype=torch.float64)
    angle = noise_angle(Cosine().log_snr(t))
    torch.testing.assert_close(angle, 1000 * t, rtol=0, atol=8)  # the offset is 8 in 1000


def test_the_noise_embedding_tells_neighbouring_steps_apart():
    sinusoids = NoiseEmbedding(32, out_dim=8)
    seen = []
    sinusoids.mlp.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    sinusoids(Cosine().log_snr(torch.arange(1, 1000) / 1000))
    features = seen[0]
    assert features.shape == (999, 32)
    assert features.abs().max() <= 1
    assert features.diff(dim=0).norm(dim=1).min() > 0.3


@pytest.mark.parametrize("dim", [2, 7])
def test_a_bad_number_of_sinusoids_is_refused_with_the_value(dim):
    with pytest.raises(ValueError, match=f"got {dim}"):
        NoiseEmbedding(dim, out_dim=8)
