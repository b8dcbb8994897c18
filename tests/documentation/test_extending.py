"""The worked examples of docs/extending.md, one for each kind of part.

That they work outside the repository is tried with the other commands; here they are put inside.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli import ROOT

from tests.documentation.pages import blocks
from tests.documentation.trials import CALLS, EXTENDING, length, shorter


def _rooms() -> dict[str, tuple[str, str]]:
    """Of the table of parts: for each group the room of a new file, and where its base is."""
    row = r"^\| \[`([\w/]+)`\]\(.*?\) \| .*? \| `([\w.]+)` \| `([\w/]+)` \|$"
    rows = re.findall(row, (ROOT / EXTENDING).read_text(), re.MULTILINE)
    return {group: (room, base) for group, base, room in rows}


def test_every_kind_of_part_has_an_example():
    rooms = _rooms()
    titles = [b.title for b in blocks() if b.page == EXTENDING and b.title]
    examples = {Path(t).relative_to("my_conf").parent.as_posix() for t in titles if "yaml" in t}
    assert examples == set(rooms)
    assert len(rooms) == 13
    for room, base in rooms.values():
        assert (ROOT / "ccdiff" / room).is_dir()
        __import__(base)


def _moved_inside(folder: Path) -> list[str]:
    """Puts the examples into a copy of the repository as the page says; returns their names."""
    rooms, names = _rooms(), []
    for part in ("ccdiff", "conf"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for script in ("train.py", "sample.py", "pyproject.toml"):
        shutil.copy(ROOT / script, folder)
    examples = [b for b in blocks() if b.page == EXTENDING and b.title]
    code = {Path(b.title).stem: b for b in examples if b.language == "python"}
    for block in examples:
        if block.language != "yaml":
            continue
        path = Path(block.title).relative_to("my_conf")
        room = _rooms()[path.parent.as_posix()][0]
        inside = f"ccdiff.{room.replace('/', '.')}."
        (folder / "conf" / path).write_text(block.text.replace("my_parts.", inside))
        names.append(path.stem)
        if made := re.search(r"my_parts\.(\w+)\.", block.text):
            (folder / "ccdiff" / room / f"{made[1]}.py").write_text(code[made[1]].text)
    assert len(names) > len(rooms)
    return names


@pytest.mark.slow
def test_examples_work_inside_the_repository(tmp_path):
    """And the tests of their kind find them there, without an edit."""
    names = _moved_inside(tmp_path)
    whole = max((c for c in CALLS if c.page == EXTENDING), key=length)
    given = shorter(CALLS[whole], tmp_path)
    given = [a for a in given if a not in ("--config-dir", "my_conf")]
    ran = subprocess.run(
        [sys.executable, "train.py", *given], cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    shutil.copytree(ROOT / "tests", tmp_path / "tests")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    kinds = ["schedules", "predictions", "weightings", "times"]
    files = ["config/test_configs.py", "test_layering.py"]
    files += [f"diffusion/test_{kind}.py" for kind in kinds]
    found = " or ".join([*names, "layer", "Straight", "Residual", "Debiased", "Kumaraswamy"])
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-k", found]
        + [f"tests/{file}" for file in files],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout[-4000:]
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed is not None
    assert int(passed[1]) >= 20, ran.stdout[-400:]
