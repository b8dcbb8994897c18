#!/usr/bin/env bash
# monai 1.6.1, torch 2.15.0. DDPMScheduler.set_timesteps(n) thins the list of times, but step() goes on removing one
# training step's noise at each. Seen 2026-11-27 with the exact denoiser of a normal of std 0.5, 1000 training steps:
# samples have 1.00 times its std with 1000 steps, 1.52 with 250 and 1.88 with 50, which is nearly the noise they began
# with (1.41 with the default clip_sample); DDIMScheduler has 0.95 with 50. Matters for the habit of fewer steps for a
# preview: nothing is said, the previews are noise, and training is taken for broken. Few steps are DDIMScheduler's.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 monai==1.6.1 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 monai==1.6.1 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys, torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler

STD = 0.5

def ratio(kind, steps, clip=False):
    torch.manual_seed(0)
    scheduler = kind(num_train_timesteps=1000, clip_sample=clip)
    scheduler.set_timesteps(steps)
    x = torch.randn(4000, 1, 1, 1, dtype=torch.float64)
    for t in scheduler.timesteps:
        a = scheduler.alphas_cumprod[int(t)].double()
        noise = (1 - a).sqrt() / (a * STD**2 + 1 - a) * x
        x, _ = scheduler.step(noise, t, x)
    return round((x.std() / STD).item(), 2)

ddpm = {steps: ratio(DDPMScheduler, steps) for steps in (1000, 250, 50)}
clipped, ddim = ratio(DDPMScheduler, 50, clip=True), ratio(DDIMScheduler, 50)
print("std of the samples over the right one, DDPMScheduler by steps:", ddpm, "50 with clip_sample:", clipped, "DDIMScheduler, 50:", ddim)
ok = abs(ddpm[1000] - 1) < 0.05 and ddpm[50] > 1.5 and clipped > 1.2 and abs(ddim - 1) < 0.1
print("as stated" if ok else "CHANGED: DDPMScheduler now steps as far as its list of times")
sys.exit(int(not ok))
PY
