"""Sampling from a run that is known by its directory alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from cli import TINY, call, rarely, succeed
from PIL import Image

from ccdiff.config.saved import load_config
from ccdiff.errors import UserError
from ccdiff.generation.pipeline import Pipeline
from ccdiff.runs.checkpoints import load_checkpoint
from ccdiff.runs.folder import output_folder
from ccdiff.sample import job as sampling
from ccdiff.trained.run import trained_denoiser

QUICK = ("sampler.steps=3", "device=cpu", "precision=fp32")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A tiny run trained long enough for its samples to be more than noise."""
    folder = tmp_path_factory.mktemp("sample")
    steps = rarely(60)
    succeed("train.py", *TINY, *steps, "tracker=none", "hydra.run.dir=outputs/one", cwd=folder)
    return folder / "outputs" / "one"


def drawn(run: Path, out: Path, *arguments: str) -> dict[str, np.ndarray]:
    succeed("sample.py", f"run={run}", f"out={out}", *QUICK, *arguments, cwd=run)
    with np.load(out / "samples.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def three_and_seven(run, tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    out = tmp_path_factory.mktemp("out") / "new"
    return out, drawn(run, out, "labels=[3,7]", "num_per_label=8")


def test_everything_promised_is_written(three_and_seven):
    out, samples = three_and_seven
    assert samples["images"].shape == (16, 8, 8, 1)
    assert samples["images"].dtype == np.uint8
    assert samples["labels"].tolist() == [3] * 8 + [7] * 8
    pictures = sorted((out / "images").glob("*.png"))
    assert len(pictures) == 16
    with Image.open(pictures[9]) as picture:
        assert np.array_equal(np.asarray(picture), samples["images"][9, ..., 0])
        assert (picture.text["label"], picture.text["seed"], picture.text["number"]) == (
            "7",
            "0",
            "1",
        )
        assert "labels=[3,7]" in picture.text["command"].replace("'", "")
    with Image.open(out / "denoising.gif") as film:
        assert film.n_frames > 1
    assert (out / "grid.png").exists()


def test_pictures_show_the_first_of_many_columns(run, tmp_path, monkeypatch):
    """A GIF of all of them could be too wide to be written."""
    pictures, counts = [], []
    draw, plain = Pipeline.__call__, sampling.grid

    def watched(images, *, columns, titles):
        pictures.append((images, columns))
        return plain(images, columns=columns, titles=titles)

    def counted(self, *arguments, num_frames, **settings):
        counts.append(num_frames)
        return draw(self, *arguments, num_frames=num_frames, **settings)

    films = []
    plain_film = sampling.film

    def filmed(frames, *, columns, titles):
        films.append((frames, columns))
        return plain_film(frames, columns=columns, titles=titles)

    monkeypatch.setattr(sampling, "grid", watched)
    monkeypatch.setattr(sampling, "film", filmed)
    monkeypatch.setattr(Pipeline, "__call__", counted)
    arguments = (f"run={run}", f"out={tmp_path}/many", "labels=[3,7]", "num_per_label=29")
    done = succeed("sample.py", *arguments, "batch_size=12", *QUICK, cwd=run)
    assert "grid.png shows the first 16 of each label" in done.printed
    assert "denoising.gif shows the first 8 of each label" in done.printed
    with np.load(tmp_path / "many" / "samples.npz") as file:
        images = file["images"]
    assert len(images) == 58
    assert len(list((tmp_path / "many" / "images").glob("*.png"))) == 58
    ((shown, columns),) = pictures
    assert columns == 16
    first = np.concatenate([images[:16], images[29:45]])
    assert np.array_equal(shown.permute(0, 2, 3, 1).numpy(), first)
    # The film ends with the first eight.
    ((frames, columns),) = films
    assert columns == 8
    first = np.concatenate([images[:8], images[29:37]])
    assert np.array_equal(frames.x_t[-1].permute(0, 2, 3, 1).numpy(), first)
    # Of the batches of 12, those from 12 on and from 48 on hold none of 0 to 7 and 29 to 36.
    assert [count > 0 for count in counts] == [True, False, True, True, False]


def test_a_picture_that_fails_loses_no_samples(run, tmp_path, monkeypatch):
    def fail(*arguments, **settings):
        raise ValueError("too wide")

    monkeypatch.setattr(sampling, "film", fail)
    out = tmp_path / "kept"
    done = call("sample.py", f"run={run}", f"out={out}", "num_per_label=1", *QUICK, cwd=run)
    assert done.status != 0
    assert "too wide" in done.printed
    with np.load(out / "samples.npz") as file:
        assert len(file["images"]) == 10


def test_an_image_depends_on_its_label_and_seed_alone(run, three_and_seven, tmp_path):
    _, together = three_and_seven
    alone = drawn(run, tmp_path / "alone", "labels=[7]", "num_per_label=8", "batch_size=1")
    difference = alone["images"].astype(int) - together["images"][8:].astype(int)
    # A different batch size may round differently in the last bit of a convolution.
    assert abs(difference).max() <= 1
    assert len({image.tobytes() for image in together["images"]}) == 16


def test_another_seed_gives_other_images(run, three_and_seven, tmp_path):
    _, first = three_and_seven
    second = drawn(run, tmp_path / "other", "labels=[3,7]", "num_per_label=8", "seed=1")
    assert not np.array_equal(first["images"], second["images"])


def test_latest_and_checkpoint_mean_the_same_run(run):
    folder = run.parent.parent
    succeed("sample.py", "run=latest", "num_per_label=1", *QUICK, cwd=folder)
    checkpoint = next((run / "checkpoints").iterdir())
    succeed("sample.py", f"run={checkpoint}", "num_per_label=1", *QUICK, cwd=folder)
    first, second = (np.load(run / "generated" / name / "samples.npz") for name in ("001", "002"))
    assert np.array_equal(first["images"], second["images"])
    assert first["labels"].tolist() == list(range(10))


def test_raw_and_averaged_weights_differ(run):
    checkpoint = load_checkpoint(next((run / "checkpoints").iterdir()))
    raw, ema = (trained_denoiser(checkpoint, weights=w).state_dict() for w in ("raw", "ema"))
    assert any(not torch.equal(raw[key], ema[key]) for key in raw)
    with pytest.raises(UserError, match="best"):
        trained_denoiser(checkpoint, weights="best")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["run=outputs/onne"], ["outputs/onne", "did you mean outputs/one"]),
        (["run=nowhere/at/all"], ["nowhere", "latest"]),
        (["run=text.pt"], ["text.pt", "not a checkpoint"]),
        (["run=tensor.pt"], ["tensor.pt", "not a checkpoint"]),
        (["run=outputs/one", "labels=[therr]"], ["therr"]),
        (["run=outputs/one", "labels=[10]"], ["10"]),
        (["run=outputs/one", "sampler.steps=0"], ["steps", "0"]),
        (["run=outputs/one", "batch_size=0"], ["batch_size", "auto", "0"]),
        (["run=outputs/one", "out=text.pt/inside"], ["text.pt/inside", "Not a directory"]),
        (["run=outputs/one", "batch_size=many"], ["batch_size", "auto", "many"]),
        ([], ["run="]),
    ],
    ids=lambda value: " ".join(value) if value and "=" in value[0] else "",
)
def test_bad_input_is_one_clear_error(arguments, parts, run):
    folder = run.parent.parent
    (folder / "text.pt").write_text("not a checkpoint at all")
    torch.save(torch.zeros(3), folder / "tensor.pt")
    done = call("sample.py", *arguments, cwd=folder)
    assert done.status != 0
    assert "Traceback" not in done.printed
    for part in parts:
        assert part in done.printed
    assert "weights_only" not in done.printed  # torch's advice to trust a file that it refused


