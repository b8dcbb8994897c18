"""``python -m ccdiff.fit`` as a user calls it, and those that find its grids."""

import json
from pathlib import Path

import numpy as np
import pytest
from cli import TINY, call, rarely, succeed

import ccdiff
from ccdiff.errors import UserError

QUICK = ("device=cpu", "precision=fp32", "weights=raw")
FEW = ("sampler=unipc", "steps=[3]", "images=8", "tries=20", "solution_steps=20")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fit")
    # With estimates that are no black or white pixels from the first steps on.
    recipe = ("prediction=clean", "weighting=uniform", "tracker=none")
    succeed("train.py", *TINY, *rarely(2), *recipe, "hydra.run.dir=one", cwd=folder)
    return folder / "one"


def drawn(run: Path, out: Path, *arguments: str) -> np.ndarray:
    succeed("sample.py", f"run={run}", *QUICK, "labels=[3]", "num_per_label=2", f"out={out}",
            *arguments, cwd=run)  # fmt: skip
    with np.load(out / "samples.npz") as file:
        return file["images"]


def test_a_grid_is_asked_for_kept_and_found(run, tmp_path):
    fitted = ("sampler=unipc", "sampler/grid=fitted", "sampler.steps=3")
    done = call("sample.py", f"run={run}", *QUICK, *fitted, f"out={tmp_path / 'no'}", cwd=run)
    assert done.status == 1
    assert "no grid for unipc with 3 steps (none was fitted)" in done.printed
    assert f"python -m ccdiff.fit run={run} sampler=unipc steps=[3]" in done.printed
    assert not (tmp_path / "no").exists()

    done = succeed("ccdiff.fit", f"run={run}", *QUICK, *FEW, cwd=run)
    assert "unipc, 3 steps: RMS to the ODE's solution" in done.printed
    grids = json.loads((run / "fitted_grids.json").read_text())
    assert list(grids) == ["unipc-3"]
    assert len(grids["unipc-3"]["levels"]) == 3
    assert (grids["unipc-3"]["step"], grids["unipc-3"]["weights"]) == (2, "raw")

    images = drawn(run, tmp_path / "a", *fitted)
    levels = ",".join(map(str, grids["unipc-3"]["levels"]))
    assert np.array_equal(
        images, drawn(run, tmp_path / "b", *fitted, f"sampler.grid.levels=[{levels}]")
    )
    assert not np.array_equal(
        images, drawn(run, tmp_path / "c", "sampler=unipc", "sampler.steps=3")
    )
    other = call("sample.py", f"run={run}", *QUICK, *fitted[:2], "sampler.steps=4", cwd=run)
    assert "fitted are unipc-3" in other.printed


def test_a_file_that_holds_something_else_is_refused(run, tmp_path):
    path = run / "fitted_grids.json"
    before = path.read_text() if path.exists() else None
    fitted = ("sampler=unipc", "sampler/grid=fitted", "sampler.steps=3")
    try:
        for content in (
            "[]",
            "{",
            '{"unipc-3": {"levels": [2, 1]}}',
            '{"unipc-3": {"levels": "x"}}',
        ):
            path.write_text(content)
            done = call("sample.py", f"run={run}", *QUICK, *fitted, cwd=run)
            assert done.status == 1
            assert "fit again" in done.printed
    finally:
        path.unlink()
        if before is not None:
            path.write_text(before)


