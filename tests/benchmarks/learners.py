"""Ways to learn to draw digits by label, at one interface, and what ``train.py`` runs as one."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from ccdiff.config.build import instantiate
from ccdiff.data import Split
from ccdiff.diffusion.guidance import CFG
from ccdiff.generation.pipeline import Pipeline
from tests.benchmarks.kit import measure_flops
from tests.benchmarks.ours import assembled, batches_of, updater

STEPS = 12
"""Of every sampler."""


class Learner(ABC):
    """The contract: learns from batches of one split, and draws digits.

    Arguments:
        network: Whose parameters are counted.
        batch_size: Images per step.
    """

    def __init__(self, network: nn.Module, *, batch_size: int) -> None:
        self.network = network
        self.batch_size = batch_size

    @abstractmethod
    def loss(self) -> Tensor:
        """Of the next batch, a scalar."""

    @abstractmethod
    def step(self) -> None:
        """One optimizer step, with all that a training loop does around it."""

    @abstractmethod
    def draw(self, y: Tensor) -> Tensor:
        """Images uint8 [N, 1, 28, 28] of labels [N], from averaged weights and one noise."""

    @abstractmethod
    def draw_by(self, *, scale: float, steps: int) -> None:
        """Samples are drawn so from now on: guided by ``scale``, in ancestral ``steps``."""

    def flops(self) -> float:
        """Operations per image of a training step."""
        flops = measure_flops(lambda: self.loss().backward(), images=self.batch_size)
        self.network.zero_grad(set_to_none=True)
        return flops


class Ours(Learner):
    """What ``train.py`` runs, from drawing the batch to the averaged weights.

    Arguments:
        split: Training images.
        overrides: As on the command line; they choose how samples are drawn, too.
        seed: Of all randomness in training.
    """

    def __init__(self, split: Split, overrides: Sequence[str], *, seed: int) -> None:
        training = assembled(*overrides, f"seed={seed}", "trainer.device=cpu", split=split)
        super().__init__(training.state.denoiser, batch_size=training.settings.batch_size)
        self.state = training.state
        self.update = updater(training, batches_of(training))
        cfg = training.cfg
        self.pipeline = Pipeline(
            sampler=instantiate(cfg.sampler),
            guidance=instantiate(cfg.guidance),
            threshold=instantiate(cfg.threshold),
            image_shape=(1, 28, 28),
        )

    def loss(self) -> Tensor:
        batch = self.update.batch()
        return self.update.objective.at(self.state.denoiser, batch.x0, batch.y, batch.draw).mean()

    def step(self) -> None:
        self.update()

    def draw(self, y: Tensor) -> Tensor:
        return self.pipeline(self.state.averaged.eval(), y, None, seeds=range(len(y)))[0]

    def draw_by(self, *, scale: float, steps: int) -> None:
        self.pipeline = replace(
            self.pipeline,
            sampler=replace(self.pipeline.sampler, steps=steps),
            guidance=CFG(scale=scale),
        )
