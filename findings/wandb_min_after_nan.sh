#!/usr/bin/env bash
# wandb 0.31.0. A metric defined with summary="min" (or max, mean) is NaN for good once one NaN was logged; the default
# summary takes the last value and recovers. Seen 2026-11-27 for 3, NaN, 1, 2: min NaN, max NaN, mean NaN, last 2.
# Matters where a sweep ranks its runs by the summary of a validation loss or an FD: one evaluation that overflowed
# takes the whole run off the table, best value included, and optimisers that read the summary get NaN. Leave a NaN out
# of the row, and keep the best value yourself.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" wandb==0.31.0 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q wandb==0.31.0 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore WANDB_SILENT=true WANDB_MODE=offline WANDB_DATA_DIR="$tmp" WANDB_CACHE_DIR="$tmp" WANDB_CONFIG_DIR="$tmp"
env/bin/python - <<'PY'
import glob, json, subprocess, sys
import wandb

with wandb.init(mode="offline", dir=".") as run:
    for name in ("min", "max", "mean", "last"):
        run.define_metric(name, summary=name)
    for value in (3.0, float("nan"), 1.0, 2.0):
        run.log({name: value for name in ("min", "max", "mean", "last")})
folder, = glob.glob("wandb/offline-run-*")
shown = subprocess.run(["env/bin/wandb", "leet", "inspect", "--summary", "--json", folder], capture_output=True, text=True, check=True)
summary = json.loads(shown.stdout)["summary"]
seen = {name: summary[name][name] if isinstance(summary[name], dict) else summary[name] for name in ("min", "max", "mean", "last")}
print("summary of 3, NaN, 1, 2:", seen)
ok = all(str(seen[n]).lower() == "nan" for n in ("min", "max", "mean")) and seen["last"] == 2
print("as stated" if ok else "CHANGED: the smallest value of a metric now survives a NaN")
sys.exit(int(not ok))
PY
