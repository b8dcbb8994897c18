#!/usr/bin/env bash
# diffusers 0.42.1. FlowMatchEulerDiscreteScheduler.set_timesteps(n) spaces n levels from 1 down to sigma_min and adds
# 0, so the last network call removes almost nothing; with a shift, sigma_min is shifted at construction and once more
# at the call. Seen 2026-11-27 for n=4: shift 1 gives 1, 0.667, 0.334, 0.001, 0 and shift 3 ends ... 0.602, 0.0089, 0
# where one shift of 0.001 is 0.0030. Matters for few-step sampling with one's own flow model: "4 steps" are 3 and the
# fourth is a wasted call, and the table of steps against quality is off by one; giving sigmas 1, 0.75, 0.5, 0.25 uses
# all four.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 diffusers==0.42.1 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 diffusers==0.42.1 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys
import numpy as np, torch
from diffusers import FlowMatchEulerDiscreteScheduler

def sigmas(shift, **given):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(**given)
    return [round(float(s), 4) for s in scheduler.sigmas]

plain, shifted = sigmas(1.0, num_inference_steps=4), sigmas(3.0, num_inference_steps=4)
own = sigmas(1.0, sigmas=np.linspace(1, 0.25, 4))
once = 3 * 0.001 / (1 + 2 * 0.001)
print("shift 1:", plain, "shift 3:", shifted, f"(0.001 shifted once: {once:.4f})", "own list:", own)
ok = abs(plain[3] - 0.001) < 1e-4 and abs(shifted[3] - 0.0089) < 1e-4 and own == [1, 0.75, 0.5, 0.25, 0]
print("as stated" if ok else "CHANGED: the last step no longer starts at sigma_min (shifted twice)")
sys.exit(int(not ok))
PY
