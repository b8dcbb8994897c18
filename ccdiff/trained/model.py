"""A trained model to draw images with: from an exported folder, a run or a checkpoint."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from PIL import Image
from tqdm import tqdm

from ccdiff.config.build import image_shape_of, instantiate
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.guidance import Guidance
from ccdiff.diffusion.samplers import Sampler, check_sampler
from ccdiff.diffusion.samplers.grids import Grid
from ccdiff.diffusion.thresholding import Threshold
from ccdiff.errors import UserError
from ccdiff.generation.images import Images
from ccdiff.generation.labels import parse_labels
from ccdiff.generation.pipeline import Pipeline, sample_seeds
from ccdiff.runs.checkpoints import open_checkpoint
from ccdiff.runs.exports import export_folder
from ccdiff.runs.folder import Run, run_of
from ccdiff.system.device import pick_device
from ccdiff.trained.choices import chosen_pipeline, whole
from ccdiff.trained.doubts import coupling_of, tell_doubts
from ccdiff.trained.exports import read_export
from ccdiff.trained.run import trained_config, trained_denoiser

__all__ = ["Model", "load_model"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Model:
    """A trained model, ready to draw images.

    Arguments:
        denoiser: In evaluation mode, on its device.
        config: What it was trained with.
        pipeline: Draws as the config says.
        run: Where it is from; None for an export.
        step: Of training, where that is known.
    """

    denoiser: Denoiser
    config: DictConfig
    pipeline: Pipeline
    run: Run | None = None
    step: int | None = None

    @property
    def label_names(self) -> tuple[str, ...]:
        """One per class or attribute."""
        return tuple(self.denoiser.conditioning.label_names)

    def sample(
        self,
        labels: Any = None,
        *,
        num_per_label: int = 1,
        seed: int | Sequence[int] = 0,
        sampler: str | Sampler | None = None,
        grid: str | Grid | None = None,
        steps: int | None = None,
        guidance: str | float | Guidance | None = None,
        threshold: str | Threshold | None = None,
        frames: int = 0,
        progress: bool = False,
    ) -> Images:
        """Draws images, those that ``sample.py`` draws with the same settings.

        What is not given is as in the config that the model was trained with.

        Arguments:
            labels: As on the command line, such as ``["cat", 3]``; None is one of each class.
            num_per_label: Images per row of labels.
            seed: The same seed gives the same images. Or one seed of each image, which alone its
                noise then depends on: equal ones give the same noise for other labels.
            sampler: An option of ``sampler=``, such as ``ddim``, or a sampler.
            grid: An option of ``sampler/grid=``, such as ``karras``, or a grid.
            steps: Number of steps from noise to image.
            guidance: A scale, for classifier-free guidance, where 1 is none; or an option of
                ``guidance=``; or a guidance.
            threshold: An option of ``threshold=``, or a threshold.
            frames: How many pictures of the way from noise to images to keep.
            progress: Whether to show a bar.

        Returns:
            The images, row by row, on the CPU.

        Raises:
            UserError: Where a label or an option is unknown, or there is nothing to draw.
        """
        num_per_label = _count("num_per_label", num_per_label, least=1)
        frames = _count("frames", frames, least=0)
        y, drop, titles = parse_labels(
            list(labels) if isinstance(labels, tuple) else labels, self.denoiser.conditioning
        )
        y = y.repeat_interleave(num_per_label, dim=0)
        drop = None if drop is None else drop.repeat_interleave(num_per_label, dim=0)
        pipeline = chosen_pipeline(
            self.pipeline,
            self.run,
            sampler=sampler,
            grid=grid,
            steps=steps,
            guidance=guidance,
            threshold=threshold,
        )
        tell_doubts(pipeline.sampler, self.denoiser.schedule, coupling_of(self.config))
        seeds = _seeds(seed, titles, num_per_label)
        with tqdm(
            total=len(y) * pipeline.sampler.steps, unit="step", disable=not progress, leave=False
        ) as bar:
            images, film = pipeline(
                self.denoiser, y, drop, seeds=seeds, num_frames=frames, on_step=bar.update
            )
        return Images(
            tensor=images,
            y=y,
            labels=[title for title in titles for _ in range(num_per_label)],
            seeds=seeds,
            columns=num_per_label,
            frames=film,
        )

    def show(
        self,
        labels: Any = None,
        *,
        num_per_label: int = 8,
        seed: int | Sequence[int] = 0,
        sampler: str | Sampler | None = None,
        grid: str | Grid | None = None,
        steps: int | None = None,
        guidance: str | float | Guidance | None = None,
        threshold: str | Threshold | None = None,
    ) -> Image.Image:
        """Draws images and lays them out as one picture; arguments as of :meth:`sample`."""
        return self.sample(
            labels,
            num_per_label=num_per_label,
            seed=seed,
            sampler=sampler,
            grid=grid,
            steps=steps,
            guidance=guidance,
            threshold=threshold,
        ).grid()

    def __repr__(self) -> str:
        data = str(self.config.data._target_).rpartition(".")[2]
        size = " x ".join(map(str, self.pipeline.image_shape))
        parameters = sum(p.numel() for p in self.denoiser.parameters()) / 1e6
        sampler = self.pipeline.sampler
        step = "" if self.step is None else f", step {self.step}"
        return (
            f"<Model of {data}, {size}, {len(self.label_names)} labels, "
            f"{parameters:.2f} million parameters{step}, {sampler.name} in {sampler.steps} steps>"
        )


def _count(name: str, value: int, *, least: int) -> int:
    """A whole number of its least size or more, whatever type of whole number it is."""
    if (number := whole(value)) is None:
        raise UserError(f"{name} must be a whole number, got {value!r}")
    if number < least:
        raise UserError(f"{name} must be at least {least}, got {number}")
    return number


def _seeds(seed: int | Sequence[int], titles: Sequence[str], num_per_label: int) -> list[int]:
    if (number := whole(seed)) is not None:
        return sample_seeds(number, titles, num_per_label)
    seeds = [] if isinstance(seed, str) or not isinstance(seed, Iterable) else list(seed)
    if not seeds or any(whole(one) is None for one in seeds):
        raise UserError(f"seed must be a whole number, or one for each image, got {seed!r}")
    if len(seeds) != len(titles) * num_per_label:
        raise UserError(f"there are {len(seeds)} seeds for {len(titles) * num_per_label} images")
    return [int(one) for one in seeds]


def load_model(path: str | Path | Run, *, device: str = "auto") -> Model:
    """Opens an exported folder, a run directory or a checkpoint; no code of theirs is run.

    It draws in float32, as ``sample.py`` does with ``precision=fp32``.

    Arguments:
        path: Which; ``hub:user/name`` is an export on the Hugging Face hub, which is fetched.
        device: auto, cpu, cuda, cuda:<n> or mps.

    Raises:
        UserError: Where there is none, or it is damaged.
    """
    path = path.path if isinstance(path, Run) else path
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"a model is opened by its path, or by latest, got {path!r}")
    run, step = None, None
    if (folder := export_folder(path)) is not None:
        config, denoiser = read_export(folder)
    else:
        file, checkpoint = open_checkpoint(str(path))
        config, denoiser = trained_config(checkpoint), trained_denoiser(checkpoint)
        run, step = run_of(file), checkpoint["step"]
    sampler = instantiate(config.sampler)
    check_sampler(sampler, denoiser)
    pipeline = Pipeline(
        sampler=sampler,
        guidance=instantiate(config.guidance),
        threshold=instantiate(config.threshold),
        image_shape=image_shape_of(config),
    )
    return Model(
        denoiser=denoiser.to(pick_device(device)).requires_grad_(False).eval(),
        config=config,
        pipeline=pipeline,
        run=run,
        step=step,
    )
