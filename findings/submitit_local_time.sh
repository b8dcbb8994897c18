#!/usr/bin/env bash
# submitit 1.5.4. The local executor enforces timeout_min as a cluster would: it signals the job before that time is up
# and ends it, half a minute early when the signal delay is left alone, and a job without a checkpoint method fails.
# Seen 2026-11-27: a function of 50 s under timeout_min=1 dies after 31 s with "Job not requeued because: timed-out and
# not checkpointable". Matters through hydra-submitit-launcher 1.2.0, whose submitit_local default is timeout_min=60:
# every local training job longer than an hour is cut off, which no short trial of a sweep shows.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" submitit==1.5.4 hydra-core==1.3.8 hydra-submitit-launcher==1.2.0
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q submitit==1.5.4 hydra-core==1.3.8 hydra-submitit-launcher==1.2.0
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys, time
import submitit
from hydra_plugins.hydra_submitit_launcher.config import LocalQueueConf

def work(seconds):
    end = time.time() + seconds
    while time.time() < end:
        time.sleep(0.2)
    return "finished"

executor = submitit.AutoExecutor(folder="logs", cluster="local")
executor.update_parameters(timeout_min=1)
begin = time.time()
job = executor.submit(work, 50)
try:
    said = job.result()
except Exception as error:
    said = str(error)
took = time.time() - begin
short = "timed-out and not checkpointable" in said
print(f"a function of 50 s under timeout_min=1: after {took:.0f} s", "timed-out and not checkpointable" if short else said)
defaults = LocalQueueConf()
print(f"Hydra's launcher: timeout_min={defaults.timeout_min}")
ok = short and took < 50 and defaults.timeout_min == 60
print("as stated" if ok else "CHANGED: local jobs are no longer ended before timeout_min")
sys.exit(int(not ok))
PY
