#!/usr/bin/env bash
# zarr 3.1.6, tensorstore 0.1.86. A chunk whose file is missing is read as zeros by both, without an error or a warning:
# absent chunks are how the format stores what was never written. Seen 2026-11-27 with 8 pictures of value 200 in chunks
# of 2, one of 4 chunk files removed: pictures 2 and 3 are 0 in both libraries, and the array's nchunks_initialized, 3
# of 4, is the only sign. Matters after a copy that stopped, a sync that skipped files or a writer that was killed: the
# shape is right and every index works, so some black pictures under real labels are trained on, and end up among the
# samples. Compare nchunks_initialized with nchunks before training.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" zarr==3.1.6 tensorstore==0.1.86 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q zarr==3.1.6 tensorstore==0.1.86 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import glob, os, sys
import numpy as np, tensorstore, zarr

written = zarr.create_array("set.zarr", shape=(8, 4, 4), dtype="u1", chunks=(2, 4, 4))
written[:] = np.full((8, 4, 4), 200, np.uint8)
chunks = sorted(path for path in glob.glob("set.zarr/c/**", recursive=True) if os.path.isfile(path))
os.remove(chunks[1])

array = zarr.open_array("set.zarr", mode="r")
spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": os.path.abspath("set.zarr")}}
seen = {
    "zarr": array[:].mean((1, 2)).tolist(),
    "tensorstore": np.asarray(tensorstore.open(spec).result().read().result()).mean((1, 2)).tolist(),
    "chunks there": (array.nchunks_initialized, array.nchunks),
}
print("mean of each picture (200 was written):", seen)
wanted = [200.0, 200.0, 0.0, 0.0, 200.0, 200.0, 200.0, 200.0]
ok = len(chunks) == 4 and seen == {"zarr": wanted, "tensorstore": wanted, "chunks there": (3, 4)}
print("as stated" if ok else "CHANGED: a missing chunk is now told")
sys.exit(int(not ok))
PY
