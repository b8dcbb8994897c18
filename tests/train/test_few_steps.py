"""Runs of other objectives: begun from a run, drawn from by what fits them, refused else."""

import shutil
from pathlib import Path

import pytest
import torch
from cli import TINY, call, rarely, succeed

from ccdiff.errors import UserError
from ccdiff.metrics.classifier import Classifier
from ccdiff.runs.checkpoints import load_checkpoint
from ccdiff.runs.folder import Run
from ccdiff.trained.start import start_from

SMALL = (*(a for a in TINY if not a.startswith("sampler.")), *rarely(2), "tracker=none")
FAST = ("device=cpu", "num_per_label=1", "labels=[3]")


def untrained(train, *, num_labels: int, flip: bool, device: object) -> Classifier:
    """Stands in for the training of the classifier, which has its own tests."""
    torch.manual_seed(0)
    return Classifier((1, 8, 8), num_labels=num_labels).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Four runs: one that denoises, and three that begin with its weights."""
    folder = tmp_path_factory.mktemp("few")
    succeed("train.py", *SMALL, "sampler.steps=2", "hydra.run.dir=denoising", cwd=folder)
    told = succeed(
        "train.py",
        *(*SMALL, "objective=meanflow", "model.interval=true", "init_from=denoising"),
        "hydra.run.dir=meanflow",
        cwd=folder,
    )
    assert "beginning with the weights of denoising/checkpoints/step_00000002.pt" in told.printed
    assert "new are network.embed_interval" in told.printed
    succeed(
        "train.py",
        *(*SMALL, "objective=consistency", "init_from=denoising", "hydra.run.dir=consistency"),
        cwd=folder,
    )
    mine = ("objective=shortcut", "model.interval=true", "init_from=meanflow")
    succeed("train.py", *SMALL, *mine, "hydra.run.dir=shortcut", cwd=folder)
    return folder


def draw(folder: Path, run: str, *arguments: str):
    return call("sample.py", f"run={run}", *FAST, *arguments, cwd=folder)


@pytest.mark.parametrize("run", ["denoising", "meanflow", "consistency", "shortcut"])
def test_each_draws_by_its_own_sampler(folder, run):
    assert draw(folder, run).status == 0


@pytest.mark.parametrize(
    ("run", "sampler", "told"),
    [
        ("denoising", "meanflow", "such as ddim or unipc, or train with objective=meanflow"),
        ("denoising", "consistency", "or train with objective=consistency"),
        ("consistency", "unipc", "use sampler=consistency"),
        ("consistency", "meanflow", "such as consistency"),
        ("meanflow", "unipc", ""),
        ("meanflow", "consistency", ""),
        ("meanflow", "shortcut", ""),
        ("denoising", "shortcut", "train with objective=shortcut or meanflow"),
        ("shortcut", "unipc", ""),
        ("shortcut", "meanflow", "such as ddim or unipc"),
        ("shortcut", "consistency", "such as ddim or unipc"),
    ],
)
def test_a_sampler_that_does_not_fit_is_told(folder, run, sampler, told):
    done = draw(folder, run, f"sampler={sampler}", "sampler.steps=2")
    assert done.status == (1 if told else 0), done.printed
    assert told in done.printed


def test_a_curve_shows_them_beside_the_others(folder, monkeypatch):
    monkeypatch.setattr("ccdiff.metrics.classifier.train_classifier", untrained)
    quick = ("device=cpu", "num_per_label=1", "seeds=0", "reference_steps=2")
    mine = ("run=meanflow", "sampler=meanflow,ddim", "steps=1", "solution_steps=2", "out=curve")
    succeed("ccdiff.curve", *quick, *mine, cwd=folder)
    rows = (folder / "curve/curve.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]].count("meanflow") == 1
    mine = ("run=consistency", "sampler=consistency", "steps=2", "out=other")
    done = call("ccdiff.curve", *quick, *mine, cwd=folder)
    assert "solution=null reference=consistency" in done.printed
    succeed("ccdiff.curve", *quick, *mine, "solution=null", "reference=consistency", cwd=folder)


@pytest.mark.parametrize("run", ["meanflow", "consistency"])
def test_they_are_evaluated(folder, monkeypatch, run):
    monkeypatch.setattr("ccdiff.metrics.classifier.train_classifier", untrained)
    few = ("n=20", "heldout_images=20", "likelihood_images=2", "likelihood_steps=2", "device=cpu")
    done = succeed("ccdiff.evaluate", f"run={run}", *few, cwd=folder)
    assert ("likelihoods are left out" in done.printed) is (run == "consistency")
    assert ("bits_per_dimension " in done.printed) is (run == "meanflow")


def test_they_go_on_without_the_run_that_they_began_with(folder, tmp_path):
    run = Path(shutil.copytree(folder / "meanflow", tmp_path / "meanflow"))
    done = succeed("train.py", f"resume={run}", "trainer.steps=3", cwd=tmp_path)
    assert "going on from step 2" in done.printed
    assert "beginning with" not in done.printed


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["init_from=denoising", "model.channels=[8,24]"], "do not fit this model: network"),
        (["init_from=nowhere"], "nowhere"),
        (["objective=meanflow"], "pass model.interval=true"),
        (["objective=consistency", "sampler=ddim"], "use sampler=consistency"),
        (["objective=consistency", "objective.factor=1"], "objective.factor must be above 1"),
        (["objective=meanflow", "objective.share=2"], "objective.share must be in"),
        (["objective=shortcut"], "pass model.interval=true"),
        (["objective=shortcut", "objective.steps=100"], "objective.steps must be 2, 4, 8"),
        (
            ["objective=meanflow", "model.interval=true", "objective.guidance=2"],
            "pass conditioning.drop=0.1",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_does_not_go_together_is_told_before_training(folder, arguments, told):
    done = call("train.py", *SMALL, *arguments, "hydra.run.dir=refused", cwd=folder)
    assert done.status == 1
    assert told in done.printed
    assert not Run(folder / "refused").checkpoints()


def test_weights_come_over_whole_or_not_at_all(folder, make_denoiser, caplog):
    path = Run(folder / "denoising").checkpoints()[-1]
    stranger = make_denoiser()
    before = {name: value.clone() for name, value in stranger.state_dict().items()}
    with pytest.raises(UserError, match=r"init_from=.* do not fit this model: .* there, .* here"):
        start_from(stranger, str(path))
    assert all(value.equal(before[name]) for name, value in stranger.state_dict().items())
    averaged = load_checkpoint(path)["ema"]
    begun = load_checkpoint(Run(folder / "meanflow").checkpoints()[-1])["ema"]
    assert set(averaged) < set(begun)
