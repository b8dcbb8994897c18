"""A tracker that cannot be reached costs a run a few seconds and one line, and nothing else."""

import logging
import socket
import sys
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import wandb
from cli import TINY, rarely, succeed

from ccdiff.errors import UserError
from ccdiff.runs import tracker as module
from ccdiff.runs.tracker import RunInfo, WandbTracker
from ccdiff.system.network import answers

TRACKER = {"project": "ccdiff", "entity": None, "mode": None}


@contextmanager
def server(reply: bytes | None):
    """Listens, and answers each connection with ``reply``, or never."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def serve():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                held.append(connection)
                if reply is not None:
                    connection.recv(1 << 16)
                    connection.sendall(reply)
                    connection.close()

        held: list = []
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        for connection in held:
            connection.close()


@pytest.fixture
def logged_in(monkeypatch):
    """A key is known, and nothing says not to use it."""
    monkeypatch.delenv("WANDB_MODE")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "_PATIENCE", 0.5)
    seen = []

    def login(*, prompt, verify):
        seen.append((prompt, verify))
        return True

    monkeypatch.setattr(wandb, "login", login)
    answers.cache_clear()
    yield seen
    answers.cache_clear()


def at(url: str, monkeypatch) -> None:
    settings = wandb.setup().settings.model_copy(update={"base_url": url})
    monkeypatch.setattr(wandb, "setup", lambda: type("Setup", (), {"settings": settings}))


@pytest.mark.parametrize("reply", [b"HTTP/1.1 404 Not Found\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_whoever_answers_is_there(logged_in, monkeypatch, reply):
    with server(reply) as url:
        at(url, monkeypatch)
        assert WandbTracker(**TRACKER)._mode() == "online"
    # To verify a key, W&B waits for half a minute where there is no network.
    assert logged_in == [(False, False)]


@pytest.mark.parametrize("mode", [None, "online"])
@pytest.mark.parametrize("where", ["silent", "closed", "unknown"])
def test_without_a_network_a_run_is_kept_offline_soon(logged_in, monkeypatch, caplog, where, mode):
    with server(None) as url:
        url = {
            "silent": url,
            "closed": "http://127.0.0.1:9",
            "unknown": "http://no-such-host.invalid",
        }[where]
        at(url, monkeypatch)
        tracker = WandbTracker(**{**TRACKER, "mode": mode})
        started = time.monotonic()
        assert tracker._mode() == "offline"
        assert time.monotonic() - started < 5
        (line,) = caplog.messages
        assert "does not answer" in line
        assert "kept offline" in line
        # Each job of a sweep asks, and only the first waits.
        monkeypatch.setattr(threading, "Thread", None)
        assert tracker._mode() == "offline"


def test_without_a_key_nobody_is_asked(logged_in, monkeypatch, caplog):
    monkeypatch.setattr(wandb, "login", lambda **_: False)
    monkeypatch.setattr(module, "answers", None)
    assert WandbTracker(**TRACKER)._mode() == "offline"
    assert caplog.messages == []


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_what_is_said_is_done(logged_in, monkeypatch, mode):
    monkeypatch.setattr(module, "answers", None)
    assert WandbTracker(**{**TRACKER, "mode": mode})._mode() == mode
    monkeypatch.setenv("WANDB_MODE", mode)
    assert WandbTracker(**TRACKER)._mode() == mode
    assert logged_in == []


@pytest.mark.parametrize("project", ["a/b", "a:b", "x" * 200])
def test_a_name_that_is_refused_is_one_clear_error(tmp_path, caplog, project):
    info = RunInfo(path=Path(tmp_path), config={}, name="n", group=None, tags=())
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(UserError, match=r"tracker\.project must be 1 to 128 letters"),
        WandbTracker(project=project, entity=None, mode="offline").session(info),
    ):
        raise AssertionError("opened")


def test_without_wandb_a_run_is_trained_untracked_and_tracking_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="pip install wandb, or pass tracker=none"):
        WandbTracker(**TRACKER)
    folder = f"hydra.run.dir={tmp_path / 'run'}"
    succeed("train.py", *TINY, *rarely(1), "tracker=none", folder, cwd=tmp_path)
