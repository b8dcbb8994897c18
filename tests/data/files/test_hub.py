"""A set of the Hugging Face hub is fetched once, from a server here that speaks as it does."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
from PIL import Image

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "/datasets/user/set"

LOOK = """
import json, sys
from ccdiff.data import Hub

data = Hub(name="user/set", image_size=8, channels=3, flip=False, cache=sys.argv[1])
train, heldout = data.load()
reds = [
    sorted({int(image[0].max()) for image, label in zip(train.images, train.labels) if label == k})
    for k in range(3)
]
print(json.dumps([data.names, len(train), len(heldout), reds, train.fingerprint()]))
"""


def parquet(n: int) -> bytes:
    """Images of three classes, as the library writes them; red is 40 times the class."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    random = np.random.default_rng(n)
    rows = []
    for i in range(n):
        pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        pixels[..., 0] = 40 * (i % 3)
        file = BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        rows.append({"image": {"bytes": file.getvalue(), "path": f"{i}.png"}, "label": i % 3})
    label = {"names": ["cat", "dog", "fox"], "_type": "ClassLabel"}
    features = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
    table = pa.Table.from_pylist(rows).replace_schema_metadata(
        {"huggingface": json.dumps(features)}
    )
    file = BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def handler(files: Mapping[str, bytes], asked: list[str]) -> type[BaseHTTPRequestHandler]:
    """Answers for one repository of these files."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            asked.append(f"{self.command} {self.path}")

        def answer(self, body: bytes, code: int = 200, **headers: str) -> None:
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlparse(self.path).path)
            if path.startswith(f"{REPOSITORY}/resolve/"):
                self.file(path.split("/", 5)[5].partition("/")[2])
            elif path.startswith(f"/api{REPOSITORY}/tree/{COMMIT}"):
                self.listing(path.removeprefix(f"/api{REPOSITORY}/tree/{COMMIT}").strip("/"))
            elif path.startswith(f"/api{REPOSITORY}"):
                siblings = [{"rfilename": name} for name in files]
                self.json({"id": "user/set", "sha": COMMIT, "siblings": siblings})
            else:
                self.answer(b"", 404, X_Error_Code="RepoNotFound")

        def json(self, value: object) -> None:
            self.answer(json.dumps(value).encode(), Content_Type="application/json")

        def file(self, name: str) -> None:
            if name not in files:
                return self.answer(b"", 404, X_Error_Code="EntryNotFound")
            return self.answer(files[name], ETag=f'"{hashlib.sha256(files[name]).hexdigest()}"')

        def listing(self, folder: str) -> None:
            found = [
                {"type": "file", "path": name, "size": len(files[name]), "oid": COMMIT}
                for name in files
                if name.rpartition("/")[0] == folder
            ]
            if not folder:
                found.append({"type": "directory", "path": "data", "size": 0, "oid": COMMIT})
            self.json(found)

    return Handler


@pytest.fixture
def hub() -> Iterator[tuple[ThreadingHTTPServer, list[str]]]:
    pytest.importorskip("datasets")
    files = {
        "README.md": b"---\nlicense: mit\n---\n",
        "data/train-00000-of-00001.parquet": parquet(18),
        "data/test-00000-of-00001.parquet": parquet(6),
    }
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(files, asked))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server, asked
    server.shutdown()
    server.server_close()
    thread.join()


def look(server: ThreadingHTTPServer, home: Path, cache: str, **more: str) -> list:
    """What a process of its own makes of the set; the library reads its settings on import."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("HF_")},
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        **more,
    }
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(home.parent / cache)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_set_is_fetched_once_and_then_needs_no_network(hub, tmp_path):
    server, asked = hub
    first = look(server, tmp_path / "home", "one")
    assert first[:4] == [["cat", "dog", "fox"], 18, 6, [[0], [40], [80]]]
    files = [one for one in asked if one.startswith("GET") and one.endswith(".parquet")]
    assert len(files) == 2
    asked.clear()
    assert look(server, tmp_path / "home", "two", HF_HUB_OFFLINE="1") == first
    assert asked == []
