#!/usr/bin/env bash
# flow_matching 1.0.10 and torchdiffeq 0.2.5 on torch 2.15.0. ODESolver.sample of the first has method="euler" by
# default and a required step_size that may be None; None goes to torchdiffeq, where a fixed-step method without a step
# size takes exactly one step for each pair of times given. Seen 2026-11-27 for dx/dt=-x from 1 on [0, 1] (exact 0.368):
# one call of the network, result 0.000, no warning; rk4 is four calls, 0.375. Matters because samples of a flow model
# drawn so are one Euler step from the noise, the mean image, which is read as a badly trained network; give step_size
# or a grid of times.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 torchdiffeq==0.2.5 flow_matching==1.0.10 numpy==2.4.6 tqdm
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 torchdiffeq==0.2.5 flow_matching==1.0.10 numpy==2.4.6 tqdm
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys, torch
from flow_matching.solver import ODESolver
from torchdiffeq import odeint

calls = []
def velocity(x, t, **extras):
    calls.append(float(t))
    return -x

start = torch.ones(2, 2)
one = ODESolver(velocity_model=velocity).sample(x_init=start, step_size=None)[0, 0].item()
n_one = len(calls); calls.clear()
many = ODESolver(velocity_model=velocity).sample(x_init=start, step_size=0.01)[0, 0].item()
n_many = len(calls); calls.clear()
euler = odeint(lambda t, x: velocity(x, t), start, torch.tensor([0.0, 1.0]), method="euler")[-1][0, 0].item()
n_euler = len(calls)
print(f"flow_matching, step_size=None: {n_one} call, {one:.3f}; step_size=0.01: {n_many} calls, {many:.3f}; exact 0.368")
print(f"torchdiffeq, method='euler', times 0 and 1: {n_euler} call, {euler:.3f}")
ok = n_one == n_euler == 1 and abs(one) < 1e-6 and abs(euler) < 1e-6 and abs(many - 0.366) < 0.01
print("as stated" if ok else "CHANGED: without a step size the solver no longer takes one Euler step")
sys.exit(int(not ok))
PY
