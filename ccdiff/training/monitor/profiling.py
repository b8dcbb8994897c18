"""A look inside a few steps: every operation on a time line, and a table of the slowest.

PyTorch's own profiler: https://docs.pytorch.org/docs/stable/profiler.html.
"""

import gzip
import logging
import os
import shutil
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from ccdiff.settings import PROFILE_AFTER

__all__ = ["Profile"]

log = logging.getLogger(__name__)

_ROWS = 30
_LARGE = 16 << 20


class Profile:
    """Records some steps, once :data:`PROFILE_AFTER` have warmed up; called after each step.

    Arguments:
        steps: How many; 0 for none.
        device: Where training computes.
        folder: Gets ``trace.json`` (``trace.json.gz`` where that is large) and ``table.txt``.
    """

    def __init__(self, steps: int, *, device: torch.device, folder: Path) -> None:
        self.steps = steps
        self.device = device
        self.folder = folder
        self._seen = 0
        self._profiler: profile | None = None

    def __call__(self) -> None:
        self._seen += 1
        if self._seen == PROFILE_AFTER:
            self._start()
        elif self._seen == PROFILE_AFTER + self.steps:
            self._finish()

    def close(self) -> None:
        """Writes what there is where training ended before all steps were recorded."""
        if self.steps and self._seen < PROFILE_AFTER:
            log.warning("nothing was profiled: there were only %d steps", self._seen)
        self._finish()

    def _start(self) -> None:
        activities = [ProfilerActivity.CPU]
        if self.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        else:
            # Kineto would print as an error that there is no GPU.
            os.environ.setdefault("KINETO_LOG_LEVEL", "99")
        self._profiler = profile(activities=activities)
        self._profiler.start()

    def _finish(self) -> None:
        if self._profiler is None:
            return
        profiler, self._profiler = self._profiler, None
        # The GPU is behind; without its last operations their step would look short.
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        profiler.stop()
        self.folder.mkdir(exist_ok=True)
        trace = self.folder / "trace.json"
        trace.with_suffix(".json.gz").unlink(missing_ok=True)
        profiler.export_chrome_trace(str(trace))
        if trace.stat().st_size > _LARGE:
            trace = _compress(trace)
        where = "cuda" if self.device.type == "cuda" else "cpu"
        table = profiler.key_averages().table(f"self_{where}_time_total", row_limit=_ROWS)
        (self.folder / "table.txt").write_text(table)
        steps = self._seen - PROFILE_AFTER
        log.info("profiled %d steps: table.txt and %s in %s", steps, trace.name, self.folder)


def _compress(path: Path) -> Path:
    """Puts a file's ``.gz`` in its place."""
    compressed = path.with_name(f"{path.name}.gz")
    with path.open("rb") as plain, gzip.open(compressed, "wb") as packed:
        shutil.copyfileobj(plain, packed)
    path.unlink()
    return compressed