def test_coefficients_are_asked_for_kept_and_found(run, tmp_path):
    """By every command that draws, by Python, and in an export."""
    fitted = ("sampler=fitted", "sampler.steps=3")
    done = call("sample.py", f"run={run}", *QUICK, *fitted, f"out={tmp_path / 'no'}", cwd=run)
    assert done.status == 1
    assert "has no coefficients for fitted with 3 steps" in done.printed
    assert f"python -m ccdiff.fit run={run} sampler=fitted steps=[3]" in done.printed
    done = call("train.py", *TINY, *fitted, "tracker=none", "hydra.run.dir=no", cwd=run)
    assert done.status == 1
    assert "takes the coefficients that were fitted to a run" in done.printed

    few = ("steps=[3]", "images=8", "batch_size=4", "rounds=1", "solution_steps=20")
    done = succeed("ccdiff.fit", f"run={run}", *QUICK, "sampler=fitted", *few, cwd=run)
    assert "fitted, 3 steps: RMS to the ODE's solution" in done.printed
    entry = json.loads((run / "fitted_grids.json").read_text())["fitted-3"]
    assert [len(row) for row in entry["coefficients"]] == [2, 3, 4]
    assert entry["rms"] < 2 * entry["rms_before"]

    images = drawn(run, tmp_path / "a", *fitted)
    model = ccdiff.load(run, device="cpu")
    asked = {"labels": ["3"], "num_per_label": 2}
    ours = model.sample(**asked, sampler="fitted", steps=3)
    with pytest.raises(UserError, match=r"fitted are .*fitted-3"):
        model.sample(**asked, sampler="fitted", steps=4)
    out = tmp_path / "exported"
    succeed("ccdiff.export", f"run={run}", "weights=raw", *fitted, f"out={out}", cwd=run)
    exported = ccdiff.load(out, device="cpu")
    assert np.array_equal(np.asarray(exported.sample(**asked)), images)

    path = run / "fitted_grids.json"
    kept = path.read_text()
    try:
        *_, last = more = [list(row) for row in entry["coefficients"]]
        last[-1] += 1
        path.write_text(json.dumps({"fitted-3": {**entry, "coefficients": more}}))
        assert not np.array_equal(drawn(run, tmp_path / "b", *fitted), images)
        other = model.sample(**asked, sampler="fitted", steps=3)
        assert not np.array_equal(np.asarray(ours), np.asarray(other))
        for rows in ([[1, 2], [1, 2, 3], [1, 2, 3, "x"]], [[1, 2]]):
            path.write_text(json.dumps({"fitted-3": {**entry, "coefficients": rows}}))
            done = call("sample.py", f"run={run}", *QUICK, *fitted, cwd=run)
            assert done.status == 1
            assert "fit again" in done.printed or "sampler.coefficients" in done.printed
    finally:
        path.write_text(kept)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sampler=fitted", "rounds=0"], "rounds must be at least 1"),
        (["sampler=fitted", "batch_size=0"], "batch_size must be at least 1"),
        (["sampler=ddpm"], "sampler=ddpm draws noise"),
        (["steps=[]"], "steps must name"),
        (["steps=[5,5]"], "each once"),
        (["tries=0"], "tries must be at least 1"),
        (["images=1"], "images must be at least 2"),
        (["steps=[5]", "solution_steps=9"], "solution_steps=9 is no fine solution"),
        (["steps=[1.5]"], "steps"),
        (["steps=x"], "steps: "),
    ],
)
def test_what_cannot_be_fitted_is_told(run, arguments, words):
    done = call("ccdiff.fit", f"run={run}", *QUICK, *arguments, cwd=run)
    assert done.status == 1
    assert words in done.printed


def test_a_curve_compares_fitted_grids(run, tmp_path):
    succeed("ccdiff.fit", f"run={run}", *QUICK, *FEW, cwd=run)
    quick = ("steps=3", "seeds=0", "num_per_label=1", "reference_steps=2", "solution_steps=4")
    out = tmp_path / "curve"
    succeed("ccdiff.curve", f"run={run}", *QUICK, *quick, "sampler=unipc", "sampler/grid=fitted",
            f"out={out}", cwd=run)  # fmt: skip
    assert "unipc,fitted,3" in (out / "curve.csv").read_text()


def test_an_export_draws_with_the_fitted_grid(run, tmp_path):
    succeed("ccdiff.fit", f"run={run}", *QUICK, *FEW, cwd=run)
    fitted = ("sampler=unipc", "sampler/grid=fitted", "sampler.steps=3")
    succeed("ccdiff.export", f"run={run}", "weights=raw", *fitted, f"out={tmp_path}", cwd=run)
    model = ccdiff.load(tmp_path, device="cpu")
    levels = json.loads((run / "fitted_grids.json").read_text())["unipc-3"]["levels"]
    assert list(model.pipeline.sampler.grid.levels) == levels
    images = np.asarray(model.sample(["3"], num_per_label=2))
    assert np.array_equal(images, drawn(run, tmp_path / "drawn", *fitted))
    missing = call("ccdiff.export", f"run={run}", *fitted[:2], "sampler.steps=7", cwd=run)
    assert missing.status == 1
    assert "no grid for unipc with 7 steps" in missing.printed
