"""The options of ``conf/`` from within Python, as the command line would compose them."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from ccdiff.config.schema import register
from ccdiff.errors import UserError

__all__ = ["CONF", "compose", "compose_option", "options"]

_PACKAGE = Path(__file__).parents[1]
CONF = next(
    (path for path in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if path.is_dir()), _PACKAGE
)
"""Where the YAML is: in the package once installed, beside it in a clone."""

_ONE_AT_A_TIME = threading.RLock()


def options(group: str) -> list[str]:
    """The names that ``group=`` takes, such as those of ``sampler`` or ``sampler/grid``."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def compose(name: str, overrides: Sequence[str] = (), *, with_hydra: bool = False) -> DictConfig:
    """The config of a command, from any thread and also inside of an application of Hydra.

    Arguments:
        name: Of a YAML in ``conf/``.
        overrides: As on the command line.
        with_hydra: Whether to keep Hydra's own part, under ``hydra``.
    """
    register()
    with _a_hydra_of_its_own(), hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose(name, list(overrides), return_hydra_config=with_hydra)


def compose_option(
    group: str, option: str, *, within: Sequence[str] = (), config: str = "sample"
) -> DictConfig:
    """What ``group=option`` is on the command line of a command.

    Arguments:
        group: One that the command has.
        option: One of its names.
        within: Options of groups inside of it, such as ``sampler/grid=karras``.
        config: Of the command.

    Raises:
        UserError: Where there is no such option, with those there are.
    """
    asked = [(group, option), *((g, o) for g, _, o in (a.partition("=") for a in within))]
    for key, name in asked:
        if name not in (there := options(key)):
            near = get_close_matches(name, there, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(f"there is no {key} {name!r}: {hint}(there are: {', '.join(there)})")
    composed = compose(config, [f"{group}={option}", *within])
    return OmegaConf.create({group: OmegaConf.to_container(composed[group])})[group]


@contextmanager
def _a_hydra_of_its_own() -> Iterator[None]:
    """Sets aside what of Hydra is in use, which is one for the whole process."""
    with _ONE_AT_A_TIME:
        instance = GlobalHydra.instance()
        before, instance.hydra = instance.hydra, None
        try:
            yield
        finally:
            GlobalHydra.instance().hydra = before
