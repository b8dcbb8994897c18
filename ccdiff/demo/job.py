"""Serves the page: to this machine alone, and nothing of it goes anywhere else."""

import logging
import os
import socket
import urllib.request
from typing import Any

from omegaconf import DictConfig

from ccdiff.demo.studio import Studio
from ccdiff.errors import UserError
from ccdiff.trained.model import load_model

__all__ = ["free_port", "run_demo", "serve"]

log = logging.getLogger(__name__)

_HERE = "127.0.0.1"
_TRIES = 20


def run_demo(cfg: DictConfig) -> None:
    """Serves the page until it is interrupted.

    Raises:
        UserError: Where gradio is not installed, there is no run, or no port is free.
    """
    # Before gradio is imported, which reads them then.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import ccdiff.demo.page  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"the page needs the extra `demo` ({error}): uv sync --extra demo, or "
            f"pip install 'ccdiff[demo]'"
        ) from error
    if cfg.run is None:
        raise UserError("which run? pass run=<run directory>, run=<checkpoint> or run=latest")
    studio = Studio(
        model=load_model(cfg.run, device=cfg.device),
        reference=cfg.run,
        beside=None if cfg.beside is None else load_model(cfg.beside, device=cfg.device),
    )
    port = free_port(cfg.port)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # Told of each request to itself.
    log.info("%r", studio.model)
    log.info("drawing once, which makes the first click quick")
    log.info("the first picture took %.1f s", studio.warm_up())
    page = serve(studio, port, browser=cfg.open)
    log.info("the page is on port %d of this machine (%s); Ctrl-C ends it", port, _HERE)
    page.block_thread()


def serve(studio: Studio, port: int, *, browser: bool = False) -> Any:
    """Serves the page of a studio to this machine, in the background.

    Arguments:
        studio: What it draws with.
        port: A free one.
        browser: Whether to open it in the user's browser.

    Returns:
        The ``gradio.Blocks``, to be closed.
    """
    from ccdiff.demo.page import CSS, build, theme

    page = build(studio)
    page.launch(
        server_name=_HERE,
        server_port=port,
        share=False,
        inbrowser=browser,
        quiet=True,
        footer_links=[],
        theme=theme(),
        css=CSS,
        ssr_mode=False,
        enable_monitoring=False,
        prevent_thread_lock=True,
        # It would give up where the page takes more than 3 s to come, as on a busy machine.
        _frontend=False,
    )
    # The first one to come takes longer, too; never by a proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{_HERE}:{port}/") as answer:
        answer.read()
    return page


def free_port(first: int) -> int:
    """The first port from ``first`` on that nobody listens on.

    Raises:
        UserError: Where there is none among the next ones.
    """
    if not 1024 <= first <= 65535:
        raise UserError(f"port must be in 1024..65535, got {first}")
    for port in range(first, min(first + _TRIES, 65536)):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((_HERE, port))
            except OSError:
                continue
            return port
    raise UserError(f"ports {first} to {first + _TRIES - 1} are taken: pass another port=")
