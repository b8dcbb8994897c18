"""Networks that are about to be given their weights are made in no time."""

import subprocess
import sys

import torch
from cli import ROOT

from ccdiff.nn.unfilled import unfilled

BUILD = """
import sys
from ccdiff.config.build import build_denoiser
from ccdiff.config.options import compose, options
from ccdiff.nn.unfilled import unfilled
for overrides in (*([f"model={name}"] for name in options("model")), ["conditioning=multihot"]):
    with unfilled():
        network = build_denoiser(compose("train", overrides))
    assert all(p.is_meta for p in network.parameters())
sys.exit("torch._dynamo" in sys.modules)
"""


def test_torch_compile_is_not_imported_for_it():
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]


def test_what_has_values_is_filled_as_ever():
    layer = torch.nn.Linear(2, 2)
    with unfilled():
        made = torch.nn.Linear(2, 2)
        torch.nn.init.ones_(layer.weight)
        layer.bias.data.fill_(3)
    assert made.weight.is_meta
    assert layer.weight.tolist() == [[1, 1], [1, 1]]
    assert layer.bias.tolist() == [3, 3]
