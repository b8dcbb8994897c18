"""How a command runs: its arguments, its config, how it ends, memory between jobs."""

import atexit
import errno
import functools
import gc
import importlib
import io
import logging
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ccdiff.config.schema import register
from ccdiff.distributed.failures import let_main_tell
from ccdiff.distributed.group import failures
from ccdiff.distributed.ranks import adopt_slurm, is_main, local_rank, rank, world_size
from ccdiff.errors import UserError
from ccdiff.launch.arguments import CONF, flags_first
from ccdiff.launch.checking import checked_config
from ccdiff.launch.explain import explained
from ccdiff.launch.sweeps import keep_going
from ccdiff.launch.texts import text_arguments
from ccdiff.system.console import guard_console, leave_closed_pipe
from ccdiff.system.stopping import EXIT_STATUS, Preempted
from ccdiff.system.text import printable
from ccdiff.system.typed import as_typed

__all__ = ["plain_command", "run_command"]

log = logging.getLogger(__name__)

_LINES = "\n\t"
_FULL_ERROR = "HYDRA_FULL_ERROR"
_PLUGINS = str(Path(__file__).parent / "plugins")
"""Where a part of the namespace package is from which alone Hydra takes sweepers."""


def run_command(
    name: str,
    *,
    job: str,
    schema: type,
    rewrite: Callable[[list[str]], list[str]],
    several: bool,
    sweeps: bool,
) -> None:
    """Runs a command on the arguments of this process; see :func:`ccdiff.launch.entry.command`."""

    def work(cfg: DictConfig) -> Any:
        checked = checked_config(cfg, schema, overrides=HydraConfig.get().overrides.task)
        module, _, function = job.partition(":")
        return getattr(importlib.import_module(module), function)(checked)

    task = _ending(work if several else _alone(work))
    if sweeps:
        task = keep_going(task)
    register()
    _offer_sweeper()
    try:
        given = text_arguments(flags_first(sys.argv[1:]), schema)
        arguments = _of_this_rank(flags_first(rewrite(given)))
    except UserError as error:
        _end(str(error))
    sys.argv[1:] = arguments
    full = os.environ.get(_FULL_ERROR)
    # Has Hydra pass its errors on instead of printing them.
    os.environ[_FULL_ERROR] = "1"
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(task)()
        sys.stdout.flush()
    except BrokenPipeError:
        _end_unread()
    except (HydraException, OmegaConfBaseException, ValueError, OSError) as error:
        if full:
            raise
        _end(explained(error, arguments, name))
    finally:
        if full is None:
            os.environ.pop(_FULL_ERROR, None)


def _offer_sweeper() -> None:
    """Makes ``hydra/sweeper=blocks`` known, also where Hydra has looked for plugins before."""
    if _PLUGINS not in sys.path:
        sys.path.append(_PLUGINS)
    name = "hydra_plugins.ccdiff_blocks"
    Plugins.instance().register(importlib.import_module(name).BlockSweeper)


def plain_command(main: Callable[[list[str]], None]) -> Callable[[], None]:
    """A command that takes its arguments as they are: bad input ends in one line, as in others."""

    @functools.wraps(main)
    def wrapped() -> None:
        guard_console()
        try:
            main(sys.argv[1:])
            sys.stdout.flush()
        except BrokenPipeError:
            _end_unread()
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
        except Exception as error:
            error = _told(error)
            if not isinstance(error, UserError):
                raise
            sys.exit(f"error: {printable(str(error), keep=_LINES)}")

    return wrapped


def _end(message: str) -> NoReturn:
    """Ends a process that has no config; one per machine says why."""
    adopt_slurm()
    sys.exit(1 if failures().wait_until_told() else f"error: {printable(message, keep=_LINES)}")


def _end_unread() -> NoReturn:
    """Ends a process whose output nobody reads any more, as ``head`` does; nothing is wrong."""
    leave_closed_pipe()
    sys.exit(0)


def _alone(work: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Refuses to work where torchrun or srun starts several processes."""

    def alone(cfg: DictConfig) -> Any:
        if world_size() > 1:
            raise UserError(
                f"this command works in one process, and was started in {world_size()}: leave "
                f"out torchrun, or srun's number of tasks"
            )
        return work(cfg)

    return alone


def _ending(work: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Has bad input end in one line and exit status 1, without a traceback.

    In a sweep every error is logged and passed on. A failed job's frames are cleared, or its model
    would be kept as long as the error is.

    Of several processes rank 0 logs; what ends all of them is told once.
    """

    def ending(cfg: DictConfig) -> Any:
        _forget_previous_job()
        adopt_slurm()  # Also where a launcher, and no command line, has started the process.
        sys.stderr = sys.__stderr__ if isinstance(sys.stderr, _Unheard) else sys.stderr
        if not is_main():
            logging.getLogger().handlers[:] = [logging.NullHandler()]
        guard_console()
        try:
            # Before torch does, in C++ that takes a Ctrl-C for a numpy that is not there.
            import numpy  # noqa: F401

            return work(cfg)
        except Preempted as stopped:
            # Also ends a sweep, whose other jobs have no more time than this one.
            log.warning("%s; to go on: %s resume=%s", stopped, as_typed("train"), _folder())
            failures().note_told()
            if not is_main():
                failures().wait_until_told()
            sys.exit(EXIT_STATUS)
        except KeyboardInterrupt:
            log.error("interrupted; what was saved before is untouched")
            sys.exit(128 + signal.SIGINT)
        except Exception as error:
            error = _told(error)
            expected = isinstance(error, UserError)
            sweep = HydraConfig.get().mode is RunMode.MULTIRUN
            message = "%s" if expected else "the job failed: %s"
            if failures().wait_until_told():
                sys.exit(1)
            if not is_main():
                logging.basicConfig(force=True, format=f"rank {rank()}: %(message)s")
            log.error(message, error, exc_info=not expected)
            failures().note_told()
            if not sweep:
                sys.exit(1)
            traceback.clear_frames(error.__traceback__)
            raise

    return ending


def _folder() -> str:
    """That of the run, or of the whole sweep."""
    job = HydraConfig.get()
    folder = job.sweep.dir if job.mode is RunMode.MULTIRUN else job.runtime.output_dir
    return shlex.quote(str(folder))


def _told(error: Exception) -> Exception:
    """What a disk or a memory has no room for is no fault of the program: one line says so."""
    no_room = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
    if isinstance(error, OSError) and error.errno in no_room:
        message = f"{error}: make room, or let it be written. What was saved is untouched"
    elif _out_of_memory(error):
        # Two sentences; torch goes on with the state of its allocator and advice on that.
        first = ". ".join(str(error).rpartition("DefaultCPUAllocator: ")[2].split(". ")[:2])
        message = (
            f"{first.splitlines()[0].rstrip('.')}: there is no memory for so much at a time. "
            f"Training needs less with a larger trainer.accumulate, "
            f"model.gradient_checkpointing=true or a smaller trainer.batch_size, other commands "
            f"with a smaller batch_size. What was saved is untouched"
        )
    else:
        return error
    return UserError(message).with_traceback(error.__traceback__)


def _out_of_memory(error: Exception) -> bool:
    """Whether it is torch's; without torch, which is not imported for it, there is none."""
    torch = sys.modules.get("torch")
    # The CPU's allocator has no exception of its own.
    return torch is not None and (
        isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
    )


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


def _of_this_rank(arguments: list[str]) -> list[str]:
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
