"""What the page can do, without a page."""

import shlex
import sys

import numpy as np
import pytest
import torch
from cli import call
from faults import composed, train

import ccdiff
from ccdiff.demo.job import free_port
from ccdiff.demo.studio import SCALES, STEPS, Studio, Wish
from ccdiff.errors import UserError

WISH = Wish(labels=["3", "7"], num_per_label=2, steps=3, sampler="ddim", grid="karras", seed=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "a run"
    train(composed("conditioning.drop=0.5", "prediction=clean", "trainer.warmup=0"), folder)
    return folder


@pytest.fixture(scope="module")
def studio(run) -> Studio:
    model = ccdiff.load(run, device="cpu")
    return Studio(model=model, reference=str(run), beside=model)


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_the_command_draws_the_same_images(studio, guidance, tmp_path):
    wish = Wish(**{**vars(WISH), "guidance": guidance})
    python, script, *arguments = shlex.split(studio.command(wish))
    assert (python, script) == ("python", "sample.py")
    done = call(script, *arguments, "device=cpu", f"out={tmp_path / 'out'}", cwd=tmp_path)
    assert done.status == 0, done.printed
    with np.load(tmp_path / "out" / "samples.npz") as file:
        assert np.array_equal(file["images"], studio.draw(wish).array)
        assert file["images"].std() > 5


def test_a_film_ends_with_what_is_drawn(studio):
    made = studio.film(WISH)
    assert len(made.pictures) == WISH.steps
    drawn = np.asarray(studio.draw(Wish(**{**vars(WISH), "num_per_label": 1})).grid())
    last = np.asarray(made.pictures[-1])
    assert np.array_equal(last[20:-20, : drawn.shape[1]], drawn)


def test_strips_hold_one_image_for_each_setting(studio):
    drawn = np.asarray(studio.draw(Wish(**{**vars(WISH), "num_per_label": 1})).grid())
    for strip, settings in ((studio.over_steps, STEPS), (studio.over_guidance, SCALES)):
        shown = np.asarray(strip(WISH))
        assert shown.shape[0] == drawn.shape[0]
        assert shown.shape[1] > (len(settings) - 1) * 56


def test_warming_up_changes_no_picture(studio):
    before = studio.draw(WISH).array
    assert studio.warm_up() > 0
    assert np.array_equal(studio.draw(WISH).array, before)


def test_two_runs_start_from_the_same_noise(studio, run):
    ours, theirs = studio.both(WISH)
    assert np.array_equal(ours, theirs)  # It is the same run.
    alone = Studio(model=studio.model, reference=str(run))
    with pytest.raises(UserError, match="beside="):
        alone.both(WISH)


def test_what_is_not_painted_over_stays(studio):
    image = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8) * 3
    hidden = torch.zeros(8, 8, dtype=torch.bool)
    hidden[:, 5:] = True
    filled = np.asarray(
        studio.fill_in(Wish(labels=["3"], num_per_label=1, steps=3), image, hidden)
    )
    zoom = 7
    cell = filled[2 : 2 + 8 * zoom : zoom, -8 * zoom - 2 : -2 : zoom, 0]
    assert np.array_equal(cell[:, :5], image[0, :, :5])
    assert not np.array_equal(cell[:, 5:], image[0, :, 5:])
    with pytest.raises(UserError, match="paint"):
        studio.fill_in(WISH, image, torch.zeros(8, 8, dtype=torch.bool))


def test_runs_of_other_data_do_not_go_side_by_side(studio, tmp_path_factory):
    folder = tmp_path_factory.mktemp("other") / "run"
    names = ",".join(f'"{name}"' for name in "abcdefghij")
    train(composed(f"data.label_names=[{names}]"), folder)
    with pytest.raises(UserError, match="beside="):
        Studio(model=studio.model, reference="a", beside=ccdiff.load(folder, device="cpu"))


def test_without_the_extra_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "ccdiff.demo.page", raising=False)
    done = call("ccdiff.demo", "run=latest", cwd=tmp_path)
    assert done.status == 1
    assert "uv sync --extra demo" in done.printed


def test_a_port_that_is_taken_is_passed_over():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        assert free_port(number) != number
    with pytest.raises(UserError, match="port must be in 1024"):
        free_port(80)
