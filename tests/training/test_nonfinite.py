"""A loss that is not finite is traced to an image, its noise level and a layer."""

import pytest
import torch

from ccdiff.diffusion.objectives import Denoising
from ccdiff.diffusion.times import UniformTimes
from ccdiff.diffusion.weightings import SNR
from ccdiff.training.nonfinite import Diverged, diagnose
from ccdiff.training.state import LabelledDraw


@pytest.fixture
def parts(make_denoiser, generator):
    """A denoiser, an objective, and six images with their draw."""
    denoiser, objective = make_denoiser(), Denoising(weighting=SNR(), times=UniformTimes())
    x0 = torch.randn(6, 1, 8, 8, generator=generator)
    draw = objective.draw(denoiser, x0, generator)
    return denoiser, objective, LabelledDraw(x0, torch.zeros(6).long(), draw)


def told(parts) -> str:
    error = diagnose(*parts, step=7, loss=torch.tensor(torch.inf))
    assert isinstance(error, Diverged)
    return str(error)


def test_the_worst_image_names_the_noise_level(parts):
    denoiser, _, batch = parts
    batch.x0[4, 0, 2, 2] = torch.inf
    level = denoiser.schedule.log_snr(batch.draw.t[4]).item()
    assert "diverged at step 7: the loss is inf" in told(parts)
    assert f"log-SNR {level:.2f};" in told(parts)


@pytest.mark.parametrize("layer", ["network.stem", "network.middle_out.block", "network.out"])
def test_the_first_layer_with_such_an_output_is_named(parts, layer):
    weights = (p for p in parts[0].get_submodule(layer).parameters() if p.ndim > 1)
    with torch.no_grad():
        next(weights)[0] = torch.nan
    assert f"whose output is not finite is {layer}" in told(parts)


def test_the_first_gradient_from_the_output_is_named(parts):
    denoiser, objective, batch = parts
    objective.at(denoiser, batch.x0, batch.y, batch.draw).sum().backward()
    for name in ("stem.weight", "middle_out.block.conv1.weight", "out.weight"):
        denoiser.network.get_parameter(name).grad[0] = torch.inf
        assert f"is that of {name}." in told(parts)
