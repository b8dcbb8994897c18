"""A trained model in Python: drawing by names, numbers and objects; what comes of it."""

import re

import numpy as np
import pytest
import torch
from cli import call
from faults import ARGUMENTS, STEPS, composed, train
from PIL import Image

import ccdiff
from ccdiff.diffusion.guidance import CFG, NoGuidance
from ccdiff.diffusion.samplers import DDIM
from ccdiff.diffusion.samplers.grids import Karras
from ccdiff.errors import UserError
from ccdiff.trained.model import Model

SETTINGS = ("conditioning.drop=0.5", "prediction=clean")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "run"
    # What an untrained network foresees of clean images is gray, and not far out of range.
    train(composed(*SETTINGS), folder)
    return ccdiff.open_run(folder)


@pytest.fixture(scope="module")
def model(run) -> Model:
    return ccdiff.load(run, device="cpu")


def test_names_and_objects_choose_the_same(run):
    model = ccdiff.load(run, device="cpu")
    for parameter in model.denoiser.parameters():  # Nearly untrained, it heeds no label.
        parameter += 0.3 * torch.randn(parameter.shape)
    by_name = model.sample(["3", 7], sampler="ddim", grid="karras", steps=3, guidance=2)
    guided = CFG(scale=2.0)
    by_object = model.sample(["3", 7], sampler=DDIM(steps=3, grid=Karras()), guidance=guided)
    assert torch.equal(by_name.tensor, by_object.tensor)
    others = {"sampler": "heun"}, {"grid": "uniform"}, {"steps": 4}, {"guidance": 1}
    for other in others:
        settings = {"sampler": "ddim", "grid": "karras", "steps": 3, "guidance": 2, **other}
        assert not torch.equal(model.sample(["3", 7], **settings).tensor, by_name.tensor), other


def test_noise_that_a_coupled_model_knows_nothing_of_is_told_wherever_it_draws(tmp_path, caplog):
    run = tmp_path / "run"
    train(composed(*SETTINGS, "coupling=optimal"), run)
    opened = ccdiff.load(run, device="cpu")
    told = "coupling=optimal teaches the velocity of an ODE, and sampler="
    for sampler, times in (("ddpm", 1), ("ddim", 0)):
        caplog.clear()
        opened.sample("3", sampler=sampler, steps=2)
        assert caplog.text.count(f"{told}{sampler}") == times
    few = (f"run={run}", "device=cpu", "sampler=ddpm", "sampler.steps=2")
    drawn = call("sample.py", *few, "labels=[3]", "num_per_label=1", "out=drawn", cwd=tmp_path)
    edit = (*few, "task=img2img", "images=[0]", "task.variations=1")
    edited = call("ccdiff.edit", *edit, "out=edited", cwd=tmp_path)
    for done in (drawn, edited):
        assert done.status == 0, done.printed
        assert done.printed.count(f"{told}ddpm") == 1
    assert "this task mixes images with any noise" in edited.printed


def test_images_are_those_of_the_command_line(run, model, tmp_path):
    given = (
        "sampler=ddim",
        "sampler.steps=3",
        "labels=[3,7]",
        "num_per_label=2",
        "seed=5",
        "precision=fp32",
    )
    out = tmp_path / "out"
    done = call("sample.py", f"run={run.path}", f"out={out}", "device=cpu", *given, cwd=tmp_path)
    assert done.status == 0, done.printed
    images = model.sample([3, 7], sampler="ddim", steps=3, num_per_label=2, seed=5)
    with np.load(out / "samples.npz") as file:
        assert np.array_equal(file["images"], images.array)
        # What evaluators in the field read.
        assert np.array_equal(file["arr_0"], file["images"])
        assert np.array_equal(file["arr_1"], images.y.numpy())


def test_seeds_given_back_draw_the_same_and_equal_ones_start_alike(model):
    images = model.sample(["3", "7"], num_per_label=2, steps=2)
    again = model.sample(["3", "7"], num_per_label=2, steps=2, seed=images.seeds)
    assert torch.equal(images.tensor, again.tensor)
    alike = model.sample(["3", "3"], seed=[5, 5], steps=2)
    assert torch.equal(alike.tensor[0], alike.tensor[1])


def test_images_are_pictures_arrays_and_names(model, tmp_path):
    images = model.sample(["3", "7"], num_per_label=3, steps=2)
    assert len(images) == 6
    assert list(images.labels) == ["3"] * 3 + ["7"] * 3
    assert np.asarray(images).shape == images.array.shape == (6, 8, 8, 1)
    assert np.array_equal(np.asarray(images[-1]), images.array[5, ..., 0])
    with pytest.raises(IndexError):
        images[6]
    few = images[2:5]
    assert (list(few.labels), list(few.seeds)) == (["3", "7", "7"], images.seeds[2:5])
    assert torch.equal(few.tensor, images.tensor[2:5])
    assert repr(images) == "<6 images, 1 x 8 x 8: 3, 7>"
    assert images._repr_png_().startswith(b"\x89PNG")
    images.save(tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as grid, images.grid() as same:
        assert grid.size == same.size
    with np.load(images.save(tmp_path / "samples.npz")) as file:
        assert file["labels"].tolist() == [3] * 3 + [7] * 3
    for action, told in [
        (lambda: images.save(tmp_path / "a.jpg"), ".npz"),
        (lambda: images.film(), "frames=40"),
        (lambda: images.film("y"), "x0_hat"),
    ]:
        with pytest.raises(UserError, match=told):
            action()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"num_per_label": 1.5}, "num_per_label must be a whole number, got 1.5"),
        ({"frames": 1.5}, "frames must be a whole number"),
        ({"steps": 2.5}, "steps must be a whole number, got 2.5"),
        ({"steps": "two"}, "steps must be a whole number, got 'two'"),
        ({"seed": 1.5}, "seed must be a whole number, or one for each image"),
        ({"seed": "a"}, "seed must be"),
        ({"seed": ["a"]}, "seed must be"),
        ({"sampler": DDIM}, "sampler must be the name of an option, or a Sampler that is made"),
        ({"sampler": 3}, "sampler must be the name"),
        ({"grid": 3}, "sampler/grid must be the name of an option, or a Grid"),
        ({"guidance": True}, "guidance must be the name"),
        ({"threshold": 3}, "threshold must be the name"),
    ],
    ids=str,
)
def test_what_is_of_another_type_is_told(model, settings, told):
    with pytest.raises(UserError, match=re.escape(told)):
        model.sample("3", **{"steps": 2, **settings})


