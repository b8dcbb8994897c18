"""When a run is good enough: what a goal says, and where it was reached, by hand."""

import math

import pytest
from scipy import stats

from ccdiff.errors import UserError
from ccdiff.metrics.goals import check_goals, parse_goals, reached, shown, spent, surest

AGREEMENT = "evaluate/label_agreement_classifier"
LOOKS = {100: 0.2, 200: 0.6, 300: 0.9, 400: 0.97}


def rows(looks=None, *, lower=0.1) -> list[dict]:
    """Looks with an interval, and time that passes between them at another pace each time."""
    found = []
    for i, (step, value) in enumerate((looks or LOOKS).items()):
        found.append({"step": step, "train/seconds": 2.0**i, "train/cpu_seconds": 3.0 * step})
        spread = {f"{AGREEMENT}_low": value - lower, f"{AGREEMENT}_high": value + 0.01}
        found.append({"step": step, AGREEMENT: value, **spread})
    return found


def test_a_goal_is_reached_where_the_whole_interval_is_beyond_it():
    (goal,) = parse_goals("label_agreement_classifier>=0.8")
    found = reached([goal], rows(), batch_size=10, flops_per_image=7.0)
    # Its lower end goes from 0.5 at 200 to 0.8 at 300; the value itself was there at 267.
    assert found.step == pytest.approx(300)
    assert (found.images, found.flops) == pytest.approx((3000, 21_000))
    between = reached(parse_goals("label_agreement_classifier > 0.65"), rows(), batch_size=10)
    assert between.step == pytest.approx(250)
    assert between.seconds == pytest.approx(3)  # half-way from 2 to 4
    assert between.cpu_seconds == pytest.approx(750)
    assert between.device_seconds is None
    gpus = reached([goal], rows(), batch_size=10, devices=2)
    assert gpus.device_seconds == pytest.approx(2 * gpus.seconds)


def test_what_was_spent_begins_at_nothing_and_is_not_known_beyond_the_last_look():
    assert spent([100, 200], [10.0, 40.0], 50) == pytest.approx(5)
    assert spent([100, 200], [10.0, 40.0], 150) == pytest.approx(25)
    assert spent([100, 200], [10.0, 40.0], 200) == pytest.approx(40)
    assert spent([100, 200], [10.0, 40.0], 201) is None
    assert spent([], [], 1) is None


def test_one_lucky_look_is_no_end():
    looks = {100: 0.99, 200: 0.5, 300: 0.7}
    (goal,) = parse_goals("label_agreement_classifier>=0.8")
    assert reached([goal], rows(looks), batch_size=1) is None
    assert reached([goal], rows({100: 0.85}), batch_size=1) is None
    assert reached([goal], rows({100: 0.95}), batch_size=1).step == 100
    assert reached([goal], [], batch_size=1) is None
    assert shown([goal], rows(looks)).startswith("label_agreement_classifier 0.7 [0.6, 0.71]")


def test_of_several_the_last_one_counts():
    text = "label_agreement_classifier>=0.5 and heldout/eps_mse<0.3"
    goals = parse_goals(text)
    assert reached(goals, rows(), batch_size=1) is None
    errors = [
        {"step": step, "heldout/eps_mse_high": error}
        for step, error in ((100, 0.5), (350, 0.25), (400, 0.2))
    ]
    assert reached(goals, [*rows(), *errors], batch_size=1).step == pytest.approx(300)
    assert reached(goals[:1], rows(), batch_size=1).step == pytest.approx(200)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is no figure with"),
        ("label_agreement_classifier", "is no figure with"),
        ("label_agreement_classifier>=", "is no figure with"),
        ("label_agreement_classifier>=x", "is no figure with"),
        ("label_agreement_classifier>=nan", "is no figure with"),
        ("a>=1 or b>=2", "is no figure with"),
        ("label_agreement_classifier<0.5", "the higher it is"),
        ("heldout/eps_mse>0.1", "the lower it is"),
        ("label_agreement_classifier>=95", "at best it is 1; 95 % is 0.95"),
        ("label_agreement_classifier>1", "at best it is 1"),
        ("label_agreement_classifier>=0", "always >= 0: at worst it is 0"),
        ("heldout/eps_mse<0", "at best it is 0"),
        ("fd_classifier_to_heldout<=-1", "at best it is 0"),
    ],
)
def test_what_is_no_goal_is_refused(text, told):
    with pytest.raises(UserError, match=told):
        parse_goals(text)


def test_a_mistyped_figure_is_told_the_nearest():
    known = [AGREEMENT, "heldout/eps_mse"]
    text = "label_agreement_classifier>=0.9 and heldout/eps_mse<1"
    check_goals(parse_goals(text), known, images=200)
    for text, near in (
        ("label_agrement_classifier>=0.9", "did you mean label_agreement_classifier"),
        ("heldout/eps_mes<0.1", "did you mean heldout/eps_mse"),
        ("evaluate/fd_inception<0.1", "but label_agreement_classifier, heldout/eps_mse"),
    ):
        with pytest.raises(UserError, match=near):
            check_goals(parse_goals(text), known, images=200)
    assert math.isfinite(parse_goals("x<=1e-3")[0].threshold)


def test_what_so_few_samples_cannot_show_is_refused():
    """Of 200 samples that are all right, 98.2 % is sure; 99 % is of 368."""
    known = [AGREEMENT]
    goals = parse_goals("label_agreement_classifier>=0.99")
    with pytest.raises(UserError, match=r"evaluate\.images=368"):
        check_goals(goals, known, images=200)
    with pytest.raises(UserError, match=r"evaluate\.images=368"):
        check_goals(goals, known, images=367)
    check_goals(goals, known, images=368)
    check_goals(parse_goals("label_agreement_classifier>=0.98"), known, images=200)
    with pytest.raises(UserError, match="no number of samples"):
        check_goals(parse_goals("label_agreement_classifier>=1"), known, images=10**6)
    # Errors fall towards 0, which no number of images forbids.
    check_goals(
        parse_goals("label_error_regressor<0.01"), ["evaluate/label_error_regressor"], images=20
    )


@pytest.mark.parametrize("n", [1, 20, 368])
def test_the_share_that_right_answers_leave_sure_is_that_of_the_binomial(n):
    assert surest(n) == pytest.approx(stats.binomtest(n, n).proportion_ci(method="exact").low)
