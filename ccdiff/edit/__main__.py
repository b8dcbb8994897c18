"""Tools for images: ``python -m ccdiff.edit task=img2img run=latest images=[0] labels=[3]``."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from ccdiff.config import schema
from ccdiff.launch.entry import command
from ccdiff.launch.labels import label_arguments
from ccdiff.settings import Precision

__all__ = ["EditConfig", "main"]


@dataclass
class StripConfig:
    """Images as they are foreseen on the way from noise."""

    _target_: str = "ccdiff.edit.tasks.Strip"
    frames: int = 10
    """Columns."""


@dataclass
class InvertConfig:
    """The noise that images come from, and the images that it gives."""

    _target_: str = "ccdiff.edit.tasks.Invert"


@dataclass
class InterpolateConfig:
    """From one image, label or seed to another."""

    _target_: str = "ccdiff.edit.tasks.Interpolate"
    frames: int = 9
    """Columns, both ends among them."""
    to_seed: int | None = None
    """Seed of the noise at the far end; none is the same noise."""


@dataclass
class InpaintConfig:
    """Fills in a part of images."""

    _target_: str = "ccdiff.edit.variations.Inpaint"
    mask: str = "center"
    """left, right, top, bottom, center, or an image file that is white where to fill in."""
    variations: int = 4
    """Results per image."""
    resamples: int = 10
    """How often each stretch of the path is run."""
    jump: int = 1
    """Steps in a stretch."""


@dataclass
class Img2ImgConfig:
    """Makes images anew, from their coarse shape on."""

    _target_: str = "ccdiff.edit.variations.Img2Img"
    start: float = 0.6
    """How much is made anew: towards 0 the image itself, at 1 plain sampling."""
    variations: int = 4
    """Results per image."""


@dataclass
class EditConfig:
    """What ``python -m ccdiff.edit`` takes; conf/edit.yaml says what each key means."""

    task: Any = None
    sampler: Any = MISSING
    threshold: Any = MISSING
    guidance: Any = MISSING
    schedule: Any = None
    run: str | None = None
    images: Any = None
    labels: Any = None
    seed: int = 0
    out: str | None = None
    weights: str = MISSING
    device: str = MISSING
    precision: Precision = Precision.auto
    data: schema.MovedData = field(default_factory=schema.MovedData)


_TASKS = {
    "strip": StripConfig,
    "invert": InvertConfig,
    "interpolate": InterpolateConfig,
    "inpaint": InpaintConfig,
    "img2img": Img2ImgConfig,
}
for _name, _node in _TASKS.items():
    ConfigStore.instance().store(group="task", name=_name, node=_node)


main = command(
    "edit",
    about="Inpaints, varies, interpolates and inverts images.",
    job="ccdiff.edit.job:run_edit",
    schema=EditConfig,
    rewrite=label_arguments,
)

if __name__ == "__main__":
    main()
