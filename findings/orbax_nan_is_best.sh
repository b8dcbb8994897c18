#!/usr/bin/env bash
# orbax-checkpoint 0.12.8, jax 0.10.2. CheckpointManager with best_fn and max_to_keep takes a NaN for better than all
# that came before it, and deletes the best checkpoint. Seen 2026-11-27 with max_to_keep=1, best_mode="min" and one
# checkpoint a line: of the losses 3, 1, NaN, 2 the one of 2 is kept, of 3, 1, 2, NaN that of the NaN; without a NaN it
# is 1. No warning. Matters because a NaN in a score is an event of a day (a metric of too few pictures, a diverged
# evaluation): the best network of a long run is gone from the disk, and best_step names the broken one. Return infinity
# of the worse sign from best_fn where the score is not finite.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" orbax-checkpoint==0.12.8 jax==0.10.2 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q orbax-checkpoint==0.12.8 jax==0.10.2 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import logging, math, os, sys
import numpy as np, orbax.checkpoint as ocp

logging.disable(logging.WARNING)

def kept(losses, finite=False):
    def score(metrics):
        return math.inf if finite and math.isnan(metrics["loss"]) else metrics["loss"]
    folder = os.path.abspath(f"run{kept.count}")
    kept.count += 1
    with ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(max_to_keep=1, best_fn=score, best_mode="min")) as manager:
        for step, loss in enumerate(losses):
            manager.save(step, args=ocp.args.StandardSave({"weight": np.zeros(2)}), metrics={"loss": loss})
            manager.wait_until_finished()
        return [losses[step] for step in manager.all_steps()], losses[manager.best_step()]

kept.count = 0
seen = {"3, 1, 2": kept([3.0, 1.0, 2.0]), "3, 1, NaN, 2": kept([3.0, 1.0, math.nan, 2.0]), "3, 1, 2, NaN": kept([3.0, 1.0, 2.0, math.nan]),
        "3, 1, NaN, 2 by infinity": kept([3.0, 1.0, math.nan, 2.0], finite=True)}
print("losses: those whose checkpoint is kept, and the best:", seen)
ok = str(list(seen.values())) == "[([1.0], 1.0), ([2.0], 2.0), ([nan], nan), ([1.0], 1.0)]"
print("as stated" if ok else "CHANGED: a NaN is now treated otherwise")
sys.exit(int(not ok))
PY
