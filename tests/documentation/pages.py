"""What README and docs/ tell a user to type: fenced blocks, and the commands in them."""

import re
import shlex
from dataclasses import dataclass

from cli import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(
    r'^```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$',
    re.DOTALL | re.MULTILINE,
)

_SCRIPTS = {"ccdiff.train": "train.py", "ccdiff.sample": "sample.py"}
"""Commands that have a script at the top of a clone."""


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, what it is written in, which file it is meant to be."""

    page: str
    line: int
    language: str
    title: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A line of a shell, with what it goes on with joined to it."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)


@dataclass(frozen=True)
class Call:
    """A command of the suite: its script or module, what it is given, and what starts it."""

    script: str
    arguments: tuple[str, ...]
    launcher: tuple[str, ...] = ()


def blocks() -> list[Block]:
    """Every fenced block of every page."""
    found = []
    for path in PAGES:
        text = path.read_text()
        page = path.relative_to(ROOT).as_posix()
        for fence in _FENCE.finditer(text):
            line = text.count("\n", 0, fence.start()) + 2
            found.append(Block(page, line, fence["language"], fence["title"], fence["text"]))
    return found


def commands() -> list[Command]:
    """Every command of every block for a shell, one of several joined by && at a time."""
    found = []
    for block in blocks():
        if block.language != "bash":
            continue
        begun, first = "", block.line
        for number, line in enumerate(block.text.splitlines(), start=block.line):
            first = first if begun else number
            begun += line
            if line.endswith("\\"):
                begun = begun[:-1]
                continue
            for part in begun.split(" && "):
                # A comment alone is none; what SLURM reads of comments is.
                if part.strip() and not part.startswith("# "):
                    found.append(Command(block.page, first, part.strip()))
            begun = ""
    return found


def call_of(command: Command) -> Call | None:
    """What a command calls of this suite, without what starts it; None where it is another's."""
    words = command.words
    if words[:2] == ["uv", "run"]:
        words = words[2:]
        while words and words[0].startswith("--"):
            words = words[1 if words[0] in ("--no-dev", "--no-sync") else 2 :]
    launcher: list[str] = []
    if words and words[0] in ("torchrun", "srun"):
        end = next(i for i, w in enumerate(words) if i and not w.startswith("--"))
        if words[0] == "torchrun" and words[end - 1] == "-m":
            end -= 1
        launcher, words = words[:end], words[end:]
        if launcher[-1] == "-m":
            launcher, words = launcher[:-1], ["-m", *words]
    if words and words[0] in ("python", ".venv/bin/python"):
        words = words[1:]
    if len(words) > 1 and words[0] == "-m" and words[1].startswith("ccdiff."):
        words = words[1:]
    elif len(words) > 1 and words[0] == "ccdiff" and words[1].isalpha():
        words = [f"ccdiff.{words[1]}", *words[2:]]
    elif not words or words[0] not in _SCRIPTS.values():
        return None
    return Call(_SCRIPTS.get(words[0], words[0]), tuple(words[1:]), tuple(launcher))
