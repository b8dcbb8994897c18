"""Guidance on models that are exact: denoisers of labelled mixtures of Gaussians.

What guidance should return follows from its density alone, ``x0_hat = (x_t + sigma^2 score) /
alpha`` (Tweedie), with the score by automatic differentiation.
"""

import pytest
import torch
from torch import nn

from ccdiff.diffusion.conditioning import Conditioning, MultiHot, OneHot
from ccdiff.diffusion.denoiser import bind_label
from ccdiff.diffusion.guidance import CFG, AttributeGuidance, AutoGuidance, NoGuidance
from ccdiff.diffusion.objectives.denoising import Denoising
from ccdiff.diffusion.samplers import BatchNoise, Heun, sample
from ccdiff.diffusion.schedules import Cosine, Flow, Schedule
from ccdiff.errors import UserError

STD = 0.3


class LabelledMixture(nn.Module):
    """The exact denoiser of ``p(x0 | what is told of y)``; each value of y is one Gaussian.

    Arguments:
        conditioning: Whose labels; its own weights play no part.
        codes: Every value of ``y``, int [V] or [V, K].
        means: Mean of each, [V, D].
        prior: Probability of each, [V].
    """

    def __init__(
        self,
        conditioning: Conditioning,
        codes: torch.Tensor,
        means: torch.Tensor,
        prior: torch.Tensor,
        *,
        schedule: Schedule | None = None,
        std: float = STD,
    ) -> None:
        super().__init__()
        self.conditioning, self.schedule = conditioning, schedule or Cosine()
        self.codes, self.means, self.prior, self.std = codes, means, prior, std
        self.autocast_dtype = None
        self.reaches = Denoising.reaches
        self.batches: list[int] = []

    def log_density(self, x_t, level, y, drop):
        """``log p_t(x_t | what is told)`` [B]."""
        alpha, sigma = level.alpha, level.sigma
        agrees = self.codes.unsqueeze(0) == y.unsqueeze(1)  # [B, V] or [B, V, K]
        if y.ndim == 1:
            agrees = agrees | drop.unsqueeze(1)
        else:
            hidden = drop if drop.ndim == 2 else drop.unsqueeze(1)
            agrees = (agrees | hidden.unsqueeze(1)).all(2)
        weights = self.prior * agrees
        weights = weights / weights.sum(1, keepdim=True)
        variance = alpha**2 * self.std**2 + sigma**2
        if alpha.ndim == 1:
            alpha, variance = alpha.view(-1, 1, 1), variance.view(-1, 1)
        squares = (x_t.unsqueeze(1) - alpha * self.means).square().sum(2)
        return (weights.log() - squares / (2 * variance)).logsumexp(1)

    def tweedie(self, x_t, level, log_density):
        """``x0_hat`` of any density, given as a function of ``x_t``."""
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            (score,) = torch.autograd.grad(log_density(x).sum(), x)
        alpha, sigma = level.scales_like(x_t)
        return (x_t + sigma**2 * score) / alpha

    def forward(self, x_t, level, y, drop=None):
        self.batches.append(len(x_t))
        drop = torch.zeros(len(y), dtype=torch.bool) if drop is None else drop
        return self.tweedie(x_t, level, lambda x: self.log_density(x, level, y, drop))


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def two_classes(*, drop: float = 0.1, **settings) -> LabelledMixture:
    return LabelledMixture(
        OneHot(["a", "b"], dim=4, drop=drop),
        torch.tensor([0, 1]),
        f64([-0.5, 0.2], [0.4, 0.1]),
        f64(0.5, 0.5),
        **settings,
    )


def two_attributes(*, drop: float = 0.1, attribute_drop: float = 0.1) -> LabelledMixture:
    """Two attributes that go together more often than not."""
    return LabelledMixture(
        MultiHot(["Young", "Male"], dim=4, drop=drop, attribute_drop=attribute_drop),
        torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]),
        f64([-0.5, -0.4], [-0.3, 0.6], [0.6, -0.2], [0.4, 0.5]),
        f64(0.4, 0.1, 0.2, 0.3),
    )


X = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.tensor([0, 1, 0, 1, 1, 0])
BITS = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1], [1, 1], [0, 1]], dtype=torch.uint8)
LEVEL = Cosine().at(torch.tensor(0.5, dtype=torch.float64))
ALL_HIDDEN = torch.ones(6, dtype=torch.bool)
NONE_HIDDEN = torch.zeros(6, dtype=torch.bool)


@pytest.mark.parametrize("w", [-1.0, 0.0, 0.5, 1.0, 2.0, 7.5])
@pytest.mark.parametrize("t", [0.05, 0.5, 0.95])
def test_classifier_free_guidance_is_the_denoiser_of_the_guided_density(w, t):
    model, level = two_classes(), Cosine().at(torch.tensor(t, dtype=torch.float64))

    def log_guided(x):
        unconditional = model.log_density(x, level, Y, ALL_HIDDEN)
        return (1 - w) * unconditional + w * model.log_density(x, level, Y, NONE_HIDDEN)

    x0_hat = CFG(scale=w)(model, Y)(X, level)
    torch.testing.assert_close(x0_hat, model.tweedie(X, level, log_guided))


def test_guided_samples_favour_what_only_their_class_looks_like():
    """Sharpening two classes apart: means move away from the other class, but not without end."""
    model, y = two_classes(), torch.zeros(2000, dtype=torch.int64)
    across = []
    for w in (0.0, 1.0, 2.0):
        noise = BatchNoise(torch.Generator().manual_seed(0), torch.float64)
        x = sample(Heun(steps=30), CFG(scale=w)(model, y), model.schedule, (2000, 2), noise)
        across.append(x[:, 0].mean().item())
    assert across[0] == pytest.approx(-0.05, abs=0.05)
    assert across[1] == pytest.approx(-0.5, abs=0.05)
    assert across[2] < -0.52


@pytest.mark.parametrize(
    "settings",
    [{}, {"log_snr_range": (-20.0, 20.0)}, {"rescale": 0.7}],
    ids=["plain", "range", "rescale"],
)
def test_a_scale_of_one_is_plain_conditional_for_one_call(settings):
    model, weak = two_attributes(), two_attributes()
    plain = NoGuidance()(model, BITS)(X, LEVEL)
    for guidance in (
        CFG(scale=1.0, **settings),
        AttributeGuidance(scale=1.0, **settings),
        AttributeGuidance(scale=2.0, weights={"Young": 1.0, "Male": 1.0}, **settings),
        AutoGuidance(scale=1.0, weak=weak, **settings),
    ):
        model.batches.clear()
        assert torch.equal(guidance(model, BITS)(X, LEVEL), plain)
        assert model.batches == [6]
    assert weak.batches == []


def test_a_scale_of_zero_is_the_reference_for_one_call():
    model, weak = two_attributes(), two_attributes()
    unconditional = bind_label(model, BITS, ALL_HIDDEN)(X, LEVEL)
    for guidance in (CFG(scale=0.0), AttributeGuidance(scale=0.0)):
        model.batches.clear()
        assert torch.equal(guidance(model, BITS)(X, LEVEL), unconditional)
        assert model.batches == [6]
    model.batches.clear()
    weaker = AutoGuidance(scale=0.0, weak=weak)(model, BITS)(X, LEVEL)
    assert torch.equal(weaker, weak(X, LEVEL, BITS))
    assert model.batches == []


def test_other_scales_cost_one_call_with_a_doubled_batch():
    model = two_classes()
    CFG(scale=2.0)(model, Y)(X, LEVEL)
    assert model.batches == [12]


