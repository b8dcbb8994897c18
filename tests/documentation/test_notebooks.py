"""Every cell of every notebook is run, in order, on a run of seconds that they share."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli import ROOT, TINY, rarely

from ccdiff.train import calling

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def code(notebook: Path) -> Iterator[str]:
    for cell in json.loads(notebook.read_text())["cells"]:
        if cell["cell_type"] == "code":
            yield "".join(cell["source"])


def run(source: str, names: dict) -> object:
    """What the cell ends with, as a notebook would show it."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), names)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("notebooks")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(notebook, folder, monkeypatch, capsys):
    train = calling.train

    def briefly(overrides, *, out):
        quick = [*(s for s in TINY if "steps" not in s), *rarely(4), "sampler.steps=3"]
        return train([*overrides, *quick], out=out)

    monkeypatch.setattr(calling, "train", briefly)
    monkeypatch.chdir(folder)
    names: dict = {}
    shown = [run(cell, names) for cell in code(notebook)]
    assert len(shown) >= 4
    pictures = [u for u in shown if hasattr(u, "_repr_png_") or hasattr(u, "_repr_html_")]
    if "matplotlib" in "".join(code(notebook)):
        import matplotlib.pyplot as plt

        assert plt.get_fignums()
        plt.close("all")
    else:
        assert pictures
    for picture in pictures:
        html = hasattr(picture, "_repr_html_")
        assert picture._repr_html_() if html else picture._repr_png_()
    assert capsys.readouterr().out


def test_what_is_kept_of_them_is_small_and_whole():
    """Whoever ran them last: their folders are nobody's business, and errors are none to show."""
    assert [path.stem for path in NOTEBOOKS] == ["draw", "edit", "run", "samplers"]
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text())["cells"]
        assert any(cell.get("outputs") for cell in cells), path
        assert not any(o["output_type"] == "error" for c in cells for o in c.get("outputs", []))
        assert path.stat().st_size < 300_000
        assert str(Path.home()) not in path.read_text()
        assert "/tmp" not in path.read_text()
