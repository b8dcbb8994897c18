"""Fidelity in one command: the figures, going on, the page, the errors, the tracker."""

import json
import re
import signal
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from cli import TINY, call, rarely, succeed
from torch import Tensor

from ccdiff.data import Digits, Split
from ccdiff.evaluate.gallery import rows_of
from ccdiff.evaluate.shards import Shards, looks
from ccdiff.evaluate.subject import describe
from ccdiff.evaluate.tables import _ground
from ccdiff.generation.pipeline import Pipeline
from ccdiff.metrics.agreement import label_agreement
from ccdiff.metrics.classifier import Classifier
from ccdiff.metrics.extractors import ClassifierExtractor
from ccdiff.metrics.figures import Figure
from ccdiff.metrics.judge import Judge
from ccdiff.metrics.references import asked_labels
from ccdiff.pictures import grid
from ccdiff.runs.tracker import TrackerSession, WandbTracker

COMMAND = "ccdiff.evaluate"
QUICK = (
    "device=cpu",
    "precision=fp32",
    "n=60",
    "sampler.steps=2",
    "batch_size=25",
    "heldout_images=64",
    "likelihood_images=2",
    "likelihood_steps=2",
)


def untrained(train, *, num_labels: int, flip: bool, device: object) -> Classifier:
    """Stands in for the training of the classifier, which has its own tests."""
    torch.manual_seed(0)
    return Classifier((1, 8, 8), num_labels=num_labels).eval()


class Recorder(TrackerSession):
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []
        self.images: list[str] = []

    def metrics(self, values, *, step):
        self.values.append(dict(values))
        assert step == 6

    def table(self, key, rows, *, step):
        raise AssertionError("an evaluation logs figures and pictures")

    def image(self, key, path, *, step):
        self.images.append(key)
        assert path.exists()


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module", autouse=True)
def patched(recorder):
    """No classifier is trained, and the tracker is listened to."""

    @contextmanager
    def session(self, info):
        assert info.tracker_id is not None
        yield recorder

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ccdiff.metrics.classifier.train_classifier", untrained)
        yield lambda: patch.setattr(WandbTracker, "session", session)


@pytest.fixture(scope="module")
def run(tmp_path_factory, patched) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    succeed("train.py", *TINY, *rarely(6), "hydra.run.dir=outputs/one", cwd=folder)
    patched()
    return folder / "outputs" / "one"


@pytest.fixture(scope="module")
def folder(run) -> Path:
    succeed(COMMAND, f"run={run}", "name=whole", "format=svg", *QUICK, cwd=run.parent)
    return run / "evaluation" / "whole"


@pytest.fixture(scope="module")
def metrics(folder) -> dict:
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def figures(metrics) -> dict[str, Figure]:
    parsed = [Figure.parsed(plain) for plain in metrics["figures"]]
    return {figure.key: figure for figure in parsed}


def test_a_page_is_titled_by_what_the_run_is(metrics, folder):
    assert metrics["title"].startswith("digits unet_mnist, ")
    assert metrics["title"].endswith("(outputs/one), step 6")
    assert "<h1>digits unet_mnist, " in (folder / "index.html").read_text()


def test_every_figure_is_there_with_an_interval_and_its_provenance(figures):
    sets = ("fd", "kd", "precision", "recall", "density", "coverage", "spread_ratio")
    expected = {f"{kind}_classifier_to_{to}" for kind in sets for to in ("train", "heldout")}
    expected |= {"label_agreement_classifier", "score_classifier", "copying_classifier_to_train"}
    expected |= {"heldout_eps_mse", "label_gain_wrong_label", "label_bits_wrong_label"}
    assert set(figures) == expected | {"bits_per_dimension", "bits_per_dimension_error"}
    for key, figure in figures.items():
        if key not in ("score_classifier", "bits_per_dimension_error"):
            assert figure.interval is not None, key
            assert figure.interval.low <= figure.value <= figure.interval.high, key
    of_samples = figures["fd_classifier_to_train"].provenance
    assert (of_samples.n, of_samples.seed, of_samples.steps) == (60, 0, 2)
    assert of_samples.sampler.startswith("ancestral(grid=Uniform()")
    assert of_samples.guidance == "NoGuidance()"
    assert of_samples.precision == "fp32"
    assert of_samples.resolution == "1 x 8 x 8"
    heldout = figures["fd_classifier_to_heldout"].provenance
    assert heldout.data_fingerprint != of_samples.data_fingerprint
    assert figures["bits_per_dimension"].provenance.sampler is None


