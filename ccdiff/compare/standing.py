"""Which setting is the best by a figure, as far as seeds tell."""

from dataclasses import dataclass

from ccdiff.compare.table import MAIN, SEED, Comparison, Setting, direction
from ccdiff.metrics.over_seeds import Difference, difference

__all__ = ["Standing", "standing"]

_MISLEADS = "; careful: an error on the noise does not rank predictions: look at fd_classifier"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The setting with the best mean, and those that it may owe to luck to be before.

    Arguments:
        metric: The figure.
        lead: The setting with the best mean.
        tied: Settings that the seeds do not tell apart from it.
        next: The one with the next best mean, and by how much the lead is off it; None where there
            are too few seeds to tell.
        misleads: Whether the figure is one that does not compare what differs.
    """

    metric: str
    lead: Setting
    tied: tuple[Setting, ...]
    next: tuple[Setting, Difference] | None
    misleads: bool = False

    @property
    def text(self) -> str:
        """In a line."""
        told = self._told
        return told + _MISLEADS if told and self.misleads else told

    @property
    def _told(self) -> str:
        spread = self.lead.spread(self.metric)
        if spread is None:
            return ""
        told = f"{self.metric}: {_number(spread.mean)} by {self.lead.label}"
        if self.tied:
            word = "highest" if direction(self.metric) == "higher" else "lowest"
            others = ", ".join(setting.label for setting in self.tied[:3])
            more = f" and {len(self.tied) - 3} more" if len(self.tied) > 3 else ""
            few = ": one seed each tells nothing" if spread.n < 2 else ""
            return f"{word} {told}, which the seeds do not tell apart from {others}{more}{few}"
        assert self.next is not None, "it would be tied"
        other, by = self.next
        how = "over seeds" if by.seeds is None else f"over {by.seeds} seeds, one by one"
        return (
            f"best {told}; {_number(by.mean, '+')} ({_number(by.low, '+')} to "
            f"{_number(by.high, '+')}, {how}) from the next, {other.label}"
        )


def _number(value: float, sign: str = "") -> str:
    """To four places, of small ones to as many digits as tell them from 0."""
    return f"{value:{sign}.4f}" if abs(value) >= 0.01 or value == 0 else f"{value:{sign}.3g}"


def standing(comparison: Comparison, metric: str) -> Standing | None:
    """Who leads by a figure; None where there are no two settings with it, and so nothing to lead,
    or it is not stated which way is better.
    """
    better = direction(metric)
    spreads = [(setting.spread(metric), setting) for setting in comparison.settings]
    known = [(spread.mean, setting) for spread, setting in spreads if spread is not None]
    if better is None or len(known) < 2:
        return None
    known.sort(key=lambda pair: pair[0], reverse=better == "higher")
    lead, others = known[0][1], [setting for _, setting in known[1:]]
    found = [
        (other, difference(_by_seed(lead, metric), _by_seed(other, metric), among=len(others)))
        for other in others
    ]
    following = None if found[0][1] is None else (found[0][0], found[0][1])
    tied = tuple(other for other, by in found if by is None or not by.sure)
    misleads = metric == MAIN and "prediction" in comparison.axes
    return Standing(metric=metric, lead=lead, tied=tied, next=following, misleads=misleads)


def _by_seed(setting: Setting, metric: str) -> dict[str, float]:
    """The figure of each run by its seed; of several runs of a seed, the last counts."""
    return {
        str(job.config.get(SEED)): job.results[metric]
        for job in setting.jobs
        if metric in job.results
    }
