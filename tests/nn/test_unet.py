import pytest
import torch
from parts import awaken
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ccdiff.nn import UNet
from ccdiff.nn.attention import CrossAttention, SelfAttention
from ccdiff.nn.layers import Downsample, FiLM, ResidualBlock, Upsample

LARGE = {
    "token_dim": 256,
    "channels": [128, 256, 384, 512],
    "bottleneck": 512,
    "attention": [False, False, True, True],
}


def large(**settings) -> UNet:
    """The network for photographs, without memory: shapes and structure only."""
    with torch.device("meta"):
        return UNet(**{"image_channels": 3, **LARGE, **settings})


def inputs(*shape: int, tokens: int = 2, dim: int = 8):
    n = shape[0]
    return torch.randn(shape), torch.linspace(-5, 5, n), torch.randn(n, tokens, dim)


def record(module: nn.Module) -> list[torch.Tensor]:
    """The outputs of ``module``, one for each time it runs from now on."""
    outputs: list[torch.Tensor] = []
    module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    return outputs


def count(module: nn.Module, kind: type) -> int:
    return sum(isinstance(part, kind) for part in module.modules())


def test_padding_adds_nothing_but_room(make_unet):
    network = make_unet(patch=4)
    x, log_snr, tokens = inputs(1, 1, 6, 7)
    padded = torch.zeros(1, 1, 8, 8)
    padded[..., :6, :7] = x
    assert torch.equal(network(x, log_snr, tokens), network(padded, log_snr, tokens)[..., :6, :7])


@pytest.mark.parametrize(("patch", "sides"), [(1, [7, 4, 2, 4, 7]), (2, [4, 2, 1, 2, 4])])
def test_odd_sides_are_rounded_up_on_the_way_down_and_met_again_on_the_way_up(
    make_unet, patch, sides
):
    network = make_unet(patch=patch)
    stages = [network.down[0].stages[0], network.down[1].stages[0], network.middle_in]
    stages += [up.stages[0] for up in network.up]
    outputs = [record(stage) for stage in stages]
    network(*inputs(1, 1, 7, 7))
    assert [h.shape[-1] for (h,) in outputs] == sides


def test_new_residual_branches_are_the_identity():
    x, tokens = torch.randn(2, 16, 4, 4), torch.randn(2, 3, 8)
    film, embedding = FiLM(8, 16), torch.randn(2, 8)
    block = ResidualBlock(16, out_channels=16, groups=4, dropout=0.0)
    assert torch.equal(block(x, film(embedding)), x)
    assert torch.equal(SelfAttention(16, head_channels=8, groups=4)(x), x)
    assert torch.equal(CrossAttention(16, token_dim=8, head_channels=8, groups=4)(x, tokens), x)


def test_shared_film_has_one_projection_per_width():
    network = large(film="shared")
    widths = [film.project[-1].out_features // 2 for film in network.films.films.values()]
    assert sorted(widths) == [128, 256, 384, 512]
    assert count(network, FiLM) == 4
    assert count(network, ResidualBlock) == 18


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (1, 1), (9, 30)], ids=lambda size: f"{size}")
@pytest.mark.parametrize("patch", [2, 3, 4])
def test_patches_keep_the_shape_of_images_of_any_size(make_unet, patch, size):
    network = make_unet(image_channels=3, patch=patch)
    x, log_snr, tokens = inputs(2, 3, *size)
    output = network(x, log_snr, tokens)
    assert output.shape == x.shape
    assert output.isfinite().all()


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_patches_bring_every_pixel_back_to_its_place(make_unet, patch):
    # With nothing between stem and head but the centres of their kernels, pixels pass through.
    network = make_unet(image_channels=3, patch=patch, bottleneck_attention=False)
    network.films = nn.Identity()
    for part in (network.middle_in, network.middle_cross, network.middle_out):
        part.forward = lambda h, _: h
    network.down, network.up, network.out_norm = nn.ModuleList(), nn.ModuleList(), nn.Identity()
    with torch.no_grad():
        for layer in (network.stem, network.out):
            nn.init.zeros_(layer.bias)
        width = 3 * patch**2
        network.stem = nn.Conv2d(width, width, 1, bias=False)
        network.out = nn.Conv2d(width, width, 1, bias=False)
        for layer in (network.stem, network.out):
            layer.weight.copy_(torch.eye(width)[:, :, None, None])
    x, log_snr, tokens = inputs(2, 3, 9, 30)
    torch.testing.assert_close(network(x, log_snr, tokens), nn.functional.silu(x))


