"""What is evaluated and how, settled before anything is drawn."""

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ccdiff.config.build import instantiate
from ccdiff.diffusion.samplers import Sampler
from ccdiff.distributed.ranks import is_main
from ccdiff.errors import UserError
from ccdiff.metrics.extractors import Material
from ccdiff.metrics.figures import Provenance
from ccdiff.metrics.judge import Judge
from ccdiff.metrics.references import asked_labels
from ccdiff.system.atomic import write_text
from ccdiff.system.text import printable
from ccdiff.trained.run import OpenedRun, open_run

__all__ = ["Subject", "open_subject"]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A trained run with everything that its evaluation needs.

    Arguments:
        trained: The run.
        material: Its data.
        label_names: Of classes or attributes.
        sampler: How samples are drawn.
        judge: Of what samples show and look like.
        fingerprints: Of the images of ``train`` and ``heldout``.
        y: What each sample is asked for, [N] or [N, K].
        of_model: What figures of the model alone depend on.
        of_samples: What figures of samples depend on.
        folder: Where to write to.
        facts: For a reader.
    """

    trained: OpenedRun
    material: Material
    label_names: tuple[str, ...]
    sampler: Sampler
    judge: Judge
    fingerprints: dict[str, str]
    y: Tensor
    of_model: Provenance
    of_samples: Provenance
    folder: Path
    facts: dict[str, str]


def open_subject(cfg: DictConfig) -> Subject:
    """Opens the run, its data and the extractors that ``cfg`` asks for.

    Raises:
        UserError: Where one of them will not do.
    """
    _check_name(cfg.name)
    source = instantiate(cfg.extractor)
    # Before the classifier, whose training takes minutes.
    source.check()
    trained = open_run(cfg)
    if not os.access(trained.run.path, os.W_OK):
        raise UserError(f"{trained.run.path} cannot be written, where the evaluation is kept")
    trained.check_guidance(cfg)
    data = trained.data_set(root=cfg.data.root)
    train, heldout = data.load()
    material = Material.of(data, train, heldout, cache=cfg.cache, device=trained.device)
    judge = Judge.open(source, material)
    sampler = instantiate(cfg.sampler)
    fingerprints = {"train": train.whole_fingerprint(), "heldout": heldout.whole_fingerprint()}
    of_model = Provenance(
        n=cfg.heldout_images,
        precision=_precision(trained),
        resolution=" x ".join(map(str, trained.image_shape)),
        data_fingerprint=fingerprints["heldout"],
    )
    way = {key: describe(cfg[key]) for key in ("sampler", "guidance", "threshold")}
    if cfg.schedule:
        way["schedule"] = describe(cfg.schedule)
    return Subject(
        trained=trained,
        material=material,
        label_names=data.names,
        sampler=sampler,
        judge=judge,
        fingerprints=fingerprints,
        y=asked_labels(heldout, n=cfg.n, num_labels=len(data.names)),
        of_model=of_model,
        of_samples=replace(
            of_model,
            n=cfg.n,
            seed=cfg.seed,
            sampler=way["sampler"],
            steps=sampler.steps,
            guidance=way["guidance"],
            threshold=way["threshold"],
            schedule=way.get("schedule"),
        ),
        folder=_folder(cfg, trained, sampler, way),
        facts=_facts(cfg, trained, way, judge),
    )


def describe(node: Any) -> str:
    """A config node as a call, such as ``ddim(eta=0.0, steps=50)``.

    What has a ``name``, as samplers do, goes by it; the rest by its class.
    """
    if OmegaConf.is_config(node):
        return describe(OmegaConf.to_container(node, resolve=True))
    if not isinstance(node, dict):
        return str(node)
    name = node.get("name") or str(node.get("_target_", "")).rpartition(".")[2]
    shown = [(k, v) for k, v in sorted(node.items()) if k not in ("_target_", "name")]
    return f"{name}({', '.join(f'{k}={describe(v)}' for k, v in shown)})"


def _precision(trained: OpenedRun) -> str:
    dtype = trained.denoiser.autocast_dtype
    return "bf16" if dtype is torch.bfloat16 else "fp32"


def _check_name(name: str | None) -> None:
    """Raises a UserError where a name would leave the run, or is no name of a folder."""
    if name is None:
        return
    if (
        name in (".", "..")
        or not name.strip()
        or printable(name) != name
        or set(name) & set("/\\")
    ):
        raise UserError(
            f"name={printable(name)} is not the name of one folder, which is made in evaluation/ "
            f"of the run: pass letters, digits, dots and dashes"
        )


def _folder(cfg: DictConfig, trained: OpenedRun, sampler: Sampler, way: dict[str, str]) -> Path:
    """The evaluation's folder: the same for the same samples, whatever their number.

    Raises:
        UserError: Where a folder of the given name holds other samples.
    """
    settings = {
        "step": trained.checkpoint["step"],
        "seconds": trained.checkpoint["seconds"],
        "weights": cfg.weights,
        "seed": cfg.seed,
        "precision": _precision(trained),
        **way,
    }
    text = json.dumps(settings, indent=2)
    short = hashlib.blake2b(text.encode(), digest_size=3).hexdigest()
    kind = f"{sampler.name}-{sampler.steps}"
    name = cfg.name or f"{settings['step']:08d}-{cfg.weights}-{kind}-{short}"
    folder = trained.run.path / "evaluation" / name
    stated = folder / "samples.json"
    if stated.exists() and json.loads(stated.read_text()) != settings:
        raise UserError(
            f"name={name} already holds samples drawn in another way ({stated} says how): pass "
            f"another name, or none"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if is_main():
        write_text(stated, text)
    return folder


def _facts(
    cfg: DictConfig, trained: OpenedRun, way: dict[str, str], judge: Judge
) -> dict[str, str]:
    extractor, classifier = judge.extractor, judge.classifier
    found = classifier.classifier.heldout_accuracy
    step, seconds = trained.checkpoint["step"], trained.checkpoint["seconds"]
    size = " x ".join(map(str, trained.image_shape))
    return {
        "run": str(trained.run.path.absolute()),
        "checkpoint": f"{trained.path.name}, {cfg.weights} weights",
        "training": f"{step} steps in {seconds:.0f} s",
        "data": f"{trained.config.data._target_.rpartition('.')[2]}, {size}",
        "samples": f"{cfg.n}, seed {cfg.seed}, {_precision(trained)}",
        **way,
        "extractor": f"{extractor.name} ({extractor.fingerprint})",
        classifier.name: (
            f"{found:.3g} standard deviations off on held-out numbers ({classifier.fingerprint})"
            if classifier.classifier.numbers
            else f"finds {found:.2%} of held-out labels ({classifier.fingerprint})"
        ),
    }
