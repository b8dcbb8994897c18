#!/usr/bin/env bash
# webdataset 1.0.2. Neither choice of seed gives what training wants. Without one, .shuffle() draws from the clock and
# the process number: random.seed, numpy's and torch's seeds change nothing, nor does WebDataset(seed=1), which reaches
# the shards only. With .shuffle(n, seed=1) the generator is made anew at every pass, so all epochs have one order. Seen
# 2026-11-27 on 4 shards of 50: two runs under the same seeds differ; with seed= everywhere epochs 1 and 2 are the same
# list. Matters for runs that should repeat, and for runs of many epochs that meet the batches in one order; .shuffle(n,
# rng=random.Random(1)) repeats between runs and moves on between epochs.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" webdataset==1.0.2 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q webdataset==1.0.2 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import random, sys
import numpy as np, webdataset as wds

shards = [f"shard{s}.tar" for s in range(4)]
for s, name in enumerate(shards):
    with wds.TarWriter(name) as tar:
        for i in range(50):
            tar.write({"__key__": f"{s}-{i:03d}", "cls": i % 10})

def row(name, seed, kwargs):
    def run():
        random.seed(0), np.random.seed(0)
        data = wds.WebDataset(shards, shardshuffle=4, seed=seed).shuffle(100, **kwargs())
        return [[sample["__key__"] for sample in data] for epoch in range(2)]
    first, second = run(), run()
    found = (first == second, first[0] == first[1])
    print(f"{name}: a second run repeats the first: {found[0]}; epoch 2 repeats epoch 1: {found[1]}")
    return found

ok = (row("WebDataset(seed=1), plain shuffle", 1, dict) == (False, False)
      and row("seed=1 in both", 1, lambda: dict(seed=1)) == (True, True)
      and row("an rng of one's own", 1, lambda: dict(rng=random.Random(1))) == (True, False))
print("as stated" if ok else "CHANGED: seeds of the shuffle now behave otherwise")
sys.exit(int(not ok))
PY
