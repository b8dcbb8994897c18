#!/usr/bin/env bash
# torch 2.15.0. Inside one autocast block the lower-precision copy of a weight is made once and kept until the block
# ends; a later change of the weight in place is not seen, with gradients on or under no_grad. Seen 2026-11-27 on CPU
# with bfloat16: weights doubled in the block, and the second forward equals the first bit for bit; requires_grad=False,
# or a block of its own for each forward, sees the change. Matters where EMA weights are copied into the network for a
# validation pass, or an optimizer steps, inside one block: the figures "of the average" are those of the old weights,
# and several steps in one block train on frozen copies.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys, torch

def doubled(blocks, needs_gradient, grad_mode):
    torch.manual_seed(0)
    net = torch.nn.Conv2d(1, 4, 3, bias=False).requires_grad_(needs_gradient)
    x = torch.randn(2, 1, 8, 8)
    def forward():
        with torch.set_grad_enabled(grad_mode):
            return net(x).float()
    cast = lambda: torch.autocast("cpu", torch.bfloat16)
    with cast():
        first = forward()
        with torch.no_grad():
            net.weight.mul_(2)
        second = forward()
    if blocks == 2:
        with cast():
            second = forward()
    return (second.norm() / first.norm()).item()

stale = [doubled(1, True, True), doubled(1, True, False)]
fresh = [doubled(1, False, False), doubled(2, True, True)]
print(f"output after doubling the weights, over output before: one block {stale[0]:.1f} (no_grad {stale[1]:.1f}); "
      f"requires_grad=False {fresh[0]:.1f}; a second block {fresh[1]:.1f}")
ok = stale == [1.0, 1.0] and all(abs(f - 2) < 0.02 for f in fresh)
print("as stated" if ok else "CHANGED: autocast now sees weights that change inside a block")
sys.exit(int(not ok))
PY
