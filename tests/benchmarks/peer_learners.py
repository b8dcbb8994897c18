"""Three other libraries as learners of digits.

Each brings its own network, loss, averaged weights and sampler. What both share, an optimizer with
warm-up and a clipped gradient, is what their own trainers do, without their accelerator's extra
calls.
"""

import copy
import io
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from functools import partial

import torch
from azula.guidance.cfg import CFGDenoiser
from azula.sample import DDPMSampler
from diffusers import DDPMScheduler
from diffusers.training_utils import EMAModel, compute_density_for_timestep_sampling
from ema_pytorch import EMA
from torch import Tensor, nn
from torch.nn.functional import pad, pixel_shuffle, pixel_unshuffle
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ccdiff.data import Split, to_float, to_uint8
from ccdiff.training.muon import Muon
from ccdiff.training.state import learning_rate_factor
from tests.benchmarks.learners import STEPS, Learner
from tests.benchmarks.peers import (
    NULL,
    labelled_azula,
    labelled_ddpm_pytorch,
    labelled_diffusers,
)

SIZE = 28


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What was searched for each peer; the defaults are what is best for all.

    Training is in bfloat16, which was best for all, too.

    Arguments:
        clean: Whether the clean image is predicted, with plain squared error, as diffusers and
            azula can; otherwise the velocity, of azula its own target.
        channels: Width of each resolution, finest first.
        blocks: Residual blocks per resolution; denoising-diffusion-pytorch has two, always.
        patch: Side of the squares of pixels that are made channels before anything else, which
            no library does by itself; nor does any pad images whose sides do not divide.
        lr: Learning rate after warm-up.
        warmup: Steps of warm-up.
        train_steps: Steps in all; after warm-up the learning rate falls to zero over them.
        muon: Whether the optimizer is ours instead of AdamW; no library has one of its own.
        momentum: Of Muon.
        ema_power: By which the memory of the averaged weights grows with training.
        logit_mean: Of normal logits of the times, as diffusers has them for its own trainers of
            Stable Diffusion 3; None draws uniform ones. With azula times are up to its users;
            denoising-diffusion-pytorch has no choice.
        scale_shift: Whether time and label scale and shift features, an option of diffusers, and
            what the others always do; otherwise they shift alone.
        batch_size: Images per step.
        drop: Share of hidden labels.
        scale: Of classifier-free guidance.
        steps: Of the sampler.
    """

    channels: Sequence[int]
    clean: bool = False
    blocks: int = 2
    patch: int = 1
    lr: float = 2e-3
    warmup: int = 20
    train_steps: int = 1 << 40
    muon: bool = False
    momentum: float = 0.8
    ema_power: float = 0.5
    logit_mean: float | None = None
    scale_shift: bool = False
    batch_size: int = 32
    drop: float = 0.1
    scale: float = 3.0
    steps: int = STEPS

    @property
    def padded(self) -> int:
        """Side of the padded image, which every resolution must halve."""
        multiple = self.patch * 2 ** (len(self.channels) - 1)
        return -(-SIZE // multiple) * multiple

    @property
    def shape(self) -> dict[str, int]:
        """Of the images that the network sees."""
        return {"image_channels": self.patch**2, "size": self.padded // self.patch}


class _Peer(Learner):
    """An optimizer around a peer's own loss.

    Arguments:
        split: Training images.
        recipe: The hyper-parameters.
        network: The peer's.
        seed: Of all randomness in training.
    """

    def __init__(self, split: Split, recipe: Recipe, network: nn.Module, *, seed: int) -> None:
        super().__init__(network, batch_size=recipe.batch_size)
        self.split = split
        self.recipe = recipe
        self.generator = torch.Generator().manual_seed(seed)
        if recipe.muon:
            self.optimizer = Muon(network.parameters(), recipe.lr, momentum=recipe.momentum)
        else:
            self.optimizer = torch.optim.AdamW(
                network.parameters(), lr=recipe.lr, betas=(0.9, 0.99), fused=True
            )
        self.rates = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            partial(
                learning_rate_factor,
                steps=recipe.train_steps,
                warmup=recipe.warmup,
                cooldown=recipe.train_steps - recipe.warmup,
            ),
        )

    def batch(self) -> tuple[Tensor, Tensor]:
        """Images in [-1, 1] and labels."""
        index = torch.randint(len(self.split), (self.batch_size,), generator=self.generator)
        room = self.recipe.padded - SIZE
        x0 = pad(to_float(self.split.images[index]), (0, room, 0, room), value=-1.0)
        x0 = pixel_unshuffle(x0, self.recipe.patch)
        return x0, self.split.labels[index]

    def autocast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16)

    @abstractmethod
    def average(self) -> None:
        """Takes the weights of the last step into the averaged ones."""

    @abstractmethod
    def sample(self, y: Tensor) -> Tensor:
        """Images in [-1, 1] from averaged weights."""

    def draw_by(self, *, scale: float, steps: int) -> None:
        self.recipe = replace(self.recipe, scale=scale, steps=steps)

    def step(self) -> None:
        self.loss().backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.rates.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average()

    @torch.no_grad()
    def draw(self, y: Tensor) -> Tensor:
        # Their progress bars go to the standard error.
        with torch.random.fork_rng(devices=[]), self.autocast(), redirect_stderr(io.StringIO()):
            torch.manual_seed(0)
            images = pixel_shuffle(self.sample(y).float(), self.recipe.patch)
        return to_uint8(images[..., :SIZE, :SIZE])


class DDPMPytorch(_Peer):
    """denoising-diffusion-pytorch: its network and loss with labels, its DDIM, its author's EMA.

    Arguments: as for :class:`_Peer`, but for the network.
    """

    def __init__(self, split: Split, recipe: Recipe, *, seed: int) -> None:
        torch.manual_seed(seed)
        self.diffusion = labelled_ddpm_pytorch(
            recipe.channels,
            **recipe.shape,
            drop=recipe.drop,
            objective="pred_v",
            steps=recipe.steps,
        )
        super().__init__(split, recipe, self.diffusion.model, seed=seed)
        self.ema = EMA(
            self.diffusion,
            beta=0.9999,
            power=recipe.ema_power,
            update_every=1,
            update_after_step=0,
            include_online_model=False,
            use_foreach=True,
        )

    def loss(self) -> Tensor:
        x0, y = self.batch()
        with self.autocast():
            # It takes images in [0, 1].
            return self.diffusion((x0 + 1) / 2, classes=y)

    def average(self) -> None:
        self.ema.update()

    def draw_by(self, *, scale: float, steps: int) -> None:
        super().draw_by(scale=scale, steps=steps)
        for diffusion in (self.diffusion, self.ema.ema_model):
            diffusion.sampling_timesteps = steps

    def sample(self, y: Tensor) -> Tensor:
        diffusion = self.ema.ema_model.eval()
        return 2 * diffusion.sample(y, cond_scale=self.recipe.scale) - 1


class Diffusers(_Peer):
    """diffusers: a U-Net with class embeddings, as in its class-conditional example.

    Its EMA, and its DDPM in few steps, without clipping, which guides by a class of its own.

    Arguments: as for :class:`_Peer`, but for the network.
    """

    def __init__(self, split: Split, recipe: Recipe, *, seed: int) -> None:
        torch.manual_seed(seed)
        network = labelled_diffusers(
            recipe.channels, blocks=recipe.blocks, scale_shift=recipe.scale_shift, **recipe.shape
        )
        super().__init__(split, recipe, network, seed=seed)
        self.scheduler = DDPMScheduler(
            beta_schedule="squaredcos_cap_v2",
            prediction_type="sample" if recipe.clean else "v_prediction",
        )
        self.sampler = DDPMScheduler.from_config(
            self.scheduler.config, clip_sample=False, timestep_spacing="trailing"
        )
        self.averaged = copy.deepcopy(network).eval()
        self.ema = EMAModel(
            network.parameters(),
            decay=0.9999,
            use_ema_warmup=True,
            power=recipe.ema_power,
            foreach=True,
        )

    def loss(self) -> Tensor:
        x0, y = self.batch()
        eps = torch.randn_like(x0)
        mean = self.recipe.logit_mean
        density = compute_density_for_timestep_sampling(
            "uniform" if mean is None else "logit_normal", len(x0), mean, 1.0
        )
        t = (density * self.scheduler.config.num_train_timesteps).long()
        y = torch.where(torch.rand(len(y)) < self.recipe.drop, NULL, y)
        with self.autocast():
            output = self.network(self.scheduler.add_noise(x0, eps, t), t, y).sample
        target = x0 if self.recipe.clean else self.scheduler.get_velocity(x0, eps, t)
        return (output.float() - target).square().mean()

    def average(self) -> None:
        self.ema.step(self.network.parameters())

    def sample(self, y: Tensor) -> Tensor:
        self.ema.copy_to(self.averaged.parameters())
        self.sampler.set_timesteps(self.recipe.steps)
        channels, size = self.recipe.shape.values()
        x = torch.randn(len(y), channels, size, size)
        both = torch.cat([y, torch.full_like(y, NULL)])
        for t in self.sampler.timesteps:
            told, untold = self.averaged(torch.cat([x, x]), t, both).sample.float().chunk(2)
            output = untold + self.recipe.scale * (told - untold)
            x = self.sampler.step(output, t, x).prev_sample
        return x


class Azula(_Peer):
    """azula: its U-Net, denoiser, loss, DDPM and guidance, averaged by torch as in its tutorials.

    Arguments: as for :class:`_Peer`, but for the network.
    """

    def __init__(self, split: Split, recipe: Recipe, *, seed: int) -> None:
        torch.manual_seed(seed)
        image_channels = recipe.shape["image_channels"]
        denoiser = labelled_azula(
            recipe.channels,
            blocks=recipe.blocks,
            image_channels=image_channels,
            clean=recipe.clean,
        )
        super().__init__(split, recipe, denoiser, seed=seed)
        # A memory of ten steps, since the learning rate falls to zero.
        self.averaged = AveragedModel(denoiser, multi_avg_fn=get_ema_multi_avg_fn(0.9))

    def loss(self) -> Tensor:
        x0, y = self.batch()
        mean = self.recipe.logit_mean
        t = torch.rand(len(x0)) if mean is None else (torch.randn(len(x0)) + mean).sigmoid()
        y = torch.where(torch.rand(len(y)) < self.recipe.drop, NULL, y)
        # Its weight of the clean image is at least 1, at which it is cut off.
        weighted = {"max_weight": 1.0} if self.recipe.clean else {}
        with self.autocast():
            return self.network.loss(x0, t, y=y, **weighted)

    def average(self) -> None:
        self.averaged.update_parameters(self.network)

    def sample(self, y: Tensor) -> Tensor:
        channels, size = self.recipe.shape.values()
        denoiser = CFGDenoiser(self.averaged.module)
        sampler = DDPMSampler(denoiser, steps=self.recipe.steps, silent=True)
        return sampler(
            sampler.init((len(y), channels, size, size)),
            positive={"y": y},
            negative={"y": torch.full_like(y, NULL)},
            # It counts from the conditional estimate.
            guidance=self.recipe.scale - 1,
        )
