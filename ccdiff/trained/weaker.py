"""The weaker model that autoguidance leads away from, named in a config by its run."""

from ccdiff.config.build import trained_denoiser
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.errors import UserError
from ccdiff.runs.checkpoints import open_checkpoint

__all__ = ["load_weaker"]


def load_weaker(run: str | None, *, weights: str = "ema") -> Denoiser:
    """The denoiser of a run directory's newest checkpoint, or of a checkpoint file.

    Arguments:
        run: The directory or file, or ``latest``.
        weights: ``ema`` or ``raw``.

    Raises:
        UserError: Where there is no such run.
    """
    if run is None:
        raise UserError(
            "autoguidance leads away from a weaker model: pass guidance.weak.run=<an earlier "
            "checkpoint of this run, or a smaller run on the same data>"
        )
    _, checkpoint = open_checkpoint(run)
    return trained_denoiser(checkpoint, weights=weights)
