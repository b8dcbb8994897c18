"""Which classes a config may build: a config comes with a checkpoint, perhaps from a stranger."""

import os
from collections.abc import Iterator
from typing import Any

from hydra.utils import get_object
from omegaconf import OmegaConf

from ccdiff.errors import UserError

__all__ = ["ENVIRONMENT", "check_targets"]

ENVIRONMENT = "CCDIFF_ALLOW"
"""Environment variable that names packages beside those of this list, parted by commas."""

_PACKAGES = ("ccdiff", "torch.optim", "ema_pytorch")
_FUNCTIONS = ("ccdiff.trained.run.load_weak_model",)


def check_targets(node: Any) -> None:
    """Looks at every ``_target_`` in a config before anything is built.

    Allowed are classes that are defined in one of the packages; other things that a module of
    theirs happens to import are not.

    Raises:
        UserError: For the first that is not allowed.
    """
    packages = (*_PACKAGES, *filter(None, os.environ.get(ENVIRONMENT, "").split(",")))
    for target in _targets(OmegaConf.to_container(node) if OmegaConf.is_config(node) else node):
        # By its text first: looking for a name imports its module, which runs code.
        if not (isinstance(target, str) and _within(target, packages)):
            raise _refused(target, packages)
        if target in _FUNCTIONS:
            continue
        try:
            found = get_object(target)
        except Exception as error:
            raise UserError(f"_target_: {target} cannot be found: {error}") from error
        if not (isinstance(found, type) and _within(found.__module__, packages)):
            raise _refused(target, packages)


def _within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _targets(node: Any) -> Iterator[Any]:
    """Every ``_target_`` in nested containers."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node["_target_"]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _targets(child)


def _refused(target: object, packages: tuple[str, ...]) -> UserError:
    return UserError(
        f"the config asks for _target_: {target}, but only classes of {', '.join(packages)} may "
        f"be built. If you trust it and the config, set the environment variable "
        f"{ENVIRONMENT}=<its package>"
    )
