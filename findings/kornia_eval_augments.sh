#!/usr/bin/env bash
# kornia 0.9.0, torch 2.15.0. Augmentations of kornia are modules, but .eval() does not turn them off, alone or in a
# model. Seen 2026-11-27: RandomHorizontalFlip(p=1) and RandomErasing(p=1) change every picture after .eval(), alone, in
# AugmentationSequential and in nn.Sequential, where nn.Dropout beside them is off. Matters for a classifier that holds
# its augmentations, and then judges samples or guides them: it sees flipped and erased pictures, so that the share of
# samples that show what was asked for is too low and changes from call to call. Apply them under `if self.training`.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 kornia==0.9.0 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 kornia==0.9.0 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys, torch
import kornia.augmentation as augment

picture = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
flip, erase = augment.RandomHorizontalFlip(p=1.0), augment.RandomErasing(p=1.0)
kinds = {
    "RandomHorizontalFlip": flip,
    "RandomErasing": erase,
    "AugmentationSequential": augment.AugmentationSequential(flip, data_keys=["input"]),
    "nn.Sequential of it": torch.nn.Sequential(flip, torch.nn.Dropout(0.5)),
    "nn.Dropout": torch.nn.Dropout(0.5),
}
changed = {name: not torch.equal(kind.eval()(picture), picture) for name, kind in kinds.items()}
print("pictures are changed after .eval():", changed)
ok = list(changed.values()) == [True, True, True, True, False]
print("as stated" if ok else "CHANGED: .eval() now turns augmentations off")
sys.exit(int(not ok))
PY
