"""The comparison of ideas: its processes, its clock, its table, and all of it in miniature."""

import gzip
import io
import json
import os
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ccdiff.config.build import build_data
from ccdiff.errors import UserError
from ccdiff.settings import TrainerSettings
from ccdiff.training.state import learning_rate_factor
from tests.benchmarks import ideas, ideas_training
from tests.benchmarks.ideas_data import data_overrides, write_emoji, write_mnist
from tests.benchmarks.ideas_montage import montage
from tests.benchmarks.ideas_recipes import BASE, IDEAS, picture_prefix
from tests.benchmarks.ideas_table import markdown
from tests.benchmarks.ours import composed
from tests.benchmarks.parallel import outcomes


def _work(job: str) -> str:
    if job == "fail":
        raise ValueError("no such idea")
    if job == "die":
        os._exit(3)
    if job == "sleep":
        time.sleep(60)
    return f"{job} done"


def test_each_job_ends_by_itself_and_time_ends_all():
    jobs = ["fail", "a", "die", "sleep", "b", "never"]
    found = {
        jobs[one.job]: one for one in outcomes(_work, jobs, workers=1, seconds=0.6, start="fork")
    }
    assert found.keys() == set(jobs)
    assert found["a"].result == "a done"
    assert not found["a"].error
    assert "no such idea" in found["fail"].error
    assert found["die"].error == "its process ended with 3"
    assert found["sleep"].error.startswith("cut off")
    assert found["sleep"].seconds < 2
    assert found["b"].error == found["never"].error == "not begun: out of time"


def test_nothing_is_begun_that_would_not_end_in_time():
    (one,) = outcomes(_work, ["a"], workers=1, seconds=5, needs=6, start="fork")
    assert one.error.startswith("not begun")


def test_the_learning_rate_falls_to_its_end_as_the_clock_does(monkeypatch):
    now, rates = [0.0], []

    class Step:
        """A step of 2 seconds, that notes its learning rate."""

        settings = TrainerSettings(warmup=0)

        def __call__(self):
            s = self.settings
            rates.append(
                learning_rate_factor(
                    len(rates), steps=s.steps, warmup=s.warmup, cooldown=s.cooldown
                )
            )
            now[0] += 2.0

        def settle(self):
            pass

    monkeypatch.setattr(ideas_training.time, "process_time", lambda: now[0])
    monkeypatch.setattr(ideas_training, "updater", lambda training, batches: Step())
    monkeypatch.setattr(ideas_training, "batches_of", lambda training: None)
    assert ideas_training.train_for(None, 100.0, cooldown=0.8) == 100.0
    assert len(rates) == 50
    assert rates[:10] == [1.0] * 10
    assert rates[30] == pytest.approx(0.5, abs=0.02)
    assert 0 < rates[-1] < 0.03


def test_means_over_seeds_and_differences_seed_by_seed():
    def row(idea, seed, fd, **more):
        return {"data": "mnist", "idea": idea, "seed": seed, "steps": 1, "fd": fd, **more}

    rows = [
        {"data": "mnist", "idea": "real images", "seed": 0, "fd": 0.5},
        *(row("base", seed, fd) for seed, fd in enumerate((10.0, 20.0, 30.0))),
        *(row("better", seed, fd) for seed, fd in enumerate((5.0, 15.1, 24.9))),
        *(row("as good", seed, fd) for seed, fd in enumerate((30.0, 20.0, 10.0))),
        {"data": "mnist", "idea": "worse", "seed": 0, "error": "not begun:\nout of time"},
    ]
    table = markdown({"machine": "here"}, rows)
    cells = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()]
    means = {c[1]: c[6] for c in cells if len(c) == 11}
    assert means["base"] == "20 ± 10"
    assert means["real images"] == "0.5"
    less = {c[1]: c[5] for c in cells if len(c) == 9}
    assert less["better"].startswith("**-5 ± 0.1")
    assert less["as good"] == "+0 ± 20"
    assert "- mnist, worse, seed 0: not begun: out of time" in table


