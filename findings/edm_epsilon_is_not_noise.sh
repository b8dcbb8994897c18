#!/usr/bin/env bash
# diffusers 0.42.1. EDMEulerScheduler and EDMDPMSolverMultistepScheduler with prediction_type="epsilon", their default,
# documented as "predicts the noise", take the network's output for the raw F of Karras et al. and apply c_skip and
# c_out to it. Seen 2026-11-27 with exact outputs for a normal of std 0.5, 100 steps: F gives samples of 0.97 (Euler)
# and 0.99 (DPM-Solver++) times its std, the noise 2.6 and 2.7. Matters for a network trained to predict noise that is
# moved to these schedulers for their grid: pictures burn out, as from a bad checkpoint. EulerDiscreteScheduler with
# Karras' levels takes noise.
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
import sys, torch
from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler

STD = 0.5

def ratio(kind, what):
    torch.manual_seed(0)
    scheduler = kind(prediction_type="epsilon")
    scheduler.set_timesteps(100)
    data = scheduler.config.sigma_data
    x = torch.randn(4000, 1, 1, 1) * scheduler.init_noise_sigma
    for i, t in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[i]
        scheduler.scale_model_input(x, t)
        image = STD**2 / (STD**2 + sigma**2) * x
        skip, out = data**2 / (sigma**2 + data**2), sigma * data / (sigma**2 + data**2) ** 0.5
        x = scheduler.step((image - skip * x) / out if what == "F" else (x - image) / sigma, t, x).prev_sample
    return round((x.std() / STD).item(), 2)

seen = {(kind.__name__, what): ratio(kind, what) for kind in (EDMEulerScheduler, EDMDPMSolverMultistepScheduler) for what in ("F", "noise")}
print("std of the samples over the right one, network returns:", seen)
ok = all(abs(value - 1) < 0.1 if what == "F" else value > 1.5 for (_, what), value in seen.items())
print("as stated" if ok else "CHANGED: epsilon now means the noise")
sys.exit(int(not ok))
PY
