"""What every command shares around its work: errors, memory between jobs, resuming."""

import atexit
import errno
import functools
import gc
import io
import logging
import shlex
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ccdiff.distributed import let_main_tell, told_by_main
from ccdiff.errors import UserError
from ccdiff.ranks import adopt_slurm, is_main, local_rank, rank, world_size
from ccdiff.sweeps import SWEEP_FILE, sweep_arguments
from ccdiff.training.stopping import EXIT_STATUS, Preempted

__all__ = ["command", "end_before_parsing", "rank_arguments", "resume_arguments", "shared_command"]

log = logging.getLogger(__name__)


def command(main: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """A command for one process, which is refused where torchrun or srun starts several.

    See :func:`shared_command` for how it ends.
    """

    @functools.wraps(main)
    def alone(cfg: DictConfig) -> Any:
        if world_size() > 1:
            raise UserError(
                f"this command works in one process, and was started in {world_size()}: leave "
                f"out torchrun, or srun's number of tasks"
            )
        return main(cfg)

    return shared_command(alone)


def shared_command(main: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Wraps a Hydra main: bad input ends in one line and exit status 1, without a traceback.

    In a sweep every error is logged with its traceback and passed on. A failed job's frames are
    cleared, or its model would be kept as long as the error is.

    Of several processes rank 0 logs; what ends all of them is told once.
    """

    @functools.wraps(main)
    def wrapped(cfg: DictConfig) -> Any:
        _forget_previous_job()
        adopt_slurm()  # Also where a launcher, and no command line, has started the process.
        sys.stderr = sys.__stderr__ if isinstance(sys.stderr, _Unheard) else sys.stderr
        if not is_main():
            logging.getLogger().handlers[:] = [logging.NullHandler()]
        try:
            # Before torch does, in C++ that takes a Ctrl-C for a numpy that is not there.
            import numpy  # noqa: F401

            return main(cfg)
        except Preempted as stopped:
            # Also ends a sweep, whose other jobs have no more time than this one.
            log.warning("%s; to go on: python train.py resume=%s", stopped, _folder())
            told_by_main(tell=True)
            sys.exit(EXIT_STATUS)
        except KeyboardInterrupt:
            log.error("interrupted; what was saved before is untouched")
            sys.exit(128 + signal.SIGINT)
        except Exception as error:
            error = _told(error)
            expected = isinstance(error, UserError)
            sweep = HydraConfig.get().mode is RunMode.MULTIRUN
            message = "%s" if expected else "the job failed: %s"
            if told_by_main():
                sys.exit(1)
            if not is_main():
                logging.basicConfig(force=True, format=f"rank {rank()}: %(message)s")
            log.error(message, error, exc_info=sweep or not expected)
            told_by_main(tell=True)
            if not sweep:
                sys.exit(1)
            traceback.clear_frames(error.__traceback__)
            raise

    return wrapped


def _folder() -> str:
    """That of the run, or of the whole sweep."""
    job = HydraConfig.get()
    folder = job.sweep.dir if job.mode is RunMode.MULTIRUN else job.runtime.output_dir
    return shlex.quote(str(folder))


def _told(error: Exception) -> Exception:
    """A disk that is full or cannot be written is no fault of the program: one line says so."""
    no_room = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
    if isinstance(error, OSError) and error.errno in no_room:
        told = UserError(f"{error}: make room, or let it be written. What was saved is untouched")
        return told.with_traceback(error.__traceback__)
    return error


def _forget_previous_job() -> None:
    """Frees what an earlier job of the sweep left, and lets torch.compile start afresh."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()


class _Unheard(io.StringIO):
    """In place of stderr while arguments are read: what is wrong with them, another tells."""


def rank_arguments(arguments: list[str]) -> list[str]:
    """Arguments with which a process other than rank 0 makes no folder and no log of its own."""
    adopt_slurm()
    if is_main():
        return arguments
    if local_rank() > 0:
        sys.stderr = _Unheard()
        atexit.register(_wait_if_unheard)
    nothing = [f"{key}=none" for key in ("hydra/job_logging", "hydra/hydra_logging")]
    return [*arguments, "hydra.output_subdir=null", "hydra.run.dir=.", *nothing]


def _wait_if_unheard() -> None:
    if isinstance(sys.stderr, _Unheard):
        let_main_tell()


def end_before_parsing(error: UserError) -> NoReturn:
    """Ends a process whose arguments cannot be read; one per machine says why."""
    adopt_slurm()
    sys.exit(1 if told_by_main() else f"error: {error}")


def resume_arguments(arguments: list[str]) -> list[str]:
    """Rewrites ``resume=<run>`` so that Hydra composes from that run's own config, in its folder.

    Other overrides stay, on top of the saved values: ``resume=outputs/... trainer.steps=5000``.
    A sweep is launched again as it was, in its folder.

    Raises:
        UserError: Where the run does not exist or left no config.
    """
    given = [a.removeprefix("resume=") for a in arguments if a.startswith("resume=")]
    if not given or given[-1] in ("", "null", "auto"):
        return arguments
    rest = [a for a in arguments if not a.startswith("resume=")]
    sweep = Path(given[-1]).expanduser().absolute()
    if (sweep / SWEEP_FILE).exists():
        return sweep_arguments(sweep, rest)
    if {"-m", "--multirun"} & set(arguments):
        raise UserError("resume= goes on with one run: leave out --multirun")
    from ccdiff.runs import find_checkpoint, run_of

    run = run_of(find_checkpoint(given[-1]))
    if not run.config.exists():
        raise UserError(f"{run.path} has no config.yaml to go on from")
    folder = Path(run.path).absolute()
    return [
        *("--config-path", str(folder), "--config-name", "config"),
        *(part for argument in rest for part in _spelled_out(argument)),
        f"resume='{given[-1]}'",
        f"hydra.run.dir='{folder}'",
        "hydra.output_subdir=null",
    ]


_CONF = Path(__file__).parents[1] / "conf"


def _spelled_out(argument: str) -> list[str]:
    """``group=option`` as overrides of a config that has values in place of groups."""
    group, _, option = argument.partition("=")
    if not (_CONF / group / f"{option}.yaml").is_file() or group == "experiment":
        return [argument]
    with hydra.initialize_config_dir(str(_CONF), version_base="1.3"):
        values = hydra.compose("train", [argument])[group]
    return [f"~{group}", f"+{group}={_written(OmegaConf.to_container(values, enum_to_str=True))}"]


def _written(value: Any) -> str:
    """A plain value in the grammar of Hydra's overrides."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_written(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    if isinstance(value, str):
        return "'" + value.replace("'", "\\'") + "'"
    return "null" if value is None else str(value).lower()
