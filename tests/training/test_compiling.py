"""Compiled training is training; where nothing compiles, it says so."""

import numpy as np
import pytest
import torch
from cli import TINY, call, succeed

from ccdiff.errors import UserError
from ccdiff.runs.checkpoints import open_checkpoint
from ccdiff.settings import Compile, TrainerSettings
from ccdiff.system.device import compile_mode, explaining_failure


@pytest.mark.parametrize(
    ("wanted", "device", "triton", "mode"),
    [
        (Compile.auto, "cpu", True, None),
        (Compile.auto, "cuda", True, "default"),
        (Compile.auto, "cuda", False, None),
        (Compile.none, "cuda", True, None),
        (Compile.default, "cpu", False, "default"),
        (Compile.reduce_overhead, "cuda", True, "reduce-overhead"),
    ],
)
def test_auto_compiles_where_it_pays(wanted, device, triton, mode, monkeypatch):
    found = object() if triton else None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found)
    assert compile_mode(wanted, torch.device(device)) == mode


@pytest.mark.parametrize("mode", [Compile.reduce_overhead, Compile.max_autotune])
def test_gradients_in_a_cuda_graph_are_not_added_up(mode):
    with pytest.raises(UserError, match=rf"compile={mode.name} .*accumulate=2 .*=default"):
        TrainerSettings(compile=mode, accumulate=2)
    TrainerSettings(compile=mode, accumulate=1)
    TrainerSettings(compile=Compile.default, accumulate=2)


def test_only_failures_of_the_compiler_are_explained():
    from torch._dynamo.exc import BackendCompilerFailed

    with (
        pytest.raises(UserError, match=r"trainer\.compile=none"),
        explaining_failure("trainer.compile"),
    ):
        raise BackendCompilerFailed(lambda: None, RuntimeError("no working C++ compiler"), None)
    with pytest.raises(ZeroDivisionError), explaining_failure("compile"):
        raise ZeroDivisionError


@pytest.mark.slow
def test_compiled_training_equals_eager_to_rounding(tmp_path):
    weights = []
    for compiled in ("none", "default"):
        folder = tmp_path / compiled
        arguments = (*TINY, "trainer.precision=fp32", f"trainer.compile={compiled}")
        done = call("train.py", *arguments, f"hydra.run.dir={folder}", cwd=tmp_path)
        assert done.status == 0, done.printed
        assert ("compiling the network" in done.printed) == (compiled == "default")
        weights.append(open_checkpoint(str(folder))[1]["denoiser"])
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_a_layer_is_named_where_compiled_training_diverges(tmp_path):
    arguments = (*TINY, "trainer.compile=default", "optimizer.lr=1e30", "trainer.warmup=0")
    done = call("train.py", *arguments, f"hydra.run.dir={tmp_path / 'run'}", cwd=tmp_path)
    assert done.status == 1
    assert "the first layer whose output is not finite is network." in done.printed


@pytest.mark.slow
def test_compiled_sampling_draws_the_same_pictures(tmp_path):
    succeed("train.py", *TINY, f"hydra.run.dir={tmp_path / 'run'}", cwd=tmp_path)
    drawn = []
    for compiled in ("none", "default"):
        out = tmp_path / compiled
        arguments = (f"run={tmp_path / 'run'}", f"out={out}", "sampler.steps=4", "precision=fp32")
        succeed("sample.py", *arguments, f"compile={compiled}", "device=cpu", cwd=tmp_path)
        drawn.append(np.load(out / "samples.npz")["images"].astype(int))
    assert abs(drawn[0] - drawn[1]).max() <= 1
