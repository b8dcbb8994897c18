#!/usr/bin/env bash
# diffusers 0.42.1. compute_density_for_timestep_sampling gives u, and the training scripts of diffusers take
# scheduler.timesteps[u * 1000], a list that begins with the noisiest: u is 1 - t, so that logit_mean has the sign
# opposite to that of the Stable Diffusion 3 paper (m > 0 towards noise). Seen 2026-11-27, logit_std 1, mean time:
# logit_mean -1, 0, 1 give 0.70, 0.50, 0.31, and by the paper 0.30, 0.50, 0.70. Matters for whoever takes a value from a
# paper, or shifts training to noisier times for larger images: training goes to cleaner ones.
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
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_density_for_timestep_sampling

scheduler = FlowMatchEulerDiscreteScheduler()
seen = {}
for mean in (-1.0, 0.0, 1.0):
    torch.manual_seed(0)
    u = compute_density_for_timestep_sampling("logit_normal", batch_size=20_000, logit_mean=mean, logit_std=1.0)
    t = scheduler.timesteps[(u * scheduler.config.num_train_timesteps).long()] / 1000
    paper = torch.sigmoid(mean + torch.randn(20_000)).mean().item()
    seen[mean] = t.mean().item()
    print(f"logit_mean {mean:+.0f}: mean time {seen[mean]:.2f} (1 is noise), in the paper {paper:.2f}")
ok = seen[-1.0] > 0.6 and seen[1.0] < 0.4
print("as stated" if ok else "CHANGED: logit_mean now has the sign of the paper")
sys.exit(int(not ok))
PY
