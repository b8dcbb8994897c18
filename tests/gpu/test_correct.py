"""The part ``correct`` from beginning to end, as small as can be; what collects what travels."""

import os
import subprocess
import sys

import pytest
import torch

from ccdiff.errors import UserError
from tests.gpu import carry, correct
from tests.gpu.bench import Bench


def test_all_of_it_in_miniature(tmp_path):
    bench = Bench(device=torch.device("cpu"), out=tmp_path, seconds=600, miniature=True)
    with bench.in_part("correct", 1.0):
        correct.run(bench)
    assert not bench.failures(), (bench.failures(), (bench.out / "log.txt").read_text()[-3000:])
    outcomes = [row.get("outcome") for row in bench.rows]
    assert outcomes.count("needs CUDA") == 6, "a case that a CPU can do is left out"
    assert outcomes.count("passed") == len(outcomes) - 6
    done = " ".join(row["case"] for row in bench.rows)
    for what in ("gradient", "1 at a time", "sweep", "bit for bit", "disk", "grid=", "objective="):
        assert what in done
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "table.md", "log.txt"}


def test_what_is_collected_is_enough_and_in_bounds(tmp_path):
    given = tmp_path / "images.npz"
    given.write_bytes(bytes(1000))
    sizes = carry.collect(tmp_path / "carried", given={"images.npz": given})
    assert sizes["images.npz"] == 1000
    site = tmp_path / "carried" / "site"
    asked = "import hydra, omegaconf, antlr4, sys; print(hydra.__file__, 'wandb' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(site)!r}); {asked}"],
        env={**os.environ, "PYTHONPATH": _yaml(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(site / "hydra" / "__init__.py"), "False"]
    with pytest.raises(UserError, match=r"more than 1: .*hydra-core"):
        carry.collect(tmp_path / "carried", given={}, most=1 << 20)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds something else"):
        carry.collect(tmp_path / "mine", given={})
    assert (tmp_path / "mine" / "thesis.txt").exists()


def _yaml(folder) -> str:
    """A folder with what the collected packages find on any machine with torch."""
    import packaging
    import yaml

    there = folder / "there"
    there.mkdir()
    for module in (yaml, packaging):
        (there / module.__name__).symlink_to(os.path.dirname(module.__file__))
    return str(there)
