"""What is checked before the first step, and what is watched on the way."""

from types import SimpleNamespace

import pytest
import torch
from cli import ROOT

from ccdiff.config.build import build_objective, instantiate
from ccdiff.data import Split
from ccdiff.diffusion.couplings import Independent, Optimal
from ccdiff.diffusion.objectives import Denoising, Objective
from ccdiff.diffusion.predictions import EDM, Clean, FlowVelocity, Noise, Velocity
from ccdiff.diffusion.samplers import DDIM, DDPM
from ccdiff.diffusion.samplers.grids import Karras
from ccdiff.diffusion.schedules import Cosine, Flow, Linear, Quadratic, Sigmoid
from ccdiff.diffusion.times import LogitNormal, Stratified, UniformTimes
from ccdiff.diffusion.weightings import SNR
from ccdiff.errors import UserError
from ccdiff.training.checks import check_coupling, check_noise, check_size, check_used
from ccdiff.training.monitor import hooks
from ccdiff.training.monitor.hooks import HeldOutLoss
from tests.config.test_configs import composed


def objective(times=None) -> Objective:
    return Denoising(weighting=SNR(), times=times or UniformTimes())


@pytest.mark.parametrize("schedule", [Cosine(max_log_snr=30), Flow(max_log_snr=40)], ids=repr)
def test_noise_cannot_be_predicted_where_there_is_nothing_else(make_denoiser, schedule):
    sampler = DDIM(steps=4)
    with pytest.raises(UserError, match=r"Noise multiplies.*prediction=velocity"):
        check_noise(make_denoiser(prediction=Noise(), schedule=schedule), objective(), sampler)
    for prediction in (Clean(), Velocity(), FlowVelocity(), EDM()):
        check_noise(make_denoiser(prediction=prediction, schedule=schedule), objective(), sampler)


@pytest.mark.parametrize(
    "schedule", [Cosine(), Linear(), Quadratic(), Sigmoid(), Flow()], ids=repr
)
@pytest.mark.parametrize("times", [UniformTimes(), Stratified()], ids=repr)
def test_the_defaults_are_not_warned_of(make_denoiser, schedule, times, caplog):
    check_noise(make_denoiser(schedule=schedule), objective(times), DDIM(steps=4))
    assert caplog.text == ""


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "conf/experiment").glob("*")))
def test_a_recipe_is_not_warned_of_its_own_settings(name, caplog):
    cfg = composed(f"experiment={name}")
    parts = SimpleNamespace(
        schedule=instantiate(cfg.schedule), prediction=instantiate(cfg.prediction)
    )
    check_noise(parts, build_objective(cfg), instantiate(cfg.sampler))
    assert caplog.text == ""


def test_training_that_never_sees_the_first_noise_is_warned_of(make_denoiser, caplog):
    """EDM trains on a log-normal density of noise levels, and samples from 80 downwards."""
    times = LogitNormal(mean=-1.2, std=1.2)
    denoiser = make_denoiser(prediction=EDM(), schedule=Flow())
    check_noise(denoiser, objective(times), DDIM(steps=4))
    assert "get no further" in caplog.text
    caplog.clear()
    check_noise(denoiser, objective(times), DDIM(steps=4, grid=Karras(sigma_max=80)))
    assert caplog.text == ""


def test_samplers_that_add_noise_are_warned_of_a_coupling(caplog):
    classes = torch.arange(64) % 4
    check_coupling(Independent(), DDPM(steps=4), classes, batch_size=16)
    check_coupling(Optimal(), DDIM(steps=4), classes, batch_size=16)
    assert caplog.text == ""
    check_coupling(Optimal(), DDPM(steps=4), classes, batch_size=16)
    assert "coupling=optimal" in caplog.text
    assert "adds noise on its way" in caplog.text


def test_a_coupling_is_warned_of_labels_that_hardly_repeat(caplog):
    numbers = torch.rand(64, 2)
    check_coupling(Independent(), DDIM(steps=4), numbers, batch_size=16)
    check_coupling(Optimal(by_label=False), DDIM(steps=4), numbers, batch_size=16)
    assert caplog.text == ""
    check_coupling(Optimal(), DDIM(steps=4), numbers, batch_size=16)
    assert "of 16 images of a batch 0 have their labels in common" in caplog.text


def test_noise_that_samples_would_keep_is_warned_of(make_denoiser, caplog):
    check_noise(make_denoiser(schedule=Flow(max_log_snr=9)), objective(), DDIM(steps=4))
    assert "samples keep noise of 1.4 gray levels" in caplog.text
    caplog.clear()
    check_noise(make_denoiser(schedule=Flow(min_log_snr=-9)), objective(), DDIM(steps=4))
    assert caplog.text == ""


def test_signal_that_is_left_at_the_end_is_warned_of(make_denoiser, caplog):
    denoiser = make_denoiser(schedule=Linear(num_steps=100))
    check_noise(denoiser, objective(), DDIM(steps=4))
    assert "still hold a signal of 0.6" in caplog.text


def test_patches_larger_than_the_images_are_refused():
    network = instantiate(composed("model=vit_small", "model.patch=8").model)
    check_size(network, (1, 8, 5))
    with pytest.raises(UserError, match=r"model\.patch=8 is larger than the images, 7 x 7"):
        check_size(network, (1, 7, 7))
    check_size(torch.nn.Identity(), (1, 1, 1))  # Who has nothing to say is not asked.


def test_parameters_that_the_loss_does_not_depend_on_are_named(make_denoiser, make_unet):
    denoiser = make_denoiser(make_unet(dropout=0.5))
    few = Split(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(4).long())
    stream = torch.get_rng_state()
    check_used(denoiser.train(), objective(), few)
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(p.grad is None for p in denoiser.parameters())
    denoiser.spare = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match=r"depend on spare.weight, spare.bias \(2 of"):
        check_used(denoiser, objective(), few)
    denoiser.spare.requires_grad_(False)
    check_used(denoiser, objective(), few)


@pytest.mark.parametrize(
    ("heldout", "variance", "warned"),
    [(1.1, 0.0, False), (1.5, 0.0, True), (1.5, 0.01, True), (1.5, 0.04, False)],
    ids=["small", "large", "more than chance", "chance"],
)
def test_overfitting_is_measured_and_told(
    make_denoiser, monkeypatch, caplog, heldout, variance, warned
):
    trained, held = (
        Split(torch.full((4, 1, 8, 8), value, dtype=torch.uint8), torch.zeros(4).long())
        for value in (0, 1)
    )

    def errors(denoiser, split, *, batch_size):
        return torch.full((8,), heldout if split is held else 1.0), variance / 2

    class Log:
        def metrics(self, values, *, step):
            self.row = values

    class State:
        averaged = make_denoiser()
        step = 3

    monkeypatch.setattr(hooks, "_level_errors", errors)
    log = Log()
    HeldOutLoss(every=1, split=held, trained=trained, batch_size=4, run_log=log)(State())
    assert log.row["heldout/gap"] == pytest.approx(heldout - 1)
    assert log.row["heldout/eps_mse"] == pytest.approx(heldout)
    assert ("overfitting" in caplog.text) == warned
