#!/usr/bin/env bash
# datasets 5.2.0, pillow 13.0.0. Dataset.to_parquet of an image folder writes the path of each picture on this computer
# and leaves bytes empty. Seen 2026-11-27: 4 of 4 rows hold bytes=None, and after the folder is moved away reading a row
# raises FileNotFoundError. Matters for a training set made on one machine and read on another: the parquet file is a
# few kB, loads, has the right labels and count, and fails at the first picture. Run embed_table_storage over it before
# writing.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" datasets==5.2.0 pillow==13.0.0 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q datasets==5.2.0 pillow==13.0.0 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore HF_HOME="$tmp/hf" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1
env/bin/python - <<'PY'
import os, sys
import pyarrow.parquet
from datasets import Dataset, load_dataset
from PIL import Image

for label in ("cat", "dog"):
    os.makedirs(f"pictures/{label}")
    for i in range(2):
        Image.new("RGB", (32, 32), (i * 90, 20, 20)).save(f"pictures/{label}/{i}.png")
load_dataset("imagefolder", data_dir="pictures", split="train").to_parquet("rows.parquet")
rows = pyarrow.parquet.read_table("rows.parquet").column("image").to_pylist()
empty = sum(row["bytes"] is None for row in rows)
os.rename("pictures", "elsewhere")
try:
    Dataset.from_parquet("rows.parquet")[0]
    said = "a picture"
except FileNotFoundError:
    said = "FileNotFoundError"
print(f"{empty} of {len(rows)} rows hold no bytes; reading one after the folder was moved: {said}")
ok = empty == len(rows) == 4 and said == "FileNotFoundError"
print("as stated" if ok else "CHANGED: to_parquet now writes the bytes of the pictures")
sys.exit(int(not ok))
PY
