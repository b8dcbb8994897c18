from dataclasses import replace

import pytest
import torch
from torch import nn

from ccdiff.diffusion.conditioning import MultiHot, OneHot
from ccdiff.diffusion.denoiser import bind_label
from ccdiff.diffusion.levels import expand_like
from ccdiff.diffusion.objectives import Denoising, Draw
from ccdiff.diffusion.predictions import EDM, Clean, Noise, Velocity
from ccdiff.diffusion.samplers import GivenNoise, Heun, sample
from ccdiff.diffusion.samplers.grids import Karras
from ccdiff.diffusion.schedules import Cosine, Flow, Linear
from ccdiff.diffusion.times import Stratified
from ccdiff.diffusion.weightings import EDMWeighting

CLEAN = torch.tensor(0.0, dtype=torch.float64)


class Recorder(nn.Module):
    """A network that keeps what it was called with."""

    def forward(self, x, log_snr, tokens):
        self.x, self.log_snr, self.tokens = x, log_snr, tokens
        self.autocast = torch.is_autocast_enabled(x.device.type)
        return torch.tanh(x) + 0.01 * log_snr.to(x.dtype)[:, None, None, None]


def images(n: int = 6, dtype: torch.dtype = torch.float32):
    return torch.randn(n, 1, 8, 8, dtype=dtype), torch.arange(n) % 3


def test_the_estimate_is_the_affine_formula(make_denoiser, prediction, schedule):
    denoiser = make_denoiser(Recorder(), prediction=prediction, schedule=schedule)
    x_t, y = images(dtype=torch.float64)
    t = torch.linspace(0, 1, len(x_t), dtype=torch.float64)
    x0_hat = denoiser(x_t, denoiser.schedule.at(t), y)
    alpha, sigma = (f(t)[:, None, None, None] for f in (schedule.alpha, schedule.sigma))
    c_skip, c_out, c_in = prediction.coefficients(alpha, sigma)
    network = denoiser.network
    torch.testing.assert_close(network.x, c_in * x_t)
    torch.testing.assert_close(network.log_snr, schedule.log_snr(t).float())
    assert torch.equal(network.tokens, denoiser.conditioning(y))
    output = network(c_in * x_t, network.log_snr, network.tokens)
    torch.testing.assert_close(x0_hat, c_skip * x_t + c_out * output)
    assert x0_hat.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_one_time_is_the_same_time_for_every_sample(make_denoiser, dtype):
    # Samplers pass scalars of a float64 grid to models in float32.
    denoiser = make_denoiser()
    x_t, y = images()
    t = torch.tensor(0.3, dtype=dtype)
    one, each = (
        denoiser(x_t, denoiser.schedule.at(t), y),
        denoiser(x_t, denoiser.schedule.at(t.expand(len(x_t))), y),
    )
    assert one.dtype == each.dtype == torch.float32
    torch.testing.assert_close(one, each)
    torch.testing.assert_close(one, denoiser(x_t, denoiser.schedule.at(t.float()), y))


