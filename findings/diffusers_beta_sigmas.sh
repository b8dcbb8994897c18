#!/usr/bin/env bash
# diffusers 0.42.1, scipy 1.17.1. use_beta_sigmas spreads the noise levels themselves by a beta distribution between the
# largest and the smallest; the paper it names spreads the times. Of 50 levels from 157 to 0.01 only two or three are
# below 1. Seen 2026-11-27 with the exact denoiser of a normal of std 0.5, linear betas, 50 steps: samples have 0.65
# (Euler), 1.30 (DPM-Solver++ 2M) and 7.6 (SA-Solver) times its std, where Karras' levels give 0.94, 1.00 and 1.02.
# Matters for pixel models, whose largest level is large (with Stable Diffusion's betas, 14.6 at most, Euler has 0.90
# and 0.96): a "better schedule" makes dull or noisy samples, and the model is blamed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 diffusers==0.42.1 numpy==2.4.6 scipy==1.17.1
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 diffusers==0.42.1 numpy==2.4.6 scipy==1.17.1
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys, torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, SASolverScheduler

STD = 0.5

def run(kind, betas, **grid):
    torch.manual_seed(0)
    first, last = {"linear": (1e-4, 0.02), "scaled_linear": (0.00085, 0.012)}[betas]
    scheduler = kind(beta_schedule=betas, beta_start=first, beta_end=last, **grid)
    scheduler.set_timesteps(50)
    level = (1 / scheduler.alphas_cumprod.double() - 1).sqrt().log()
    x = torch.randn(4000, 1, 1, 1, dtype=torch.float64) * float(scheduler.init_noise_sigma)
    for t in scheduler.timesteps:
        given = scheduler.scale_model_input(x, t)
        low = int(t)
        sigma = torch.lerp(level[low], level[min(low + 1, 999)], float(t) - low).exp()
        alpha = (1 + sigma**2) ** -0.5
        image = STD**2 / (alpha * (STD**2 + sigma**2)) * given
        x = scheduler.step((given - alpha * image) / (alpha * sigma), t, x).prev_sample
    return round((x.std() / STD).item(), 2), int((scheduler.sigmas[:-1] < 1).sum())

ok = True
for betas in ("linear", "scaled_linear"):
    for kind in (EulerDiscreteScheduler, DPMSolverMultistepScheduler, SASolverScheduler)[:3 if betas == "linear" else 1]:
        karras, beta = run(kind, betas, use_karras_sigmas=True), run(kind, betas, use_beta_sigmas=True)
        print(f"{betas:14} {kind.__name__:28} (std over the right one, levels below 1): Karras {karras}, beta {beta}")
        if betas == "linear":
            ok &= abs(karras[0] - 1) < 0.08 and abs(beta[0] - 1) > 0.2 and beta[1] < 5
print("as stated" if ok else "CHANGED: beta levels no longer leave out the small ones")
sys.exit(int(not ok))
PY
