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
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from ccdiff.distributed.failures import let_main_tell, told_by_main
from ccdiff.distributed.ranks import adopt_slurm, is_main, local_rank, rank, world_size
from ccdiff.errors import UserError
from ccdiff.system.console import guard_console
from ccdiff.system.stopping import EXIT_STATUS, Preempted

__all__ = ["command", "end_before_parsing", "rank_arguments", "shared_command"]

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
        guard_console()
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