def test_times_belong_to_their_samples(make_denoiser):
    denoiser = make_denoiser()
    x_t, y = images()
    t = torch.linspace(0.1, 0.9, len(x_t))
    mixed = denoiser(x_t, denoiser.schedule.at(t), y)
    for i in range(len(x_t)):
        alone = denoiser(x_t[i : i + 1], denoiser.schedule.at(t[i]), y[i : i + 1])
        torch.testing.assert_close(mixed[i : i + 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prediction", [Noise(), Velocity(), EDM()], ids=repr)
def test_a_sample_does_not_depend_on_the_others(make_denoiser, prediction):
    denoiser = make_denoiser(prediction=prediction)
    x_t, y = images()
    t, drop = torch.full((6,), 0.5), torch.arange(6) % 2 == 0
    before = denoiser(x_t, denoiser.schedule.at(t), y, drop)
    x_t[1:], y[1:], t[1:], drop[1:] = 9.0, 2, 0.9, True
    torch.testing.assert_close(
        denoiser(x_t, denoiser.schedule.at(t), y, drop)[0], before[0], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("other", [Flow(), Cosine(offset=0.1)], ids=repr)
def test_the_schedule_can_be_changed_after_training(make_denoiser, prediction, other):
    # The same image at the same noise level, in the scales of another schedule.
    denoiser = make_denoiser(prediction=prediction, schedule=Cosine())
    x_t, y = images()
    t = torch.linspace(0.2, 0.8, len(x_t), dtype=torch.float64)
    u = other.time(Cosine().log_snr(t))
    x_u = expand_like(other.alpha(u) / Cosine().alpha(t), x_t) * x_t
    x0_hat = denoiser(x_t, denoiser.schedule.at(t), y)
    denoiser.schedule = other
    torch.testing.assert_close(
        denoiser(x_u.float(), denoiser.schedule.at(u), y), x0_hat, rtol=1e-3, atol=1e-4
    )


def test_levels_of_another_schedule_are_met_at_equal_noise(make_denoiser, prediction):
    """Images of one schedule, given to a model of another, in the scales of their own."""
    denoiser = make_denoiser(schedule=Cosine(), prediction=prediction)
    flow = make_denoiser(
        denoiser.network,
        conditioning=denoiser.conditioning,
        prediction=prediction,
        schedule=Flow(),
    )
    x, y = images(6)
    for t in (torch.tensor(0.2).double(), torch.linspace(0.1, 0.9, 6).double()):
        level = Flow().at(t)
        expected = flow(x, level, y)
        torch.testing.assert_close(denoiser(x, level, y), expected, rtol=1e-4, atol=1e-4)
        wrong = denoiser(x, denoiser.schedule.at(t), y)
        assert not torch.allclose(wrong, expected, atol=1e-2)


def test_on_a_grid_of_noise_levels_the_schedule_makes_no_difference(make_denoiser):
    """One noise and one set of levels: the same images, whatever the path between scales."""
    denoiser, eps = make_denoiser(schedule=Cosine()), torch.randn(3, 1, 8, 8)
    denoise = bind_label(denoiser, torch.tensor([0, 1, 2]))
    sampler = Heun(steps=8, grid=Karras(sigma_max=20.0, sigma_min=0.02))
    one, other = (
        sample(sampler, denoise, sampled, eps.shape, GivenNoise(eps)) / sampled.at(CLEAN).alpha
        for sampled in (Cosine(), Flow())
    )
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_levels_that_training_never_saw_become_the_nearest_it_saw(make_denoiser):
    """Pure noise of a schedule that goes further stays of the size that the network knows."""
    trained, noisiest = Linear(), Cosine().at(torch.tensor(1.0).double())
    end = trained.at(torch.tensor(1.0).double())
    assert noisiest.log_snr < end.log_snr - 1
    denoiser = make_denoiser(Recorder(), schedule=trained, prediction=Clean())
    x, y = images(60)
    denoiser(x, noisiest, y)
    torch.testing.assert_close(denoiser.network.log_snr, end.log_snr.float().expand(60))
    torch.testing.assert_close(denoiser.network.x.std(), x.std(), rtol=1e-3, atol=0)


def test_hidden_labels_reach_the_network_as_the_null(make_denoiser):
    for conditioning, y in (
        (OneHot(["a", "b", "c"], dim=8), torch.arange(4) % 3),
        (MultiHot(["a", "b", "c"], dim=8), torch.zeros(4, 3, dtype=torch.uint8)),
    ):
        denoiser = make_denoiser(conditioning=conditioning)
        x_t, t = torch.randn(4, 1, 8, 8), torch.tensor(0.5)
        drop = torch.tensor([True, False, True, False])
        told, hidden = (
            denoiser(x_t, denoiser.schedule.at(t), y),
            denoiser(x_t, denoiser.schedule.at(t), y, drop),
        )
        assert torch.equal(told[~drop], hidden[~drop])
        assert (told != hidden)[drop].flatten(1).any(1).all()


def test_a_bound_label_is_the_denoiser_of_that_label(make_denoiser):
    denoiser = make_denoiser()
    x_t, y = images()
    level, drop = denoiser.schedule.at(torch.tensor(0.4)), torch.arange(len(y)) < 3
    assert torch.equal(bind_label(denoiser, y)(x_t, level), denoiser(x_t, level, y))
    hidden = bind_label(denoiser, y, drop)(x_t, level)
    assert torch.equal(hidden, denoiser(x_t, level, y, drop))


def test_autocast_surrounds_the_network_alone(make_denoiser):
    denoiser = make_denoiser(Recorder())
    x_t, y = images()
    denoiser(x_t, denoiser.schedule.at(torch.tensor(0.5)), y)
    assert not denoiser.network.autocast
    denoiser.autocast_dtype = torch.bfloat16
    assert denoiser(x_t, denoiser.schedule.at(torch.tensor(0.5)), y).dtype == torch.float32
    assert denoiser.network.autocast
    assert denoiser.network.x.dtype == torch.float32
    assert denoiser.network.log_snr.dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("prediction", [Velocity(), EDM()], ids=repr)
def test_bfloat16_stays_close_to_float32(make_denoiser, prediction):
    denoiser = make_denoiser(prediction=prediction)
    x_t, y = torch.randn(32, 1, 8, 8), torch.arange(32) % 3
    level = denoiser.schedule.at(torch.linspace(0.02, 0.98, 32))
    exact_output, exact = denoiser.output(x_t, level, y), denoiser(x_t, level, y)
    denoiser.autocast_dtype = torch.bfloat16
    output, x0_hat = denoiser.output(x_t, level, y), denoiser(x_t, level, y)
    assert output.dtype == x0_hat.dtype == torch.float32
    assert not torch.equal(output, exact_output)
    # Eight bits of mantissa round to 0.2 %; through a dozen layers the error stays below 3 %.
    assert (output - exact_output).norm() < 0.03 * exact_output.norm()
    # c_out is at most 1: an error of the output is no larger in the estimate.
    assert (x0_hat - exact).norm() < 0.03 * exact_output.norm()


@pytest.mark.parametrize("kind", [OneHot, MultiHot])
def test_the_label_matters_after_a_few_steps(make_denoiser, make_unet, generator, kind):
    # Black images of one label and white ones of the other: in pure noise only the label tells.
    y = torch.arange(16) % 2
    x0 = (2 * y.float() - 1)[:, None, None, None].expand(16, 1, 8, 8)
    labels = y if kind is OneHot else torch.stack([y, 1 - y], 1).to(torch.uint8)
    denoiser = make_denoiser(
        make_unet(asleep=True, channels=[8], attention=[False]),
        conditioning=kind(["white", "black"], dim=8),
        prediction=Velocity(),
    )
    objective = Denoising(weighting=EDMWeighting(sigma_data=1.0), times=Stratified())
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=1e-2)
    t = torch.ones(16)
    for _ in range(40):
        optimizer.zero_grad()
        eps = torch.randn(x0.shape, generator=generator)
        objective.at(denoiser, x0, labels, Draw(t, eps, None)).mean().backward()
        optimizer.step()
    x_t = torch.randn(x0.shape, generator=generator)
    with torch.no_grad():
        right = (denoiser(x_t, denoiser.schedule.at(t), labels) - x0).square().mean()
        wrong = (denoiser(x_t, denoiser.schedule.at(t), labels.flip(0)) - x0).square().mean()
    assert right < 0.1
    assert wrong > 2


def test_scales_are_viewed_over_their_images():
    x = torch.zeros(3, 1, 2, 2)
    assert expand_like(torch.tensor(2.0), x).shape == ()
    scale = expand_like(torch.tensor([1.0, 2.0, 3.0]), x)
    assert scale.shape == (3, 1, 1, 1)
    assert (x + scale)[:, 0, 0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("shape", [(2,), (1,), (4,), (3, 1), (3, 1, 2, 2)])
def test_scales_of_another_batch_are_refused_with_their_shape(shape):
    with pytest.raises(ValueError, match=r"scalar or \[3\], got shape \(" + str(shape[0])):
        expand_like(torch.zeros(shape), torch.zeros(3, 1, 2, 2))


def test_a_state_dict_restores_the_denoiser(make_denoiser):
    torch.manual_seed(1)
    one = make_denoiser()
    torch.manual_seed(2)
    other = make_denoiser(schedule=replace(Cosine()))
    x_t, y = images()
    t = torch.tensor(0.5)
    assert not torch.equal(one(x_t, one.schedule.at(t), y), other(x_t, other.schedule.at(t), y))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x_t, one.schedule.at(t), y), other(x_t, other.schedule.at(t), y))
