"""Pushes an export to the Hugging Face hub, by its library and its login."""

import logging
import os
from pathlib import Path

from omegaconf import DictConfig

from ccdiff.errors import UserError
from ccdiff.export.card import CARD, GRID, Sharing
from ccdiff.runs.exports import CONFIG_FILE, HUB, WEIGHTS_FILE, hub_library, hub_name

__all__ = ["check_push", "push"]

log = logging.getLogger(__name__)


def check_push(cfg: DictConfig) -> Sharing:
    """Tells at once what would fail later.

    Raises:
        UserError: Where the name is none, a licence is not said, nobody is logged in, or the
            format is another.
    """
    name = hub_name(cfg.push)
    if cfg.format != "safetensors":
        raise UserError(f"push= takes format=safetensors, which ccdiff.load reads: {cfg.format}")
    if cfg.data_licence is None:
        raise UserError(
            "what do the training images allow? A model can give back what it has seen, so say "
            "their licence: data_licence=cc-by-4.0, data_licence=unknown, ..."
        )
    library = hub_library()
    try:
        user = library.HfApi(endpoint=os.environ.get("HF_ENDPOINT")).whoami()["name"]
    # The library and those under it have many errors of their own.
    except Exception as error:
        raise UserError(
            f"the hub does not know you ({_short(error)}): log in with hf auth login, or set "
            f"HF_TOKEN"
        ) from error
    log.info("logged in to the hub as %s", user)
    return Sharing(name=name, licence=cfg.licence, data_licence=str(cfg.data_licence))


def push(folder: Path, sharing: Sharing, *, private: bool) -> None:
    """Pushes a folder as one commit; makes the repository where there is none.

    Arguments:
        folder: An export.
        sharing: Where to.
        private: Whether a repository that is made is for its owner alone.

    Raises:
        UserError: Where the hub does not take it; the folder stays.
    """
    api = hub_library().HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        api.create_repo(sharing.name, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=sharing.name,
            folder_path=folder,
            allow_patterns=[WEIGHTS_FILE, CONFIG_FILE, CARD, GRID],
            commit_message="Add a model trained with ccdiff",
        )
    except Exception as error:
        raise UserError(
            f"the hub does not take {sharing.name} ({_short(error)}): the export is in {folder}"
        ) from error
    log.info("pushed, with its config and the command of training, paths included")
    log.info("to draw with it: ccdiff.load(%r)", f"{HUB}{sharing.name}")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
