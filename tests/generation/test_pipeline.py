"""Samples are looked at before they become pixels, which hide what is no number."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from ccdiff.diffusion.guidance import Guidance
from ccdiff.diffusion.samplers import DDIM
from ccdiff.diffusion.thresholding import Clip, Unlimited
from ccdiff.edit.tasks import side_by_side
from ccdiff.generation.pipeline import NotFinite, Pipeline


@dataclass(frozen=True, kw_only=True)
class Broken(Guidance):
    """As a scale of nan, or a model that has diverged, on the second image alone."""

    value: float

    def __call__(self, denoiser, y: Tensor, drop: Tensor | None = None):
        def denoise(x_t: Tensor, level: object) -> Tensor:
            x0_hat = torch.zeros_like(x_t)
            x0_hat[1] = self.value
            return x0_hat

        return denoise


@pytest.mark.parametrize("threshold", [Clip(), Unlimited()], ids=["clip", "unlimited"])
def test_what_is_no_number_ends_in_a_clear_error(threshold, make_denoiser):
    pipeline = Pipeline(
        sampler=DDIM(steps=2),
        guidance=Broken(value=math.nan),
        threshold=threshold,
        image_shape=(1, 8, 8),
    )
    with pytest.raises(NotFinite, match="1 of 3 samples hold numbers that are not finite"):
        pipeline(make_denoiser().eval(), torch.arange(3), None, seeds=range(3))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_edits_are_looked_at_too(value):
    fine, broken = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    assert side_by_side(fine, broken).shape == (4, 1, 4, 4)
    broken[1, 0, 0, 0] = value
    with pytest.raises(NotFinite):
        side_by_side(fine, broken)
