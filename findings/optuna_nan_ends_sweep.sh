#!/usr/bin/env bash
# hydra-optuna-sweeper 1.3.0, optuna 2.10.1, hydra-core 1.3.8. A trial whose job returns NaN is told to optuna as failed
# together with its value, which optuna refuses: "ValueError: Values were told. Values cannot be specified when state is
# TrialState.PRUNED or TrialState.FAIL", and the sweep ends there. Seen 2026-11-27: of 6 trials the sweep stops at the
# first NaN, with no optimization_results.yaml, so the trials done are lost too. Matters in a search of learning rates,
# where a diverged loss is an ordinary outcome: return a large finite number instead of NaN.
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
        file.write("job\n")
    with open(cfg.log) as file:
        nth = len(file.readlines())
    return float(cfg.bad) if nth == 3 else 1.0

main()
PY
sweep() {
  env/bin/python app.py -m hydra/sweeper=optuna hydra.sweeper.n_trials=6 hydra.sweeper.n_jobs=1 hydra.sweep.dir="$tmp/runs$1" \
    '+lr=interval(0.001,0.1)' +bad="$1" +log="$tmp/$1" >"$tmp/said$1" 2>&1 || true
  kept=$([ -e "runs$1/optimization_results.yaml" ] && echo yes || echo no)
  echo "$(wc -l <"$1") of 6 jobs, results kept: $kept; $(grep -E '^ValueError' "$tmp/said$1" | tail -1)"
}
nan=$(sweep nan)
large=$(sweep 1e9)
echo "third job returns NaN: $nan"
echo "third job returns 1e9: $large"
case "$nan|$large" in
  "3 of 6 jobs, results kept: no; ValueError"*"|6 of 6 jobs, results kept: yes"*) echo "as stated" ;;
  *) echo "CHANGED: a NaN no longer ends the sweep"; exit 1 ;;
esac
