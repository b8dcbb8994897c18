#!/usr/bin/env bash
# diffusers 0.42.1. add_noise(x, noise, t) of a DPM-Solver, UniPC or DEIS scheduler that has not been told its steps
# takes the noise of the opposite time; once it has, by a validation's set_timesteps(20), a t that is not among the
# twenty gets the smallest noise. Seen 2026-11-27, share of noise at t = 10, 500, 990: DDPMScheduler 0.05, 0.96, 1.00
# always; the three 1.00, 0.96, 0.04 when fresh and 0.17, 0.96, 0.17 afterwards (500 is one of the twenty). Euler's and
# Heun's schedulers raise there and SASolverScheduler is right. Matters for a training loop that makes its noisy images
# with the scheduler it samples with: no error, the loss falls, and the network learns noise levels that belong to other
# times. Add noise with DDPMScheduler or with one's own alphas.
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
from diffusers import DDPMScheduler, DEISMultistepScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler

image, noise, t = torch.zeros(3, 1, 2, 2), torch.ones(3, 1, 2, 2), torch.tensor([10, 500, 990])

def share(scheduler, times=t):
    return [round(float(v), 2) for v in scheduler.add_noise(image[:len(times)], noise[:len(times)], times)[:, 0, 0, 0]]

ok = True
for kind in (DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler, DEISMultistepScheduler):
    scheduler = kind()
    fresh = share(scheduler)
    scheduler.set_timesteps(20)
    after, own = share(scheduler), share(scheduler, scheduler.timesteps[[2, 10]])
    print(f"{kind.__name__:28} noise at t = 10, 500, 990: fresh {fresh}, after set_timesteps(20) {after}; at its steps 2 and 10 {own}")
    ok &= own[0] > own[1]
    if kind is DDPMScheduler:
        ok &= fresh == after == [0.05, 0.96, 1.0]
    else:
        ok &= fresh[0] > 0.95 and fresh[2] < 0.1 and after[0] == after[2] < 0.3
print("as stated" if ok else "CHANGED: add_noise now depends on t alone")
sys.exit(int(not ok))
PY
