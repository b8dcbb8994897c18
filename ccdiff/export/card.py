"""The card of an export: what somebody who is handed it wants to know, as Markdown."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from ccdiff.config.build import image_shape_of, instantiate
from ccdiff.diffusion.conditioning import Conditioning, MultiHot
from ccdiff.diffusion.continuous import Continuous
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.runs.checkpoints import Checkpoint
from ccdiff.runs.exports import CONFIG_FILE, HUB
from ccdiff.runs.folder import Run
from ccdiff.runs.log import read_metrics
from ccdiff.runs.record import read_record
from ccdiff.system.atomic import write_text, write_whole
from ccdiff.system.text import markdown, printable

__all__ = ["CARD", "GRID", "Sharing", "write_card"]

log = logging.getLogger(__name__)

CARD, GRID = "README.md", "grid.png"
_WEIGHTS = {"ema": "averaged over training", "raw": "those of the last step"}
_OF_TRAINING = (
    *("train/lr", "train/images_seen", "train/images_per_second", "train/flops_per_second"),
    *("train/mfu", "time/"),
)
"""How the keys of figures begin that do not tell of the model."""


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """What the hub wants to know.

    Arguments:
        name: Where it is pushed to, ``user/name``.
        licence: Of the weights, as the hub spells it.
        data_licence: Of the training images, in words.
    """

    name: str
    licence: str
    data_licence: str

    def front_matter(self) -> list[str]:
        """The lines that the hub reads, before the card."""
        facts = {
            "license": self.licence,
            "library_name": "ccdiff",
            "pipeline_tag": "unconditional-image-generation",
            "tags": ["ccdiff", "diffusion", "class-conditional"],
        }
        return ["---", *yaml.safe_dump(facts, sort_keys=False).splitlines(), "---", ""]


def write_card(
    folder: Path,
    config: DictConfig,
    checkpoint: Checkpoint,
    run: Run,
    denoiser: Denoiser,
    *,
    weights: str,
    sharing: Sharing | None,
) -> None:
    """Writes what somebody who is handed a folder wants to know, with a picture if there is one.

    Arguments:
        folder: Of the export.
        config: What the model was trained with.
        checkpoint: Where the weights are from.
        run: Whose figures, grid and command are told.
        denoiser: With these weights.
        weights: ``ema``, ``raw`` or the width of an average.
        sharing: Where it is pushed to the hub; None where it is not.
    """
    shown = run.samples / "grid.png"
    if shown.is_file():
        content = shown.read_bytes()
        write_whole(folder / GRID, lambda file: file.write(content))
    card = _card(config, checkpoint, run, denoiser, weights, sharing, picture=shown.is_file())
    write_text(folder / CARD, card)


def _card(
    config: DictConfig,
    checkpoint: Checkpoint,
    run: Run,
    denoiser: Denoiser,
    weights: str,
    sharing: Sharing | None,
    *,
    picture: bool,
) -> str:
    names = list(denoiser.conditioning.label_names)
    data = config.data
    example = _example(denoiser.conditioning)
    kinds = {
        "data": f"{_class_name(data)}, {' x '.join(map(str, image_shape_of(config)))}",
        "labels": f"{len(names)}: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}",
        "training": f"{checkpoint['step']} steps of {config.trainer.batch_size} images",
        "weights": _WEIGHTS.get(weights, f"averaged over training, with a width of {weights}"),
        "network": f"{_class_name(config.model)}, "
        f"{sum(p.numel() for p in denoiser.parameters()) / 1e6:.2f} million parameters",
        "recipe": ", ".join(
            f"{key} {_class_name(config[key])}"
            for key in (
                *("schedule", "prediction", "objective"),
                *("weighting", "times", "conditioning"),
            )
        ),
        "sampler": f"{instantiate(config.sampler).name}, {config.sampler.steps} steps",
    }
    figures = _figures(run, checkpoint["step"])
    place = "path/to/this/folder" if sharing is None else f"{HUB}{sharing.name}"
    if sharing is not None:
        kinds["licence of the training images"] = sharing.data_licence
    record = read_record(run)
    return "\n".join(
        [
            *([] if sharing is None else sharing.front_matter()),
            "# A class-conditional diffusion model",
            "",
            *([f"![Samples, a row for each label]({GRID})", ""] if picture else []),
            "```python",
            "import ccdiff",
            f"model = ccdiff.load({place!a})",
            f"images = model.sample({example!a}, num_per_label=4, seed=0)",
            'images.save("grid.png")',
            "```",
            "",
            *_table("", kinds),
            "",
            *(_table("last figures", figures) if figures else ["No figures were logged."]),
            "",
            *([] if record is None else _trained_by(record.command)),
            f"`{CONFIG_FILE}` holds the whole config that it was trained with.",
            "",
        ]
    )


def _trained_by(command: str) -> list[str]:
    """The command of training, where it is one line that ends no block of code."""
    line = printable(command).replace("`", "'")
    return ["It was trained by", "", f"    {line}", ""] if line.strip() else []


def _example(conditioning: Conditioning) -> Sequence[Any]:
    """Labels to try the model with."""
    names = conditioning.label_names
    if isinstance(conditioning, Continuous):
        pairs = zip(names, conditioning.mean.tolist(), strict=True)
        return [{name: float(f"{mean:.3g}") for name, mean in pairs}]
    return list(names[:1] if isinstance(conditioning, MultiHot) else names[:2])


def _class_name(node: DictConfig) -> str:
    return node._target_.rpartition(".")[2]


def _table(title: str, rows: dict[str, str]) -> Sequence[str]:
    """A Markdown table; names of data are text in it, not markup."""
    return [
        f"| {title} | |",
        "|---|---|",
        *(f"| {markdown(key)} | {markdown(value)} |" for key, value in rows.items()),
    ]


def _figures(run: Run, step: int) -> dict[str, str]:
    """The last value of each figure up to ``step`` that tells of the model."""
    if not run.metrics.exists():
        log.warning("there is no %s: the card states no figures", run.metrics)
    rows = read_metrics(run.metrics)
    last: dict[str, str] = {}
    for row in rows:
        for key, value in row.items():
            told = row["step"] <= step and "/" in key
            if told and not key.startswith(_OF_TRAINING):
                last[key] = f"{value:.4g} (step {row['step']})"
    return last
