#!/usr/bin/env bash
# ema-pytorch 0.8.3, torch 2.15.0. PostHocEMA keeps its snapshots in ./post-hoc-ema-checkpoints, does not clear what is
# there, and synthesizes from every file it finds, up to the last step of any run. Seen 2026-11-27: a run of 200 steps
# at weight 1, then one of 100 steps at weight -1 in the same folder; the second asks for its average (should be -1) and
# gets +1.53, outside both. In a fresh folder it is -1.00. Matters for every second run from one place (Hydra does not
# change folders): a shorter run mixes a former network's snapshots into its samples, and nothing fails where the shapes
# agree. Give each run its checkpoint_folder.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 ema-pytorch==0.8.3 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 ema-pytorch==0.8.3 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys, torch
from ema_pytorch import PostHocEMA

def run(folder, steps, value):
    net = torch.nn.Linear(1, 1, bias=False)
    ema = PostHocEMA(net, sigma_rels=(0.03, 0.3), update_every=1, checkpoint_every_num_steps=10, checkpoint_folder=folder)
    for _ in range(steps):
        with torch.no_grad():
            net.weight.fill_(value)
        ema.update()
    return ema.synthesize_ema_model(sigma_rel=0.15).ema_model.weight.item()

first = run("shared", 200, 1.0)
second = run("shared", 100, -1.0)
alone = run("fresh", 100, -1.0)
print(f"200 steps at +1: {first:.3f}; then 100 steps at -1 in the same folder: {second:.3f}; in a fresh folder: {alone:.3f}")
ok = abs(first - 1) < 0.01 and abs(alone + 1) < 0.01 and second > 0
print("as stated" if ok else "CHANGED: snapshots of an earlier run no longer enter the average")
sys.exit(int(not ok))
PY