def test_a_folder_that_cannot_be_made_is_told_before_drawing(run, monkeypatch):
    folder = run.parent.parent
    (folder / "text").write_text("no folder")
    monkeypatch.setattr("ccdiff.sample.job.by_turns", lambda *_, **__: pytest.fail("drew"))
    done = call("sample.py", "run=outputs/one", "out=text", *QUICK, cwd=folder)
    assert done.status != 0
    assert "out=text is a file" in done.printed


def test_samplings_at_once_take_folders_of_their_own(tmp_path):
    first, second = (output_folder(None, tmp_path / "generated") for _ in range(2))
    assert [first.name, second.name] == ["001", "002"]


@pytest.mark.parametrize("command", ["sample.py", "ccdiff.edit", "ccdiff.curve", "ccdiff.export"])
def test_a_folder_that_holds_something_is_refused_before_any_work(command, tmp_path, monkeypatch):
    """Also one that holds nothing of ours: nothing is mixed with what a user keeps there."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    task = ["task=strip"] if command == "ccdiff.edit" else []
    # Of a run that is not there: it is not even looked for.
    done = call(command, "run=nowhere", "out=mine", *task, cwd=tmp_path)
    assert done.status == 1
    assert "out=mine is not empty" in done.printed
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("names", [["1_0", "10"], ["true", "null"], ["Größe 38", "жук"]])
def test_labels_are_looked_up_as_they_were_typed(names, tmp_path):
    for i, name in enumerate(names):
        for j in range(4):
            path = tmp_path / "data" / name / f"{j}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 90 * i + j).save(path)
    data = ("data=folder", "data.root=data", "data.image_size=8", "data.channels=1")
    run = ("hydra.run.dir=one", "trainer.steps=1", "tracker=none")
    succeed("train.py", *TINY, *data, *run, cwd=tmp_path)
    known = load_config(tmp_path / "one" / "config.yaml").data.label_names
    for i, name in enumerate(names):
        asked = (f"labels=[{name}]", f"out=of{i}", "num_per_label=1")
        succeed("sample.py", "run=one", *asked, *QUICK, cwd=tmp_path)
        with np.load(tmp_path / f"of{i}" / "samples.npz") as file:
            assert file["labels"].tolist() == [known.index(name)]
