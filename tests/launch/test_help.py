"""What --help prints: everything of conf/, in a moment, on any terminal."""

import io
import re
import sys

import pytest
from cli import ROOT, call, succeed
from omegaconf import OmegaConf

from ccdiff.config.options import CONF, compose
from ccdiff.launch import entry, layout
from ccdiff.launch import help as page

OPTIONS = sorted(
    path.relative_to(CONF)
    for path in CONF.rglob("*/*.yaml")
    if path.parts[len(CONF.parts)] not in ("hydra", "wandb")
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> str:
    return succeed("train.py", "--help", cwd=tmp_path_factory.mktemp("help")).printed


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_every_option_says_what_it_is(option):
    text = page._first_sentence((CONF / option).read_text())
    assert 8 < len(text) < 250, "begin the YAML with a comment, a sentence of what it is"
    assert "@package" not in text


def test_all_options_of_all_groups_are_there_and_those_chosen_are_marked(printed):
    for group in compose("train", ["sampler=ddim"], with_hydra=True).hydra.runtime.choices:
        if str(group).startswith("hydra/"):
            continue
        assert re.search(rf"^  {group}\b", printed, re.MULTILINE), group
        for path in (CONF / str(group)).glob("*.yaml"):
            assert re.search(rf"^   [ *] {path.stem} ", printed, re.MULTILINE), path
    for chosen in ("digits", "unet_mnist", "cosine", "ancestral"):
        assert re.search(rf"^   \* {chosen} ", printed, re.MULTILINE)
    assert "images and label names" in printed
    examples = re.findall(r"^  python train\.py.*$", printed, re.MULTILINE)
    assert len(examples) == 10


def test_every_key_is_there_with_its_value(printed):
    config = OmegaConf.to_container(compose("train"), resolve=False, enum_to_str=True)
    lines = {line.split("  ")[0] for line in map(str.strip, printed.splitlines())}
    leaves = dict(layout._leaves(config, ""))
    assert len(leaves) > 60
    for key, value in leaves.items():
        if key not in ("experiment", "sweep"):
            assert f"{key}={layout._shown(value)}" in lines
    assert "Optimizer steps in all" in printed
    assert "at t = 0" in printed


def test_what_stands_beside_it_is_heeded(tmp_path):
    given = ("data=mnist", "schedule.offset=0.5", "objective=meanflow", "name_of=nothing")
    for order in (("--help", *given[:3]), (*given[:3], "-h")):
        printed = succeed("train.py", *order, cwd=tmp_path).printed
        for chosen in ("mnist", "meanflow"):
            assert re.search(rf"^   \* {chosen} ", printed, re.MULTILINE)
        assert "schedule.offset=0.5" in printed
        # An objective brings its sampler along.
        assert "sampler.name=meanflow" in printed
        assert not re.search(r"^   \* (digits|ancestral) ", printed, re.MULTILINE)
    wrong = call("train.py", "--help", given[3], cwd=tmp_path)
    assert wrong.status == 1
    assert "there is no key 'name_of'" in wrong.printed
    labelled = succeed("sample.py", "--help", "labels=[Größe 38]", "run=1e5", cwd=tmp_path)
    assert "run=1e5" in labelled.printed
    (tmp_path / "mine/schedule").mkdir(parents=True)
    mine = "# Mine alone.\n" + (CONF / "schedule/cosine.yaml").read_text()
    (tmp_path / "mine/schedule/mine.yaml").write_text(mine)
    added = ("--help", "--config-dir", "mine", "schedule=mine")
    assert re.search(r"\* mine +Mine alone\n", succeed("train.py", *added, cwd=tmp_path).printed)


def check_all_is_explained(printed: str) -> None:
    """Groups, keys of the command's own, and those of settings; without marks of code."""
    assert "``" not in printed
    assert ("\nGroups" in printed) == ("[group=option ...]" in printed)
    groups = re.findall(r"^  ([\w/]+)(: .+)?$", printed.partition("Keys")[0], re.MULTILINE)
    assert [group for group, meaning in groups if not meaning] == []
    keys = printed.partition("Keys (key=value)\n")[2].partition("Flags")[0]
    own = re.findall(r"^ (?: |   (?=trainer|evaluate))([\w.]+)=\S+( .*)?$", keys, re.MULTILINE)
    assert len(own) > 2
    assert [key for key, said in own if not said] == []


OTHERS = [
    *(("sample.py",), ("ccdiff.inspect", "part=field"), ("ccdiff.evaluate", "samples=x")),
    *(("ccdiff.evaluate",), ("ccdiff.curve",), ("ccdiff.demo",), ("ccdiff.edit",)),
    *(("ccdiff.export",), ("ccdiff.fit",)),
]


@pytest.mark.parametrize("typed", OTHERS, ids=" ".join)
def test_other_commands_explain_all_that_they_take(typed, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")
    check_all_is_explained(succeed(*typed, "--help", cwd=tmp_path).printed)


def test_training_explains_its_groups_and_settings(printed):
    check_all_is_explained(printed)


def test_values_that_are_one_of_a_few_are_listed(printed):
    assert "trainer.precision=auto        auto | fp32 | bf16: auto is bf16 where" in printed
    assert "none | zero1: What several processes divide" in printed


@pytest.mark.parametrize("command", ["ccdiff.compare", "ccdiff.dashboard"])
def test_a_command_without_a_config_has_the_same_help(command, tmp_path):
    short, long = (succeed(command, flag, cwd=tmp_path).printed for flag in ("-h", "--help"))
    assert short == long
    assert short.startswith(f"usage: python -m {command} ")
    for part in ("\nExamples\n", "\nKeys\n"):
        assert part in short
    assert all(line.rstrip() == line for line in short.splitlines())


def test_hydras_own_help_is_still_there(tmp_path):
    assert "Hydra" in succeed("train.py", "--hydra-help", cwd=tmp_path).printed


@pytest.mark.parametrize("columns", [44, 80, 200])
def test_a_terminal_has_colours_and_lines_that_fit(monkeypatch, columns):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    page.print_help("train", ["--help"], about="Trains. " * 20)
    coloured = terminal.getvalue()
    assert "\x1b[1mGroups\x1b[0m" in coloured
    plain = re.sub(r"\x1b\[\d+m", "", coloured)
    long = [line for line in plain.splitlines() if len(line) > columns]
    # Only what is one word, or the name of an option, may be wider.
    assert all(len(line.split()) <= 3 for line in long), long
    for name, value, colours in (
        *(("NO_COLOR", "", True), ("NO_COLOR", "1", False), ("NO_COLOR", "", True)),
        ("TERM", "dumb", False),
    ):
        monkeypatch.setenv(name, value)
        assert layout.Page(terminal).colours == colours
    monkeypatch.setenv("TERM", "xterm")
    assert not layout.Page(io.StringIO()).colours


def test_a_first_line_comes_before_what_takes_long(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "torch")
    for name in ("RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    entry._tell_loading("train", ["seed=1"])
    assert capsys.readouterr().err == "train: loading torch, which takes some seconds ...\n"
    for arguments in (["--cfg", "job"], ["--cfg=job"], ["-sc", "install=bash"]):
        entry._tell_loading("train", arguments)
    monkeypatch.setenv("RANK", "1")
    entry._tell_loading("train", [])
    assert capsys.readouterr() == ("", "")


def test_nothing_slow_is_imported_before_the_first_line():
    """Nor Hydra: the modules of the two scripts import what is light, and name the rest."""
    from tests.test_layering import MODULES, imported_at_once

    for script in ("train", "sample", "ccdiff.compare.__main__", "ccdiff.dashboard"):
        names = imported_at_once(script)
        assert not {name.split(".")[0] for name in names} & {"hydra", "omegaconf", "torch"}
        assert "ccdiff.launch.entry" in names
    assert (ROOT / "train.py").is_file()
    assert MODULES
