#!/usr/bin/env bash
# safetensors 0.8.0, numpy 2.4.6. safetensors.numpy.save_file and save write an array's memory as it lies, under the
# shape it shows: an array that is transposed, in Fortran's order, strided or reversed comes back with its values in
# other places, and nothing is raised. Seen 2026-11-27 with a kernel of 2 x 3 x 4 x 5: 1.7 % of the values are in place
# when it was transposed, 25 % for every second row, 50 % reversed, 100 % contiguous; 0.7.0 wrote all of them rightly,
# and safetensors.torch refuses such tensors. Matters when weights go from JAX (H, W, in, out) to torch (out, in, H, W):
# every shape fits, the network loads strictly, and its samples are noise. Call numpy.ascontiguousarray first.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" safetensors==0.8.0 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q safetensors==0.8.0 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys
import numpy as np
from safetensors.numpy import load, load_file, save, save_file

kernel = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5)
kinds = {"transposed": kernel.transpose(3, 2, 0, 1), "Fortran's order": np.asfortranarray(kernel), "every second": kernel[:, ::2],
         "reversed": kernel[::-1], "contiguous": kernel, "made contiguous": np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))}
kept = {}
for name, array in kinds.items():
    save_file({"kernel": array}, "weights.safetensors")
    read = load_file("weights.safetensors")["kernel"], load(save({"kernel": array}))["kernel"]
    assert all(again.shape == array.shape and again.dtype == array.dtype for again in read)
    kept[name] = tuple(round(float((again == array).mean()), 3) for again in read)
print("share of values in their place, by file and by bytes:", kept)
ok = all(max(kept[name]) < 0.6 for name in list(kinds)[:4]) and all(min(kept[name]) == 1 for name in list(kinds)[4:])
print("as stated" if ok else "CHANGED: arrays that are not contiguous are now written rightly or refused")
sys.exit(int(not ok))
PY
