"""One optimizer step: a batch, its loss and gradient, the update, the average."""

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from ccdiff.data import Batches, augment, to_float
from ccdiff.diffusion.couplings import Coupling, Independent
from ccdiff.diffusion.objectives import Objective
from ccdiff.distributed.ranks import slice_of
from ccdiff.seeding import seed_for
from ccdiff.settings import TrainerSettings
from ccdiff.training.ddp import averaging, mean_over_ranks, replicate, seed_apart
from ccdiff.training.monitor.timing import StepTimer
from ccdiff.training.nonfinite import Guard
from ccdiff.training.state import LabelledDraw, TrainState

__all__ = ["Update"]


class Update:
    """Takes one optimizer step at each call, and asks nothing of the device meanwhile.

    Arguments:
        state: What to change.
        objective: The loss.
        batches: Training images by batch number: the rows of this process, or whole batches where
            the coupling looks at them.
        flip: Whether to mirror images at random.
        settings: How long and how much.
        seed: The seed of times, noise, drop masks and mirroring.
        timer: Splits the time that a step takes.
        coupling: Which noise goes with which image; None: any.
    """

    def __init__(
        self,
        state: TrainState,
        *,
        objective: Objective,
        batches: Batches,
        flip: bool,
        settings: TrainerSettings,
        seed: int,
        timer: StepTimer,
        coupling: Coupling | None = None,
    ) -> None:
        self.state = state
        self.objective = objective
        self.batches = batches
        self.flip = flip
        self.settings = settings
        self.seed = seed
        self.timer = timer
        self.coupling = coupling or Independent()
        self.parameters = [p for p in state.denoiser.parameters() if p.requires_grad]
        self.generator = torch.Generator(self.parameters[0].device)
        self.losses = replicate(state.denoiser, objective)
        self.guard = Guard(state, objective)
        self.rows = slice_of(settings.batch_size)

    def __call__(self) -> Tensor:
        """Takes the step and returns the loss before it, a scalar on the device.

        Raises:
            Diverged: Where the gradient of this step or the one before is not finite.
        """
        state, settings = self.state, self.settings
        batch = self.batch()  # images in [-1, 1], labels, (t, eps, drop)
        self.timer.lap("data")

        loss = batch.x0.new_zeros(())
        for i, part in enumerate(batch.split(settings.accumulate), start=1):
            with averaging(self.losses, i == settings.accumulate):
                share = self.losses(part).sum() / len(batch.x0)  # w c_out^2 |F - F*|^2 per image
                self.timer.lap("forward")
                share.backward()
                self.timer.lap("backward")
            loss += share.detach()
        loss = mean_over_ranks(loss)

        self.settle()  # The device has this step to do meanwhile, and does not run dry.
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = get_total_norm(gradients, foreach=True)
        self.guard.check(norm, batch, loss)  # What is not finite never reaches the weights.
        if self.guard.late or norm > settings.grad_clip:  # Else it would be multiplied by 1.
            clip_grads_with_norm_(self.parameters, settings.grad_clip, norm, foreach=True)

        state.set_learning_rate(settings)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        self.timer.lap("optimizer")
        state.ema.update()
        self.timer.lap("ema")
        state.step += 1
        return loss

    def batch(self) -> LabelledDraw:
        """Images, labels and randomness of the step, or of this process's rows of it.

        They are keyed by the step, so that a resumed run draws what an uninterrupted one would.
        """
        state, batch_size = self.state, self.settings.batch_size
        seed_apart(self.seed, state.step)
        again = ("draw", state.draw) if state.draw else ()
        self.generator.manual_seed(seed_for(self.seed, "step", state.step, *again))
        images, y = self.batches.batch(state.step)
        if self.flip:
            rows = slice(None) if self.coupling.looks else self.rows
            images = augment(images, self.generator, batch_size=batch_size, rows=rows)
        x0 = to_float(images)
        # Drawn for the whole batch, so that it is the same however many processes share it.
        whole = x0.new_empty(()).expand(batch_size, *x0.shape[1:])
        draw = self.objective.draw(state.denoiser, whole, self.generator, step=state.step)
        if self.coupling.looks:
            draw = draw._replace(eps=self.coupling(x0, y, draw.drop, draw.eps))
            x0, y = x0[self.rows], y[self.rows]
        draw = draw.part(self.rows)
        if len(x0) < batch_size:
            draw = draw._replace(eps=draw.eps.clone())  # Frees the rest of the noise.
        return LabelledDraw(x0, y, draw)

    def settle(self) -> None:
        """Makes sure of the last step, before anybody looks at its outcome.

        Raises:
            Diverged: Where the device left it out; ``state.step`` is its number again, but it may
                be in the sum of the losses and counts in the average.
        """
        if self.guard.left_out():
            self.state.step -= 1
            self.state.optimizer.zero_grad(set_to_none=True)
            with self.guard.diagnosing():
                self()
