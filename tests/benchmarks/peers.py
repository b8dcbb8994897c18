"""Networks of other libraries at the size of ours, and the training loops they come with."""

import contextlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

NULL = 10
"""The class that stands for a hidden digit where a library has no other way to hide it."""


def diffusers_unet(image_size: int = 28, channels: int = 1, *, groups: int = 8) -> nn.Module:
    """As many parameters and operations as unet_mnist, for images of 28 px; it has no labels."""
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=image_size,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=2,
        block_out_channels=(32, 56, 64),
        norm_num_groups=groups,
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
        add_attention=False,
    )


def ddpm_diffusion(image_size: int = 28, channels: int = 1) -> nn.Module:
    """denoising-diffusion-pytorch at about as many operations; it has no labels."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    network = Unet(dim=32, dim_mults=(1, 2), channels=channels, full_attn=(False, False))
    return GaussianDiffusion(network, image_size=image_size, timesteps=1000)


def diffusers_loss(network: nn.Module, scheduler: Any, images: Tensor) -> Tensor:
    """Mean squared error on the noise, as its example for unconditional images has it."""
    eps = torch.randn_like(images)
    steps = scheduler.config.num_train_timesteps
    t = torch.randint(0, steps, (len(images),), device=images.device)
    output = network(scheduler.add_noise(images, eps, t), t).sample
    return (output.float() - eps).square().mean()


class NoiseLevel(nn.Module):
    """A network that is modulated by an embedding of the noise level.

    azula leaves the embedding to its users; this one is of the kind that its tutorials have.

    Arguments:
        network: Takes images and a vector of ``features``.
        features: Size of the embedding.
    """

    def __init__(self, network: nn.Module, features: int) -> None:
        super().__init__()
        self.network = network
        self.embed = nn.Sequential(
            nn.Linear(1, features), nn.SiLU(), nn.Linear(features, features)
        )

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        return self.network(x, self.embed(level.unsqueeze(-1)))


def azula_denoiser(channels: int = 1, *, norm: str = "layer", groups: int = 16) -> nn.Module:
    """azula at about as many parameters and operations, for images of 28 px; it has no labels.

    Arguments:
        channels: C of the images.
        norm: ``layer``, its default, ``rms`` or ``group``.
        groups: Of ``group``.
    """
    from azula.denoise import KarrasDenoiser
    from azula.nn.unet import UNet
    from azula.noise import VPSchedule

    features = 64
    network = UNet(
        channels,
        channels,
        hid_channels=(32, 64, 64),
        hid_blocks=(3, 3, 3),
        mod_features=features,
        norm=norm,
        groups=groups,
    )
    return KarrasDenoiser(NoiseLevel(network, features), VPSchedule())


def azula_loss(denoiser: nn.Module, images: Tensor) -> Tensor:
    """Its own, at times drawn as its tutorials draw them; images in [-1, 1]."""
    return denoiser.loss(images, torch.rand(len(images), device=images.device))


def ddpm_loop(
    folder: Path, results: Path, *, image_size: int, batch_size: int, steps: int, bf16: bool
) -> tuple[nn.Module, Callable[[], None]]:
    """denoising-diffusion-pytorch's own trainer on a folder of gray images.

    Returns:
        Its diffusion, and what takes ``steps`` more steps at each call.
    """
    from denoising_diffusion_pytorch import Trainer

    diffusion = ddpm_diffusion(image_size)
    trainer = Trainer(
        diffusion,
        folder,
        train_batch_size=batch_size,
        train_lr=1e-3,
        train_num_steps=0,
        save_and_sample_every=1 << 40,
        results_folder=results,
        augment_horizontal_flip=False,
        amp=bf16,
        mixed_precision_type="bf16",
        calculate_fid=False,
    )

    def run() -> None:
        trainer.train_num_steps += steps
        # It draws its bar whether or not anybody looks.
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            trainer.train()

    return diffusion, run


def diffusers_loop(
    folder: Path, *, image_size: int, batch_size: int, steps: int, bf16: bool, workers: int
) -> tuple[nn.Module, Callable[[], None]]:
    """The loop of diffusers' example ``train_unconditional.py`` on a folder of gray images.

    With its defaults: no worker processes, a cosine learning rate, EMA with a warm-up, a bar that
    shows the loss of each step.

    Returns:
        Its network, and what takes ``steps`` more steps at each call.
    """
    from accelerate import Accelerator
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms
    from tqdm import tqdm

    accelerator = Accelerator(mixed_precision="bf16" if bf16 else "no")
    network = diffusers_unet(image_size)
    ema = EMAModel(
        network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75
    )
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
    )
    prepare = transforms.Compose(
        [
            transforms.Grayscale(),
            transforms.Resize(image_size),
            transforms.CenterCrop(image_size),
            transforms.ToTensor(),
            transforms.Normalize([0.5], [0.5]),
        ]
    )
    loader = DataLoader(
        datasets.ImageFolder(str(folder), transform=prepare),
        batch_size=batch_size,
        shuffle=True,
        num_workers=workers,
    )
    rate = get_scheduler("cosine", optimizer, num_warmup_steps=500, num_training_steps=100_000)
    network, optimizer, loader, rate = accelerator.prepare(network, optimizer, loader, rate)
    ema.to(accelerator.device)
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")

    def forever():
        while True:
            for images, _ in loader:
                if len(images) == batch_size:
                    yield images

    stream = forever()

    def step(bar: tqdm) -> None:
        images = next(stream)
        with accelerator.accumulate(network):
            with accelerator.autocast():
                loss = diffusers_loss(network, scheduler, images)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients:
            ema.step(network.parameters())
            bar.update(1)
        bar.set_postfix(
            loss=loss.detach().item(), lr=rate.get_last_lr()[0], ema_decay=ema.cur_decay_value
        )

    def run() -> None:
        with contextlib.redirect_stderr(io.StringIO()), tqdm(total=steps) as bar:
            for _ in range(steps):
                step(bar)

    return network, run


def labelled_diffusers(
    channels: Sequence[int], *, blocks: int, image_channels: int, size: int, scale_shift: bool
) -> nn.Module:
    """For labelled digits, without attention.

    Arguments:
        channels: Width of each resolution, finest first.
        blocks: Residual blocks per resolution on the way down; on the way up it has one more.
        image_channels: C of the images.
        size: Their height and width.
        scale_shift: Whether time and label scale and shift features, or shift them alone.
    """
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=size,
        in_channels=image_channels,
        out_channels=image_channels,
        layers_per_block=blocks,
        block_out_channels=tuple(channels),
        norm_num_groups=8,
        down_block_types=("DownBlock2D",) * len(channels),
        up_block_types=("UpBlock2D",) * len(channels),
        add_attention=False,
        num_class_embeds=NULL + 1,
        resnet_time_scale_shift="scale_shift" if scale_shift else "default",
    )


def labelled_ddpm_pytorch(
    channels: Sequence[int],
    *,
    image_channels: int,
    size: int,
    drop: float,
    objective: str,
    steps: int,
) -> nn.Module:
    """denoising-diffusion-pytorch's network and loss for labelled digits.

    Arguments:
        channels: Width of each resolution, finest first; multiples of the first.
        image_channels: C of the images.
        size: Their height and width.
        drop: Share of hidden labels.
        objective: ``pred_noise``, ``pred_v`` or ``pred_x0``.
        steps: Of DDIM.
    """
    from denoising_diffusion_pytorch.classifier_free_guidance import GaussianDiffusion, Unet

    network = Unet(
        dim=channels[0],
        num_classes=NULL,
        cond_drop_prob=drop,
        dim_mults=tuple(c // channels[0] for c in channels),
        channels=image_channels,
        attn_heads=2,
        attn_dim_head=16,
    )
    return GaussianDiffusion(
        network,
        image_size=size,
        timesteps=1000,
        sampling_timesteps=steps,
        objective=objective,
        ddim_sampling_eta=1.0,
    )
