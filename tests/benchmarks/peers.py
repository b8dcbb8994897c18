"""Networks of other libraries at the size of ours."""

from diffusers import UNet2DModel


def diffusers_unet(*, groups: int = 8) -> UNet2DModel:
    """As many parameters and operations as unet_mnist, for images of 28 px; it has no labels."""
    return UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        layers_per_block=2,
        block_out_channels=(32, 56, 64),
        norm_num_groups=groups,
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
        add_attention=False,
    )
