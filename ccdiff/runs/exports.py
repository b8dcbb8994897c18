"""Exports by their names: a folder, or ``hub:user/name`` of the Hugging Face hub.

Whoever wrote one, it is opened in the same way: tensors alone are read from its weights, and its
config is a stranger's (:mod:`ccdiff.config.saved`).
"""

import logging
import os
import re
from pathlib import Path
from typing import Any

from ccdiff.errors import UserError

__all__ = ["CONFIG_FILE", "HUB", "WEIGHTS_FILE", "export_folder", "hub_library", "hub_name"]

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.yaml"
HUB = "hub:"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_REVISION = re.compile(r"[\w./-]+", re.ASCII)


def export_folder(reference: str | Path) -> Path | None:
    """The folder of an export; None where the reference names something else.

    Arguments:
        reference: A folder, or ``hub:user/name`` with an ``@revision`` or without, which is
            fetched: weights and config, and nothing else.

    Raises:
        UserError: Where the hub does not give it, nor what was kept of it.
    """
    if str(reference).startswith(HUB):
        return _fetched(str(reference))
    folder = Path(reference).expanduser()
    return folder if (folder / WEIGHTS_FILE).is_file() else None


def hub_name(text: str) -> str:
    """A name on the hub as it is.

    Raises:
        UserError: Where it is none.
    """
    if not _NAME.fullmatch(text):
        raise UserError(f"{text} is no name on the hub: it is <user>/<name>")
    return text


def hub_library() -> Any:
    """The library of the hub; tests have it ask a server of their own.

    Raises:
        UserError: Where it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(
            f"the hub needs the extra `share` ({error}): uv sync --extra share, or "
            f"pip install 'ccdiff[share]'"
        ) from error
    for name in ("httpx", "httpx2"):  # They tell of every request.
        logging.getLogger(name).setLevel(logging.WARNING)
    return huggingface_hub


def _fetched(reference: str) -> Path:
    name, at, revision = reference.removeprefix(HUB).partition("@")
    hub_name(name)
    if at and not _REVISION.fullmatch(revision):
        raise UserError(f"{reference}: {revision!r} is no revision: a branch, a tag or a commit")
    library = hub_library()
    try:
        folder = Path(
            library.snapshot_download(
                name,
                revision=revision or None,
                allow_patterns=[WEIGHTS_FILE, CONFIG_FILE],
                endpoint=os.environ.get("HF_ENDPOINT"),
            )
        )
    # The library and those under it have many errors of their own.
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{reference} cannot be fetched from the hub, nor is it kept here: {reason}"
        ) from error
    lacking = [file for file in (WEIGHTS_FILE, CONFIG_FILE) if not (folder / file).is_file()]
    if lacking:
        raise UserError(
            f"{reference} is no export of ccdiff: it has no {' and no '.join(lacking)}"
        )
    return folder
