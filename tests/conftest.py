"""What all tests share; their fixtures are in parts.py."""

import gc
import os
import tempfile

os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"
# Where the key lies by which the suite knows its own runs.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="ccdiff-state-")

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # The process that hands files out runs no test: its workers need not wait until it has torch.
    if config.getoption("dist", "no") == "no":
        config.pluginmanager.import_plugin("parts")


@pytest.fixture(autouse=True, scope="module")
def _spare_what_is_loaded() -> None:
    """Collections of garbage pass over the libraries: for these they took most of a command."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()
