"""The one direction in which imports may go, read off the source of every module.

A room may import its own and lower ones. Parts (L0) do not even import each other.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

LAYERS = {
    0: "schedules predictions weightings times conditioning nn data errors seeding durable locks "
    "ranks telling distributed",
    1: "denoiser oracle",
    2: "objective rescheduling guidance grids thresholding samplers editing generation labels "
    "visual fitting",
    3: "training evaluation runs",
}
ROOMS = {room: layer for layer, rooms in LAYERS.items() for room in rooms.split()}
COMMANDS = 4
"""The layer of train.py, sample.py and every other module at the top of the package."""

FOUNDATION = {"errors", "seeding", "durable", "locks", "ranks", "telling"}
"""What every part may import."""

COMPOSITION = {"hydra", "omegaconf"}
"""Commands alone know that there is a config."""

LAZY = {"torchvision", "wandb", "sklearn", "matplotlib"}
"""Seconds to import, or used by few: inside functions only."""

HEAVY = LAZY | {"torch", "numpy", "einops", "ema_pytorch"}
"""What --help must not wait for."""

# What the parts stand on. Data sets come in files, so they read files too.
PART_LIBRARIES = {"torch", "einops"}
DATA_LIBRARIES = PART_LIBRARIES | {"numpy", "PIL", "tqdm"}


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
        LookupError: Where it lives in a package that no room knows.
    """
    room = room_of(module)
    if room in ROOMS:
        return ROOMS[room]
    if module.count(".") > 1 or module in PACKAGES - {"ccdiff"}:
        raise LookupError(
            f"{module} lives in ccdiff/{room}/, which no room knows: name {room!r} in LAYERS of "
            f"tests/test_layering.py, in the lowest layer that its imports allow"
        )
    return COMMANDS


def faults(module: str, source: str) -> list[str]:
    """What is wrong with the imports of a module, one sentence each."""
    try:
        layer, room = layer_of(module), room_of(module)
    except LookupError as error:
        return [str(error)]
    libraries = DATA_LIBRARIES if room == "data" else PART_LIBRARIES
    found = []
    for name, line, at_once in imports(module, source):
        where, top = f"{module}:{line}", name.split(".")[0]
        if top in LAZY and at_once:
            found.append(f"{where} imports {top} at the top: do it inside the function")
        elif top in COMPOSITION and layer < COMMANDS:
            found.append(f"{where} imports {top}, but only commands (L4) compose")
        elif top in sys.stdlib_module_names or name == "ccdiff" or room_of(name) == room:
            continue
        elif top == "ccdiff":
            found += arrow_faults(where, layer, name)
        elif layer == 0 and at_once and top not in libraries:
            found.append(f"{where} imports {top}, but parts (L0) stand on torch alone")
    return found


def arrow_faults(where: str, layer: int, name: str) -> list[str]:
    """What is wrong with importing the module ``name`` of another room."""
    room, target = room_of(name), layer_of(name)
    if target > layer:
        return [
            f"{where} (L{layer}) imports {name} (L{target}): the arrow points up. If {room!r} is "
            f"a new room, name it in LAYERS of tests/test_layering.py"
        ]
    if layer == 0 and room not in FOUNDATION:
        return [f"{where} imports {name}, but parts (L0) know no siblings"]
    return []


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    found = faults(module, MODULES[module].read_text())
    assert not found, "\n".join(found)


def test_every_room_exists():
    rooms = {room_of(module) for module in MODULES}
    assert set(ROOMS) - rooms <= {"evaluation"}, "LAYERS names rooms that are gone"


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
    "module", [m for m, path in MODULES.items() if "@hydra.main(" in path.read_text()]
)
def test_commands_answer_help_without_waiting_for_torch(module):
    heavy = {name for name in imported_at_once(module) if name.split(".")[0] in HEAVY}
    assert not heavy, f"importing {module} imports {sorted(heavy)}"


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("ccdiff.schedules", "from ccdiff.denoiser import Denoise", "arrow points up"),
        ("ccdiff.schedules", "from ccdiff.times import TimeDensity", "know no siblings"),
        ("ccdiff.schedules", "from ccdiff import times", "know no siblings"),
        ("ccdiff.schedules", "from .times import TimeDensity", "know no siblings"),
        ("ccdiff.nn.unet", "from ..schedules import Cosine", "know no siblings"),
        ("ccdiff.nn", "from ..denoiser import Denoise", "arrow points up"),
        ("ccdiff.schedules", "import tqdm", "stand on torch alone"),
        ("ccdiff.data.core", "import pandas", "stand on torch alone"),
        ("ccdiff.denoiser", "import ccdiff.objective", "arrow points up"),
        ("ccdiff.visual", "def f():\n    from ccdiff.runs import Run", "arrow points up"),
        ("ccdiff.objective", "from ccdiff.brand_new import x", "'brand_new' is a new room"),
        ("ccdiff.training.loop", "from ccdiff.compose import build", "arrow points up"),
        ("ccdiff.training.loop", "import hydra", "only commands"),
        ("ccdiff.runs", "def f():\n    from omegaconf import OmegaConf", "only commands"),
        ("ccdiff.visual", "import matplotlib.pyplot as plt", "inside the function"),
        ("ccdiff.evaluate", "class A:\n    import wandb", "inside the function"),
        ("train", "if True:\n    import torchvision", "inside the function"),
        ("ccdiff.gadgets.core", "", "which no room knows"),
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
        ("ccdiff.guidance", "from ccdiff.samplers.core import Sampler\nimport ccdiff"),
        ("ccdiff.training.trackers", "def f():\n    import wandb"),
        ("ccdiff.evaluate", "import hydra\nfrom ccdiff.runs import Run\nimport ccdiff.compose"),
    ],
)
def test_a_good_import_is_left_alone(module, source):
    assert not faults(module, source)
