"""Samplers by the names of their files, inside a command that takes several of them."""

from collections.abc import Sequence
from difflib import get_close_matches

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from ccdiff.config.build import instantiate
from ccdiff.diffusion.samplers import Sampler
from ccdiff.errors import UserError

__all__ = ["compose_sampler"]


def compose_sampler(name: str, steps: int, overrides: Sequence[str] = ()) -> Sampler:
    """The sampler of ``conf/sampler/<name>.yaml`` with so many steps; call it inside a command.

    Arguments:
        name: Of the file.
        steps: Number of steps.
        overrides: Such as ``sampler/grid=karras`` and ``sampler.eta=0.5``.

    Raises:
        UserError: Where there is no such sampler, with near matches, or it has no such setting.
    """
    names = GlobalHydra.instance().config_loader().get_group_options("sampler")
    if name not in names:
        near = get_close_matches(name, names)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UserError(f"there is no sampler {name!r}{hint} (there are: {', '.join(names)})")
    for override in overrides:
        if override.startswith("sampler.steps="):
            raise UserError(f"{override}: the numbers of steps to compare are steps=5,10,...")
    try:
        # Of this config the sampler alone is used.
        composed = compose("sample", [f"sampler={name}", *overrides, f"sampler.steps={steps}"])
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"sampler={name} with {', '.join(overrides)}: {error}") from error
    return instantiate(composed.sampler)
