"""Sweeps: what their jobs are called, that one failure does not end them, and how they ended.

A job's folder is named by the overrides that the sweep varies, so the same job of a later launch
finds what an earlier one left there.
"""

import functools
import hashlib
import json
import logging
import math
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from ccdiff.config.schema import TrainConfig
from ccdiff.distributed.failures import let_main_tell
from ccdiff.distributed.ranks import is_main, world_size
from ccdiff.errors import UserError
from ccdiff.launch.texts import quoted
from ccdiff.runs.folder import Run
from ccdiff.runs.origin import is_sealed, seal
from ccdiff.runs.record import Record, read_record
from ccdiff.system.atomic import write_text
from ccdiff.system.text import printable
from ccdiff.system.typed import as_typed

__all__ = ["SWEEP_FILE", "SweepCallback", "job_name", "keep_going", "sweep_arguments"]

log = logging.getLogger(__name__)

SWEEP_FILE = "sweep.json"
_REFUSED_FILE = "refused.txt"
_MAX_NAME = 120
_LINES = "\n\t"
_ONE_PROCESS = (
    f"error: a sweep is started by one process, not by torchrun: {as_typed('train')} -m "
    "hydra/launcher=gpus hydra.launcher.n_jobs=4 ... runs its jobs side by side, each on a GPU of "
    "its own, and hydra/launcher=slurm hydra.launcher.gpus_per_node=4 each on several"
)
_PLACES = {"hydra.sweep.dir", "hydra.mode"}


def job_name(overrides: str) -> str:
    """The folder name of a job: ``prediction-noise+schedule-cosine+seed-0``.

    It needs no quotes, neither in a shell nor in an override such as ``run=<folder>``. What was
    shortened or replaced is told apart by a digest at the end.

    Arguments:
        overrides: Those that the sweep varies, as ``key=value`` joined by commas.
    """
    plain = re.sub(r"['\"]", "", overrides).replace("=", "-")
    plain = re.sub(r"[\[(](.*?)[\])]", lambda m: m[1].replace(",", "."), plain)
    name = re.sub(r"[^\w.+-]", "_", plain.replace(",", "+"))
    faithful = name == overrides.replace("=", "-").replace(",", "+")
    if not faithful or len(name) > _MAX_NAME:
        digest = hashlib.blake2b(overrides.encode(), digest_size=4).hexdigest()
        name = f"{name[:_MAX_NAME].rstrip('+-._')}+{digest}"
    return name.lstrip("+-.") or "job"


# At import, because launchers compose jobs in processes that import nothing but the callback.
OmegaConf.register_new_resolver("job_name", job_name, replace=True)


def keep_going(main: Callable[[DictConfig], float]) -> Callable[[DictConfig], float]:
    """Lets a failed job of a sweep count as infinitely bad, so that the others follow.

    Its error has been told, and is in its record, or beside where it ended before it had one;
    :class:`SweepCallback` sets the exit status.
    """

    @functools.wraps(main)
    def wrapped(cfg: DictConfig) -> float:
        try:
            result = main(cfg)
        except Exception as error:
            job = HydraConfig.get()
            if job.mode is not RunMode.MULTIRUN:
                raise
            if is_main():
                _note_refused(Path(job.runtime.output_dir), error)
            return math.inf
        # A record of before may hold one, and searches end at a result that is no number.
        return math.inf if math.isnan(result) else result

    return wrapped


def _note_refused(folder: Path, error: Exception) -> None:
    """Keeps why a job ended that has no record to say so."""
    if read_record(Run(folder)) is None:
        with suppress(UserError):  # Where this cannot be written, a log has it all the same.
            write_text(folder / _REFUSED_FILE, f"{error}\n")


