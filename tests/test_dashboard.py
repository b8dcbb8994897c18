"""The W&B dashboard: what it shows, and what a user without W&B is told."""

import sys

import pytest
import wandb
from cli import call

from ccdiff import dashboard
from ccdiff.errors import UserError


def test_without_a_login_the_way_on_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(wandb, "login", lambda **settings: False)
    done = call("ccdiff.dashboard", cwd=tmp_path)
    assert done.status == 1
    assert "wandb login" in done.printed
    assert "Traceback" not in done.printed


def test_without_the_extra_its_installation_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(UserError, match="--extra dashboard"):
        dashboard.workspace("me", "ccdiff")


@pytest.mark.filterwarnings("default")
def test_it_shows_what_runs_log():
    pytest.importorskip("wandb_workspaces")
    text = str(dashboard.workspace("me", "ccdiff"))
    for key in ("heldout/eps_mse", "train/images_seen", "samples/ema", "optimizer/lr"):
        assert key in text
