#!/usr/bin/env bash
# torchcfm 1.0.7, POT 0.9.7.post1, torch 2.15.0. The optimal-transport matcher pairs noise with pictures over the whole
# batch and carries the labels along, so the noise that a class is trained from is no longer the standard normal. Seen
# 2026-11-27, two classes at -3 and +3 of one axis, batches of 128: along that axis class 1 meets noise of mean +0.76 to
# +0.79 and std 0.62 in 2, 16 and 64 dimensions alike; without transport 0 and 1. Matters for class-conditional flows:
# sampling starts every class from the whole normal, half of which that class never saw in training, and nothing in the
# loss shows it. Pair inside each class, or do without.
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
from torchcfm import ExactOptimalTransportConditionalFlowMatcher

def noise_of_class_one(matcher, dimensions):
    torch.manual_seed(0), np.random.seed(0)
    parts = []
    for _ in range(40):
        label = torch.randint(0, 2, (128,))
        data = 0.2 * torch.randn(128, dimensions)
        data[:, 0] += 6.0 * label - 3.0
        t, xt, ut, _, label = matcher.guided_sample_location_and_conditional_flow(
            torch.randn(128, dimensions), data, None, label)
        parts.append((xt - t[:, None] * ut)[label == 1, 0])
    noise = torch.cat(parts)
    return noise.mean().item(), noise.std().item()

ok = True
for dimensions in (2, 16, 64):
    tied = noise_of_class_one(ExactOptimalTransportConditionalFlowMatcher(sigma=0.0), dimensions)
    print(f"{dimensions} dimensions: noise that class 1 is trained from: mean {tied[0]:+.2f}, std {tied[1]:.2f} (should be 0 and 1)")
    ok &= tied[0] > 0.5 and tied[1] < 0.8
print("as stated" if ok else "CHANGED: noise no longer depends on the class")
sys.exit(int(not ok))
PY
