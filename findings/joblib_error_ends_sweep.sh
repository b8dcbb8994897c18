#!/usr/bin/env bash
# hydra-joblib-launcher 1.2.0, joblib 1.6.0, hydra-core 1.3.8. A failed job of a sweep travels back as its exception.
# Where that exception cannot be built again from its args (two required arguments, one passed on to Exception), the
# receiving side breaks the whole pool: running jobs are killed and waiting ones never start. Seen 2026-11-27, 4 jobs, 2
# at a time, the second failing: with ValueError the other 3 end; with such an error 2 start, none ends, and the report
# is "BrokenProcessPool: A result has failed to un-serialize", without the job's own message. Matters for a night of
# training jobs: one bad configuration throws away its neighbours.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" hydra-core==1.3.8 hydra-joblib-launcher==1.2.0 joblib==1.6.0
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q hydra-core==1.3.8 hydra-joblib-launcher==1.2.0 joblib==1.6.0
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
cat > app.py <<'PY'
import time
import hydra

class Diverged(Exception):
    def __init__(self, step, loss):
        super().__init__(f"loss {loss} at step {step}")

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    with open(cfg.log, "a") as file:
        file.write("start\n")
    time.sleep(1)
    if cfg.job == 1:
        raise Diverged(10, 7.5) if cfg.own else ValueError("loss 7.5 at step 10")
    time.sleep(3)
    with open(cfg.log, "a") as file:
        file.write("end\n")

main()
PY
sweep() {
  env/bin/python app.py -m hydra/launcher=joblib hydra.launcher.n_jobs=2 hydra.sweep.dir="$tmp/runs" \
    +job=0,1,2,3 +own="$1" +log="$tmp/$1" >"$tmp/said$1" 2>&1 || true
  echo "$(grep -c start "$1" || true) started, $(grep -c end "$1" || true) ended; $(grep -E '^[A-Za-z._]+(Error|Pool)\b' "$tmp/said$1" | tail -1)"
}
plain=$(sweep false)
own=$(sweep true)
echo "ValueError: $plain"
echo "error of two arguments: $own"
case "$plain|$own" in
  "4 started, 3 ended;"*"|2 started, 0 ended;"*un-serialize*) echo "as stated" ;;
  *) echo "CHANGED: an exception that does not unpickle no longer ends the other jobs"; exit 1 ;;
esac