def test_real_images_do_better_than_noise(figures):
    for to in ("train", "heldout"):
        figure = figures[f"fd_classifier_to_{to}"]
        assert figure.real < 0.2 * figure.value


def test_agreement_of_all_real_images_is_the_classifiers_accuracy(run, folder, metrics):
    names = [str(i) for i in range(10)]
    _, heldout = Digits(image_size=8, channels=1, label_names=names, flip=False).load()
    all_of_it = (f"n={len(heldout)}", "sampler.steps=1", "likelihood_images=0")
    succeed(COMMAND, f"run={run}", "name=all", *QUICK, *all_of_it, cwd=run.parent)
    found = json.loads((run / "evaluation" / "all" / "metrics.json").read_text())
    (agreement,) = [f for f in found["figures"] if f["name"].startswith("label_agreement")]
    (kept,) = (run.parent / ".ccdiff_cache" / "classifiers").iterdir()
    accuracy = torch.load(kept, weights_only=True)["heldout_accuracy"]
    assert agreement["real"] == pytest.approx(accuracy, abs=1e-12)


def test_the_json_holds_classes_confusion_and_levels(metrics):
    assert [row["n"] for row in metrics["classes"]] == [6] * 10
    assert sum(map(sum, metrics["confusion"])) == 60
    right = sum(metrics["confusion"][k][k] for k in range(10)) / 60
    (agreement,) = [f for f in metrics["figures"] if f["name"].startswith("label_agreement")]
    assert agreement["value"] == pytest.approx(right)
    assert [(row["low"], row["high"]) for row in metrics["levels"]][:2] == [(-12, -9), (-9, -6)]
    told = sum(row["told"] for row in metrics["levels"]) / 8
    (error,) = [f for f in metrics["figures"] if f["name"] == "heldout_eps_mse"]
    assert error["value"] == pytest.approx(told, rel=1e-5)


def test_the_page_needs_nothing_beside_it(folder):
    page = (folder / "index.html").read_text()
    assert page.count("<img ") >= 6
    assert all(
        source.startswith("data:image/png;base64,") for source in re.findall(r'src="(.*?)"', page)
    )
    assert "http" not in page
    assert "<script" not in page
    for part in ("fd_classifier", "Confusion", "worst classes", "best classes", "ancestral"):
        assert part in page
    # By night too: nothing is drawn in a colour of its own.
    drawn = page[page.index("<svg") :]
    assert not re.search(r"(?:fill|stroke): ?#", drawn)
    assert (folder / "levels.svg").read_bytes().startswith(b"<?xml")


def test_a_page_begins_with_the_outcome_and_the_pictures(folder):
    page = (folder / "index.html").read_text()
    marks = [
        'class="lead"',
        "samples, a row per label",
        "training images of the same",
        ">Figures<",
    ]
    places = [page.index(mark) for mark in marks]
    assert places == sorted(places)


def test_shades_of_a_confusion_are_in_proportion():
    def strength(share):
        return float(re.search(r"(\d+)%,var\(--paper\)", _ground("bad", share))[1])

    assert strength(0) == 0
    assert strength(1) == 100
    assert strength(0.001) > 10, "a single mistake is seen"
    # 4 of 10 look like four ninths of 9 of 10, and not like as much.
    assert strength(0.4) < 0.6 * strength(0.9)
    shades = [strength(k / 10) for k in range(11)]
    assert min(b - a for a, b in pairwise(shades)) > 7


