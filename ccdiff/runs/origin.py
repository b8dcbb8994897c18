"""Whether a file was written here: by a seal that only this user's own key can make.

A run's folder may come from elsewhere. What it says of a tracker's project, or of flags for Hydra,
is heeded only where it was written by this user, on a machine that shares the user's home.
"""

import hashlib
import hmac
import json
import logging
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["is_sealed", "seal"]

log = logging.getLogger(__name__)

_BYTES = 32


def seal(content: Any) -> str | None:
    """The seal of plain nested values; None where the user has no place to keep a key.

    Arguments:
        content: Dicts, lists and scalars.
    """
    try:
        key = _key()
    except OSError as error:
        log.debug("no seal: %s", error)
        return None
    text = json.dumps(content, sort_keys=True)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def is_sealed(content: Any, stated: object) -> bool:
    """Whether ``stated`` is the seal of ``content``, made with the key of this user."""
    expected = seal(content)
    return (
        expected is not None
        and isinstance(stated, str)
        and hmac.compare_digest(expected.encode(), stated.encode())
    )


def _key() -> bytes:
    """The user's key, made at its first use."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    path = Path(state) / "ccdiff" / "key"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Whole under its name at once, as another process may look for it now.
        partial = path.with_name(f".key.{os.getpid()}")
        partial.touch(mode=0o600)
        partial.write_bytes(secrets.token_bytes(_BYTES))
        with suppress(FileExistsError):
            os.link(partial, path)
        partial.unlink()
    key = path.read_bytes()
    if len(key) != _BYTES:
        raise OSError(f"{path} is damaged: remove it")
    return key