def png(colour, alpha=255):
    image = Image.new("RGBA", (72, 72), (0, 0, 0, 0))
    image.paste((*colour, alpha), (0, 0, 36, 72))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return np.frombuffer(buffer.getvalue(), np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two small sets, written as the large ones are."""
    folder = tmp_path_factory.mktemp("ideas")
    rng = np.random.default_rng(0)
    for name, n in (("train", 60), ("t10k", 24)):
        labels = np.arange(n, dtype=np.uint8) % 10
        images = (labels[:, None, None] * 25 + rng.integers(5, size=(n, 28, 28))).astype(np.uint8)
        for kind, array, head in (("images-idx3", images, 16), ("labels-idx1", labels, 8)):
            content = gzip.compress(bytes(head) + array.tobytes())
            (folder / f"{name}-{kind}-ubyte.gz").write_bytes(content)
    write_mnist(folder, folder / "mnist.npz")
    names = [f"emoji_u{i:x}{skin}.png" for i in range(20) for skin in ("", "_1f3fb", "_1f3ff")]
    pngs = [png((i % 250, 99, 0)) for i in range(len(names))]
    attributes = (rng.random((len(names), 3)) < 0.5).astype(np.uint8)
    np.savez(
        folder / "source.npz",
        png=np.concatenate(pngs),
        offsets=np.cumsum([0, *map(len, pngs)]).astype(np.uint32),
        attrs=attributes,
        attr_names=np.array(["Red", "Round", "Two_Or_More"]),
        files=np.array(names),
    )
    write_emoji(folder / "source.npz", folder / "emoji.npz", side=8)
    return folder


def test_sets_are_written_as_they_are_read(data, tmp_path):
    mnist, emoji = (
        build_data(composed(*data_overrides(data / f"{name}.npz", cache=tmp_path)))
        for name in ("mnist", "emoji")
    )
    train, heldout = mnist.load()
    assert (len(train), len(heldout)) == (60, 24)
    assert train.images[13].float().mean().round() // 25 == train.labels[13] == 3
    assert emoji.names == ("Red", "Round", "Two_Or_More")
    train, heldout = emoji.load()
    assert len(train) + len(heldout) == 60
    assert 0 < len(heldout) < 30
    assert len(heldout) % 3 == 0, "three tones of each shape"
    assert (train.images[..., -1] == 255).all(), "what is transparent is white"
    assert torch.equal(train.images[:, 1, :, 0], torch.full_like(train.images[:, 1, :, 0], 99))


@pytest.mark.slow
@pytest.mark.parametrize("title", IDEAS)
def test_every_idea_is_a_config(title, data, tmp_path):
    idea = IDEAS[title]
    for name in idea.sets or ("mnist", "emoji"):
        composed(*data_overrides(data / f"{name}.npz", cache=tmp_path), *idea.overrides())


def test_all_of_it_in_miniature(data, tmp_path, capsys):
    tiny = ("model.channels=[4]", "model.bottleneck=4", "model.groups=2", "model.head_channels=4")
    args = ideas.Arguments(
        out=tmp_path / "out",
        data=data,
        seconds=0.05,
        workers=2,
        minutes=1,
        seeds=1,
        images=20,
        heldout_images=16,
        only=("none but the first",),
        sets=("emoji",),
        more=(*tiny, "model.attention=[false]", "trainer.batch_size=8", "sampler.steps=2"),
    )
    table = ideas.compare(args, start="fork").read_text()
    assert "Not there" not in table, table
    head, *rows = map(json.loads, (args.out / "rows.jsonl").read_text().splitlines())
    assert "0.05 CPU seconds" in head["training"]
    found = {(row["data"], row["idea"]): row for row in rows}
    wanted = ("real images", BASE)
    assert found.keys() == {("emoji", idea) for idea in wanted}
    for (_, idea), row in found.items():
        assert 0 <= row["agreement"] <= 1
        assert row["fd"] >= 0
        if idea != "real images":
            assert row["images"] == 8 * row["steps"] > 0
            assert row["training_seconds"] >= 0.05
            assert row["heldout_error"] > 0
            assert row["guided_fd"] >= 0
    assert len(list((args.out / "pictures").glob("*.png"))) == 2
    capsys.readouterr()
    ideas.compare(args, start="fork")
    assert capsys.readouterr().out.startswith("0 trainings"), "it goes on with what is missing"
    with pytest.raises(UserError, match="pass another out="):
        ideas.compare(replace(args, seconds=1.0), start="fork")


def test_what_is_asked_for_is_read(tmp_path):
    args = ideas.parse([f"out={tmp_path}", "data=.", "workers=12", "only=vit, optimal"])
    assert (args.workers, args.only, args.seeds) == (12, ("vit", "optimal"), 3)
    for words, told in (
        (["out=a"], "pass data="),
        (["out=a", "data=b", "hours=1"], "hours=1: it takes"),
        (["out=a", "data=b", "seeds=many"], "seeds must be a number"),
        (["out=a", "data=b", "seconds=0"], "must be positive"),
    ):
        with pytest.raises(UserError, match=told):
            ideas.parse(words)
    titles = [
        (task.seed, task.idea)
        for task in ideas.tasks_of(replace(args, only=(), seeds=2), {"mnist": []})
    ]
    late = [idea for idea in IDEAS if IDEAS[idea].late]
    assert titles[0] == (0, BASE)
    assert titles[-1] == (1, late[-1])
    assert (0, "augment=flip") not in titles, "a digit in a mirror is none"


def test_pictures_of_ideas_are_put_side_by_side(tmp_path):
    """A row for each idea that left pictures, in the order of the table, of its first row."""
    colours = {BASE: ("red", "lime"), "augment=flip": ("blue", "yellow")}
    for title, (plain, guided) in reversed(colours.items()):
        prefix = picture_prefix(tmp_path, "emoji", title)
        prefix.parent.mkdir(exist_ok=True)
        for kind, colour in (("drawn", plain), ("guided_drawn", guided)):
            image = Image.new("RGB", (200, 40 * ideas_training.ROWS), "black")
            image.paste(colour, (0, 0, 200, 40))
            image.save(prefix.with_name(f"{prefix.name}-{kind}.png"))
    pixels = np.asarray(montage(tmp_path, "emoji")).reshape(-1, 3)
    seen = np.unique(pixels, axis=0, return_index=True)
    order = [tuple(colour) for _, colour in sorted(zip(seen[1], seen[0].tolist(), strict=True))]
    wanted = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
    assert [colour for colour in order if colour in wanted] == wanted
    assert (0, 0, 0) not in order, "no other row"
    with pytest.raises(UserError, match="no pictures of mnist"):
        montage(tmp_path, "mnist")
