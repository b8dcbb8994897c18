#!/usr/bin/env bash
# rectified-flow-pytorch 0.14.0, torchdiffeq 0.2.5. sample(steps=n) makes n times from 0 to 1, that is n - 1 steps, and
# n = 1 returns the noise without one call of the network. Seen 2026-11-27 with the exact flow of a normal of std 0.5:
# steps=1 makes 0 calls and gives 2.0 times its std, 2 makes 2 calls (one midpoint step; 0.8), 16 makes 30 where 15
# steps are. Matters for a rectified flow after reflow, whose promise is one step: its one-step samples are noise
# whatever was learned, and tables of steps against quality are off by one.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 rectified-flow-pytorch==0.14.0 torchdiffeq==0.2.5 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 rectified-flow-pytorch==0.14.0 torchdiffeq==0.2.5 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys, torch
from rectified_flow_pytorch import RectifiedFlow

STD = 0.5

class Exact(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.calls = torch.nn.Parameter(torch.zeros(1)), 0
    def forward(self, x, times):
        self.calls += 1
        t = times.reshape(-1, 1, 1, 1)
        return x * (t * STD**2 - (1 - t)) / (t**2 * STD**2 + (1 - t) ** 2)

seen = {}
for steps in (1, 2, 4, 16):
    torch.manual_seed(0)
    net = Exact()
    samples = 2 * RectifiedFlow(net, data_shape=(1, 4, 4)).sample(batch_size=500, steps=steps) - 1
    seen[steps] = (net.calls, round((samples.std() / STD).item(), 2))
print("steps: (calls of the network, std of the samples over the right one)", seen)
ok = seen[1][0] == 0 and seen[1][1] > 1.9 and seen[2][0] == 2 and seen[16][0] == 30
print("as stated" if ok else "CHANGED: steps=1 now takes a step")
sys.exit(int(not ok))
PY
