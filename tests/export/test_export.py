"""What is handed on: weights, config and a card, opened again without running code."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from cli import call, succeed
from faults import composed, train
from omegaconf import OmegaConf
from safetensors import safe_open

import ccdiff
from ccdiff.errors import UserError
from ccdiff.runs.checkpoints import load_checkpoint, save_checkpoint
from ccdiff.runs.folder import Run
from ccdiff.trained.run import trained_denoiser


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "run"
    train(composed(), folder)
    succeed("ccdiff.export", f"run={folder}", f"out={folder.parent / 'out'}", cwd=folder.parent)
    return folder


@pytest.fixture
def out(run) -> Path:
    return run.parent / "out"


def test_four_lines_draw_what_the_run_draws(run, out):
    assert {path.name for path in out.iterdir()} == {
        "model.safetensors",
        "config.yaml",
        "README.md",
        "grid.png",
    }
    images = ccdiff.load(out, device="cpu").sample(["3", 7], num_per_label=2, seed=5)
    again = ccdiff.load(run, device="cpu").sample(["3", 7], num_per_label=2, seed=5)
    assert images.tensor.shape == (4, 1, 8, 8)
    assert images.tensor.dtype == torch.uint8
    assert torch.equal(images.tensor, again.tensor)


def test_drawing_nothing_is_refused(run):
    with pytest.raises(UserError, match="num_per_label must be at least 1, got 0"):
        ccdiff.load(run, device="cpu").sample(["3"], num_per_label=0)


def test_the_weights_are_the_averaged_ones(run, out):
    checkpoint = load_checkpoint(Run(run).latest_checkpoint())
    averaged = trained_denoiser(checkpoint).state_dict()
    with safe_open(out / "model.safetensors", "pt") as file:
        assert set(file.keys()) == averaged.keys()
        assert all(torch.equal(file.get_tensor(key), value) for key, value in averaged.items())
        assert file.metadata()["step"] == str(checkpoint["step"])


def test_the_card_holds_figures_and_code_that_runs(out, tmp_path, monkeypatch):
    card = (out / "README.md").read_text()
    for fact in ("Digits, 1 x 8 x 8", "10: 0, 1, 2", "heldout/eps_mse", "Cosine", "ancestral"):
        assert fact in card
    (code,) = re.findall("```python\n(.*?)```", card, flags=re.DOTALL)
    assert len(code.splitlines()) == 4
    names: dict = {}
    monkeypatch.chdir(tmp_path)
    exec(code.replace("path/to/this/folder", str(out)), names)
    assert len(names["images"]) == 8
    assert (tmp_path / "grid.png").exists()


def test_a_damaged_or_hostile_export_is_refused(out, tmp_path):
    weights = (out / "model.safetensors").read_bytes()
    config = (out / "config.yaml").read_text()
    for content, text, told in [
        (weights[:-100], config, "not a whole export"),
        (b"", config, "not a whole export"),
        (weights, config.replace("ccdiff.nn.UNet", "os.system"), "os.system"),
        (weights, config.replace("bottleneck: 8", "bottleneck: 16"), "not a whole export"),
    ]:
        (tmp_path / "model.safetensors").write_bytes(content)
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(UserError, match=told):
            ccdiff.load(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["run=null"], "which run"), (["weights=best"], "ema, raw"), (["run=nowhere"], "nowhere")],
    ids=" ".join,
)
def test_what_cannot_be_exported_is_told(run, arguments, told):
    done = call("ccdiff.export", f"run={run}", *arguments, cwd=run.parent)
    assert done.status == 1
    assert told in done.printed


def test_a_card_without_figures_is_told(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "metrics.jsonl").unlink()
    done = call("ccdiff.export", f"run={copy}", cwd=tmp_path)
    assert done.status == 0
    assert "the card states no figures" in done.printed


def test_names_of_data_are_text_in_the_card(tmp_path):
    evil = ["<img src=x onerror=alert(1)>", "[a](http://b)", "c|d\n# e", "\x1b[2J"]
    names = [*evil, *(str(i) for i in range(6))]
    run = tmp_path / "run"
    cfg = composed()
    train(cfg, run)
    path = Run(run).latest_checkpoint()
    checkpoint = load_checkpoint(path)
    config = OmegaConf.create(checkpoint["config"])
    config.data.label_names = config.conditioning.label_names = names
    save_checkpoint({**checkpoint, "config": OmegaConf.to_yaml(config)}, path)
    succeed("ccdiff.export", f"run={run}", f"out={tmp_path / 'out'}", cwd=tmp_path)
    card = (tmp_path / "out" / "README.md").read_text()
    table = card.partition("```\n\n")[2]
    assert "<" not in table
    assert "\\[a\\]" in table
    assert "\x1b" not in card
    assert all(
        line.count("|") - line.count("\\|") == 3 for line in table.splitlines() if "|" in line
    )