def test_rows_of_attributes_are_the_most_frequent_combinations():
    y = torch.tensor([[1, 0], [0, 1], [1, 0], [1, 1], [1, 0], [0, 1]], dtype=torch.uint8)
    rows = rows_of(y, ["young", "male"])
    assert rows.titles == ["young", "male", "young, male"]
    assert [numbers.tolist() for numbers in rows.numbers] == [[0, 2, 4], [1, 5], [3]]
    images = torch.arange(4 * 64).reshape(4, 1, 8, 8).to(torch.uint8)
    real = rows.real(Split(images, y[:4]))
    assert real is not None
    assert real.height == grid(images[:3], columns=1).height, "a row for each combination"
    assert rows.real(Split(images[:1], torch.zeros(1, 2, dtype=torch.uint8))) is None


def test_a_model_of_six_steps_is_flagged_as_blind(folder, metrics):
    assert metrics["label_blind"]
    assert "THE MODEL IGNORES ITS LABEL" in (folder / "index.html").read_text()


def test_the_tracker_goes_on_with_the_run(figures, recorder):
    key = "fd_classifier_to_heldout"
    assert recorder.values[0][f"evaluate/{key}"] == pytest.approx(figures[key].value)
    assert "evaluate/samples" in recorder.images


def test_resumed_equals_uninterrupted(run, folder, metrics, monkeypatch):
    """Stopped in the third part, with a second part that the crash left damaged."""
    calls = []
    whole = Pipeline.__call__

    def failing(self, denoiser, y, drop, *, seeds, on_step):
        calls.append(len(seeds))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(self, denoiser, y, drop, seeds=seeds, on_step=on_step)

    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "__call__", failing)
        stopped = call(COMMAND, f"run={run}", "name=parts", *QUICK, cwd=run.parent)
        assert stopped.status == 128 + signal.SIGINT
        assert "the same command goes on" in stopped.printed
    parts = run / "evaluation" / "parts" / "samples"
    assert [p.name for p in sorted(parts.glob("*-000000??.pt"))] == [
        "00000000-00000025.pt",
        "00000025-00000050.pt",
    ]
    (parts / "00000025-00000050.pt").write_bytes(b"torn")
    calls.clear()
    done = succeed(COMMAND, f"run={run}", "name=parts", *QUICK, cwd=run.parent)
    assert "25 samples are there already" in done.printed
    resumed = json.loads((run / "evaluation" / "parts" / "metrics.json").read_text())
    assert resumed == metrics


def test_more_samples_are_added_to_those_that_are_there(run, metrics, monkeypatch):
    drawn = []
    whole = Pipeline.__call__

    def counting(self, denoiser, y, drop, *, seeds, on_step):
        drawn.extend(y.tolist())
        return whole(self, denoiser, y, drop, seeds=seeds, on_step=on_step)

    monkeypatch.setattr(Pipeline, "__call__", counting)
    succeed(COMMAND, f"run={run}", "name=whole", *QUICK, "n=64", cwd=run.parent)
    assert drawn == [0, 1, 2, 3], "numbers 60 to 63"


def test_against_an_earlier_evaluation(run, folder, metrics, tmp_path):
    """Of the same samples, none of which is drawn again."""
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    same = (f"run={run}", "name=whole", *QUICK, f"against={tmp_path}")
    done = succeed(COMMAND, *same, cwd=run.parent)
    assert "60 samples are there already" in done.printed
    assert "60/60" not in done.printed
    page = (folder / "index.html").read_text()
    assert "Against an earlier evaluation" in page
    assert page.count("<td>+0</td>") == len(metrics["figures"])
    done = call(COMMAND, *same, "seed=1", "name=other", cwd=run.parent)
    assert done.status != 0
    assert "seed (0 against 1)" in done.printed
    assert not (run / "evaluation" / "other" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["n=5"], ["n must be at least 20", "5"]),
        (["heldout_images=1"], ["heldout_images", "1"]),
        (["format=bmp"], ["format must be one of png, svg, pdf", "bmp"]),
        (["name=whole", "seed=1"], ["name=whole", "another"]),
        (["against=nowhere"], ["against=nowhere"]),
        (["extractor=path"], ["extractor.file"]),
        (["name=../../elsewhere"], ["name=../../elsewhere", "not the name of one folder"]),
        (["name=.."], ["not the name of one folder"]),
        (["name=/tmp/x"], ["not the name of one folder"]),
        (["extractor=path", "extractor.file=nowhere.ts"], ["nowhere.ts", "no such file"]),
        (["extractor=huge"], ["extractor", "dinov2"]),
        (["guidance=cfg"], ["conditioning.drop=0"]),
        (["run=nowhere"], ["there is no run nowhere"]),
        (["+m=1"], ["nothing reads", "'m'"]),
    ],
    ids=lambda value: " ".join(value) if "=" in value[0] else "",
)
def test_bad_input_is_one_clear_error(arguments, parts, run, folder):
    done = call(COMMAND, f"run={run}", *QUICK, *arguments, cwd=run.parent)
    assert done.status != 0
    assert "Traceback" not in done.printed
    for part in parts:
        assert part in done.printed