def test_every_guidance_keeps_samples_apart():
    """Row by row the same, alone or in a batch, whatever else is asked for in it."""
    model = two_attributes()
    drop = torch.tensor([[0, 0], [1, 0], [0, 1], [0, 0], [1, 1], [0, 0]], dtype=torch.bool)
    for guidance in (
        CFG(scale=2.0, rescale=0.5),
        AttributeGuidance(scale=1.5, weights={"Male": -1.0}, rescale=0.5),
        AutoGuidance(scale=2.0, weak=two_attributes(), rescale=0.5),
    ):
        together = guidance(model, BITS, drop)(X, LEVEL)
        for i in range(6):
            one = slice(i, i + 1)
            alone = guidance(model, BITS[one], drop[one])(X[one], LEVEL)
            torch.testing.assert_close(alone[0], together[i])


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_guidance_acts_in_its_range_of_log_snr_alone(t):
    model, level = two_classes(), Cosine().at(torch.tensor(t, dtype=torch.float64))
    assert level.log_snr.abs() < 5
    limited = CFG(scale=3.0, log_snr_range=(-2.0, 2.0))(model, Y)(X, level)
    whole, plain = CFG(scale=3.0)(model, Y)(X, level), NoGuidance()(model, Y)(X, level)
    assert not torch.allclose(whole, plain, atol=1e-4)
    inside = level.log_snr.abs() <= 2
    assert torch.equal(limited, whole if inside else plain)
    assert inside == (t == 0.5)


def test_the_range_holds_for_each_sample_and_costs_one_call_outside():
    model = two_classes()
    guided = CFG(scale=3.0, log_snr_range=(-2.0, 2.0))(model, Y)
    t = f64(0.1, 0.5, 0.9, 0.5, 0.1, 0.9)
    together = guided(X, Cosine().at(t))
    for i, time in enumerate(t):
        torch.testing.assert_close(together[i], guided(X, Cosine().at(time))[i])
    model.batches.clear()
    guided(X, Cosine().at(t[0]))
    assert model.batches == [6]


def test_rescale_gives_back_the_spread_of_the_conditional_estimate():
    model = LabelledMixture(
        OneHot(["a", "b"], dim=4, drop=0.1), torch.tensor([0, 1]), torch.randn(2, 16).double(),
        f64(0.5, 0.5),
    )  # fmt: skip
    x = torch.randn(6, 16, dtype=torch.float64)
    plain = NoGuidance()(model, Y)(x, LEVEL)
    guided, half, all_ = (
        CFG(scale=4.0, rescale=share)(model, Y)(x, LEVEL) for share in (0.0, 0.5, 1.0)
    )
    assert (guided.std(1) > plain.std(1) * 1.02).any()
    torch.testing.assert_close(all_.std(1), plain.std(1))
    torch.testing.assert_close(half, (guided + all_) / 2)
    # The direction stays.
    torch.testing.assert_close(
        nn.functional.cosine_similarity(all_, guided), torch.ones(6).double()
    )


def test_autoguidance_leads_away_from_the_weaker_model():
    model, weak = two_classes(drop=0.0), two_classes(drop=0.0, std=0.6)
    guided = AutoGuidance(weak=weak, scale=2.5)(model, Y)(X, LEVEL)
    torch.testing.assert_close(guided, 2.5 * model(X, LEVEL, Y) - 1.5 * weak(X, LEVEL, Y))


