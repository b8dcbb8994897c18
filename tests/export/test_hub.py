"""The hub, by its own library against a server of this machine that speaks its HTTP API."""

import base64
import hashlib
import http.server
import json
import re
import threading
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
import yaml
from cli import call, succeed
from faults import composed, train

import ccdiff
from ccdiff.errors import UserError

pytest.importorskip("huggingface_hub", reason="the extra share is not installed")

NAME = "someone/digits"
SHARED = ("data_licence=cc-by-4.0", "licence=mit")


class Hub(http.server.ThreadingHTTPServer):
    """Repositories in memory; files come whole within a commit."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.asked: list[str] = []
        self.known = True

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, name: str) -> str:
        files = self.repositories[name]
        return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


class Answers(http.server.BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def answer(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def say(self, value: object, status: int = 200, **headers: str) -> None:
        headers["Content_Type"] = "application/json"
        self.answer(json.dumps(value).encode(), status, **headers)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        hub, path = self.server, unquote(self.path)
        hub.asked.append(f"POST {path}")
        if path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            there = name in hub.repositories
            hub.repositories.setdefault(name, {})
            asked = wanted.get("visibility") == "private" or wanted.get("private") is True
            hub.private.setdefault(name, asked)
            self.say({"url": f"{hub.address}/{name}"}, 409 if there else 200)
        elif path == "/api/validate-yaml":
            self.say({"warnings": [], "errors": []})
        elif found := re.fullmatch("/api/models/(.+)/preupload/main", path):
            files = json.loads(body)["files"]
            modes = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files
            ]
            self.say({"files": modes})
        elif found := re.match("/api/models/(.+)/commit/main", path):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    content = base64.b64decode(value["content"])
                    hub.repositories[found[1]][value["path"]] = content
            oid = hub.commit(found[1])
            url = f"{hub.address}/{found[1]}/commit/{oid}"
            self.say({"commitUrl": url, "commitOid": oid, "success": True})
        else:
            self.say({"error": "?"}, 404)

    def do_GET(self) -> None:
        hub, path = self.server, unquote(self.path).partition("?")[0]
        hub.asked.append(f"{self.command} {path}")
        if path == "/api/whoami-v2":
            someone = {"name": "someone", "type": "user", "orgs": []}
            self.say(someone if hub.known else {"error": "?"}, 200 if hub.known else 401)
        elif (
            found := re.fullmatch("/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path)
        ) and found[1] in hub.repositories:
            files = [{"rfilename": name} for name in hub.repositories[found[1]]]
            self.say({"id": found[1], "sha": hub.commit(found[1]), "siblings": files})
        elif (found := re.fullmatch("/api/models/([^/]+/[^/]+)/tree/(.+)", path)) and found[
            1
        ] in hub.repositories:
            files = [
                {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                for name, content in hub.repositories[found[1]].items()
            ]
            self.say(files)
        elif (found := re.fullmatch("/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)) and found[
            3
        ] in hub.repositories.get(found[1], {}):
            content = hub.repositories[found[1]][found[3]]
            tag = hashlib.sha1(content).hexdigest()
            self.answer(content, ETag=f'"{tag}"', X_Repo_Commit=hub.commit(found[1]))
        else:
            self.say({"error": "?"}, 404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "run"
    train(composed(), folder)
    return folder


def test_what_is_pushed_draws_the_same_wherever_it_is_loaded(run, hub, tmp_path, monkeypatch):
    done = succeed("ccdiff.export", f"run={run}", f"push={NAME}", *SHARED, cwd=tmp_path)
    assert f"ccdiff.load('hub:{NAME}')" in done.printed
    files = hub.repositories[NAME]
    assert set(files) == {"model.safetensors", "config.yaml", "README.md", "grid.png"}
    assert hub.private[NAME] is True, "unless it is asked for otherwise"
    _, front, card = files["README.md"].decode().split("---\n", 2)
    assert yaml.safe_load(front) == {
        "license": "mit",
        "library_name": "ccdiff",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["ccdiff", "diffusion", "class-conditional"],
    }
    for part in ("cc-by-4.0", "(grid.png)", "heldout/eps_mse", f"hub:{NAME}", "It was trained by"):
        assert part in card
    ours = ccdiff.load(run, device="cpu").sample(["3"], num_per_label=2, seed=5)
    theirs = ccdiff.load(f"hub:{NAME}", device="cpu").sample(["3"], num_per_label=2, seed=5)
    assert torch.equal(ours.tensor, theirs.tensor)
    # On the command line too, with the sampler of the export, into a folder of one's own.
    succeed("sample.py", f"run=hub:{NAME}", "labels=[3]", "num_per_label=2", cwd=tmp_path)
    with np.load(tmp_path / "generated" / "001" / "samples.npz") as file:
        assert file["images"].shape == (2, 8, 8, 1)
    # Without a network, what was fetched is still there.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    again = ccdiff.load(f"hub:{NAME}", device="cpu").sample(["3"], num_per_label=2, seed=5)
    assert torch.equal(again.tensor, theirs.tensor)


def test_nothing_but_weights_and_config_is_fetched_and_no_class_of_theirs_is_made(
    run, hub, tmp_path
):
    succeed("ccdiff.export", f"run={run}", f"push={NAME}", *SHARED, cwd=tmp_path)
    files = hub.repositories[NAME]
    files["more.txt"] = b"not asked for"
    files["config.yaml"] = files["config.yaml"].replace(b"ccdiff.nn.UNet", b"os.system")
    hub.asked.clear()
    with pytest.raises(UserError, match=r"os\.system"):
        ccdiff.load(f"hub:{NAME}", device="cpu")
    fetched = {line.rpartition("/")[2] for line in hub.asked if "/resolve/" in line}
    assert fetched == {"config.yaml", "model.safetensors"}


def test_an_export_that_was_not_pushed_is_drawn_from_too(run, tmp_path):
    succeed("ccdiff.export", f"run={run}", f"out={tmp_path / 'out'}", cwd=tmp_path)
    succeed("sample.py", "run=out", "labels=[3]", "num_per_label=1", cwd=tmp_path)
    assert (tmp_path / "generated" / "001" / "samples.npz").exists()
    done = call("sample.py", "run=out", "weights=raw", cwd=tmp_path)
    assert done.status == 1
    assert "weights=raw" in done.printed


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["push=nobody"], "nobody is no name on the hub"),
        (["push=a/b/c"], "no name on the hub"),
        ([f"push={NAME}"], "what do the training images allow"),
        ([f"push={NAME}", *SHARED, "format=onnx"], "format=safetensors"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_pushed_is_told_before_any_work(run, hub, arguments, told, tmp_path):
    done = call("ccdiff.export", f"run={run}", *arguments, f"out={tmp_path / 'o'}", cwd=tmp_path)
    assert done.status == 1
    assert told in done.printed
    assert not (tmp_path / "o").exists()
    assert not hub.repositories


def test_who_is_not_logged_in_is_told_before_any_work(run, hub, tmp_path):
    hub.known = False
    done = call("ccdiff.export", f"run={run}", f"push={NAME}", *SHARED, cwd=tmp_path)
    assert done.status == 1
    assert "hf auth login" in done.printed
    assert not hub.repositories


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("hub:someone/else", "cannot be fetched"),
        ("hub:nobody", "no name on the hub"),
        ("hub:../../etc", "no name on the hub"),
        (f"hub:{NAME}@a b", "no revision"),
        ("hub:someone/empty", "no export of ccdiff"),
    ],
)
def test_what_is_not_there_is_told(hub, reference, told):
    hub.repositories["someone/empty"] = {"notes.txt": b"nothing"}
    with pytest.raises(UserError, match=told):
        ccdiff.load(reference)


def test_other_commands_take_runs(run, hub, tmp_path):
    succeed("ccdiff.export", f"run={run}", f"push={NAME}", *SHARED, cwd=tmp_path)
    done = call("ccdiff.evaluate", f"run=hub:{NAME}", cwd=tmp_path)
    assert done.status == 1
    assert "this command takes a run" in done.printed
