#!/usr/bin/env bash
# diffusers 0.42.1. thresholding=True turns on Imagen's dynamic thresholding, whose bound is then held to at most
# sample_max_value, 1.0 by default: what is left is plain clipping to [-1, 1], and dynamic_thresholding_ratio does
# nothing. Seen 2026-11-27 on an estimate of three times too large a contrast, in the DDPM, DDIM, DPM-Solver, UniPC and
# DEIS schedulers: 0 away from clipping and up to 0.90 from Imagen's rule; with sample_max_value=100 it is the rule.
# Matters for guidance at large scales, the one use of it: an ablation of dynamic against static thresholding compares
# clipping with itself, and finds that it makes no difference.
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
import diffusers

torch.manual_seed(0)
estimate = 3 * torch.randn(1, 3, 16, 16)
bound = torch.quantile(estimate.abs().flatten(), 0.995)
clipped, imagen = estimate.clamp(-1, 1), estimate.clamp(-bound, bound) / bound
ok = True
for name in ("DDPM", "DDIM", "DPMSolverMultistep", "UniPCMultistep", "DEISMultistep"):
    kind = getattr(diffusers, name + "Scheduler")
    away = []
    for more in ({}, {"dynamic_thresholding_ratio": 0.5}, {"sample_max_value": 100.0}):
        scheduler = kind(thresholding=True, prediction_type="sample", **more)
        given = scheduler._threshold_sample(estimate)
        away.append([round((given - wanted).abs().max().item(), 3) for wanted in (clipped, imagen)])
    print(f"{name:20} (from clipping, from Imagen's rule): default {away[0]}, ratio=0.5 {away[1]}, sample_max_value=100 {away[2]}")
    ok &= away[0][0] == away[1][0] == 0 and away[0][1] > 0.5 and away[2][1] < 1e-3
print("as stated" if ok else "CHANGED: thresholding=True no longer clips by default")
sys.exit(int(not ok))
PY
