"""Whether what was typed is taken, by its key and its type: of one job, and of all of a sweep."""

import importlib
import itertools
import math
from collections.abc import Iterable, Sequence

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from ccdiff.config.schema import typed
from ccdiff.errors import UserError
from ccdiff.launch.blocks import probes
from ccdiff.launch.explain import explained
from ccdiff.launch.texts import read_otherwise

__all__ = ["check_jobs", "checked_config"]

# Composing one takes a tenth of a second.
_MOST_JOBS = 64
_SHOWN = 5


def checked_config(cfg: DictConfig, schema: type, *, overrides: Iterable[str]) -> DictConfig:
    """A composed config with the types that the command and its classes want.

    Nothing is built and nothing read, so that what is wrong is told in the first seconds.

    Arguments:
        cfg: As Hydra composes it, without its own part.
        schema: Dataclass of the keys of the command.
        overrides: As they were typed.

    Raises:
        UserError: For a key that nothing reads, or a value of a wrong type.
    """
    checked = typed(cfg, schema)
    # Imported here: torch takes seconds, and --help must not wait for it.
    build = importlib.import_module("ccdiff.config.build")
    build.check_slots(checked, typed=read_otherwise(overrides))
    return checked


def check_jobs(sweep: DictConfig, schema: type) -> None:
    """Refuses a sweep of which a job would be refused for what was typed, before any job starts.

    All combinations of values are looked at where they are few, and of many each value once; of
    ranges the first and the last; of blocks each value in as few jobs as have them all.

    Arguments:
        sweep: The config of the sweep, with Hydra's part; call it while Hydra starts the sweep.
        schema: Dataclass of the keys of the command.

    Raises:
        UserError: With the jobs that are refused, and why.
    """
    loader = GlobalHydra.instance().config_loader()
    given = sweep.hydra.overrides
    sweeper = sweep.hydra.sweeper
    params = (sweeper.get("params") or {}).items()
    typed_in = [*(f"{key}={value}" for key, value in params), *given.task]
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(typed_in)
    refused: dict[str, list[str]] = {}
    varied = {override.get_key_element() for override in parsed if override.is_sweep_override()}
    if "blocks" in sweeper:
        jobs, keys = _jobs_of_blocks(sweeper, typed_in)
        varied |= keys
    else:
        jobs = _jobs([_values(override) for override in parsed])
    for job in jobs:
        try:
            cfg = loader.load_sweep_config(sweep, job)
            with open_dict(cfg):
                del cfg["hydra"]
            checked_config(cfg, schema, overrides=job)
        except UserError as error:
            told = str(error)
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            # It sets aside the Hydra in use: no further job can be looked at.
            told = explained(error, [*given.hydra, *job], sweep.hydra.job.config_name)
            raise UserError(f"{told}. Of the sweep, no job has been started") from error
        else:
            continue
        named = [override for override in job if override.partition("=")[0] in varied]
        refused.setdefault(told, []).append(" ".join(named))
    if refused:
        number = sum(map(len, refused.values()))
        lines = [f"  {names[0]}: {told}" for told, names in refused.items()]
        more = [f"  and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        raise UserError(
            f"{number} of {len(jobs)} jobs tried would be refused, so none is started:\n"
            + "\n".join([*lines[:_SHOWN], *more])
        )


def _jobs_of_blocks(
    sweeper: DictConfig, arguments: Sequence[str]
) -> tuple[list[list[str]], set[str]]:
    """Jobs that have each value of each block, and the keys that blocks vary."""
    blocks = sweeper.blocks
    if OmegaConf.is_list(blocks):
        blocks = OmegaConf.to_container(blocks)
    if not (isinstance(blocks, list) and all(isinstance(block, dict) for block in blocks)):
        raise UserError(
            f"hydra.sweeper.blocks must be a list of keys with their values, such as "
            f"[{{schedule: 'cosine,linear'}}], got {sweeper.blocks!r}"
        )
    try:
        jobs = probes(blocks, seeds=sweeper.seeds, arguments=arguments)
    except HydraException as error:
        raise UserError(f"hydra.sweeper.blocks has values that cannot be read: {error}") from error
    return jobs, {str(key) for block in blocks for key in block}


def _values(override: Override) -> list[str]:
    """What tells whether all jobs are taken: each value, or both ends of a range or interval."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [override.input_line or ""]
    swept = override.value()
    if isinstance(swept, IntervalSweep):
        return [f"{key}={swept.start}", f"{key}={swept.end}"]
    values = [f"{key}={value}" for value in override.sweep_string_iterator()]
    return values[:: max(1, len(values) - 1)] if isinstance(swept, RangeSweep) else values


def _jobs(values: Sequence[Sequence[str]]) -> list[list[str]]:
    """All jobs, or of many as many as show each value once."""
    if math.prod(map(len, values)) <= _MOST_JOBS:
        return [list(job) for job in itertools.product(*values)]
    first = [few[0] for few in values]
    others = [
        [*first[:i], value, *first[i + 1 :]] for i, few in enumerate(values) for value in few[1:]
    ]
    return [first, *others]
