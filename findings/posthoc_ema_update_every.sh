#!/usr/bin/env bash
# ema-pytorch 0.8.3, torch 2.15.0. KarrasEMA and PostHocEMA update every 100 steps by default and take the decay of one
# single step, not of 100, so the average lags far behind the power profile that post-hoc synthesis assumes. Seen
# 2026-11-27, a weight that rises from 0 to 1 over 2000 steps, gamma 17 (theory 0.947): 0.147 by default, 0.948 with
# update_every=1. Matters because the synthesized widths are then not the widths asked for: a sweep of sigma_rel
# compares other averages than it says, much older than the network. Set update_every=1.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 ema-pytorch==0.8.3 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 ema-pytorch==0.8.3 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys, torch
from ema_pytorch import KarrasEMA

def ramp(steps=2000, gamma=17.0, **every):
    net = torch.nn.Linear(1, 1, bias=False)
    ema = KarrasEMA(net, gamma=gamma, **every)
    for step in range(1, steps + 1):
        with torch.no_grad():
            net.weight.fill_(step / steps)
        ema.update()
    return ema.ema_model.weight.item()

theory = 18 / 19
default, each = ramp(), ramp(update_every=1)
print(f"average of a ramp at its end: default {default:.3f}, update_every=1 {each:.3f}, theory {theory:.3f}")
ok = abs(each - theory) < 0.01 and default < 0.8
print("as stated" if ok else "CHANGED: the default interval now gives the profile of gamma")
sys.exit(int(not ok))
PY
