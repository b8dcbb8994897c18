#!/usr/bin/env bash
# torch 2.15.0. AdamW(fused=True) walks weight and moments in the order of memory and never looks whether they are laid
# out alike, so moments of one layout beside a weight of another are applied to the wrong elements; the plain and
# foreach forms index by position. Seen 2026-11-27: a 3x3 convolution turned to channels-last after 3 of 6 steps at lr
# 0.01 ends up to 0.04 from where the plain optimizer takes it (that is exact), without an error. Matters for a run that
# turns channels_last on, or resumes with moments stored contiguous: every convolution gets foreign moments and the loss
# jumps for a while, as after a bad resume. Lay the moments out like their weight first.
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

def weight(turn, **form):
    torch.manual_seed(0)
    net = torch.nn.Conv2d(4, 8, 3, bias=False)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.0, **form)
    for step in range(6):
        if step == 3 and turn:
            net.to(memory_format=torch.channels_last)
        gradient = torch.randn(8, 4, 3, 3)
        net.weight.grad = gradient.to(memory_format=torch.channels_last) if turn and step >= 3 else gradient
        optimizer.step()
    return net.weight.detach().contiguous()

off = {name: (weight(True, **form) - weight(False, **form)).abs().max().item()
       for name, form in {"plain": dict(foreach=False), "foreach": dict(foreach=True), "fused": dict(fused=True)}.items()}
print("largest change of a weight through turning it to channels-last half-way:", {k: round(v, 6) for k, v in off.items()})
ok = off["plain"] < 1e-6 and off["foreach"] < 1e-6 and off["fused"] > 0.005
print("as stated" if ok else "CHANGED: fused AdamW now minds the layout of its moments")
sys.exit(int(not ok))
PY
