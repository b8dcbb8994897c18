"""What multiplies the learning rate: up, level, down."""

from ccdiff.training.state import learning_rate_factor


def factors(*, warmup: int, cooldown: int, steps: int = 20) -> list[float]:
    return [
        learning_rate_factor(step, steps=steps, warmup=warmup, cooldown=cooldown)
        for step in range(steps)
    ]


def test_it_rises_over_the_warmup_and_falls_over_the_cooldown():
    rate = factors(warmup=4, cooldown=6)
    assert rate[:4] == [0.2, 0.4, 0.6, 0.8]
    assert rate[4:14] == [1.0] * 10
    assert rate[14:] == [step / 7 for step in (6, 5, 4, 3, 2, 1)]


def test_without_a_cooldown_it_stays_level_to_the_last_step():
    assert factors(warmup=0, cooldown=0) == [1.0] * 20


def test_where_the_two_overlap_the_smaller_counts():
    rate = factors(warmup=19, cooldown=19)
    assert rate == rate[::-1]
    assert max(rate) == 0.5


def test_steps_beyond_the_last_change_nothing():
    assert learning_rate_factor(25, steps=20, warmup=0, cooldown=5) == 0.0


def test_a_cooldown_that_is_longer_than_the_training_falls_over_all_of_it():
    assert factors(warmup=3, cooldown=500) == factors(warmup=3, cooldown=20)
    assert max(factors(warmup=3, cooldown=500)) > 0.8
