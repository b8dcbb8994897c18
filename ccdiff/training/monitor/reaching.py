"""Looks whether a run is as good as was asked for, so that it may end."""

from collections.abc import Sequence
from dataclasses import dataclass

from ccdiff.distributed.ranks import is_main
from ccdiff.metrics.goals import Goal, reached
from ccdiff.runs.log import RunLog, metric_rows
from ccdiff.training.state import TrainState

__all__ = ["StopAt"]


@dataclass(frozen=True, kw_only=True)
class StopAt:
    """Whether all goals are reached at the last looks at their figures, by the run's own log.

    Arguments:
        goals: What is to be reached.
        run_log: The log.
        batch_size: Images of a step.
    """

    goals: Sequence[Goal]
    run_log: RunLog
    batch_size: int

    def __call__(self) -> bool:
        """Looks; always false on ranks other than 0, which have no log."""
        rows = metric_rows(self.run_log.path)
        return is_main() and reached(self.goals, rows, batch_size=self.batch_size) is not None

    def note(self, state: TrainState) -> None:
        """Logs what training has cost up to a look, so that the cost of what it finds is known."""
        spent = {"train/seconds": state.seconds, "train/cpu_seconds": state.cpu_seconds}
        self.run_log.metrics(spent, step=state.step)
