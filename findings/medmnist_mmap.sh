#!/usr/bin/env bash
# medmnist 3.0.2, numpy 2.4.6. The data sets take mmap_mode="r", meant for the large sizes, and hand it to numpy's load;
# but their files are .npz archives, for which numpy ignores it: every picture is read into memory and nothing is said.
# Seen 2026-11-27 on a file of 3 splits of 4000 pictures 64x64x3: the array is a plain ndarray and the process grows by
# 47 of 47 MB. Matters for diffusion training on the 224-pixel sets (13.5 GB for the training pictures of PathMNIST)
# with several processes: each rank keeps its own copy although the code asked for a shared map. Write the pictures to a
# .npy once and map that.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" medmnist==3.0.2 numpy==2.4.6 torch==2.15.0 torchvision==0.29.2
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q medmnist==3.0.2 numpy==2.4.6 torch==2.15.0 torchvision==0.29.2
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys, warnings
import medmnist, numpy as np

n = 4000
random = np.random.default_rng(0)
arrays = {}
for split in ("train", "val", "test"):
    arrays[f"{split}_images"] = random.integers(0, 256, (n, 64, 64, 3), dtype=np.uint8)
    arrays[f"{split}_labels"] = random.integers(0, 9, (n, 1)).astype(np.uint8)
np.savez("pathmnist_64.npz", **arrays)
size = arrays["train_images"].nbytes / 1e6
del arrays

def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) * 1024 / 1e6

with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    before = resident()
    data = medmnist.PathMNIST(split="train", root=".", size=64, mmap_mode="r")
    grown = resident() - before
print(f"pictures are a {type(data.imgs).__name__}; the process grew by {grown:.0f} MB of {size:.0f}; warnings: {len(said)}")
ok = not isinstance(data.imgs, np.memmap) and grown > size / 2
print("as stated" if ok else "CHANGED: mmap_mode now maps the file")
sys.exit(int(not ok))
PY
