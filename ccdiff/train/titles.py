"""What a run is called: by what it is, not by when it was."""

from collections.abc import Mapping, Sequence

from ccdiff.config.differences import WITHOUT_EFFECT, any_of

__all__ = ["run_title"]


def run_title(choices: Mapping[str, str], overrides: Sequence[str]) -> str:
    """What a run is, in a line: its data set, its model, and what was asked for besides.

    Arguments:
        choices: The option of each group.
        overrides: As on the command line; of each key the last counts.
    """
    asked = {_key_of(override): override for override in overrides}
    what = [choices[group] for group in ("data", "model") if group in choices]
    besides = [
        override
        for key, override in asked.items()
        if key not in ("data", "model")
        and not key.startswith("hydra")
        and (key == "trainer.steps" or not any_of(key, WITHOUT_EFFECT))
    ]
    return ", ".join([" ".join(what), *besides])


def _key_of(override: str) -> str:
    """The key of an override, such as ``trainer.steps`` of ``++trainer.steps=5``."""
    return override.partition("=")[0].lstrip("+~")
