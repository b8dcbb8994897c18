#!/usr/bin/env bash
# torch 2.15.0. torch.no_grad() inside a function does not stop a forward-mode derivative (torch.func.jvp or
# forward_ad); detach() does. Seen 2026-11-27: the derivative of x - x^2 at 3 with the square under no_grad is -5 by jvp
# and 1 by grad; with detach both are 1 (a note in no_grad's documentation says so). Matters for losses of few-step
# models (MeanFlow, continuous-time consistency), whose target is a jvp through the network: a part meant to be
# constant, such as a self-conditioning pass, a guided velocity or a normalisation under no_grad, enters the target, and
# the loss goes down all the same.
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
from torch.autograd import forward_ad

def under_no_grad(x):
    with torch.no_grad():
        square = x**2
    return x - square

def detached(x):
    return x - (x**2).detach()

def dual(f, x):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(f(forward_ad.make_dual(x, torch.ones_like(x)))).tangent.item()

x = torch.tensor(3.0)
seen = {f.__name__: (torch.func.grad(f)(x).item(), torch.func.jvp(f, (x,), (torch.ones_like(x),))[1].item(), dual(f, x)) for f in (under_no_grad, detached)}
print("derivative of x - x^2 at 3, the square held constant (grad, jvp, forward_ad):", seen)
ok = seen == {"under_no_grad": (1.0, -5.0, -5.0), "detached": (1.0, 1.0, 1.0)}
print("as stated" if ok else "CHANGED: no_grad now stops tangents")
sys.exit(int(not ok))
PY
