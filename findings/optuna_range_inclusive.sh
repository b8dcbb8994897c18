#!/usr/bin/env bash
# hydra-core 1.3.8 with hydra-optuna-sweeper 1.3.0 (optuna 2.10.1). The same override means two things: range(1,3)
# leaves 3 out in Hydra's own sweeper, as in Python, and takes it in where the optuna sweeper reads it as an integer
# distribution. Seen 2026-11-27: own sweeper 1 2, optuna (20 random trials) 1 2 3. Matters when a sweep that ran as a
# grid is handed to optuna: a depth, a number of classes or an index into a list gets one value that the grid never had,
# out of range or out of memory.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" hydra-core==1.3.8 hydra-optuna-sweeper==1.3.0 optuna==2.10.1
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q hydra-core==1.3.8 hydra-optuna-sweeper==1.3.0 optuna==2.10.1
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
cat > app.py <<'PY'
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    with open(cfg.log, "a") as file:
        file.write(f"{cfg.depth}\n")
    return float(cfg.depth)

main()
PY
sweep() {
  env/bin/python app.py -m "${@:2}" hydra.sweep.dir="$tmp/runs$1" '+depth=range(1,3)' +log="$tmp/$1" >"$tmp/log" 2>&1 ||
    { cat "$tmp/log"; exit 1; }
  sort -u "$1" | xargs
}
own=$(sweep own)
optuna=$(sweep optuna hydra/sweeper=optuna hydra/sweeper/sampler=random hydra.sweeper.sampler.seed=1 \
  hydra.sweeper.n_trials=20 hydra.sweeper.n_jobs=1)
echo "range(1,3): Hydra's own sweeper runs $own; optuna's runs $optuna"
if [ "$own" = "1 2" ] && [ "$optuna" = "1 2 3" ]; then
  echo "as stated"
else
  echo "CHANGED: range(1,3) now means the same under both sweepers"
  exit 1
fi