def test_the_weaker_model_may_have_another_schedule(make_denoiser):
    model, weak = make_denoiser(), make_denoiser(schedule=Cosine())
    other = make_denoiser(weak.network, conditioning=weak.conditioning, schedule=Flow())
    x, y, level = torch.randn(2, 1, 8, 8), torch.tensor([0, 2]), Cosine().at(torch.tensor(0.5))
    same, moved = (AutoGuidance(weak=w, scale=2.0)(model, y)(x, level) for w in (weak, other))
    torch.testing.assert_close(moved, same, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(same, model(x, level, y), atol=1e-2)


def log_told(model, x, told):
    """``log p_t(x | what is told)`` for told attributes by place."""
    drop = torch.ones(6, 2, dtype=torch.bool)
    drop[:, told] = False
    return model.log_density(x, LEVEL, BITS, drop)


def test_weights_of_attributes_follow_the_chain_rule():
    """``p(x) p(Male | x)^1 p(Young | x, Male)^3``: what weighs 1 is the context."""
    model = two_attributes()
    x0_hat = AttributeGuidance(weights={"Young": 3.0})(model, BITS)(X, LEVEL)

    def log_guided(x):
        male, both = log_told(model, x, [1]), log_told(model, x, [0, 1])
        return male + 3 * (both - male)

    torch.testing.assert_close(x0_hat, model.tweedie(X, LEVEL, log_guided))
    # One attribute set apart from a weight of 1: two estimates, in one call.
    model.batches.clear()
    AttributeGuidance(weights={"Young": 3.0})(model, BITS)(X, LEVEL)
    assert model.batches == [12]


def test_weights_apart_from_one_take_the_nearest_to_one_first():
    model = two_attributes()
    x0_hat = AttributeGuidance(weights={"Young": 4.0, "Male": 2.0})(model, BITS)(X, LEVEL)

    def log_guided(x):
        none, male, both = (log_told(model, x, told) for told in ([], [1], [0, 1]))
        return none + 2 * (male - none) + 4 * (both - male)

    torch.testing.assert_close(x0_hat, model.tweedie(X, LEVEL, log_guided))


def test_a_negative_weight_leads_away():
    model = two_attributes()
    x0_hat = AttributeGuidance(weights={"Male": -1.5})(model, BITS)(X, LEVEL)

    def log_guided(x):
        young, both = log_told(model, x, [0]), log_told(model, x, [0, 1])
        return young - 1.5 * (both - young)

    torch.testing.assert_close(x0_hat, model.tweedie(X, LEVEL, log_guided))
    # Away from Male there are fewer of them than without a word about it.
    y = torch.tensor([[1, 1]], dtype=torch.uint8).expand(2000, 2)
    males = {}
    for weight in (-1.0, 0.0, 1.0):
        guidance = AttributeGuidance(weights={"Male": weight})
        noise = BatchNoise(torch.Generator().manual_seed(0), torch.float64)
        x = sample(Heun(steps=20), guidance(model, y), model.schedule, (2000, 2), noise)
        nearest = torch.cdist(x, model.means).argmin(1)
        males[weight] = model.codes[nearest, 1].double().mean().item()
    assert males[1.0] > males[0.0] + 0.2
    # p(Male | Young) = 0.3 / 0.5.
    assert males[0.0] == pytest.approx(0.6, abs=0.1)
    assert males[-1.0] < males[0.0] - 0.2


def test_a_weight_of_zero_is_an_attribute_not_told():
    model = two_attributes()
    young_alone = torch.tensor([[False, True]]).expand(6, 2)
    expected = bind_label(model, BITS, young_alone)(X, LEVEL)
    assert torch.equal(AttributeGuidance(weights={"Male": 0.0})(model, BITS)(X, LEVEL), expected)
    # Nor is it told to what weighs less than it.
    away = AttributeGuidance(weights={"Young": 0.0, "Male": -1.0})(model, BITS)(X, LEVEL)

    def log_away(x):
        none, male = log_told(model, x, []), log_told(model, x, [1])
        return none - (male - none)

    torch.testing.assert_close(away, model.tweedie(X, LEVEL, log_away))
    rescaled = AttributeGuidance(weights={"Male": 0.0}, rescale=1.0)(model, BITS)(X, LEVEL)
    torch.testing.assert_close(rescaled.std(1), model(X, LEVEL, BITS).std(1))


def test_one_weight_for_all_attributes_is_classifier_free_guidance():
    model = two_attributes(attribute_drop=0.0)
    expected = CFG(scale=2.5)(model, BITS)(X, LEVEL)
    for guidance in (
        AttributeGuidance(scale=2.5),
        AttributeGuidance(weights={"Young": 2.5, "Male": 2.5}),
    ):
        torch.testing.assert_close(guidance(model, BITS)(X, LEVEL), expected)


def test_attributes_that_a_row_leaves_open_stay_open():
    model = two_attributes()
    drop = torch.tensor([[False, True]]).expand(6, 2)
    weighted = AttributeGuidance(scale=1.0, weights={"Male": 5.0})(model, BITS, drop)(X, LEVEL)
    assert torch.equal(weighted, bind_label(model, BITS, drop)(X, LEVEL))
    strong = AttributeGuidance(scale=3.0)(model, BITS, drop)(X, LEVEL)
    torch.testing.assert_close(strong, CFG(scale=3.0)(model, BITS, drop)(X, LEVEL))

    def log_guided(x):
        none, young = log_told(model, x, []), log_told(model, x, [0])
        return none + 3 * (young - none)

    torch.testing.assert_close(strong, model.tweedie(X, LEVEL, log_guided))


def test_a_model_that_never_saw_a_hidden_label_is_not_guided_by_one():
    model = two_classes(drop=0.0)
    for w in (0.0, 2.0):
        with pytest.raises(UserError, match=r"conditioning\.drop=0 .* conditioning\.drop=0\.1"):
            CFG(scale=w)(model, Y)
    CFG(scale=1.0)(model, Y)(X, LEVEL)
    AutoGuidance(weak=two_classes(drop=0.0), scale=2.0)(model, Y)(X, LEVEL)
    with pytest.raises(UserError, match=r"conditioning\.drop=0"):
        AttributeGuidance(scale=2.0)(two_attributes(drop=0.0), BITS)


def test_single_attributes_are_weighed_where_they_were_hidden_in_training():
    for weights in ({"Young": 2.0}, {"Young": 0.0}, {"Young": -1.0}):
        with pytest.raises(UserError, match=r"attribute_drop=0: .*attribute_drop=0\.1"):
            AttributeGuidance(weights=weights)(two_attributes(attribute_drop=0.0), BITS)
    # What weighs 1 needs no estimate that is told nothing.
    AttributeGuidance(weights={"Young": 2.0})(two_attributes(drop=0.0), BITS)(X, LEVEL)


def test_guidance_that_does_not_fit_the_model_is_refused():
    with pytest.raises(UserError, match="the model knows none: use guidance=cfg"):
        AttributeGuidance(scale=2.0)(two_classes(), Y)
    with pytest.raises(UserError, match="did you mean Young"):
        AttributeGuidance(weights={"Yong": 2.0})(two_attributes(), BITS)
    with pytest.raises(UserError, match=r"other labels, Young, Male \(2\).*a, b \(2\)"):
        AutoGuidance(weak=two_attributes())(two_classes(), Y)
    with pytest.raises(ValueError, match=r"log_snr_range must be \[low, high\]"):
        CFG(log_snr_range=(2.0, -2.0))
    with pytest.raises(ValueError, match=r"rescale must be in \[0, 1\], got 1.5"):
        CFG(rescale=1.5)


def test_guidance_of_a_real_denoiser(make_denoiser):
    """The contract holds of networks, and in single precision."""
    denoiser = make_denoiser(conditioning=OneHot(["a", "b", "c"], dim=8, drop=0.1))
    x, y = torch.randn(2, 1, 8, 8), torch.tensor([0, 2])
    level = denoiser.schedule.at(torch.tensor(0.5))
    plain, hidden = denoiser(x, level, y), denoiser(x, level, y, torch.ones(2, dtype=torch.bool))
    guided = CFG(scale=3.0)(denoiser, y)(x, level)
    assert guided.dtype == torch.float32
    torch.testing.assert_close(guided, hidden + 3 * (plain - hidden), rtol=1e-4, atol=1e-5)
    assert torch.equal(CFG(scale=1.0)(denoiser, y)(x, level), plain)
    assert torch.equal(CFG(scale=0.0)(denoiser, y)(x, level), hidden)