def test_a_patch_leaves_a_fraction_of_the_operations_and_nearly_all_parameters(make_unet):
    networks = [make_unet(patch=patch) for patch in (1, 2, 4)]
    batch = inputs(1, 1, 64, 64)
    operations = []
    for network in networks:
        with FlopCounterMode(display=False) as counter:
            network(*batch)
        operations.append(counter.get_total_flops())
    # Stem and head keep theirs, and what is per image does not shrink.
    assert operations[0] > 3 * operations[1] > 9 * operations[2]
    first, *others = (
        {name: p.shape for name, p in network.named_parameters()} for network in networks
    )
    for shapes in others:
        differing = {name for name in first if first[name] != shapes[name]}
        assert differing == {"stem.weight", "out.weight", "out.bias"}


def test_pixels_of_a_patch_are_not_mixed_up_with_those_of_another(make_unet):
    """Shifting an image by whole patches at the bottleneck's step shifts the output likewise."""
    network = make_unet(patch=2, attention=[False, False], bottleneck_attention=False)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.padding != (0, 0):
            module.padding_mode = "circular"
            module._reversed_padding_repeated_twice = [1, 1, 1, 1]
    x, log_snr, tokens = inputs(2, 1, 16, 16)
    shifted = network(x.roll((8, 8), (2, 3)), log_snr, tokens)
    torch.testing.assert_close(
        shifted, network(x, log_snr, tokens).roll((8, 8), (2, 3)), rtol=1e-3, atol=1e-4
    )


def test_film_per_block_has_one_projection_per_block():
    network = large(film="per_block")
    assert count(network, FiLM) == count(network, ResidualBlock) == 18
    stages = [m for m in network.modules() if hasattr(m, "block")]
    assert len({stage.film for stage in stages}) == 18
    for stage in stages:
        width = network.films.films[stage.film].project[-1].out_features // 2
        assert width == stage.block.conv2.out_channels


@pytest.mark.parametrize("film", ["shared", "per_block"])
def test_film_is_applied_in_every_residual_block(make_unet, film):
    network = make_unet(film=film)
    stages = [m for m in network.modules() if hasattr(m, "block")]
    normed = [record(stage.block.norm2) for stage in stages]
    activated = [record(stage.block.dropout) for stage in stages]
    x, log_snr, tokens = inputs(2, 1, 8, 8)
    network(x, log_snr, tokens)
    for stage, h, (after,) in zip(stages, normed, activated, strict=True):
        scale, shift = network.films.films[stage.film](network.embed(log_snr))
        assert scale.any()
        assert shift.any()
        expected = nn.functional.silu((1 + scale) * h[0] + shift)
        torch.testing.assert_close(after, expected)


def test_estimates_without_a_gradient_are_the_same_and_leave_the_input_alone(make_unet):
    """Activations are written over there, which nothing else may be looking at."""
    network = make_unet(dropout=0.5).eval()
    x, log_snr, tokens = inputs(2, 1, 8, 8)
    given = x.clone()
    with torch.no_grad():
        estimate = network(x, log_snr, tokens)
    torch.testing.assert_close(x, given, rtol=0, atol=0)
    torch.testing.assert_close(estimate, network(x, log_snr, tokens), rtol=0, atol=0)


def test_self_attention_sits_between_the_blocks_of_the_chosen_resolutions():
    network = large()
    for stages, attend in [
        *zip((down.stages for down in network.down), LARGE["attention"], strict=True),
        *zip((up.stages for up in network.up), reversed(LARGE["attention"]), strict=True),
    ]:
        between, last = (stage.attention for stage in stages)
        assert isinstance(between, SelfAttention) == attend
        assert isinstance(last, nn.Identity)
    assert isinstance(network.middle_self, SelfAttention)
    assert count(network, SelfAttention) == 2 * 2 + 1
    assert count(network, CrossAttention) == 1
    assert count(large(bottleneck_attention=False), SelfAttention) == 2 * 2