def test_whole_numbers_of_any_type_will_do(model):
    mine = model.sample("3", steps=2, seed=5)
    theirs = model.sample("3", steps=np.int64(2), seed=np.int64(5), num_per_label=np.int32(1))
    assert torch.equal(mine.tensor, theirs.tensor)
    with pytest.raises(UserError, match="a model is opened by its path"):
        ccdiff.load(3)


def test_a_film_ends_with_the_images(model, tmp_path):
    images = model.sample(["3", "7"], sampler="ddim", steps=6, frames=3)
    assert images.frames.x_t.shape == images.frames.x0_hat.shape == (3, 2, 1, 8, 8)
    assert torch.equal(images.frames.x_t[-1], images.tensor)
    # The last step goes all the way to what is foreseen.
    assert (images.frames.x0_hat[-1].int() - images.tensor.int()).abs().max() <= 1
    assert images.frames.log_snr.diff().gt(0).all()
    with Image.open(images.save(tmp_path / "film.gif")) as film:
        assert film.n_frames == 3
    assert not torch.equal(images.frames.x0_hat[0], images.frames.x_t[0])


def test_a_grid_is_shown(model):
    shown = model.show(["3"], num_per_label=2, steps=2)
    assert shown.size == model.sample(["3"], num_per_label=2, steps=2).grid().size


def test_a_bar_is_shown_where_asked_for(model, capsys):
    model.sample(["3", "7"], steps=2)
    assert capsys.readouterr().err == ""
    model.sample(["3", "7"], steps=2, progress=True)
    assert "/4" in capsys.readouterr().err


def test_a_representation_is_one_line(run, model):
    assert repr(model).startswith("<Model of Digits, 1 x 8 x 8, 10 labels, ")
    for line in (repr(model), repr(run)):
        assert len(line.splitlines()) == 1
        assert len(line) < 300


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"sampler": "heunn"}, "did you mean heun?"),
        ({"grid": "karas"}, "there is no sampler/grid 'karas': did you mean karras?"),
        ({"guidance": "more"}, "cfg_interval"),
        ({"threshold": "hard"}, "dynamic"),
        ({"steps": 0}, "sampler.steps must be at least 1, got 0"),
        ({"num_per_label": 0}, "num_per_label must be at least 1, got 0"),
        ({"frames": -1}, "frames must be at least 0, got -1"),
        ({"seed": [1, 2, 3]}, "3 seeds for 2 images"),
        ({"grid": "fitted"}, "ccdiff.fit"),
        ({"guidance": "autoguidance"}, "guidance.weak.run"),
    ],
    ids=str,
)
def test_what_cannot_be_drawn_is_told(model, settings, told):
    with pytest.raises(UserError) as error:
        model.sample(["3", "7"], **settings)
    assert told in str(error.value)


def test_what_is_not_given_is_the_run_s_own(model):
    own = model.pipeline
    assert (own.sampler.name, own.sampler.steps) == ("ancestral", 1)
    assert isinstance(own.guidance, NoGuidance)
    plain = model.sample(["3"])
    assert torch.equal(plain.tensor, model.sample(["3"], sampler="ancestral", steps=1).tensor)


def test_training_from_python_is_that_of_the_command_line(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = [*ARGUMENTS, *SETTINGS]
    mine = ccdiff.train([s for s in settings if s != "resume=auto"], out="mine")
    first, second = (ccdiff.load(r, device="cpu").denoiser.state_dict() for r in (mine, run))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert f"finished at step {STEPS}" in repr(mine)
    # What is there is gone on with where that is asked for, and else left alone.
    with pytest.raises(UserError, match="resume"):
        ccdiff.train([s for s in settings if s != "resume=auto"], out="mine")
    more = f"trainer.steps={STEPS + 1}"
    ccdiff.train([*settings, more], out="mine")
    assert ccdiff.load("mine", device="cpu").step == STEPS + 1


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("sweep=learning_rate", "this trains one run"),
        (3, "an override is text"),
        ("schedule=cosin", "there is no schedule=cosin: did you mean cosine?"),
        ("trainer.step=3", "did you mean trainer.steps?"),
        ("hydra.run.dir=here", "out="),
        ("--multirun", "key=value"),
        ("resume=latest", "resume=auto"),
        ("data.flip=perhaps", "data.flip"),
    ],
)
def test_what_cannot_be_trained_is_told(override, told, tmp_path):
    with pytest.raises(UserError) as error:
        ccdiff.train([override, "tracker=none"], out=tmp_path / "run")
    assert told in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_notebook_shows_figures_grid_and_curves(run):
    html = run._repr_html_()
    assert html.count("data:image/png;base64,") == 2
    assert html.count('alt="') == 2
    assert "heldout/eps_mse" in html
    assert "<script" not in html


def test_overrides_are_a_list():
    with pytest.raises(UserError, match=re.escape("pass a list of overrides, such as ['seed=1']")):
        ccdiff.train("seed=1")