class SweepCallback(Callback):
    """Names jobs by what varies, keeps the command of the sweep, and sums up at the end."""

    before: str | None = None
    """The command of the launch before."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        if world_size() > 1:
            if not is_main():
                let_main_tell()
            # Hydra passes no error of a callback on, but this.
            sys.exit(_ONE_PROCESS if is_main() else 1)
        # Not at the top: it knows of the arguments, which know of sweeps.
        from ccdiff.launch.checking import check_jobs

        try:
            check_jobs(config, TrainConfig)
        except UserError as error:
            sys.exit(f"error: {printable(str(error), keep=_LINES)}")
        folder = Path(config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        overrides = config.hydra.overrides
        arguments = [*overrides.hydra, *overrides.task]
        file = folder / SWEEP_FILE
        self.before = file.read_text() if file.exists() else None
        content = {"arguments": arguments, "seal": seal(arguments)}
        write_text(file, json.dumps(content, indent=1) + "\n")
        fixed = [f"'{key}'" for key in _fixed_keys(list(overrides.task))]
        with read_write(config), open_dict(config):
            overrides.hydra.append(
                f"hydra.job.config.override_dirname.exclude_keys=[{','.join(fixed)}]"
            )

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        records = {path.name: read_record(Run(path)) for path in sorted(folder.iterdir())}
        ended = {name: record for name, record in records.items() if record is not None}
        # Hydra makes it for each job that it starts.
        began = {name for name in records if (folder / name / ".hydra").is_dir()}
        lost = {name: _refusal(folder / name) for name in sorted(began - ended.keys())}
        if self.before and any(record.refused for record in ended.values()):
            write_text(folder / SWEEP_FILE, self.before)
        log.info("%s", summary(folder, ended, lost=lost))
        if lost or any(record.problem for record in ended.values()):
            sys.exit(1)


def _fixed_keys(overrides: list[str]) -> list[str]:
    """What no override varies; a key may be there twice, once fixed and once varied."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    varied = {override.key_or_group for override in parsed if override.is_sweep_override()}
    return [override.key_or_group for override in parsed if override.key_or_group not in varied]


def _refusal(job: Path) -> str:
    """Why a job has no record, in a line."""
    try:
        return f"refused: {(job / _REFUSED_FILE).read_text().splitlines()[0]}"
    except (OSError, UnicodeDecodeError, IndexError):
        return "ended before it was trained: its log says why"


def summary(folder: Path, records: Mapping[str, Record], *, lost: Mapping[str, str]) -> str:
    """One line per job, the best first, and what to do next.

    Arguments:
        folder: Of the sweep.
        records: By job.
        lost: Why other jobs have no record, since they ended before they could be trained.
    """
    width = max((len(name) for name in (*records, *lost)), default=0)
    finished = sum(record.problem is None for record in records.values())
    number = len(records) + len(lost)
    lines = [f"sweep {folder}: {finished} of {number} jobs finished"]
    for name, record in sorted(records.items(), key=lambda item: item[1].rank):
        lines.append(f"  {name:{width}}  {record.line}")
    lines += [f"  {name:{width}}  {why}" for name, why in lost.items()]
    lines.append(f"compare them: {as_typed('compare')} {shlex.quote(str(folder))}")
    if finished < number:
        lines.append(
            f"run the others again: {as_typed('train')} resume={shlex.quote(str(folder))}"
        )
    return "\n".join(lines)


def sweep_arguments(folder: Path, rest: list[str]) -> list[str]:
    """The arguments that launch a sweep again, in its folder.

    Arguments:
        folder: Holds :data:`SWEEP_FILE`.
        rest: Further overrides; they replace those of the same key.
    """
    given = _sweep_of(folder / SWEEP_FILE)
    replaced = {_key(argument) for argument in rest} | _PLACES
    kept = [argument for argument in given if _key(argument) not in replaced]
    return ["--multirun", *kept, *rest, f"hydra.sweep.dir={quoted(str(folder))}"]


def _sweep_of(file: Path) -> list[str]:
    """The arguments that a sweep was launched with.

    Raises:
        UserError: Where they cannot be read, or ask Hydra for more than to choose values although
            somebody else may have written them.
    """
    try:
        content = json.loads(file.read_text())
        given, stated = content["arguments"], content.get("seal")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} cannot be read: {error!r}; launch the sweep anew") from error
    if not (isinstance(given, list) and all(isinstance(argument, str) for argument in given)):
        raise UserError(f"{file} is damaged: its arguments are no list of texts")
    if is_sealed(given, stated):
        return given
    foreign = [a for a in given if re.match(r"-|hydra\b", _key(a)) and _key(a) not in _PLACES]
    if foreign:
        raise UserError(
            f"{file} was not written by you, and sets more than the suite's own keys, which can "
            f"run code: {' '.join(foreign)}. If you trust it, launch the sweep by its command"
        )
    return given


def _key(argument: str) -> str:
    return argument.partition("=")[0].lstrip("+~")
