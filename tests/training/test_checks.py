"""What is checked before the first step, and what is watched on the way."""

from types import SimpleNamespace

import pytest
import torch
from cli import ROOT

import ccdiff.nn
from ccdiff.config.build import build_objective, instantiate
from ccdiff.data import Split
from ccdiff.diffusion.auxiliaries import Contrastive, NoAuxiliary
from ccdiff.diffusion.conditioning import OneHot
from ccdiff.diffusion.couplings import Independent, Optimal
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.levels import Reach
from ccdiff.diffusion.objectives import Consistency, Denoising, MeanFlow, Objective
from ccdiff.diffusion.predictions import EDM, Clean, FlowVelocity, Noise, Velocity
from ccdiff.diffusion.samplers import DDIM, DDPM
from ccdiff.diffusion.samplers.grids import Karras
from ccdiff.diffusion.schedules import Cosine, Flow, Linear, Quadratic, Sigmoid
from ccdiff.diffusion.times import LogitNormal, Stratified, UniformTimes
from ccdiff.diffusion.weightings import SNR, FlowWeighting
from ccdiff.errors import UserError
from ccdiff.training.checks import (
    check_batch,
    check_coupling,
    check_noise,
    check_size,
    check_used,
)
from ccdiff.training.monitor import hooks
from ccdiff.training.monitor.hooks import HeldOutLoss
from ccdiff.training.operations import measure
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


def test_one_image_at_a_time_has_none_to_be_compared_with():
    check_batch(NoAuxiliary(), Independent(), at_once=1)
    check_batch(Contrastive(), Optimal(), at_once=2)
    with pytest.raises(UserError, match="auxiliary=contrastive compares"):
        check_batch(Contrastive(), Independent(), at_once=1)
    with pytest.raises(UserError, match=r"coupling=optimal compares.*coupling=independent"):
        check_batch(NoAuxiliary(), Optimal(), at_once=1)


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


@pytest.mark.parametrize("network", ["UNet", "ViT"])
def test_further_calls_of_an_objective_are_counted(network):
    """MeanFlow's derivative for a share of the images, guidance for all, consistency's target."""
    small = {
        "UNet": {"channels": [8, 16], "bottleneck": 16, "attention": [False, True], "groups": 4},
        "ViT": {"patch": 4, "width": 16, "depth": 2, "bottleneck": 8},
    }[network]
    denoiser = Denoiser(
        getattr(ccdiff.nn, network)(1, token_dim=8, head_channels=8, interval=True, **small),
        conditioning=OneHot(["a", "b"], dim=8, drop=0.1),
        prediction=FlowVelocity(),
        schedule=Flow(),
        reaches=frozenset(Reach),
    )
    split = Split(images=torch.zeros(3, 1, 8, 8, dtype=torch.uint8), labels=torch.zeros(3).long())
    parts = {"weighting": FlowWeighting(), "times": UniformTimes()}
    plain = measure(denoiser, Denoising(**parts), split)

    def forwards(objective) -> float:
        """The operations without gradients, in calls of the network."""
        size = measure(denoiser, objective, split)
        more = size.training_flops - plain.training_flops
        assert more == pytest.approx(size.flops - plain.flops, rel=1e-2)
        return more / plain.flops

    quarter, half, all_of_them = (forwards(MeanFlow(share=s, **parts)) for s in (0.25, 0.5, 1.0))
    assert 2 <= all_of_them <= 3.1  # The call itself and its derivative.
    assert half == pytest.approx(all_of_them / 2, rel=1e-2)
    assert quarter == pytest.approx(all_of_them / 4, rel=1e-2)
    guided = forwards(MeanFlow(share=0.5, guidance=2.0, **parts))
    assert guided == pytest.approx(half + 2, rel=5e-2)
    assert forwards(Consistency(**parts)) == pytest.approx(1, rel=1e-2)
