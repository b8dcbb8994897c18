"""Which sampler goes with which objective; others are told before anything is drawn."""

import pytest
from parts import concrete

from ccdiff.diffusion.levels import Reach
from ccdiff.diffusion.objectives import Objective
from ccdiff.diffusion.samplers import FittedMultistep, Sampler, UniPC, check_sampler
from ccdiff.errors import UserError

# Which are of no use without what was fitted to a run.
SAMPLERS = [cls for cls in concrete(Sampler) if cls is not FittedMultistep]


@pytest.mark.parametrize("objective", concrete(Objective), ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda cls: cls.__name__)
def test_a_sampler_takes_what_an_objective_teaches(make_denoiser, make_unet, sampler, objective):
    denoiser = make_denoiser(make_unet(interval=True))
    denoiser.reaches = objective.reaches
    built = sampler(steps=2)
    if built.reach in objective.reaches:
        return check_sampler(built, denoiser)
    with pytest.raises(UserError, match=f"sampler={built.name} .*use"):
        check_sampler(built, denoiser)


def test_fitted_coefficients_lead_where_those_without_lead():
    assert FittedMultistep.reach == UniPC.reach


def test_average_velocities_serve_every_sampler():
    wanted = {sampler.reach for sampler in concrete(Sampler)}
    assert wanted == set(Reach)
    assert [cls.__name__ for cls in concrete(Objective) if cls.reaches >= wanted] == ["MeanFlow"]
