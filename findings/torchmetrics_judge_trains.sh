#!/usr/bin/env bash
# torchmetrics 1.9.0, torch 2.15.0. FID, KID and Inception Score take a network of one's own for the features, and run
# it in whatever mode it is: as a part of a module, .train() of that module puts it in training mode, where the built-in
# network stays in eval mode. Seen 2026-11-27 with a network with BatchNorm and dropout, given in eval mode, and 256
# pictures compared with themselves: FID 0.000 before and 0.102 after .train() of the module that holds the metric,
# and BatchNorm's averages have moved. Matters for a classifier as the judge (the usual way for digits) held by a
# LightningModule or as a part of the network: scores rise with the batch size and drift over the epochs.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 torchmetrics==1.9.0 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 torchmetrics==1.9.0 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys, torch
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

class Judge(torch.nn.Module):
    num_features = 16
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.dropout = torch.nn.Conv2d(3, 16, 3, 2), torch.nn.BatchNorm2d(16), torch.nn.Dropout(0.5)
    def forward(self, x):
        return self.dropout(self.norm(self.conv(x / 255)).relu().mean((2, 3)))

images = torch.randint(0, 256, (256, 3, 16, 16), generator=torch.Generator().manual_seed(1)).float()

def made(train):
    judge = Judge().eval()
    metrics = torch.nn.ModuleDict({"fid": FrechetInceptionDistance(feature=judge), "kid": KernelInceptionDistance(feature=judge, subset_size=64),
                                   "score": InceptionScore(feature=judge)})
    whole = torch.nn.ModuleDict({"net": torch.nn.Linear(1, 1), "metrics": metrics})
    before = judge.norm.running_mean.clone()
    if train:
        whole.train()
    fid = metrics["fid"]
    fid.update(images, real=True)
    fid.update(images, real=False)
    return {"judge trains": judge.training, "fid of the set with itself": round(float(fid.compute()), 3), "averages moved": not torch.equal(before, judge.norm.running_mean)}

seen = {"eval": made(False), "after .train()": made(True)}
print(seen)
after = seen["after .train()"]
ok = list(seen["eval"].values()) == [False, 0.0, False] and after["judge trains"] and after["averages moved"] and after["fid of the set with itself"] > 0.05
print("as stated" if ok else "CHANGED: a network of one's own now stays in eval mode")
sys.exit(int(not ok))
PY
