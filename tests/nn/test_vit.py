import pytest
import torch
from parts import awaken
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ccdiff.nn import ViT, vit
from ccdiff.nn.transformer import (
    Attention,
    Block,
    RMSNorm,
    SwiGLU,
    attended,
    grid_positions,
    rotation,
    sinusoids,
)

SMALL = {
    "image_channels": 1,
    "token_dim": 8,
    "patch": 4,
    "width": 16,
    "depth": 3,
    "head_channels": 8,
    "bottleneck": 8,
    "context_tokens": 2,
    "context_start": 1,
}


def make(*, asleep: bool = False, **settings) -> ViT:
    """A small network, awake; keywords replace its settings."""
    network = ViT(**{**SMALL, **settings})
    return network if asleep else awaken(network)


def inputs(*shape: int, tokens: int = 2, dim: int = 8):
    n = shape[0]
    return torch.randn(shape), torch.linspace(-5, 5, n), torch.randn(n, tokens, dim)


def turn(rows: int, columns: int, dim: int, *, shift: tuple[float, float] = (0.0, 0.0)):
    """Cosines and sines of the patches of a grid."""
    at = grid_positions(rows, columns, like=torch.ones(()))
    angles = rotation(at[0] + shift[0], at[1] + shift[1], dim)
    return angles.cos(), angles.sin()


def test_padding_adds_nothing_but_room():
    network = make()
    x, log_snr, tokens = inputs(1, 1, 6, 7)
    padded = torch.zeros(1, 1, 8, 8)
    padded[..., :6, :7] = x
    assert torch.equal(network(x, log_snr, tokens), network(padded, log_snr, tokens)[..., :6, :7])


def test_new_blocks_are_the_identity():
    block = Block(16, head_channels=8, mlp_ratio=4.0, dropout=0.5)
    x, embedding = torch.randn(2, 6, 16), torch.randn(2, 16)
    assert torch.equal(block(x, embedding, *turn(2, 3, 8)), x)


def test_the_order_of_the_labels_tokens_makes_no_difference():
    network = make()
    x, log_snr, tokens = inputs(2, 1, 8, 8, tokens=5)
    output, flipped = network(x, log_snr, tokens), network(x, log_snr, tokens.flip(1))
    torch.testing.assert_close(output, flipped, rtol=1e-4, atol=1e-5)


def test_attributes_are_tokens_of_their_own():
    """Two labels whose tokens have the same mean differ in context."""
    network = make()
    x, log_snr, tokens = inputs(1, 1, 8, 8)
    apart = tokens + torch.tensor([1.0, -1.0])[:, None]
    assert not torch.allclose(network(x, log_snr, tokens), network(x, log_snr, apart), rtol=1e-2)


@pytest.mark.parametrize("start", [0, 2])
def test_the_context_stands_beside_the_patches_from_its_block_on(start):
    network = make(context_start=start)
    lengths: list[int] = []
    for block in network.blocks:
        block.register_forward_pre_hook(lambda _block, given: lengths.append(given[0].shape[1]))
    network(*inputs(2, 1, 8, 12, tokens=3))
    assert lengths == [6 + 3 * 2 * (i >= start) for i in range(3)]


def test_patches_bring_every_pixel_back_to_its_place(monkeypatch):
    # With sleeping blocks, no positions and identities around, pixels are divided by the root
    # mean square of their patch.
    monkeypatch.setattr(vit, "sinusoids", lambda rows, _columns, dim: torch.zeros(len(rows), dim))
    network = make(asleep=True, image_channels=3, patch=2, width=12, head_channels=4)
    network.embed_patch = nn.Identity()
    nn.init.eye_(network.out.weight)
    x = torch.randn(2, 3, 6, 10)
    output = network(x, torch.zeros(2), torch.randn(2, 1, 8))
    squares = x.square().mean(1, keepdim=True)
    rms = nn.functional.avg_pool2d(squares, 2).sqrt().repeat_interleave(2, 2)
    torch.testing.assert_close(output, x / rms.repeat_interleave(2, 3), rtol=1e-4, atol=1e-5)


def test_a_block_treats_all_tokens_alike_but_for_their_positions():
    block = awaken(Block(16, head_channels=8, mlp_ratio=4.0, dropout=0.0))
    x, embedding, (cos, sin) = torch.randn(2, 6, 16), torch.randn(2, 16), turn(2, 3, 8)
    order = torch.randperm(6)
    moved = block(x[:, order], embedding, cos[order], sin[order])
    output = block(x, embedding, cos, sin)
    torch.testing.assert_close(moved, output[:, order], rtol=1e-4, atol=1e-5)
    # And not alike where positions are.
    assert not torch.allclose(block(x[:, order], embedding, cos, sin), output[:, order])


def test_attention_sees_how_far_apart_patches_are_and_not_where():
    attention = awaken(Attention(16, head_channels=8))
    x = torch.randn(2, 12, 16)
    output = attention(x, *turn(3, 4, 8))
    torch.testing.assert_close(attention(x, *turn(3, 4, 8, shift=(5.0, -2.0))), output)
    for other in (turn(4, 3, 8), turn(3, 4, 8, shift=(0.0, 0.0))[::-1]):
        assert not torch.allclose(attention(x, *other), output, rtol=1e-2)