def test_resolution_changes_by_strided_convolution_and_nearest_neighbour():
    network = large()
    assert [down.downsample.stride for down in network.down] == [(2, 2)] * 4
    assert count(network, Downsample) == count(network, Upsample) == 4
    up = Upsample(1, out_channels=1)
    nn.init.dirac_(up.conv.weight)
    nn.init.zeros_(up.conv.bias)
    x = torch.arange(4.0).reshape(1, 1, 2, 2)
    whole = [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    assert up(x, (4, 4))[0, 0].tolist() == whole
    assert up(x, (3, 4))[0, 0].tolist() == whole[:3]
    assert up(x, (4, 3))[0, 0].tolist() == [row[:3] for row in whole]


def test_skips_join_stages_that_mirror_each_other(make_unet):
    network = make_unet(num_blocks=3)
    sent, received = [], []
    for down in network.down:
        sent += [record(stage) for stage in down.stages]
    for up in network.up:
        for stage in up.stages:
            stage.register_forward_pre_hook(lambda _module, inputs: received.append(inputs[0]))
    network(*inputs(2, 1, 8, 8))
    assert len(received) == 6
    for (skip,), joined in zip(reversed(sent), received, strict=True):
        assert torch.equal(joined[:, -skip.shape[1] :], skip)


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_skips_are_added_where_asked_for(make_unet, size):
    network = make_unet(num_blocks=3, skips="add")
    sent, came, received = [], [], []
    for down in network.down:
        sent += [record(stage) for stage in down.stages]
    for up in network.up:
        came += [record(module) for module in (up.upsample, *up.stages[:-1])]
        for stage in up.stages:
            stage.register_forward_pre_hook(lambda _module, inputs: received.append(inputs[0]))
    x, *rest = inputs(2, 1, *size)
    assert network(x, *rest).shape == x.shape
    assert len(received) == 6
    for (skip,), (h,), joined in zip(reversed(sent), came, received, strict=True):
        assert torch.equal(joined, h + skip)


def test_added_skips_are_less_work(make_unet):
    operations = []
    for skips in ("concat", "add"):
        with FlopCounterMode(display=False) as counter:
            make_unet(skips=skips)(*inputs(1, 1, 16, 16))
        operations.append(counter.get_total_flops())
    assert operations[1] < 0.9 * operations[0]


@pytest.mark.parametrize(("size", "bottleneck"), [(256, 16), (32, 2)])
def test_the_large_network_takes_photographs_of_both_sizes(size, bottleneck):
    network = large()
    before, crossed = record(network.middle_self), record(network.middle_cross)
    x, tokens = (torch.empty(s, device="meta") for s in [(2, 3, size, size), (2, 40, 256)])
    output = network(x, torch.empty(2, device="meta"), tokens)
    assert output.shape == x.shape
    # Self-attention, then cross-attention, on the coarsest map.
    assert before[0].shape == crossed[0].shape == (2, 512, bottleneck, bottleneck)


def test_the_label_enters_at_the_bottleneck_only(make_unet):
    network = make_unet()
    layers = {
        name: record(module)
        for name, module in network.named_modules()
        if not list(module.children()) and not name.startswith("middle_cross")
    }
    x, log_snr, tokens = inputs(2, 1, 8, 8)
    network(x, log_snr, tokens)
    network(x, log_snr, tokens + 1)
    for name, outputs in layers.items():
        half = len(outputs) // 2
        assert half > 0, name
        changed = [
            not torch.equal(one, other)
            for one, other in zip(outputs[:half], outputs[half:], strict=True)
        ]
        downstream = name.startswith(("middle_out", "up.", "out"))
        assert all(changed) if downstream else not any(changed), name


def test_the_label_enters_through_the_tokens_alone(make_unet):
    # With the cross-attention silent again, no label can be told from another.
    network = make_unet()
    nn.init.zeros_(network.middle_cross.out.weight)
    x, log_snr, tokens = inputs(2, 1, 8, 8)
    assert torch.equal(network(x, log_snr, tokens), network(x, log_snr, tokens + 1))


def test_the_label_enters_every_residual_block_where_asked_for(make_unet):
    network = make_unet(label_film=True)
    blocks = [
        record(module.norm2) for module in network.modules() if isinstance(module, ResidualBlock)
    ]
    modulations = record(network.films)
    x, log_snr, tokens = inputs(2, 1, 8, 8)
    network(x, log_snr, tokens)
    network(x, log_snr, tokens + 1)
    one, other = modulations
    assert blocks
    for film in one:
        assert not torch.allclose(one[film].scale, other[film].scale)
        assert not torch.allclose(one[film].shift, other[film].shift)
    # The first block sees it after its first normalisation, and so the second block's first.
    changed = [not torch.equal(a, b) for a, b in blocks]
    assert changed == [False] + [True] * (len(changed) - 1)


def test_a_label_with_the_noise_level_does_not_depend_on_the_order_of_tokens(make_unet):
    x, log_snr, tokens = inputs(2, 1, 8, 8, tokens=5)
    network = make_unet(label_film=True)
    output, flipped = network(x, log_snr, tokens), network(x, log_snr, tokens.flip(1))
    torch.testing.assert_close(output, flipped, rtol=1e-4, atol=1e-5)


def test_cross_attention_ignores_the_order_of_tokens(make_unet):
    x, log_snr, tokens = inputs(2, 1, 8, 8, tokens=5)
    network = make_unet()
    output, flipped = network(x, log_snr, tokens), network(x, log_snr, tokens.flip(1))
    torch.testing.assert_close(output, flipped, rtol=1e-4, atol=1e-5)


def test_one_token_adds_one_vector_to_every_pixel():
    cross = awaken(CrossAttention(16, token_dim=8, head_channels=8, groups=4))
    x, token = torch.randn(2, 16, 3, 3), torch.randn(2, 1, 8)
    added = cross(x, token) - x
    torch.testing.assert_close(added, added[..., :1, :1].expand_as(added), rtol=1e-4, atol=1e-5)
    assert added.any()


def test_attention_is_the_softmax_of_the_formula():
    # Vaswani et al., 2017 (arXiv:1706.03762), eq. 1, written out for each head.
    attention = awaken(SelfAttention(16, head_channels=8, groups=4))
    x = torch.randn(2, 16, 3, 4)
    q, k, v = (
        part.reshape(2, 2, 8, 12).transpose(2, 3)  # [B, heads, pixels, head_channels]
        for part in attention.qkv(attention.norm(x)).chunk(3, dim=1)
    )
    heads = torch.softmax(q @ k.transpose(2, 3) / 8**0.5, dim=-1) @ v
    expected = x + attention.out(heads.transpose(2, 3).reshape(2, 16, 3, 4))
    torch.testing.assert_close(attention(x), expected, rtol=1e-4, atol=1e-5)


def test_a_state_dict_restores_the_network(make_unet):
    one, other = make_unet(), make_unet()
    x, log_snr, tokens = inputs(2, 1, 8, 8)
    assert not torch.equal(one(x, log_snr, tokens), other(x, log_snr, tokens))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x, log_snr, tokens), other(x, log_snr, tokens))
    # A projection that several blocks share is stored once.
    storages = [value.data_ptr() for value in one.state_dict().values()]
    assert len(set(storages)) == len(storages)


