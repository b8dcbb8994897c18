#!/usr/bin/env bash
# datasets 5.2.0. Dataset.map stores its result under a hash of the function; a function that is imported from a module
# is hashed by its name, not by its code, nor by the constants of its module. Seen 2026-11-27: prepare.double is mapped,
# its file edited to treble, and a new process still gets the doubled values from the cache; a function written in the
# script itself is hashed by its code and mapped anew. Matters for preparation kept in a module (crop, size, which label
# counts): after a fix of it training goes on with the old images, without a word. load_from_cache_file=False, or a
# new_fingerprint, helps.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" datasets==5.2.0
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q datasets==5.2.0
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore HF_HOME="$tmp/hf" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1
env/bin/python - <<'PY'
import pathlib, subprocess, sys

SCRIPT = """
from datasets import Dataset, load_from_disk
import os, prepare
if not os.path.exists("rows"):
    Dataset.from_dict({"x": [1, 2, 3]}).save_to_disk("rows")
rows = load_from_disk("rows")
def here(row):
    return {"y": row["x"] * FACTOR}
print(*(list(rows.map(f)["y"]) for f in (prepare.times, prepare.times_constant, here)), sep=";")
"""

def run(factor):
    pathlib.Path("prepare.py").write_text(f"K = {factor}\n\ndef times(row):\n    return {{'y': row['x'] * {factor}}}\n\ndef times_constant(row):\n    return {{'y': row['x'] * K}}\n")
    out = subprocess.run([sys.executable, "-B", "-c", SCRIPT.replace("FACTOR", str(factor))], capture_output=True, text=True, check=True)
    return [eval(part) for part in out.stdout.strip().splitlines()[-1].split(";")]

first, second = run(2), run(30)
print("first run: imported function, one that uses a constant of its module, one of the script:", first)
print("after their factor was edited from 2 to 30, in a new process:", second)
ok = first == [[2, 4, 6]] * 3 and second == [[2, 4, 6], [2, 4, 6], [30, 60, 90]]
print("as stated" if ok else "CHANGED: an edited module now changes the hash")
sys.exit(int(not ok))
PY
