"""The training loops that other libraries come with, or have in their tutorials.

Each trains from a folder of gray images, in bfloat16 or float32.
"""

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tests.benchmarks.peers import (
    azula_average,
    azula_denoiser,
    azula_loss,
    ddpm_diffusion,
    diffusers_loss,
    diffusers_unet,
)


@dataclass(frozen=True)
class Loop:
    """A training that goes on where it stopped.

    Arguments:
        network: What is trained.
        loss: What it is trained on, of images [B, C, H, W].
        run: Takes some more steps.
    """

    network: nn.Module
    loss: Callable[[Tensor], Tensor]
    run: Callable[[], None]


def ddpm_loop(
    folder: Path, results: Path, *, image_size: int, batch_size: int, steps: int, bf16: bool
) -> Loop:
    """denoising-diffusion-pytorch's own trainer."""
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

    return Loop(diffusion, diffusion, run)


def diffusers_loop(
    folder: Path, *, image_size: int, batch_size: int, steps: int, bf16: bool, workers: int
) -> Loop:
    """The loop of diffusers' example ``train_unconditional.py``.

    With its defaults: no worker processes, a cosine learning rate, EMA with a warm-up, a bar that
    shows the loss of each step.
    """
    from accelerate import Accelerator
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel
    from torch.utils.data import DataLoader
    from tqdm import tqdm

    accelerator = Accelerator(mixed_precision="bf16" if bf16 else "no")
    network = diffusers_unet(image_size)
    ema = EMAModel(
        network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75
    )
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
    )
    loader = DataLoader(
        pictures(folder, image_size), batch_size=batch_size, shuffle=True, num_workers=workers
    )
    rate = get_scheduler("cosine", optimizer, num_warmup_steps=500, num_training_steps=100_000)
    network, optimizer, loader, rate = accelerator.prepare(network, optimizer, loader, rate)
    ema.to(accelerator.device)
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
    stream = forever(loader, batch_size)

    def loss_of(images: Tensor) -> Tensor:
        return diffusers_loss(network, scheduler, images)

    def step(bar: tqdm) -> None:
        images = next(stream)
        with accelerator.accumulate(network):
            with accelerator.autocast():
                loss = loss_of(images)
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

    return Loop(network, loss_of, run)


def azula_loop(folder: Path, *, image_size: int, batch_size: int, steps: int, bf16: bool) -> Loop:
    """The loop of azula's tutorials for MNIST and CIFAR-10.

    With two worker processes, which stay, and with torch's average; without a clipped gradient,
    and without a bar, which it moves on once an epoch.
    """
    from torch.utils.data import DataLoader

    denoiser = azula_denoiser().to("cuda" if torch.cuda.is_available() else "cpu")
    device = next(denoiser.parameters()).device
    average = azula_average(denoiser)
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=3e-4)
    loader = DataLoader(
        pictures(folder, image_size),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        pin_memory=device.type == "cuda",
        num_workers=2,
        persistent_workers=True,
    )
    stream = forever(loader, batch_size)

    def loss_of(images: Tensor) -> Tensor:
        return azula_loss(denoiser, images)

    def run() -> None:
        losses = []
        for _ in range(steps):
            images = next(stream).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = loss_of(images)
            loss.backward()
            losses.append(loss.detach())
            optimizer.step()
            optimizer.zero_grad()
            average.update_parameters(denoiser)
        torch.stack(losses).mean().item()

    return Loop(denoiser, loss_of, run)


def pictures(folder: Path, image_size: int):
    """The data set of a folder: gray images in [-1, 1], cut to a square, and their classes."""
    from torchvision import datasets, transforms

    prepare = transforms.Compose(
        [
            transforms.Grayscale(),
            transforms.Resize(image_size),
            transforms.CenterCrop(image_size),
            transforms.ToTensor(),
            transforms.Normalize([0.5], [0.5]),
        ]
    )
    return datasets.ImageFolder(str(folder), transform=prepare)


def forever(loader, batch_size: int) -> Iterator[Tensor]:
    """Whole batches of images, epoch after epoch."""
    while True:
        for images, _ in loader:
            if len(images) == batch_size:
                yield images
