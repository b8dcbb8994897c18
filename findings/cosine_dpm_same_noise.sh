#!/usr/bin/env bash
# diffusers 0.42.1, torchsde 0.2.6. CosineDPMSolverMultistepScheduler seeds its Brownian noise from
# generator.initial_seed(), which does not change as the generator is drawn from. Seen 2026-11-27: two batches sampled
# one after the other with one generator get the same noise at all steps (correlation 1.000), where
# EulerAncestralDiscreteScheduler's are independent (|r| < 0.1). Matters for sampling a set in batches to judge it:
# images at one place of all batches share the noise of every step, so that the set is less varied than its size says
# and the samples of a figure look alike. Make a generator for each batch.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 diffusers==0.42.1 numpy==2.4.6 torchsde==0.2.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 diffusers==0.42.1 numpy==2.4.6 torchsde==0.2.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys, torch
from diffusers import CosineDPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler

def correlation(kind):
    generator, batches = torch.Generator().manual_seed(0), []
    scheduler = kind()
    for _ in range(2):
        scheduler.set_timesteps(5)
        torch.randn(2, 1, 16, 16, generator=generator)
        x = torch.zeros(2, 1, 16, 16)
        for t in scheduler.timesteps:
            scheduler.scale_model_input(x, t)
            x = scheduler.step(torch.zeros_like(x), t, x, generator=generator).prev_sample
        batches.append(x.flatten())
    return torch.corrcoef(torch.stack(batches))[0, 1].item()

same, other = correlation(CosineDPMSolverMultistepScheduler), correlation(EulerAncestralDiscreteScheduler)
print(f"correlation of the noise of two batches from one generator: CosineDPMSolverMultistep {same:.3f}, EulerAncestralDiscrete {other:.3f}")
ok = same > 0.999 and abs(other) < 0.2
print("as stated" if ok else "CHANGED: the second batch now has noise of its own")
sys.exit(int(not ok))
PY
