"""The one direction in which imports may go, read off the source of every module.

A module may import from its own wing and from lower ones; wings of one line know no siblings.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ccdiff.__main__ import COMMANDS as COMMAND_MODULES

ROOT = Path(__file__).parents[1]

LAYERS = """
errors
seeding settings
distributed nn diffusion
system
pages pictures
data runs
metrics generation config
training trained launch
train sample evaluate compare curve fit edit inspect export demo prepare dashboard __main__
"""
"""The wings, lowest first: a module may import from its own and from lower lines."""

ROOMS = {room: n for n, rooms in enumerate(LAYERS.split("\n")[1:-1]) for room in rooms.split()}
COMMANDS = max(ROOMS.values())

COMPOSERS = {"config", "launch", "trained"} | {r for r, n in ROOMS.items() if n == COMMANDS}
"""The rooms that know that there is a config."""

COMPOSITION = {"hydra", "omegaconf"}
"""What composers alone know of."""

LAZY = {"torchvision", "wandb", "sklearn", "matplotlib"}
"""Seconds to import, or used by few: inside functions only."""

HEAVY = LAZY | {"torch", "numpy", "einops", "ema_pytorch"}
"""What --help must not wait for."""

GUARDED = {"tqdm.contrib.logging": "ccdiff.system.console"}
"""What one module alone may import, since it makes it safe for the others."""

# What mathematics and networks stand on; data sets come in files, so they read files too.
TORCH = {"torch", "einops"}
STANDS_ON = {"nn": TORCH, "diffusion": TORCH, "data": TORCH | {"numpy", "PIL", "tqdm"}}


class Import(NamedTuple):
    """A module that another one names, and whether importing the one imports the other."""

    name: str
    line: int
    at_once: bool


def modules() -> dict[str, Path]:
    """Every module of the project by its dotted name."""
    files = [ROOT / "train.py", ROOT / "sample.py", *sorted((ROOT / "ccdiff").rglob("*.py"))]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in files
    }


MODULES = modules()
PACKAGES = {name for name, path in MODULES.items() if path.name == "__init__.py"}


def imports(module: str, source: str) -> Iterator[Import]:
    """All imports of a module, also those inside functions and under conditions."""

    def visit(node: ast.AST, at_once: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, at_once)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".") if module in PACKAGES else module.split(".")[:-1]
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            for alias in node.names:
                # "from ccdiff import runs" names the module ccdiff.runs.
                name = f"{base}.{alias.name}"
                yield Import(name if name in MODULES else base, node.lineno, at_once)
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        )
        for child in ast.iter_child_nodes(node):
            yield from visit(child, at_once and not lazy)

    yield from visit(ast.parse(source), True)


def room_of(module: str) -> str:
    """``samplers`` of ``ccdiff.samplers.core``; commands are their own rooms."""
    parts = module.split(".")
    return parts[1] if parts[0] == "ccdiff" and len(parts) > 1 else parts[0]


def layer_of(module: str) -> int:
    """The layer of a module.

    Raises:
        LookupError: Where it lives in no wing.
    """
    room = room_of(module)
    if room == "ccdiff":
        return COMMANDS
    if room not in ROOMS:
        raise LookupError(
            f"{module} lives in no wing: name {room!r} in LAYERS of tests/test_layering.py, in "
            f"the lowest line that its imports allow"
        )
    return ROOMS[room]


def faults(module: str, source: str) -> list[str]:
    """What is wrong with the imports of a module, one sentence each."""
    try:
        layer, room = layer_of(module), room_of(module)
    except LookupError as error:
        return [str(error)]
    found = []
    for name, line, at_once in imports(module, source):
        where, top = f"{module}:{line}", name.split(".")[0]
        if GUARDED.get(name, module) != module:
            found.append(f"{where} imports {name}: take it from {GUARDED[name]}, which guards it")
        if top in LAZY and at_once:
            found.append(f"{where} imports {top} at the top: do it inside the function")
        elif top in COMPOSITION and room not in COMPOSERS:
            found.append(f"{where} imports {top}, but {room} does not know of a config")
        elif top in sys.stdlib_module_names or name == "ccdiff" or room_of(name) == room:
            continue
        elif top == "ccdiff":
            found += arrow_faults(where, layer, name)
        elif room in STANDS_ON and at_once and top not in STANDS_ON[room]:
            found.append(f"{where} imports {top}, but {room} stands on torch alone")
    return found


def arrow_faults(where: str, layer: int, name: str) -> list[str]:
    """What is wrong with importing the module ``name`` of another room."""
    target = layer_of(name)
    if target >= layer:
        return [f"{where} (L{layer}) imports {name} (L{target}): the arrow does not point down"]
    return []


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    found = faults(module, MODULES[module].read_text())
    assert not found, "\n".join(found)


def test_every_room_exists():
    rooms = {room_of(module) for module in MODULES}
    assert set(ROOMS) <= rooms, "LAYERS names rooms that are gone"


def imported_at_once(module: str) -> set[str]:
    """Everything that importing a module imports, by its source."""
    seen: set[str] = set()
    unseen = [module]
    while unseen:
        name = unseen.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in MODULES:
            source = MODULES[name].read_text()
            unseen += [found.name for found in imports(name, source) if found.at_once]
            unseen += [name.rpartition(".")[0]] if "." in name else []
    return seen


@pytest.mark.parametrize(
    "module", ["train", "sample", *(module for module, _ in COMMAND_MODULES.values())]
)
def test_commands_answer_help_without_waiting_for_torch(module):
    heavy = {name for name in imported_at_once(module) if name.split(".")[0] in HEAVY}
    assert not heavy, f"importing {module} imports {sorted(heavy)}"


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("ccdiff.diffusion.times", "from ccdiff.data import Split", "does not point down"),
        ("ccdiff.diffusion.times", "from ccdiff.nn import UNet", "does not point down"),
        ("ccdiff.nn.unet", "from ..diffusion.schedules import Cosine", "does not point down"),
        ("ccdiff.nn", "from ..diffusion import denoiser", "does not point down"),
        ("ccdiff.diffusion.times", "import tqdm", "stands on torch alone"),
        ("ccdiff.diffusion.times", "import numpy as np", "stands on torch alone"),
        ("ccdiff.data.core", "import pandas", "stands on torch alone"),
        ("ccdiff.pictures", "def f():\n    from ccdiff.runs.folder import Run", "not point down"),
        ("ccdiff.training.loop", "import hydra", "does not know of a config"),
        (
            "ccdiff.runs.folder",
            "def f():\n    from omegaconf import OmegaConf",
            "not know of a conf",
        ),
        ("ccdiff.system.device", "from ccdiff.training.loop import Loop", "does not point down"),
        ("ccdiff.evaluate.job", "from ccdiff.curve.job import run_curve", "does not point down"),
        ("ccdiff.pictures", "import matplotlib.pyplot as plt", "inside the function"),
        ("ccdiff.evaluate.job", "class A:\n    import wandb", "inside the function"),
        ("train", "if True:\n    import torchvision", "inside the function"),
        (
            "ccdiff.sample.job",
            "def f():\n    from tqdm.contrib.logging import logging_redirect_tqdm",
            "which guards it",
        ),
        ("ccdiff.gadgets.core", "", "lives in no wing"),
        ("ccdiff.gadgets", "", "lives in no wing"),
    ],
)
def test_a_bad_import_is_found(module, source, fault):
    (found,) = faults(module, source)
    assert fault in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("ccdiff.nn.unet", "from ccdiff.nn.layers import FiLM\nfrom .attention import X"),
        ("ccdiff.data.core", "from ccdiff.errors import UserError\nimport numpy, PIL.Image"),
        ("ccdiff.data.digits", "def f():\n    from sklearn.datasets import load_digits"),
        ("ccdiff.diffusion.guidance", "from ccdiff.diffusion.samplers import DDIM\nimport ccdiff"),
        ("ccdiff.runs.tracker", "def f():\n    import wandb"),
        ("ccdiff.evaluate.job", "import hydra\nfrom ccdiff.runs.folder import Run"),
    ],
)
def test_a_good_import_is_left_alone(module, source):
    assert not faults(module, source)
