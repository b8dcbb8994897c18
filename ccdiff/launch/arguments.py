"""Command lines rewritten, so that Hydra composes from what a run has of its own."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from ccdiff.config.options import CONF
from ccdiff.config.saved import load_config, read_config
from ccdiff.config.schema import TrainConfig, check_keys
from ccdiff.errors import UserError
from ccdiff.launch.labels import label_arguments
from ccdiff.launch.sweeps import SWEEP_FILE, sweep_arguments
from ccdiff.launch.texts import quoted
from ccdiff.runs.exports import CONFIG_FILE, export_folder
from ccdiff.runs.folder import Run, find_checkpoint, run_of
from ccdiff.runs.record import read_record

__all__ = ["CONF", "flags_first", "option_of", "resume_arguments", "sampling_arguments"]

log = logging.getLogger(__name__)

_RESUMED = "resumed"
_OF_SAMPLING = ("sampler", "threshold", "guidance")
_INSIDE = tuple(f"{group}/" for group in _OF_SAMPLING)


def flags_first(arguments: list[str]) -> list[str]:
    """Hydra's flags, each in one word, then all overrides in their order.

    Hydra wants it so: what stands behind a flag among overrides is no override to it.
    """
    parser = get_args_parser()
    given = parser.parse_intermixed_args(arguments)
    flags = []
    for action in parser._actions:
        value = getattr(given, action.dest, None)
        if not action.option_strings or value in (None, False, argparse.SUPPRESS):
            continue
        option = action.option_strings[0]
        flags.append(option if value is True else f"{option}={value}")
    return [*flags, *given.overrides]


def option_of(arguments: Sequence[str], flag: str) -> str | None:
    """What a flag is given among arguments in the order of :func:`flags_first`, or None."""
    given = [a.partition("=")[2] for a in arguments if a.startswith(f"{flag}=")]
    return given[-1] if given else None


def resume_arguments(arguments: list[str]) -> list[str]:
    """Rewrites ``resume=<run>`` so that Hydra composes from that run's own config, in its folder.

    Other overrides stay, on top of the saved values: ``resume=outputs/... trainer.steps=5000``.
    A sweep is launched again as it was, in its folder.

    Raises:
        UserError: Where the run does not exist or left no config.
    """
    given = [_unquoted(a) for a in arguments if a.startswith("resume=")]
    if not given or given[-1] in ("", "null", "auto"):
        return arguments
    rest = [a for a in arguments if not a.startswith("resume=")]
    extra = option_of(rest, "--config-dir")
    sweep = Path(given[-1]).expanduser().absolute()
    if (sweep / SWEEP_FILE).exists():
        return sweep_arguments(sweep, rest)
    if "--multirun" in arguments:
        raise UserError("resume= goes on with one run: leave out --multirun")
    run = run_of(find_checkpoint(given[-1]))
    if not run.config.exists():
        raise UserError(f"{run.path} has no config.yaml to go on from")
    # Hydra composes from what was read here, and never looks into the folder: there it would take
    # defaults, and settings of its own that run code.
    config = _resumed(run, given[-1])
    check_keys(config, TrainConfig, source=run.config)
    if not any(_tracker_key(argument) for argument in rest):
        _track_as_usual(config, run)
    ConfigStore.instance().store(name=_RESUMED, node=config)
    folder = Path(run.path).absolute()
    mine = [argument for argument in rest if not argument.startswith("--config-dir=")]
    elsewhere = [_value(a) for a in rest if a.startswith("hydra.run.dir=")]
    if elsewhere and Path(str(elsewhere[-1])).absolute() != folder:
        raise UserError(
            f"resume= goes on in the folder of the run, {folder}, and not in "
            f"hydra.run.dir={elsewhere[-1]}: leave one of them out"
        )
    return [
        # A folder without configs, and no other: keys of the run are not to be taken for groups.
        *(f"--config-path={Path(__file__).parent}", f"--config-name={_RESUMED}"),
        *(part for argument in mine for part in _spelled_out(argument, extra)),
        f"resume={quoted(given[-1])}",
        f"hydra.run.dir={quoted(str(folder))}",
        "hydra.output_subdir=null",
    ]


def _tracker_key(argument: str) -> bool:
    return argument.lstrip("+~").partition("=")[0].partition(".")[0] == "tracker"


def _track_as_usual(config: DictConfig, run: Run) -> None:
    """Has a run that somebody else may have trained tracked as a new one, not where it says."""
    record, tracker = read_record(run), dict(config.get("tracker") or {})
    if str(tracker.get("_target_")).endswith(".NoTracker"):
        return
    if record is None or not record.is_tracked_by(tracker, record.tracker_id or ""):
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            config.tracker = hydra.compose("train").tracker


def _resumed(run: Run, reference: str) -> DictConfig:
    """The config of a run to go on with; where its file is damaged, its checkpoint's own."""
    try:
        return load_config(run.config)
    except UserError as error:
        # Imported here: it takes seconds, which only a damaged file should cost.
        from ccdiff.runs.checkpoints import open_checkpoint

        path, checkpoint = open_checkpoint(reference)
        log.warning("%s; going on with the config that %s holds", error, path.name)
        return read_config(checkpoint["config"], source=path)


