"""Networks of other libraries at the size of ours, and what each is trained with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

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


def diffusers_large(image_size: int, *, tiny: bool = False) -> nn.Module:
    """As many parameters as unet_large; ``tiny`` is as few as can be."""
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=image_size,
        in_channels=3,
        out_channels=3,
        layers_per_block=2,
        block_out_channels=(8, 8, 8, 8) if tiny else (128, 256, 256, 512),
        norm_num_groups=8,
        attention_head_dim=8 if tiny else 64,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
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
    """A network that is modulated by an embedding of the noise level, and of labels if any.

    azula leaves the embedding to its users; this one is of the kind that its tutorials have.

    Arguments:
        network: Takes images and a vector of ``features``.
        features: Size of the embedding.
        labels: How many there are.
    """

    def __init__(self, network: nn.Module, features: int, *, labels: int = 0) -> None:
        super().__init__()
        self.network = network
        self.embed = nn.Sequential(
            nn.Linear(1, features), nn.SiLU(), nn.Linear(features, features)
        )
        self.labels = nn.Embedding(labels, features) if labels else None

    def forward(self, x: Tensor, level: Tensor, y: Tensor | None = None) -> Tensor:
        embedding = self.embed(level.unsqueeze(-1))
        if self.labels is not None:
            embedding = embedding + self.labels(y)
        return self.network(x, embedding)


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


def azula_average(denoiser: nn.Module) -> AveragedModel:
    """torch's, with the memory that it has in its tutorials."""
    return AveragedModel(denoiser, multi_avg_fn=get_ema_multi_avg_fn(0.999))


@dataclass(frozen=True)
class Peer:
    """A library's network, and what it is trained with.

    Arguments:
        network: With all its parameters.
        loss: Of images [B, C, H, W] in [0, 1], a scalar.
        average: Takes the weights of the last step into averaged ones.
    """

    network: nn.Module
    loss: Callable[[Tensor], Tensor]
    average: Callable[[], object]


def ddpm_peer(diffusion: nn.Module) -> Peer:
    """denoising-diffusion-pytorch: its loss, and its trainer's average of every tenth step."""
    from ema_pytorch import EMA

    return Peer(diffusion, diffusion, EMA(diffusion, beta=0.995, update_every=10).update)


def diffusers_peer(network: nn.Module) -> Peer:
    """diffusers: its scheduler and its average, as in its example for unconditional images."""
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel

    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    parameters = list(network.parameters())
    # Of its two ways, each is the quicker one on its device.
    ema = EMAModel(parameters, foreach=parameters[0].is_cuda)
    return Peer(
        network,
        lambda images: diffusers_loss(network, scheduler, 2 * images - 1),
        lambda: ema.step(parameters),
    )


def azula_peer(denoiser: nn.Module) -> Peer:
    """azula: its denoiser's loss, and torch's average, as in its tutorials."""
    average = azula_average(denoiser)
    return Peer(
        denoiser,
        lambda images: azula_loss(denoiser, 2 * images - 1),
        lambda: average.update_parameters(denoiser),
    )


def step(peer: Peer, images: Tensor, *, bf16: bool) -> Callable[[], None]:
    """What the trainers of two peers do in a step, without their accelerator's extra calls."""
    parameters = list(peer.network.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)

    def run() -> None:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            loss = peer.loss(images)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        peer.average()

    return run


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


def labelled_azula(
    channels: Sequence[int], *, blocks: int, image_channels: int, clean: bool = False
) -> nn.Module:
    """azula's denoiser for labelled digits.

    Arguments:
        channels: Width of each resolution, finest first.
        blocks: Residual blocks per resolution, on the way down and on the way up.
        image_channels: C of the images.
        clean: Whether the network predicts the clean image, or what EDM has it predict.
    """
    from azula.denoise import KarrasDenoiser, SimpleDenoiser
    from azula.nn.unet import UNet
    from azula.noise import CosineSchedule

    features = 128
    network = UNet(
        image_channels,
        image_channels,
        hid_channels=tuple(channels),
        hid_blocks=(blocks,) * len(channels),
        mod_features=features,
    )
    kind = SimpleDenoiser if clean else KarrasDenoiser
    return kind(NoiseLevel(network, features, labels=NULL + 1), CosineSchedule())
