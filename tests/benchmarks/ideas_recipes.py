"""The ideas that are compared: each the recipe with one change."""

from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["BASE", "IDEAS", "Idea", "picture_prefix"]

_SMALL_UNET = (
    "model=unet_mnist",
    "model.channels=[32,32]",
    "model.bottleneck=64",
    "model.num_blocks=1",
    "model.patch=2",
    "model.skips=add",
    "model.film=per_block",
    "model.label_film=true",
)
_SMALL_VIT = (
    "model=vit_small",
    "model.patch=4",
    "model.width=64",
    "model.token_dim=64",
    "model.depth=4",
    "model.head_channels=32",
    "model.bottleneck=16",
)
_VELOCITY = (
    "schedule=cosine",
    "schedule.min_log_snr=-9",
    "prediction=velocity",
    "weighting=edm",
    "weighting.sigma_data=1.0",
)
_FLOW = ("schedule=flow", "schedule.min_log_snr=-9", "prediction=flow", "weighting=flow")
_TIMES = ("times=logit_normal", "times.mean=0.5")
_MUON = ("optimizer=muon", "optimizer.lr=5e-3", "optimizer.momentum=0.9")
_EMA = ("ema=standard", "ema.update_every=4", "ema.power=0.15")

_PARTS = {
    "model": _SMALL_UNET,
    "loss": _VELOCITY,
    "times": _TIMES,
    "optimizer": _MUON,
    "ema": _EMA,
    "sampler": ("sampler=unipc", "sampler.steps=20"),
}
"""The recipe: a small network trained for the velocity, with labels in every block."""
_COMMON = (
    "conditioning.drop=0.1",
    "threshold=clip",
    "tracker=none",
    "evaluate.every=0",
    "trainer.device=cpu",
    "trainer.compile=none",
    "trainer.batch_size=32",
    "trainer.warmup=20",
)
BASE = "base recipe"


@dataclass(frozen=True, kw_only=True)
class Idea:
    """One change of the recipe.

    Arguments:
        parts: What stands in place of the recipe's parts, by their names.
        more: Overrides beside them.
        sets: The data sets that it is tried on; none for all.
        late: Whether it comes after all seeds of the others.
    """

    parts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    more: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    late: bool = False

    def overrides(self) -> tuple[str, ...]:
        """What the recipe becomes."""
        chosen = _PARTS | self.parts
        return (*(word for part in chosen.values() for word in part), *_COMMON, *self.more)


_CLEAN = (*_FLOW[:2], "prediction=clean", "weighting=flow")

IDEAS = {
    BASE: Idea(),
    "model=vit_small of equal size": Idea(parts={"model": _SMALL_VIT}),
    "the same, prediction=clean": Idea(parts={"model": _SMALL_VIT, "loss": _CLEAN}),
    "prediction=clean weighting=flow": Idea(parts={"loss": _CLEAN}),
    "prediction=flow": Idea(parts={"loss": _FLOW}),
    "auxiliary=contrastive": Idea(more=("auxiliary=contrastive",)),
    "auxiliary=dispersive": Idea(more=("auxiliary=dispersive",)),
    "coupling=optimal": Idea(more=("coupling=optimal",)),
    "augment=flip": Idea(more=("augment=flip",), sets=("emoji",)),
    "augment=geometric": Idea(more=("augment=geometric",)),
    "ema=karras": Idea(parts={"ema": ("ema=karras", "ema.update_every=4")}),
    "optimizer=adamw": Idea(parts={"optimizer": ("optimizer=adamw", "optimizer.lr=2e-3")}),
    "times=uniform": Idea(parts={"times": ("times=uniform",)}),
    "objective=meanflow, 4 steps": Idea(
        parts={"sampler": ("sampler=meanflow", "sampler.steps=4")},
        more=("objective=meanflow", "model.interval=true", "model.noise_span=10.0"),
        late=True,
    ),
    "objective=model_guidance": Idea(more=("objective=model_guidance",), late=True),
    "times=stratified": Idea(parts={"times": ("times=stratified",)}, late=True),
    "prediction=noise weighting=snr": Idea(
        parts={"loss": (*_VELOCITY[:2], "prediction=noise", "weighting=snr")}, late=True
    ),
}
"""In order of value; a comparison that is cut off lacks the last."""


def picture_prefix(out: Path, name: str, title: str) -> Path:
    """How the files of an idea's pictures begin; ``-drawn.png`` or ``-guided_drawn.png`` follows.

    Arguments:
        out: The folder of the comparison.
        name: Of the data set.
        title: Of the idea.
    """
    slug = "".join(c if c.isalnum() else "-" for c in title).replace("--", "-").strip("-")
    return out / "pictures" / f"{name}-{slug}"
