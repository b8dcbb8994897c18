#!/usr/bin/env bash
# submitit 1.5.4 with hydra-submitit-launcher 1.2.0 and hydra-core 1.3.8. The local executor writes CUDA_VISIBLE_DEVICES
# of a job itself: empty where gpus_per_node is not given (the launcher's default), and 0, 1, ... counted from nought
# where it is, whatever the caller had set. Seen 2026-11-27 with CUDA_VISIBLE_DEVICES=3 outside: the job sees '' by
# default and '0' with gpus_per_node=1. Matters for `hydra/launcher=submitit_local` on a shared workstation: jobs train
# on the CPU without a word, because torch finds no device, or all land on card 0 that somebody else uses. Say
# gpus_per_node, and choose the card inside the job.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" hydra-core==1.3.8 hydra-submitit-launcher==1.2.0 submitit==1.5.4
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q hydra-core==1.3.8 hydra-submitit-launcher==1.2.0 submitit==1.5.4
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
cat > app.py <<'PY'
import os
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    with open(os.environ["SEEN"], "w") as file:
        file.write(repr(os.environ.get("CUDA_VISIBLE_DEVICES")))

main()
PY

export CUDA_VISIBLE_DEVICES=3
job() {
  SEEN="$tmp/$1" env/bin/python app.py -m hydra/launcher=submitit_local hydra.sweep.dir="$tmp/runs$1" "${@:2}" >"$tmp/log" 2>&1 ||
    { cat "$tmp/log"; exit 1; }
}
job default
job one hydra.launcher.gpus_per_node=1
echo "outside: '3'; in a job by default: $(cat default); with gpus_per_node=1: $(cat one)"
if [ "$(cat default)" = "''" ] && [ "$(cat one)" = "'0'" ]; then
  echo "as stated"
else
  echo "CHANGED: a local job of submitit now keeps the devices that its caller chose"
  exit 1
fi
