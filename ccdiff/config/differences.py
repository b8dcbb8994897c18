"""Whether two configs are the same experiment, and where they differ."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ccdiff.config.names import as_of_0_1_0

__all__ = ["WITHOUT_EFFECT", "any_of", "config_hash", "difference", "flat", "has_hash"]

WITHOUT_EFFECT = (
    # How long.
    "trainer.steps",
    "trainer.max_time",
    "trainer.stop_at",
    # Who is told, and when.
    "tracker",
    "trainer.log_every",
    "trainer.checkpoint_every",
    "trainer.keep",
    "trainer.keep_gib",
    "trainer.profile",
    # What it is called.
    "sampler.name",
    # How much memory it takes.
    "model.gradient_checkpointing",
    # Where.
    "trainer.device",
    "trainer.dist_timeout",
    "data.root",
    "data.cache",
    "data.placement",
    "data.download",
    "data.verify",
    "resume",
)
"""Keys, or groups of them, that decide nothing of what a run comes to after so many steps."""


def any_of(key: str, keys: Iterable[str]) -> bool:
    """Whether a dotted key is one of ``keys``, or lies within one."""
    return any(key == group or key.startswith(f"{group}.") for group in keys)


def flat(config: Mapping[str, Any], *, sep: str = ".") -> dict[str, Any]:
    """Nested dicts as one, with joined keys: ``{"optimizer.lr": 0.001}``; lists stay lists.

    Arguments:
        config: Plain dicts, lists and scalars.
        sep: Between the parts of a key.
    """

    def walk(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for key, value in node.items():
            if isinstance(value, Mapping):
                yield from walk(value, f"{prefix}{key}{sep}")
            else:
                yield f"{prefix}{key}", value

    return dict(walk(config, ""))


def config_hash(config: Mapping[str, Any]) -> str:
    """A digest of all values but those of :data:`WITHOUT_EFFECT`.

    Arguments:
        config: The whole resolved config, as plain dicts, lists and scalars.
    """
    decisive = {k: v for k, v in flat(config).items() if not any_of(k, WITHOUT_EFFECT)}
    text = json.dumps(decisive, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def has_hash(config: Mapping[str, Any], digest: str) -> bool:
    """Whether a digest is that of ``config``, also one that version 0.1.0 took."""
    return digest in (config_hash(config), config_hash(as_of_0_1_0(config)))


def difference(
    before: Mapping[str, Any], now: Mapping[str, Any], *, ignore: Iterable[str] = WITHOUT_EFFECT
) -> dict[str, tuple[Any, Any]]:
    """The values that differ, before and now, by key; None where there is no such key.

    Arguments:
        before: A config.
        now: Another.
        ignore: Keys, or groups of them, that do not count.
    """
    old, new = flat(before), flat(now)
    return {
        key: (old.get(key), new.get(key))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not any_of(key, ignore)
    }