def sampling_arguments(arguments: list[str]) -> list[str]:
    """Adds the sampler, threshold and guidance of ``run=<run>``, each where none is chosen.

    Labels become the text that was typed.

    Other overrides stay, on top of the run's values: ``run=latest sampler.steps=20``.

    Raises:
        UserError: Where several runs are named, which may differ in them.
    """
    arguments = label_arguments(arguments)
    extra = option_of(arguments, "--config-dir")
    chosen = {argument.lstrip("+~").partition("=")[0] for argument in arguments}
    own = [group for group in _OF_SAMPLING if group not in chosen]
    given = [argument for argument in arguments if argument.startswith("run=")]
    if not own or not given or (run := _value(given[-1])) is None:
        return arguments
    try:
        config = _config_of(run)
    except UserError:
        return arguments  # The command looks for it too, and says so.
    # Runs of before there were thresholds have none.
    own = [group for group in own if group in config]
    return [
        *(part for group in own for part in _replaced(group, config[group])),
        *(
            part
            for argument in arguments
            for part in (
                _spelled_out(argument, extra) if argument.startswith(_INSIDE) else [argument]
            )
        ),
    ]


def _value(override: str) -> str | None:
    """What is given; None where Hydra will refuse it, and for null."""
    try:
        (parsed,) = OverridesParser.create().parse_overrides([override])
    except HydraException:
        return None
    if parsed.is_sweep_override():
        raise UserError(
            f"{override} names several runs, each with a sampler, threshold and guidance of its "
            f"own: choose one of each for all (sampler=... threshold=... guidance=...), or name "
            f"one run"
        )
    value = parsed.value()
    return None if value is None else str(value)


def _unquoted(override: str) -> str:
    """What is given, as a file that is there, or as Hydra's grammar reads it."""
    value = override.partition("=")[2]
    if value.strip("'\"") == value or Path(value).expanduser().exists():
        return value
    return _value(override) or ""


def _config_of(reference: str) -> DictConfig:
    """The config of the run, or the export, that a user means."""
    if (export := export_folder(reference)) is not None:
        return load_config(export / CONFIG_FILE)
    checkpoint = find_checkpoint(reference)
    config = run_of(checkpoint).config
    if config.exists():
        try:
            return load_config(config)
        except UserError as error:
            log.warning("%s; the checkpoint has its own copy, which is taken", error)
    # Imported here: it takes seconds, which only a checkpoint without its run should cost.
    from ccdiff.runs.checkpoints import load_checkpoint

    return read_config(load_checkpoint(checkpoint)["config"], source=checkpoint)


def _spelled_out(argument: str, extra: str | None) -> list[str]:
    """``group=option`` as overrides of a config that has values in place of groups.

    Arguments:
        argument: Of the command line.
        extra: A folder of options besides ``conf/``, or None.
    """
    group, _, option = argument.partition("=")
    folders = [Path(extra).absolute(), CONF] if extra else [CONF]
    there = any((folder / group / f"{option}.yaml").is_file() for folder in folders)
    if not there or group == "experiment":
        return [argument]
    key = group.replace("/", ".")
    search = [f"hydra.searchpath=['file://{folders[0]}']"] if extra else []
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("train", [argument, *search])
    return _replaced(key, OmegaConf.select(config, key))


def _replaced(key: str, values: DictConfig) -> list[str]:
    """Overrides by which a key or group gets these values, and keeps none of before."""
    return [f"~{key}", f"+{key}={_written(OmegaConf.to_container(values, enum_to_str=True))}"]


def _written(value: Any) -> str:
    """A plain value in the grammar of Hydra's overrides."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_written(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    if isinstance(value, str):
        return quoted(value)
    return "null" if value is None else str(value).lower()
