#!/usr/bin/env bash
# torchcfm 1.0.7, POT 0.9.7.post1, torch 2.15.0. The optimal-transport matcher draws a batch of pairs from the plan with
# replacement, by numpy's global generator. Seen 2026-11-27: of a batch of 256 pictures 60 % are used, one five times,
# and torch.manual_seed alone does not repeat the draw. Matters for training: a third of what was loaded and augmented
# at each step is thrown away, the effective batch is smaller than the one configured, and a run that saves and restores
# torch's random state does not resume as it was. replace=False in sample_plan keeps each picture once; seed numpy too.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 torchcfm==1.0.7 POT==0.9.7.post1 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 torchcfm==1.0.7 POT==0.9.7.post1 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys
import numpy as np, torch
from torchcfm.optimal_transport import OTPlanSampler

def used(**draw):
    torch.manual_seed(0)
    noise, data = torch.randn(2, 256, 16)
    _, paired = OTPlanSampler(method="exact").sample_plan(noise, data, **draw)
    return torch.unique(paired, dim=0, return_counts=True)[1], paired

np.random.seed(1)
counts, first = used()
_, second = used()
once, _ = used(replace=False)
share = len(counts) / 256
print(f"share of the batch used: {share:.2f} (one picture up to {int(counts.max())} times), replace=False {len(once) / 256:.2f}")
print("the same torch seed repeats the draw:", torch.equal(first, second))
ok = 0.55 < share < 0.7 and len(once) == 256 and not torch.equal(first, second)
print("as stated" if ok else "CHANGED: pairs are no longer drawn with replacement from numpy's generator")
sys.exit(int(not ok))
PY
