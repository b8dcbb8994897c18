#!/usr/bin/env bash
# tensorboard 2.21.0. EventAccumulator, by which scripts read a run's curves, keeps 10,000 scalars of each name and
# throws others away at random, without a word. Seen 2026-11-27 with 30,000 values logged, one of them the smallest:
# 10,000 are read, the smallest is not among them, and with size_guidance={"scalars": 0} all 30,000 are. Matters for
# long runs: the best step, a spike of the loss or the moment of a NaN is missing from tables and plots made of the log,
# while a shorter run beside it is whole, so that the minimum of the longer one looks worse than it was.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" tensorboard==2.21.0 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q tensorboard==2.21.0 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

writer = EventFileWriter("run")
for step in range(30000):
    value = Summary.Value(tag="fid", simple_value=float(step != 12345))
    writer.add_event(Event(step=step, wall_time=float(step), summary=Summary(value=[value])))
writer.close()

def read(**given):
    events = EventAccumulator("run", **given)
    events.Reload()
    values = [event.value for event in events.Scalars("fid")]
    return len(values), min(values)

seen = {"by default": read(), "size_guidance 0": read(size_guidance={"scalars": 0})}
print("values read and the smallest of them (30000 were logged, one is 0):", seen)
ok = seen == {"by default": (10000, 1.0), "size_guidance 0": (30000, 0.0)}
print("as stated" if ok else "CHANGED: other values are read by default")
sys.exit(int(not ok))
PY
