"""How the learning rate goes over a run."""

__all__ = ["learning_rate_factor"]


def learning_rate_factor(step: int, *, steps: int, warmup: int, cooldown: int) -> float:
    """What multiplies the learning rate at ``step`` (from 0) of ``steps``, in [0, 1].

    It rises linearly over ``warmup`` steps, stays at 1, and falls linearly over the last
    ``cooldown`` steps: Haegele et al., Scaling Laws and Compute-Optimal Training Beyond Fixed
    Training Durations, 2024 (arXiv:2405.18392).
    """
    return max(0.0, min(1.0, (step + 1) / (warmup + 1), (steps - step) / (cooldown + 1)))
