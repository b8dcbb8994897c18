"""From a config to objects: the one place where ``_target_`` becomes a class."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any, cast

import hydra
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from ccdiff.config.allowed import check_targets
from ccdiff.config.saved import check_resolved
from ccdiff.config.slots import SLOTS, checked
from ccdiff.data import DataSet, image_shape
from ccdiff.diffusion.augmentations import Augmentation
from ccdiff.diffusion.auxiliaries import Auxiliary
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.objectives import Objective
from ccdiff.errors import UserError
from ccdiff.system.atomic import write_text

__all__ = [
    "build_data",
    "build_denoiser",
    "build_objective",
    "check_slots",
    "completed",
    "image_shape_of",
    "instantiate",
    "plain",
    "save_config",
]


def instantiate(node: Any) -> Any:
    """Builds the object that a config node describes.

    Arguments:
        node: A group of a config, which must be what the group is for (see
            :data:`~ccdiff.config.slots.SLOTS`), or a dict of its own.

    Raises:
        UserError: Where its constructor refuses the values, or where it may not be built.
    """
    key = node._get_full_key(None) if isinstance(node, DictConfig) else ""
    if key:
        node = OmegaConf.create(checked(OmegaConf.to_container(node, resolve=True), key))
    else:
        check_targets(node)
    try:
        made = hydra.utils.instantiate(node, _convert_="all")
        return _refusing(made, node["_target_"]) if node.get("_partial_") else made
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, ValueError):
            raise UserError(f"{node.get('_target_')}: {cause}") from error
        if isinstance(cause, TypeError):
            # It seldom says which.
            given = ", ".join(f"{k}={v}" for k, v in node.items() if k != "_target_")
            raise UserError(
                f"{node.get('_target_')}: {cause}; one of these is of the wrong type: "
                f"{shorten(given, 400)}"
            ) from error
        raise UserError(str(error)) from error


def _refusing(make: Callable[..., Any], target: str) -> Callable[..., Any]:
    """The same; what the constructor refuses, at its call later, is bad input too."""

    @functools.wraps(make)
    def made(*args: Any, **kwargs: Any) -> Any:
        try:
            return make(*args, **kwargs)
        except UserError:
            raise
        except ValueError as error:
            raise UserError(f"{target}: {error}") from error

    return made


def check_slots(cfg: DictConfig, *, typed: Mapping[str, str] | None = None) -> None:
    """Checks every group of a whole config, and gives each value the type that its class wants.

    Nothing is built and nothing read, so that what is wrong is told in the first second.

    Arguments:
        cfg: Changed in place: ``data.flip=no`` becomes false.
        typed: What was typed for keys whose value the command line's grammar has made a number or
            a boolean of; where a class takes text, it is that.

    Raises:
        UserError: For the first that is wrong, with its key.
    """
    for key in SLOTS:
        # Not a group is what a command knows by a type of its own, as where a data set has moved.
        if key not in cfg or OmegaConf.is_missing(cfg, key) or cfg[key] is None:
            continue
        if dataclasses.is_dataclass(OmegaConf.get_type(cfg, key)) and "_target_" not in cfg[key]:
            continue
        node = OmegaConf.to_container(cfg[key], resolve=False)
        _update(cfg, key, node, checked(node, key, typed=typed))


def _update(cfg: DictConfig, key: str, before: Any, now: Any) -> None:
    """Sets what is another value now, leaf by leaf, so that references stay what they are."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name, value in now.items():
            _update(cfg, f"{key}.{name}", before.get(name), value)
    elif type(before) is not type(now) or before != now:
        OmegaConf.update(cfg, key, now)


def build_data(cfg: DictConfig) -> DataSet:
    """Builds the data set and writes the facts it settled back into the config.

    Groups that interpolate ``data.label_names`` and its siblings see what is really there.
    """
    data = instantiate(cfg.data)
    cfg.data.image_size = data.image_size
    cfg.data.channels = data.channels
    cfg.data.label_names = list(data.names)
    return data


def image_shape_of(cfg: DictConfig) -> tuple[int, int, int]:
    """``(channels, height, width)`` of the images of a whole config."""
    size = cfg.data.image_size
    return image_shape(cfg.data.channels, size if isinstance(size, int) else list(size))


def build_denoiser(cfg: DictConfig) -> Denoiser:
    """The untrained denoiser of a whole config."""
    return Denoiser(
        instantiate(cfg.model),
        conditioning=instantiate(cfg.conditioning),
        prediction=instantiate(cfg.prediction),
        schedule=instantiate(cfg.schedule),
        reaches=build_objective(cfg).reaches,
        told=instantiate(cfg.augment).told,
    )


def build_objective(cfg: DictConfig) -> Objective:
    """The training objective of a whole config, with augmentation and what else is added to it."""
    make = cast(Callable[..., Objective], instantiate(cfg.objective))
    objective = make(weighting=instantiate(cfg.weighting), times=instantiate(cfg.times))
    joint = cast(Auxiliary, instantiate(cfg.auxiliary)).added_to(objective)
    return cast(Augmentation, instantiate(cfg.augment)).added_to(joint)


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The whole config as dicts, lists and scalars, with every interpolation resolved."""
    container = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True, enum_to_str=True)
    return cast(dict[str, Any], container)


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the defaults of all settings that its groups do not state.

    A config that was saved before a class took a setting compares so with one of today.

    Arguments:
        config: As :func:`plain` returns it; stays as it is.
    """
    return {key: _completed(node) for key, node in config.items()}


def _completed(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    stated = {key: _completed(value) for key, value in node.items()}
    if "_target_" not in node:
        return stated
    check_targets({"_target_": node["_target_"]})
    accepted = inspect.signature(hydra.utils.get_object(node["_target_"])).parameters.values()
    defaults = {
        p.name: p.default
        for p in accepted
        if isinstance(p.default, str | bool | int | float | None)
    }
    return {**defaults, **stated}


def save_config(cfg: DictConfig, path: Path) -> str:
    """Writes the whole config with every interpolation resolved; returns it as YAML.

    Raises:
        UserError: Where it could not be read again, as with a label called ``${a}``.
    """
    check_resolved(plain(cfg), source="the config")
    text = OmegaConf.to_yaml(cfg, resolve=True)
    write_text(path, text)
    return text
