#!/usr/bin/env bash
# accelerate 1.15.0, torch 2.15.0. A run resumed in the middle of an epoch by save_state, load_state and
# skip_first_batches goes on in another order: the shuffle is drawn anew from the state of the generator after its
# first draw, and the batches skipped are not those already seen. Seen 2026-11-27 with 64 pictures in batches of 4,
# stopped after 8 batches: 49 different pictures in the resumed epoch, 15 of them twice; with
# DataLoaderConfiguration(use_seedable_sampler=True), which is not the default, all 64 and the order of a run in one
# go. Matters on clusters that stop jobs every few hours: each epoch leaves a quarter of the pictures out, and two runs
# with one seed differ.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 accelerate==1.15.0 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 accelerate==1.15.0 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys, tempfile, torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, set_seed

def build(seedable):
    set_seed(0)
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True) if seedable else None)
    net = torch.nn.Linear(1, 1)
    images = torch.utils.data.DataLoader(torch.arange(64.0).view(-1, 1), batch_size=4, shuffle=True)
    return accelerator, *accelerator.prepare(net, torch.optim.SGD(net.parameters(), lr=0.1), images)

def second_epoch(seedable, stop):
    """The pictures of the second epoch; stopped after 8 batches and resumed, or in one go."""
    folder, seen = tempfile.mkdtemp(), []
    accelerator, _, _, images = build(seedable)
    for epoch in range(2):
        images.set_epoch(epoch)
        for i, batch in enumerate(images):
            if epoch:
                seen += batch.flatten().int().tolist()
            if stop and epoch and i == 7:
                accelerator.save_state(folder)
                break
    if stop:
        accelerator, _, _, images = build(seedable)
        accelerator.load_state(folder)
        images.set_epoch(1)
        for batch in accelerator.skip_first_batches(images, 8):
            seen += batch.flatten().int().tolist()
    return seen

seen = {}
for name, seedable in (("by default", False), ("use_seedable_sampler", True)):
    whole, resumed = second_epoch(seedable, False), second_epoch(seedable, True)
    assert len(resumed) == len(set(whole)) == 64
    seen[name] = {"different pictures": len(set(resumed)), "order of one go": resumed == whole}
print("of 64 pictures in the resumed epoch:", seen)
ok = seen["by default"]["different pictures"] < 60 and seen["use_seedable_sampler"] == {"different pictures": 64, "order of one go": True}
print("as stated" if ok else "CHANGED: an epoch resumed by default now holds each picture once")
sys.exit(int(not ok))
PY
