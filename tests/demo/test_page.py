"""The page in a real browser: click, wait, look at the picture."""

import base64
import io
import shutil

import numpy as np
import pytest
from faults import composed, train
from PIL import Image

import ccdiff
from ccdiff.demo.job import free_port, serve
from ccdiff.demo.studio import Studio, Wish

pytestmark = pytest.mark.filterwarnings("ignore")  # Those of gradio and its friends.

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("chromium is not installed", allow_module_level=True)
gradio = pytest.importorskip("gradio", reason="the extra demo is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="the group browser is not there")


@pytest.fixture(scope="module")
def studio(tmp_path_factory) -> Studio:
    folder = tmp_path_factory.mktemp("page") / "run"
    train(composed("conditioning.drop=0.5", "prediction=clean"), folder)
    model = ccdiff.load(folder, device="cpu")
    return Studio(model=model, reference=str(folder), beside=model)


@pytest.fixture(scope="module")
def address(studio):
    port = free_port(17860)
    page = serve(studio, port)
    yield f"http://127.0.0.1:{port}/"
    page.close()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, address):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(address)
    page.wait_for_selector("#draw")
    yield page
    page.close()


def shown(page, where: str) -> np.ndarray:
    """The pixels of a picture on the page."""
    page.wait_for_selector(f"{where} img")
    data = page.evaluate(
        """async (where) => {
            const blob = await (await fetch(document.querySelector(where).src)).blob();
            return await new Promise((done) => {
                const reader = new FileReader();
                reader.onload = () => done(reader.result.split(",")[1]);
                reader.readAsDataURL(blob);
            });
        }""",
        f"{where} img",
    )
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def test_a_click_draws_what_the_model_draws_without_loss(page, studio):
    page.set_viewport_size({"width": 390, "height": 800})
    page.click("#draw")
    wish = Wish(labels=["0", "1", "2"])
    assert np.array_equal(shown(page, "#drawn"), np.asarray(studio.draw(wish).grid()))
    assert "sampler=dpmpp_2m" in page.inner_text("#line")
    elsewhere = [u for u in page.asked if not u.startswith(("http://127.0.0.1", "data:", "blob:"))]
    assert not elsewhere, "the page fetches from elsewhere"
    # Nothing runs off the side of a phone.
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_films_strips_and_both_runs_are_shown(page, studio):
    for tab, button, where in (
        ("Film", "#film", "#moving"),
        ("Strips", "#guidance", "#scales"),
        ("Two runs", "#both", "#other"),
    ):
        page.get_by_role("tab", name=tab).click()
        page.click(button)
        assert shown(page, where).std() > 0
    wish = Wish(labels=["0", "1", "2"])
    assert np.array_equal(shown(page, "#this"), np.asarray(studio.draw(wish).grid()))


def test_what_is_refused_is_told_on_the_page(page):
    for label in ("0", "1", "2"):
        page.get_by_label(label, exact=True).first.uncheck()
    page.click("#draw")
    page.wait_for_selector("text=choose a label")


def test_a_part_that_is_painted_over_is_drawn_anew(page):
    page.get_by_role("tab", name="Fill in").click()
    page.click("#start")
    page.wait_for_selector("canvas")
    page.wait_for_timeout(1500)
    box = page.locator("canvas").first.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, middle + 60, steps=8)
    page.mouse.up()
    page.click("#fill")
    assert shown(page, "#filled").std() > 0
