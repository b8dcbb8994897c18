"""What a curve and a map are drawn with: samplers by their names, and the labels shown."""

from collections.abc import Sequence
from difflib import get_close_matches

import torch
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from ccdiff.config.build import instantiate
from ccdiff.data import Split
from ccdiff.diffusion.samplers import Sampler
from ccdiff.errors import UserError
from ccdiff.runs.folder import find_checkpoint, run_of
from ccdiff.trained.grids import fill_in_grid

__all__ = ["compose_sampler", "labels_shown"]


def compose_sampler(
    name: str, steps: int, overrides: Sequence[str] = (), *, run: str | None = None
) -> Sampler:
    """The sampler of ``conf/sampler/<name>.yaml`` with so many steps; call it inside a command.

    Arguments:
        name: Of the file.
        steps: Number of steps.
        overrides: Such as ``sampler/grid=karras`` and ``sampler.eta=0.5``.
        run: Where the grids of ``sampler/grid=fitted`` are found.

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
    if run is not None:
        fill_in_grid(composed.sampler, run_of(find_checkpoint(run)))
    return instantiate(composed.sampler)


def labels_shown(heldout: Split, num_labels: int, num_per_label: int) -> tuple[Tensor, list[str]]:
    """What the images shall show, with the names of their noise.

    As many of each class; or the attributes of held-out images, which go together as they do.
    """
    if heldout.labels.ndim == 1:
        y = torch.arange(num_labels).repeat_interleave(num_per_label)
    else:
        rows = heldout.labels
        y = rows[
            torch.arange(num_labels * num_per_label) * len(rows) // (num_labels * num_per_label)
        ]
    if len(y) < 2:
        raise UserError("a distance between distributions needs 2 images: raise num_per_label")
    return y, [f"curve {i}" for i in range(len(y))]
