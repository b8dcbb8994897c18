"""Every command and example of README and docs/ is tried, in a scratch folder.

Commands are run with few steps and a small network. Those that want what is not there (a cluster,
several GPUs, a data set, weights) have their config composed. So have most of the others, unless
the slow tests are asked for.
"""

import contextlib
import io
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from cli import ROOT, call, succeed
from PIL import Image

from ccdiff.metrics.classifier import Classifier
from tests.documentation.pages import PAGES, Block, Call, Command, blocks, call_of
from tests.documentation.trials import (
    ALWAYS,
    CALLS,
    COMMANDS,
    LACKING,
    OTHERS,
    QUICK,
    RUN,
    SMALL,
    SWEEP,
    compose,
    lacking,
    once,
    other_text,
    run,
)


def _untrained(train, *, num_labels: int, **_: object) -> Classifier:
    """Stands in for the training of the classifier, which has its own tests."""
    torch.manual_seed(0)
    shape = tuple(train.images.shape[1:])
    return Classifier(shape, num_labels=num_labels).eval()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Iterator[Path]:
    """A folder with all that the pages take for granted: a run, a sweep, images, own parts."""
    folder = tmp_path_factory.mktemp("documented") / "clone"
    folder.mkdir()
    for block in blocks():
        if block.title is not None:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
    for number in range(40):
        image = Image.new("RGB", (12, 12), (6 * number, 90, 30))
        places = f"pictures/{'ab'[number % 2]}", "tagged", "poses"
        for path in (f"{place}/{number}.png" for place in places):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            image.save(folder / path)
        with (folder / "tagged/table.csv").open("a") as file:
            file.write(f"{number}.png,{number % 2},{number // 2 % 2}\n")
        with (folder / "poses/table.csv").open("a") as file:
            file.write(f"{number}.png,{9 * number},{1 + number % 5}\n")
    for name in ("tagged/a", "tagged/b", "poses/a", "poses/b"):  # Named by tables of the page.
        image.save(folder / f"{name}.png")
    Image.new("L", (8, 8), 90).save(folder / "my.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ccdiff.metrics.classifier.train_classifier", _untrained)
        patch.syspath_prepend(str(folder))
        patch.setenv("CCDIFF_ALLOW", "my_parts")
        tiny = [*SMALL, *QUICK, "tracker=none", "conditioning.drop=0.1"]
        succeed("train.py", *tiny, f"hydra.run.dir={RUN}", cwd=folder)
        saved = folder / RUN / "checkpoints"
        shutil.copy(next(saved.glob("step_*.pt")), saved / "step_00000400.pt")
        succeed("train.py", "-m", "seed=0", *tiny, f"hydra.sweep.dir={SWEEP}", cwd=folder)
        yield folder
        for name in [name for name in sys.modules if name.partition(".")[0] == "my_parts"]:
            del sys.modules[name]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in CALLS], ids=str)
def test_commands_of_others_are_known(command):
    known = [why for pattern, why in OTHERS.items() if re.fullmatch(pattern, other_text(command))]
    assert known, f"nothing here tries this command, nor says why not: {command.text}"
    for path in re.findall(r"(?<!\S)(?:tests|conf|\.ci)/[\w./]+", command.text):
        assert (ROOT / path).exists()
    for module in re.findall(r"-m (tests\.[\w.]+)", command.text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()


def test_extras_and_groups_that_are_asked_for_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras, groups = project["project"]["optional-dependencies"], project["dependency-groups"]
    text = "\n".join(path.read_text() for path in PAGES)
    asked = set(re.findall(r"--extra (\w+)", text))
    assert asked, "no page names an extra"
    assert asked <= set(extras)
    assert set(re.findall(r"--group (\w+)", text)) <= set(groups)


def test_what_is_said_to_keep_commands_from_running_does():
    lines = [" ".join(called.arguments) for called in CALLS.values()]
    assert not [p for p in LACKING if not any(re.search(p, line) for line in lines)]
    others = [other_text(command) for command in COMMANDS]
    assert not [p for p in OTHERS if not any(re.fullmatch(p, other) for other in others)]


@pytest.mark.parametrize("command", sorted(ALWAYS, key=str), ids=str)
def test_commands_run(command, scratch):
    run(CALLS[command], scratch)


@pytest.mark.parametrize("command", [c for c in once(CALLS) if c not in ALWAYS], ids=str)
def test_other_commands_compose(command, scratch):
    compose(CALLS[command], scratch)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [c for c in once(CALLS) if c not in ALWAYS and lacking(CALLS[c]) is None],
    ids=str,
)
def test_other_commands_run(command, scratch):
    if "sweep=search" in CALLS[command].arguments:
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    run(CALLS[command], scratch)


SNIPPETS = [b for b in blocks() if b.language == "python" and b.title is None]


def _output_of(block: Block) -> str | None:
    """What the page shows below a block as its output."""
    following = [b for b in blocks() if b.page == block.page and b.line > block.line]
    near = block.line + block.text.count("\n") + 3
    shown = following and following[0].language == "text" and following[0].line <= near
    return following[0].text if shown else None


@pytest.mark.parametrize("block", SNIPPETS, ids=str)
def test_snippets_run_and_print_what_is_shown(block, scratch, monkeypatch):
    monkeypatch.chdir(scratch)
    if "my_model" in block.text and not (scratch / "my_model").exists():
        succeed("ccdiff.export", f"run={RUN}", "out=my_model", cwd=scratch)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block.text, str(block), "exec"), {})
    lines = printed.getvalue().splitlines()
    if (shown := _output_of(block)) is not None:
        assert lines == shown.splitlines()
    elif expected := re.search(r"# ([\d. ,]+)$", block.text, re.MULTILINE):
        assert lines == expected[1].split(", ")


def test_an_unknown_command_is_not_passed_over():
    assert call_of(Command("", 1, "uv run --no-dev train.py a=1")) == Call("train.py", ("a=1",))
    assert call_of(Command("", 1, "ccdiff edit a=1")) == Call("ccdiff.edit", ("a=1",))
    alone = Command("", 1, "rm -rf everything")
    assert call_of(alone) is None
    assert not any(re.fullmatch(pattern, other_text(alone)) for pattern in OTHERS)


def test_a_command_that_is_wrong_is_found(scratch):
    for wrong in ("schedule=cosin", "trainer.stpes=3", "sampler/grid=kerras"):
        assert call("train.py", wrong, "--cfg", "job", cwd=scratch).status != 0
