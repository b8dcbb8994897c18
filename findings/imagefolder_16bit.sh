#!/usr/bin/env bash
# torchvision 0.29.2, pillow 13.0.0. ImageFolder's loader calls convert("RGB"), and for a 16-bit grey PNG (mode I;16)
# pillow clips to 255 instead of scaling. Seen 2026-11-27: of a ramp from 0 to 65535, 99.6 % of the pixels load as pure
# white, without a warning. Matters for scans, microscopy and depth maps, which are stored so: a folder of them trains
# as almost white pictures, the loss falls quickly and the samples are "white with dirt". Divide by 257 before
# (np.asarray(picture) / 257), or pass a loader that does.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 torchvision==0.29.2 pillow==13.0.0 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 torchvision==0.29.2 pillow==13.0.0 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import os, sys
import numpy as np
from PIL import Image
from torchvision.datasets import ImageFolder

os.makedirs("scans/a")
ramp = np.linspace(0, 65535, 256 * 256).reshape(256, 256).astype(np.uint16)
Image.fromarray(ramp).save("scans/a/0.png")
with Image.open("scans/a/0.png") as stored:
    mode, right = stored.mode, np.asarray(stored) // 257
picture, _ = ImageFolder("scans")[0]
loaded = np.asarray(picture)
white = float((loaded == 255).mean())
print(f"a file of mode {mode}: mean grey {right.mean():.1f} after scaling, {loaded.mean():.1f} as loaded, {white:.1%} of pixels white")
ok = white > 0.9 and abs(right.mean() - 127.5) < 1
print("as stated" if ok else "CHANGED: 16-bit pictures are now scaled to 8 bits")
sys.exit(int(not ok))
PY