def test_dropout_acts_in_training_only(make_unet):
    network = make_unet(dropout=0.5)
    batch = inputs(2, 1, 8, 8)
    assert not torch.equal(network(*batch), network(*batch))
    network.eval()
    assert torch.equal(network(*batch), network(*batch))


def one_step(network: UNet) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients of a step, and the bytes that the way back needs besides the parameters."""
    kept: dict[int, torch.UntypedStorage] = {}
    own = {parameter.data_ptr() for parameter in network.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    batch = inputs(4, 1, 16, 16)
    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = network(*batch).square().mean()
    num_bytes = sum(storage.nbytes() for storage in kept.values())
    loss.backward()
    # What was drawn after it must not depend on what was drawn again.
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    return {**gradients, "next draw": torch.rand(1)}, num_bytes


@pytest.mark.parametrize("more", [{}, {"patch": 2, "label_film": True}], ids=["", "patches"])
@pytest.mark.parametrize("film", ["shared", "per_block"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_checkpointing_keeps_less_than_half_and_changes_no_bit(make_unet, dropout, film, more):
    found = []
    for gradient_checkpointing in (False, True):
        torch.manual_seed(0)
        settings = {"dropout": dropout, "film": film, "num_blocks": 3, **more}
        network = make_unet(**settings, gradient_checkpointing=gradient_checkpointing)
        found.append(one_step(network))
    (expected, plain_bytes), (gradients, few_bytes) = found
    for name, gradient in expected.items():
        assert torch.equal(gradients[name], gradient), name
    assert few_bytes < plain_bytes / 2, (few_bytes, plain_bytes)


def test_checkpointing_leaves_evaluation_alone(make_unet):
    network = make_unet(gradient_checkpointing=True).eval()
    with torch.no_grad():
        output = network(*inputs(2, 1, 8, 8))
    assert output.isfinite().all()
    calls = []
    network.middle_in.block.register_forward_pre_hook(lambda *_: calls.append(1))
    network(*inputs(2, 1, 8, 8)).sum().backward()
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": [True]}, "1 entries for 2 resolutions"),
        ({"channels": [], "attention": []}, "at least one resolution"),
        ({"film": "none"}, "shared or per_block, got 'none'"),
        ({"num_blocks": 0}, "at least 1, got 0"),
        ({"num_blocks": 1}, r"model\.attention must be all false"),
        ({"groups": 3}, "8 channels do not divide into 3 groups"),
        ({"groups": 0}, "8 channels do not divide into 0 groups"),
        ({"head_channels": 7}, "16 channels do not divide into heads of 7"),
        ({"head_channels": 0}, "16 channels do not divide into heads of 0"),
        ({"bottleneck": 18}, "18 channels do not divide into 4 groups"),
        ({"channels": [5, 16], "groups": 1}, "even and at least 4, got 5"),
        ({"dropout": 1.5}, "dropout"),
        ({"skips": "none"}, "concat or add, got 'none'"),
        ({"patch": 0}, r"model\.patch must be at least 1, got 0"),
    ],
    ids=repr,
)
def test_bad_settings_are_refused_with_the_value(make_unet, settings, message):
    with pytest.raises(ValueError, match=message):
        make_unet(**settings)


def test_one_block_per_resolution_works_without_attention(make_unet):
    network = make_unet(num_blocks=1, attention=[False, False])
    x, log_snr, tokens = inputs(2, 1, 8, 8)
    assert network(x, log_snr, tokens).shape == x.shape
