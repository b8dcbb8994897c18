"""The model as an ONNX graph and as a page: both draw what torch draws."""

import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from cli import call, succeed
from faults import composed, train

from ccdiff.diffusion.oracle import GaussianOracle
from ccdiff.diffusion.samplers import DDIM, DPMpp2M, GivenNoise, sample
from ccdiff.diffusion.samplers.grids import Logistic
from ccdiff.diffusion.schedules import Cosine, Flow
from ccdiff.export import static
from ccdiff.trained.model import load_model

WEB = Path(static.__file__).with_name("web")
NODE = shutil.which("node")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# A page is the same but for rounding, in torch's float32 and in that of JavaScript's arrays.
CLOSE = {"rtol": 0, "atol": 1e-4}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("graph") / "run"
    train(composed("conditioning.drop=0.5", "prediction=clean"), folder)
    return folder


@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.parametrize("schedule", [Cosine(), Flow()], ids=repr)
@pytest.mark.parametrize(
    ("name", "sampler"),
    [("ddim", DDIM(steps=8, grid=Logistic())), ("dpmpp_2m", DPMpp2M(steps=8, grid=Logistic()))],
    ids=static.SAMPLERS,
)
def test_samplers_of_the_page_are_ours(name, sampler, schedule):
    """On the exact denoiser of a Gaussian, with the same noise."""
    mean, std = 0.3, 0.5
    oracle = GaussianOracle(mean=torch.tensor(mean), std=torch.tensor(std))
    noise = torch.randn(1, 64)
    ours = sample(sampler, oracle, schedule, noise.shape, GivenNoise(noise))
    at = schedule.at(sampler.times(schedule))
    levels = torch.stack([at.log_snr, at.alpha, at.sigma], dim=1).tolist()
    script = f"""
        const {{ sample }} = require({json.dumps(str(WEB / "samplers.js"))});
        const denoise = async (x, [, alpha, sigma]) => x.map((value) => {mean}
            + alpha * {std**2} / (alpha * alpha * {std**2} + sigma * sigma)
            * (value - alpha * {mean}));
        sample("{name}", denoise, {levels}, Float32Array.from({noise[0].tolist()}))
            .then((x) => console.log(JSON.stringify(Array.from(x))));
    """
    done = subprocess.run([NODE, "-e", script], capture_output=True, text=True, check=True)
    torch.testing.assert_close(torch.tensor([json.loads(done.stdout)]), ours, **CLOSE)


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_noise_of_the_page_is_normal():
    script = f"""
        const {{ normal }} = require({json.dumps(str(WEB / "samplers.js"))});
        const drawn = [normal(1, 20000), normal(2, 4), normal(1, 4)];
        console.log(JSON.stringify(drawn.map((u) => Array.from(u))));
    """
    done = subprocess.run([NODE, "-e", script], capture_output=True, text=True, check=True)
    many, other, same = json.loads(done.stdout)
    assert abs(np.mean(many)) < 0.03
    assert abs(np.std(many) - 1) < 0.02
    assert abs(np.mean(np.array(many) ** 4) - 3) < 0.2
    assert abs(np.corrcoef(many[:-1], many[1:])[0, 1]) < 0.03
    assert same == many[:4]
    assert other != same


@pytest.fixture(scope="module")
def out(run, tmp_path_factory) -> Path:
    """The graph, where there is npm with the page that runs it."""
    for name in ("onnxruntime", "onnxscript"):
        pytest.importorskip(name, reason="the extra onnx is not installed")
    out = tmp_path_factory.mktemp("exported") / "out"
    form = "web" if shutil.which("npm") else "onnx"
    succeed("ccdiff.export", f"run={run}", f"out={out}", f"format={form}", cwd=run.parent)
    return out


def test_a_graph_takes_any_batch_and_gives_what_torch_gives(run, out):
    import onnxruntime

    session = onnxruntime.InferenceSession(out / "model.onnx")
    denoiser = load_model(run, device="cpu").denoiser
    for n in (1, 4):
        x = torch.randn(n, 1, 8, 8)
        log_snr, y, hidden = torch.linspace(-4, 4, n), torch.arange(n), torch.arange(n) % 2 == 0
        (theirs,) = session.run(
            None,
            {
                "x_t": x.numpy(),
                "log_snr": log_snr.numpy(),
                "label": y.numpy(),
                "hidden": hidden.numpy(),
            },
        )
        level = denoiser.schedule.at_log_snr(log_snr.double())
        ours = denoiser(x, level, y, hidden)
        torch.testing.assert_close(torch.from_numpy(theirs), ours, **CLOSE)


@pytest.fixture(scope="module")
def page(out):
    """The exported page, opened from a plain static server."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no group browser")
    if CHROMIUM is None or not (out / "index.html").exists():
        pytest.skip("chromium and npm are not both installed")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(out))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 390, "height": 800})
        opened.asked = []
        opened.on("request", lambda request: opened.asked.append(request.url))
        opened.goto(f"http://127.0.0.1:{server.server_address[1]}/")
        opened.wait_for_function("document.getElementById('said').textContent === 'ready'")
        yield opened
        browser.close()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("guidance", [1, 2.5])
@pytest.mark.parametrize("sampler", static.SAMPLERS)
def test_a_browser_draws_what_torch_draws(page, run, sampler, guidance):
    model = load_model(run, device="cpu")
    noise = torch.randn(1, 1, 8, 8)
    theirs = page.evaluate(
        """async ([name, noise, scale]) => {
            const session = await ort.InferenceSession.create("model.onnx");
            const levels = SETTINGS.levels[name][8];
            return Array.from(await sample(name, denoiser(session, SETTINGS, 3, scale), levels,
                Float32Array.from(noise)));
        }""",
        [sampler, noise.flatten().tolist(), guidance],
    )
    from ccdiff.trained.choices import chosen_pipeline

    ours = chosen_pipeline(model.pipeline, None, sampler=sampler, steps=8, guidance=guidance)
    denoise = ours.threshold(ours.guidance(model.denoiser, torch.tensor([3]), None))
    x = sample(ours.sampler, denoise, model.denoiser.schedule, noise.shape, GivenNoise(noise))
    torch.testing.assert_close(torch.tensor(theirs).reshape(x.shape), x, **CLOSE)


def test_a_click_draws_and_nothing_comes_from_elsewhere(page):
    page.fill("#number", "2")
    page.click("#draw")
    page.wait_for_function("document.getElementById('said').textContent.startsWith('drawn in')")
    assert page.locator("canvas").count() == 2
    assert all(url.startswith(("http://127.0.0.1", "blob:")) for url in page.asked)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["format=pickle"], "safetensors, onnx, web"),
        (["format=web", "runtime=nowhere"], "ort.wasm.min.js"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_what_cannot_be_exported_so_is_told(run, arguments, told, monkeypatch, tmp_path):
    monkeypatch.setattr("ccdiff.export.job.check_installed", lambda: None)
    done = call("ccdiff.export", f"run={run}", "out=out", *arguments, cwd=tmp_path)
    assert done.status == 1
    assert told in done.printed
    assert not (tmp_path / "out").exists()


def test_without_the_extra_it_says_what_to_install(run, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = call("ccdiff.export", f"run={run}", "out=out", "format=onnx", cwd=tmp_path)
    assert done.status == 1
    assert "uv sync --extra onnx" in done.printed
