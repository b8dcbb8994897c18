#!/usr/bin/env bash
# timm 1.0.31, pytorch-ignite 0.5.5, torch 2.15.0. Where the first score is NaN, it stays the best for ever: every later
# score is compared with it, and nothing is better than NaN. Seen 2026-11-27 with one checkpoint kept and the losses
# NaN, 3, 1, 2: timm's CheckpointSaver has the first as model_best and as its only numbered file, ignite's Checkpoint keeps
# the first and writes no other; of 3, 1, NaN, 2 both keep 1, as they should. Matters where the first evaluation comes
# too early for a score (a network that still diverges, a metric that needs more pictures): the run ends well, and its
# best network is the one of the first epoch. Give a NaN as infinity of the worse sign.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 torchvision==0.29.2 timm==1.0.31 pytorch-ignite==0.5.5 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 torchvision==0.29.2 timm==1.0.31 pytorch-ignite==0.5.5 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import logging, math, os, sys, tempfile, torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver
from timm.utils import CheckpointSaver

logging.disable(logging.ERROR)

def by_timm(losses):
    folder, net = tempfile.mkdtemp(), torch.nn.Linear(1, 1)
    saver = CheckpointSaver(net, torch.optim.SGD(net.parameters(), lr=0.1), checkpoint_dir=folder, recovery_dir=folder, decreasing=True, max_history=1)
    for epoch, loss in enumerate(losses):
        saver.save_checkpoint(epoch, loss)
    kept = torch.load(os.path.join(folder, "model_best.pth.tar"), weights_only=False)
    return losses[kept["epoch"]]

def by_ignite(losses):
    folder = tempfile.mkdtemp()
    engine = Engine(lambda engine, batch: None)
    keeper = Checkpoint({"net": torch.nn.Linear(1, 1)}, DiskSaver(folder), n_saved=1, score_function=lambda engine: -losses[engine.state.epoch - 1],
                        global_step_transform=lambda engine, event: engine.state.epoch)
    engine.add_event_handler(Events.EPOCH_COMPLETED, keeper)
    engine.run([0], max_epochs=len(losses))
    (name,) = os.listdir(folder)
    return losses[int(name.split("_")[1]) - 1]

cases = {"NaN, 3, 1, 2": [math.nan, 3.0, 1.0, 2.0], "3, 1, NaN, 2": [3.0, 1.0, math.nan, 2.0], "infinity, 3, 1, 2": [math.inf, 3.0, 1.0, 2.0]}
seen = {name: {keep.__name__[3:]: keep(losses) for keep in (by_timm, by_ignite)} for name, losses in cases.items()}
print("losses: the one whose checkpoint is kept as the best:", seen)
ok = str([list(value.values()) for value in seen.values()]) == "[[nan, nan], [1.0, 1.0], [1.0, 1.0]]"
print("as stated" if ok else "CHANGED: a NaN at the start is now replaced")
sys.exit(int(not ok))
PY
