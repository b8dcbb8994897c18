#!/usr/bin/env bash
# torch 2.15.0 on CPUs. A row of attention that may see no key gives 0 in scaled_dot_product_attention and NaN in
# nn.MultiheadAttention, which masks with minus infinity on another path in eval() under no_grad. Seen 2026-11-27: 0.0
# against NaN. Matters for conditioning on tokens with classifier-free guidance: an empty prompt or a dropped condition
# is exactly such a row, so swapping one module for the other turns the unconditional half of every sampling batch into
# NaN. Keep one key that is always visible.
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

torch.manual_seed(0)
x = torch.randn(1, 4, 16)
hidden = torch.ones(1, 4, dtype=torch.bool)
functional = torch.nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=~hidden[:, None, :].expand(1, 4, 4))
with torch.no_grad():
    module = torch.nn.MultiheadAttention(16, 2, batch_first=True).eval()(x, x, x, key_padding_mask=hidden)[0]
print("scaled_dot_product_attention:", functional[0, 0, 0].item(), " nn.MultiheadAttention:", module[0, 0, 0].item())
ok = bool((functional == 0).all()) and bool(module.isnan().all())
print("as stated" if ok else "CHANGED: both now treat a row without keys alike")
sys.exit(int(not ok))
PY
