"""Sweeps in blocks: a few factors varied at a time about one recipe, and not all with all others.

A block is what ``hydra.sweeper.params`` is to a plain sweep: values by key, of which every
combination is a job. What a block leaves alone is as in the recipe, so the recipe itself is in
every block, and is trained once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from ccdiff.errors import UserError

__all__ = ["in_recipe", "jobs", "probes"]

Choice = tuple[str, str]
"""A key with one of its values, as they are typed."""


def jobs(
    blocks: Iterable[Mapping[str, Any]],
    *,
    seeds: str | int,
    arguments: Sequence[str],
    recipe: Callable[[str, str], bool],
) -> list[list[str]]:
    """The overrides of each job, without one twice: all of the first seed, then of the next.

    Arguments:
        blocks: Values by key in Hydra's syntax, such as ``{"schedule": "cosine,linear"}``.
        seeds: Values of ``seed``, such as ``0,1,2``, or one.
        arguments: Overrides of the command line. A key that they have is varied by them alone.
        recipe: Whether a key has a value where nothing is varied, see :func:`in_recipe`.

    Raises:
        UserError: For what is no list of values, such as a range of a search.
    """
    fixed, outer, asked = _given(arguments, seeds)
    found: dict[tuple[Choice, ...], None] = {}
    for about in product(*outer):
        for block in blocks:
            varied = (_values(key, values) for key, values in block.items() if key not in asked)
            for choices in product(*varied):
                found.setdefault((*_differing(choices, recipe), *about))
    return [[*fixed, *(f"{key}={value}" for key, value in job)] for job in found]


def probes(
    blocks: Iterable[Mapping[str, Any]], *, seeds: str | int, arguments: Sequence[str]
) -> list[list[str]]:
    """As few jobs as have each value of each block, to look at before hundreds are launched.

    What a block varies together stays together, since an option brings its keys along; beside it
    stand values of other groups, which nothing that a job is looked at for depends on.

    Arguments: as for :func:`jobs`.
    """
    fixed, outer, asked = _given(arguments, seeds)
    parts = [[choice] for choices in outer for choice in choices]
    for block in blocks:
        lists = [_values(key, values) for key, values in block.items() if key not in asked]
        # The n-th value of each key, of shorter lists from the beginning again.
        for i in range(max(map(len, lists), default=0)):
            parts.append([choices[i % len(choices)] for choices in lists])
    packs: list[dict[str, list[Choice]]] = []
    for part in parts:
        groups = {key.partition(".")[0] for key, _ in part}
        pack = next((p for p in packs if groups.isdisjoint(p)), None)
        if pack is None:
            packs.append(pack := {})
        for key, value in part:
            pack.setdefault(key.partition(".")[0], []).append((key, value))
    return [
        [*fixed, *(f"{key}={value}" for choices in pack.values() for key, value in choices)]
        for pack in packs
    ]


def _given(
    arguments: Sequence[str], seeds: str | int
) -> tuple[list[str], list[list[Choice]], set[str]]:
    """Of a command line the overrides of all jobs, values to vary by key, and all keys."""
    given = OverridesParser.create().parse_overrides(list(arguments))
    asked = {override.get_key_element() for override in given}
    fixed = [o.input_line or "" for o in given if not o.is_sweep_override()]
    outer = [_choices(override) for override in given if override.is_sweep_override()]
    if "seed" not in asked:
        outer.insert(0, _values("seed", seeds))
    return fixed, outer, asked


def in_recipe(config: DictConfig) -> Callable[[str, str], bool]:
    """Says of a key and a value, as typed, whether a composed config has it so already.

    Arguments:
        config: With Hydra's own part, whose choices say the option of each group.
    """
    choices = config.hydra.runtime.choices

    def has(key: str, value: str) -> bool:
        if key in choices:
            return choices[key] == value
        (override,) = OverridesParser.create().parse_overrides([f"{key}={value}"])
        return bool(OmegaConf.select(config, key) == override.value())

    return has


def _differing(choices: Sequence[Choice], recipe: Callable[[str, str], bool]) -> Iterator[Choice]:
    """Without what is in the recipe; a new option of a group may bring other values along."""
    groups: list[str] = []
    for key, value in choices:
        if any(key.startswith(f"{group}.") for group in groups) or not recipe(key, value):
            groups.append(key)
            yield key, value


def _values(key: str, values: Any) -> list[Choice]:
    """Those of a key in a block, one or several."""
    text = values if isinstance(values, str) else str(values).replace(" ", "")
    (override,) = OverridesParser.create().parse_overrides([f"{key}={text}"])
    if not override.is_sweep_override():
        return [(key, text)]
    return _choices(override)


def _choices(override: Override) -> list[Choice]:
    key = override.get_key_element()
    if not override.is_discrete_sweep():
        raise UserError(f"{override.input_line}: a sweep in blocks takes values, and no range")
    return [(key, str(value)) for value in override.sweep_string_iterator()]
