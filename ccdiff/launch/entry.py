"""What every command is made of: a first line at once, help, and then its config and its work.

Nothing is imported at the top that takes long: with Hydra and torch it would be seconds before a
user sees that anything happens.
"""

import importlib
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ccdiff.distributed.ranks import is_main
from ccdiff.errors import UserError
from ccdiff.launch.help import asks_for_help, print_help, print_plain_help
from ccdiff.system.console import leave_closed_pipe
from ccdiff.system.text import printable
from ccdiff.system.typed import as_typed

__all__ = ["command", "plain", "typed_line"]

_typed: list[str] = []
_AT_ONCE = ("--cfg", "-c", "--info", "-i", "--shell-completion", "-sc", "--hydra-help")
"""Flags whose answer is all that a command prints, and comes soon."""


def command(
    name: str,
    *,
    job: str,
    schema: type | str,
    rewrite: Callable[[list[str]], list[str]] | str = "builtins:list",
    several: bool = False,
    sweeps: bool = False,
    about: str = "",
) -> Callable[[], None]:
    """A command whose config Hydra composes.

    Arguments:
        name: Of its YAML in ``conf/``.
        job: What it does with the typed config, as ``package.module:function``. Imported only once
            there is a config: torch takes seconds to import, and --help must not wait for it.
        schema: Dataclass of its keys, or where it is, as ``package.module:class``.
        rewrite: Arguments of the command line to arguments for Hydra, or where it is; flags come
            first in both.
        several: Whether it works in several processes, as torchrun starts them.
        sweeps: Whether a failed job of a sweep counts as infinitely bad, so that others follow.
        about: What ``--help`` says that it does.

    Returns:
        A function that runs the command on the arguments of this process.
    """

    def main() -> None:
        arguments = sys.argv[1:]
        _typed[:] = [name, *arguments]
        if asks_for_help(arguments):
            _help(lambda: print_help(name, arguments, about=about, schema=_found(schema)))
            return
        _tell_loading(name, arguments)
        from ccdiff.launch.running import run_command

        run_command(
            name,
            job=job,
            schema=_found(schema),
            rewrite=_found(rewrite),
            several=several,
            sweeps=sweeps,
        )

    return main


def plain(
    name: str,
    *,
    job: str,
    about: str,
    takes: str,
    examples: Sequence[tuple[str, str]],
    keys: Sequence[tuple[str, str]],
) -> Callable[[], None]:
    """A command that takes its arguments as they are, without a config.

    Arguments:
        name: Of the command.
        job: What it does with the arguments, as ``package.module:function``.
        about: What ``--help`` says that it does.
        takes: What stands behind it, in short.
        examples: Arguments to begin with, each with what they do.
        keys: What may be set, each with what it is.

    Returns:
        A function that runs the command on the arguments of this process.
    """

    def main() -> None:
        if asks_for_help(sys.argv[1:]):
            _help(lambda: print_plain_help(name, about, takes, examples=examples, keys=keys))
            return
        from ccdiff.launch.running import plain_command

        plain_command(_found(job))()

    return main


def typed_line() -> str:
    """The command at work as it was typed, such as ``ccdiff sample run=latest``."""
    return " ".join([as_typed(_typed[0]), *map(shlex.quote, _typed[1:])]) if _typed else ""


def _found(named: Any) -> Any:
    """What a text such as ``package.module:name`` names; anything else is it already."""
    if not isinstance(named, str):
        return named
    module, _, name = named.partition(":")
    return getattr(importlib.import_module(module), name)


def _help(show: Callable[[], None]) -> None:
    if not is_main():
        return
    try:
        show()
        sys.stdout.flush()
    except BrokenPipeError:
        leave_closed_pipe()
    except UserError as error:
        sys.exit(f"error: {printable(str(error), keep=chr(10))}")


def _tell_loading(name: str, arguments: Sequence[str]) -> None:
    """Says that something happens, before anything that takes long."""
    at_once = any(argument.partition("=")[0] in _AT_ONCE for argument in arguments)
    if at_once or "torch" in sys.modules or int(os.environ.get("SLURM_PROCID", "0")):
        return
    if is_main() and sys.stderr is not None:
        print(f"{name}: loading torch, which takes some seconds ...", file=sys.stderr, flush=True)
