"""Pictures show the pixels they were given, where they were given."""

import errno
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from ccdiff.diffusion.samplers import DDIM
from ccdiff.diffusion.samplers.grids import LogSNR
from ccdiff.diffusion.schedules import Cosine
from ccdiff.errors import UserError
from ccdiff.generation.film import FILM_COLUMNS, Frames, film, frame_steps, seen
from ccdiff.generation.pipeline import sample_seeds
from ccdiff.pictures import grid, save_gif, save_png
from ccdiff.runs.folder import Run
from ccdiff.training.monitor.hooks import DrawGrids, Showcase, showcase


def cell(picture: Image.Image, row: int, column: int, *, zoom: int, size: int) -> np.ndarray:
    """The pixels of one image of a grid without titles, brought back to their size."""
    side = size * zoom
    left, top = column * (side + 2) + 2, row * (side + 2) + 2
    return np.asarray(picture)[top : top + side : zoom, left : left + side : zoom]


@pytest.mark.parametrize(("channels", "size", "zoom"), [(1, 8, 7), (3, 32, 2), (3, 64, 1)])
def test_every_image_stands_in_its_place(channels, size, zoom):
    images = torch.randint(0, 256, (6, channels, size, size), dtype=torch.uint8)
    picture = grid(images, columns=3)
    for i, image in enumerate(images):
        shown = cell(picture, i // 3, i % 3, zoom=zoom, size=size)
        assert np.array_equal(shown, image.expand(3, -1, -1).permute(1, 2, 0).numpy())


def test_titles_stand_beside_the_images_not_on_them():
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    plain, titled = grid(images, columns=1), grid(images, columns=1, titles=["cat", "a" * 99])
    margin = titled.width - plain.width
    assert margin > 20
    assert np.array_equal(np.asarray(titled)[:, margin:], np.asarray(plain))
    assert np.asarray(titled)[:, :margin].min() < 100  # ink
    assert titled.width < 1000


def test_gif_keeps_frames_in_order_and_rests_on_the_last(tmp_path):
    frames = [Image.new("RGB", (4, 4), (i * 60,) * 3) for i in range(4)]
    save_gif(frames, tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as gif:
        assert gif.n_frames == 4
        for i in range(4):
            gif.seek(i)
            assert gif.convert("L").getpixel((0, 0)) == pytest.approx(i * 60, abs=4)
        assert gif.info["duration"] > 1000


def path(steps: int) -> torch.Tensor:
    """Equal steps in log-SNR, most of which show noise or a finished image."""
    return Cosine().at(DDIM(steps=steps, grid=LogSNR()).times(Cosine())).log_snr


@pytest.mark.parametrize("steps", [1, 2, 39, 40, 41, 1000])
def test_frames_end_with_the_last_step(steps):
    kept = frame_steps(path(steps), 40, dims=64)
    assert kept == sorted(set(kept))
    assert kept[-1] == steps
    assert kept[0] >= 1
    assert len(kept) == min(steps, 40)
    assert frame_steps(path(steps), 0, dims=64) == []


@pytest.mark.parametrize("dims", [64, 3 * 64 * 64])
def test_frames_are_spread_over_what_is_seen(dims):
    """Not over the steps: those of pure noise and of a finished image look alike."""
    log_snr = path(1000)
    share = seen(log_snr, dims)
    assert share.diff().gt(0).all()
    assert 0 < share[0] < share[-1] < 1
    kept = frame_steps(log_snr, 20, dims=dims)
    gaps = share[kept].diff()
    assert gaps.max() < 2 / 20
    evenly = share[list(range(50, 1001, 50))].diff()
    assert gaps.max() < 0.8 * evenly.max()


def test_a_film_counts_the_noise_level_and_shows_what_is_foreseen(tmp_path):
    x_t, x0_hat = (
        torch.randint(0, 256, (4, 2, 1, 8, 8), generator=torch.Generator().manual_seed(i)).byte()
        for i in range(2)
    )
    log_snr = torch.tensor([-9.0, -2.0, 1.0, 12.0], dtype=torch.float64)
    made = film(Frames(x_t, x0_hat, log_snr), columns=2, titles=["cat"])
    assert len({picture.size for picture in made.pictures}) == 1
    # Nothing but the noise level, below the images, tells frames of equal images apart.
    same = Frames(x_t[:1].expand_as(x_t), x0_hat[:1].expand_as(x0_hat), log_snr)
    height = made.pictures[0].height
    for picture in film(same, columns=2, titles=["cat"]).pictures[1:]:
        different = np.asarray(picture) != np.asarray(made.pictures[0])
        assert different.any()
        assert not different[: height - 20].any()
    # Both grids are whole, x_t on the left.
    for frame, picture in enumerate(made.pictures):
        right = np.asarray(grid(x0_hat[frame], columns=2))
        assert np.array_equal(np.asarray(picture)[20:-20, -right.shape[1] :], right)
        left = np.asarray(grid(x_t[frame], columns=2, titles=["cat"]))
        assert np.array_equal(np.asarray(picture)[20:-20, : left.shape[1]], left)
    # Each is shown as long as it takes to see something new.
    shares = seen(log_snr, 64).diff()
    assert torch.tensor(made.seconds[:-1]) == pytest.approx((3 * shares / shares.sum()).tolist())
    made.save(tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as file:
        file.seek(1)
        assert file.info["duration"] == pytest.approx(1000 * made.seconds[1], abs=10)


def test_seeds_do_not_depend_on_the_other_rows():
    both = sample_seeds(0, ["cat", "dog"], 3)
    assert len(set(both)) == 6
    assert sample_seeds(0, ["dog"], 3) == both[3:]
    assert sample_seeds(1, ["dog"], 3) != both[3:]


def test_showcase_of_classes_is_all_of_them_in_order():
    shown = showcase(["a", "b", "c"], torch.tensor([2, 2, 0]), columns=2)
    assert shown.titles == ["a", "b", "c"]
    assert shown.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert len(shown.seeds) == 6


def test_showcase_of_attributes_is_the_most_frequent_rows():
    labels = torch.tensor([[0, 0], [1, 1], [1, 1], [1, 0], [1, 1], [1, 0]], dtype=torch.uint8)
    shown = showcase(["young", "male"], labels, columns=1)
    assert list(shown.titles) == ["young, male", "young", "none"]
    assert shown.y.tolist() == [[1, 1], [1, 0], [0, 0]]


def test_a_run_films_no_wider_than_a_gif_can_be(tmp_path):
    columns = 1200
    frames = torch.randint(0, 256, (3, 2 * columns, 1, 8, 8), dtype=torch.uint8)
    hook = DrawGrids(
        every=1,
        last_step=1,
        pipeline=lambda denoiser, y, drop, *, seeds, num_frames: (
            frames[-1],
            Frames(frames, frames, torch.tensor([-5.0, 0.0, 5.0])),
        ),
        showcase=Showcase(torch.arange(2), ["a", "b"], columns),
        run=Run(tmp_path),
        run_log=SimpleNamespace(image=lambda key, path, *, step: None),
    )
    hook(SimpleNamespace(denoiser=torch.nn.Identity(), averaged=torch.nn.Identity(), step=1))
    first = frames[-1].view(2, columns, 1, 8, 8)[:, :FILM_COLUMNS].flatten(0, 1)
    with Image.open(tmp_path / "samples" / "denoising.gif") as gif:
        assert gif.n_frames == 3
        gif.seek(2)
        expected = np.asarray(grid(first, columns=8, titles=["a", "b"]).convert("L"), dtype=int)
        shown = np.asarray(gif.convert("L"), dtype=int)[20:-20, : expected.shape[1]]
        assert np.abs(shown - expected).max() < 8
    with Image.open(tmp_path / "samples" / "grid.png") as whole:
        assert whole.width > columns * 56


def titled(title: str) -> bytes:
    return grid(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), columns=1, titles=[title]).tobytes()


def test_letters_of_many_languages_are_drawn(caplog):
    letters = "éüßłжñøçğšΩאع"
    assert len({titled(letter) for letter in letters}) == len(letters), "none is a box"
    assert titled("e\u0301") == titled("\u00e9"), "in whichever way it is composed"
    assert not caplog.text


def test_what_no_font_has_is_written_out_and_said(caplog):
    assert titled("猫") == titled("\\u732b")
    assert "has no 猫: titles show it as \\u732b" in caplog.text
    assert titled("a\x1b\n") == titled("a\\x1b\\n"), "a title is one line"


@pytest.mark.parametrize("save", [save_png, lambda image, path: save_gif([image] * 2, path)])
def test_a_picture_is_whole_or_what_was_there(tmp_path, monkeypatch, save):
    path = tmp_path / "made" / "picture"
    save(Image.new("L", (8, 8)), path)
    before = path.read_bytes()

    def fill_the_disk(self, file, **_) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", fill_the_disk)
    with pytest.raises(UserError, match=r"cannot write .*: No space left on device"):
        save(Image.new("L", (8, 8)), path)
    assert [file.read_bytes() for file in path.parent.iterdir()] == [before]
