import pytest
import torch

from ccdiff.diffusion.predictions import EDM, Clean, FlowVelocity, Noise, Velocity
from ccdiff.diffusion.schedules import Flow, Schedule
from ccdiff.diffusion.weightings import SNR, EDMWeighting, FlowWeighting, MinSNR, Uniform


def output_weight(weighting, prediction, schedule: Schedule) -> torch.Tensor:
    """``w c_out^2``, the weight on the squared error of the network's output, over all levels."""
    log_snr = schedule.log_snr(torch.linspace(0, 1, 501, dtype=torch.float64))
    return weighting(log_snr) * prediction.coefficients(*schedule.scales(log_snr)).c_out ** 2


def assert_one(weight: torch.Tensor) -> None:
    torch.testing.assert_close(weight, torch.ones_like(weight), rtol=1e-9, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_weights_are_non_negative_finite_and_elementwise(weighting, dtype):
    log_snr = torch.linspace(-15, 15, 60, dtype=dtype).reshape(3, 20)
    w = weighting(log_snr)
    assert w.shape == log_snr.shape
    assert w.dtype == dtype
    assert w.isfinite().all()
    assert (w >= 0).all()
    assert w.any()
    assert w[1, 2] == weighting(log_snr[1, 2])


def test_snr_is_the_plain_error_on_eps(schedule):
    assert_one(output_weight(SNR(), Noise(), schedule))


def test_uniform_is_the_plain_error_on_x0(schedule):
    assert_one(output_weight(Uniform(), Clean(), schedule))


@pytest.mark.parametrize("sigma_data", [0.5, 1.0, 1.5])
def test_edm_is_the_plain_error_on_the_output_of_edm(schedule, sigma_data):
    prediction = EDM(sigma_data=sigma_data)
    assert_one(output_weight(EDMWeighting(sigma_data=sigma_data), prediction, schedule))


def test_edm_at_unit_deviation_is_the_plain_error_on_velocity(schedule):
    # Salimans & Ho, 2022, section 4: the "SNR + 1" weighting.
    assert_one(output_weight(EDMWeighting(sigma_data=1.0), Velocity(), schedule))


def test_flow_is_the_plain_error_on_flow_velocity():
    assert_one(output_weight(FlowWeighting(), FlowVelocity(), Flow()))


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_is_the_weight_of_the_paper(schedule, gamma):
    log_snr = schedule.log_snr(torch.linspace(0, 1, 501, dtype=torch.float64))
    snr = log_snr.exp()
    # Hang et al., 2023, section 3.4: min(1, gamma / snr) on eps, min(snr, gamma) on x0.
    expected = torch.minimum(torch.ones_like(snr), gamma / snr)
    found = output_weight(MinSNR(gamma=gamma), Noise(), schedule)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    "build", [lambda: MinSNR(gamma=-2.5), lambda: EDMWeighting(sigma_data=-2.5)]
)
def test_bad_settings_are_refused_with_the_value(build):
    with pytest.raises(ValueError, match=r"-2\.5"):
        build()