def test_labels_come_by_turns(folder):
    images = torch.zeros(7, 1, 2, 2, dtype=torch.uint8)
    classes = Split(images, torch.zeros(7).long())
    assert asked_labels(classes, n=12, num_labels=5).tolist() == [0, 1, 2, 3, 4] * 2 + [0, 1]
    rows = torch.randint(2, (7, 3)).to(torch.uint8)
    asked = asked_labels(Split(images, rows), n=14, num_labels=3)
    assert sorted(asked[:7].tolist()) == sorted(rows.tolist())
    assert asked[7:].tolist() == asked[:7].tolist()


def test_attributes_are_judged_one_by_one(tmp_path):
    def images(numbers: range, _: object) -> Tensor:
        return torch.randint(256, (len(numbers), 1, 8, 8)).to(torch.uint8)

    torch.manual_seed(0)
    classifier = ClassifierExtractor(Classifier((1, 8, 8), num_labels=3).eval(), scored=False)
    shards = Shards(tmp_path).complete(30, images, size=8)
    y = torch.randint(2, (27, 3)).to(torch.uint8)
    judge = Judge(extractor=classifier, classifier=classifier, num_labels=3)
    found = judge.judged(looks(shards, y, judge))
    logits = torch.cat([shard.seen(classifier).logits for shard in shards])[:27]
    assert found.confusion is None
    assert found.sketch.score is None
    assert found.agreement.mean().item() == pytest.approx(label_agreement(logits, y))
    assert len(found.attributes.scores) == 3
    assert found.sketch.moments.n == 27


def test_a_run_that_cannot_be_written_is_told_before_the_classifier(run, monkeypatch):
    monkeypatch.setattr("ccdiff.evaluate.subject.os.access", lambda *_: False)
    monkeypatch.setattr("ccdiff.evaluate.subject.Judge.open", lambda *_: pytest.fail("trained"))
    done = call(COMMAND, f"run={run}", *QUICK, cwd=run.parent)
    assert done.status == 1
    assert "cannot be written, where the evaluation is kept" in done.printed


def test_gaps_between_the_parts_are_filled(tmp_path):
    """As several processes leave them that were stopped; parts that overlap are left alone."""
    drawn = []

    def draw(numbers: range, _: object = None) -> Tensor:
        drawn.append(numbers)
        return torch.tensor(numbers).to(torch.uint8).reshape(-1, 1, 1, 1)

    shards = Shards(tmp_path)
    for numbers in (range(0, 4), range(2, 6), range(8, 12)):
        shards.shard(numbers).keep(draw(numbers), [])
    shards.shard(range(20, 22)).path.write_bytes(b"torn")
    drawn.clear()
    found = shards.complete(14, draw, size=3)
    assert drawn == [range(4, 7), range(7, 8), range(12, 14)]
    assert torch.cat([shard.images() for shard in found]).flatten().tolist() == list(range(14))
    assert shards.done() == found


def test_settings_read_like_a_call():
    node = {"_target_": "a.b.DDIM", "steps": 5, "grid": {"_target_": "c.Karras", "rho": 7}}
    assert describe(node) == "DDIM(grid=Karras(rho=7), steps=5)"
    named = {**node, "name": "ancestral"}
    assert describe(named) == "ancestral(grid=Karras(rho=7), steps=5)", "as it was asked for"