def test_rows_and_columns_are_two_axes_of_one_kind():
    # Transposing the image swaps the halves of the pairs, and nothing else.
    rows, columns = grid_positions(3, 4, like=torch.ones(()))
    assert rows.tolist() == [0.0] * 4 + [1.0] * 4 + [2.0] * 4
    assert columns.tolist() == [0.0, 1.0, 2.0, 3.0] * 3
    one, other = rotation(rows, columns, 8), rotation(columns, rows, 8)
    assert torch.equal(one, torch.cat(other.chunk(2, 1)[::-1], 1))
    assert one.unique(dim=0).shape[0] == 12
    vectors = sinusoids(rows, columns, 16)
    assert (torch.cdist(vectors, vectors) + torch.eye(12) * 9).min() > 0.1


def test_attention_is_the_softmax_of_the_formula():
    # With complex numbers for the pairs, each turned by its angle.
    attention = awaken(Attention(16, head_channels=8))
    for norm in (attention.query_norm, attention.key_norm):
        nn.init.normal_(norm.scale)
    x, (cos, sin) = torch.randn(2, 6, 16), turn(2, 3, 8)
    q, k, v = (m.unflatten(-1, (2, 8)).transpose(1, 2) for m in attention.qkv(x).chunk(3, -1))

    def turned(m: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        m = m / m.square().mean(-1, keepdim=True).sqrt() * scale
        return torch.complex(*m.chunk(2, -1)) * torch.complex(cos, sin)

    q, k = turned(q, attention.query_norm.scale), turned(k, attention.key_norm.scale)
    weights = torch.softmax((q @ k.conj().mT).real / 8**0.5, dim=-1)
    expected = attention.out((weights @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x, cos, sin), expected, rtol=1e-4, atol=1e-5)


def test_attention_in_bfloat16_is_that_of_torch():
    q, k, v = torch.randn(3, 2, 4, 9, 8).bfloat16()
    expected = nn.functional.scaled_dot_product_attention(q.float(), k.float(), v.float())
    torch.testing.assert_close(attended(q, k, v).float(), expected, rtol=0.02, atol=0.02)


def test_gated_layers_and_norms_are_their_formulas():
    layer, x = SwiGLU(12, ratio=4.0), torch.randn(5, 12)
    gate, up = layer.gate_up.weight.chunk(2)
    assert gate.shape == (32, 12)
    expected = (nn.functional.silu(x @ gate.T) * (x @ up.T)) @ layer.down.weight.T
    torch.testing.assert_close(layer(x), expected)
    norm = RMSNorm(12)
    torch.testing.assert_close(norm(3 * x).square().mean(-1), torch.ones(5), rtol=1e-4, atol=0)
    torch.testing.assert_close(norm(3 * x), norm(x), rtol=1e-4, atol=1e-5)


def test_operations_are_those_of_the_formula():
    with torch.device("meta"):
        network = ViT(
            3, token_dim=32, patch=4, width=64, depth=5, head_channels=16, bottleneck=24
        ).eval()
        x, log_snr, tokens = (torch.empty(s) for s in [(1, 3, 32, 32), (1,), (1, 1, 32)])
        with FlopCounterMode(display=False) as counter:
            network(x, log_snr, tokens)
    n, inner = 8 * 8 + 1, 176  # Tokens; two thirds of 4 * 64, rounded up to a multiple of 8.
    block = n * 64 * (4 * 64 + 3 * inner) + 2 * n * n * 64 + 6 * 64 * 64
    ends = 64 * (48 * 24 + 24 * 64 + 64 * 48)
    conditions = 2 * 64 * 64 + 2 * 32 * 64 + 2 * 64 * 64
    assert counter.get_total_flops() == 2 * (5 * block + ends + conditions)


def kept_by_a_step(network: ViT) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients of a step, and the bytes that the way back needs besides the parameters."""
    kept: dict[int, int] = {}
    own = {parameter.data_ptr() for parameter in network.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = network(*inputs(4, 1, 16, 16)).square().mean()
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    return {**gradients, "next draw": torch.rand(1)}, sum(kept.values())


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_checkpointing_keeps_less_than_half_and_changes_no_bit(dropout):
    found = []
    for gradient_checkpointing in (False, True):
        torch.manual_seed(0)
        network = make(dropout=dropout, gradient_checkpointing=gradient_checkpointing)
        found.append(kept_by_a_step(network))
    (expected, plain_bytes), (gradients, few_bytes) = found
    for name, gradient in expected.items():
        assert torch.equal(gradients[name], gradient), name
    assert few_bytes < plain_bytes / 2, (few_bytes, plain_bytes)


def test_matrices_between_hidden_features_say_so():
    stacked = {
        name: parameter.hidden_matrices
        for name, parameter in make(depth=1, context_start=0).named_parameters()
        if hasattr(parameter, "hidden_matrices")
    }
    assert stacked == {
        "blocks.0.attention.qkv.weight": 3,
        "blocks.0.attention.out.weight": 1,
        "blocks.0.mlp.gate_up.weight": 2,
        "blocks.0.mlp.down.weight": 1,
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch": 0}, r"model\.patch must be at least 1, got 0"),
        ({"depth": 0, "context_start": 0}, r"model\.depth must be at least 1, got 0"),
        ({"bottleneck": 0}, r"model\.bottleneck must be at least 1, got 0"),
        ({"context_tokens": 0}, r"model\.context_tokens must be at least 1, got 0"),
        ({"context_start": 3}, r"one of the 3 blocks, from 0, got 3"),
        ({"context_start": -1}, r"one of the 3 blocks, from 0, got -1"),
        ({"head_channels": 6}, r"multiple of 4, got 6"),
        ({"width": 20}, r"model\.width=20 does not divide into heads of 8"),
        ({"mlp_ratio": 0.0}, r"model\.mlp_ratio must be positive, got 0"),
        ({"dropout": 1.5}, "dropout"),
    ],
    ids=repr,
)
def test_bad_settings_are_refused_with_the_value(settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)
