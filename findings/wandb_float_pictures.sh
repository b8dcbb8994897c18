#!/usr/bin/env bash
# wandb 0.31.0. wandb.Image casts an array to uint8 as it is: no scaling, no clipping, no check. Seen 2026-11-27: floats
# 0.5 and 0.9 are stored as 0, -1 as 255, and uint16 60000 as 96. A tensor in [-1, 1] so becomes two values, with black
# and white exchanged at the ends (1 is stored as 1). Matters for sample grids of a diffusion model, usually floats in
# [0, 1] or [-1, 1]: the panel is black or an inverted silhouette, which looks like a model that has not learned, and
# older releases scaled such arrays, so the same script used to work. Convert to uint8 first.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" wandb==0.31.0 numpy==2.4.6 pillow==13.0.0
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q wandb==0.31.0 numpy==2.4.6 pillow==13.0.0
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore WANDB_SILENT=true WANDB_MODE=offline WANDB_DATA_DIR="$tmp" WANDB_CACHE_DIR="$tmp" WANDB_CONFIG_DIR="$tmp"
env/bin/python - <<'PY'
import sys
import numpy as np, wandb
from PIL import Image

def stored(value, kind):
    picture = np.full((8, 8, 3), value, kind) if kind != np.uint16 else np.full((8, 8), value, kind)
    with wandb.init(mode="offline", dir=".") as run:
        image = wandb.Image(picture)
        run.log({"x": image})
        with Image.open(image._path) as file:
            return int(np.asarray(file).flat[0])

seen = {f"{np.dtype(kind).name} {value}": stored(value, kind)
        for value, kind in ((0.5, np.float32), (0.9, np.float32), (1.0, np.float32), (-1.0, np.float32), (60000, np.uint16), (100, np.uint8))}
print("value given: value stored", seen)
ok = list(seen.values()) == [0, 0, 1, 255, 96, 100]
print("as stated" if ok else "CHANGED: arrays are now scaled, clipped or refused")
sys.exit(int(not ok))
PY
