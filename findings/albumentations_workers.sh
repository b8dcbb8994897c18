#!/usr/bin/env bash
# albumentations 2.0.8 (the last release under its free licence), torch 2.15.0. Compose draws its generator when it is
# made, so each worker process of a DataLoader starts with a copy of it, and each epoch's new workers start again from
# the same state. Seen 2026-11-27 with 2 workers, Compose without a seed, 16 pictures: both workers draw the same 8
# crops, and the second epoch the same as the first; with persistent_workers only epochs differ. With num_workers=0 all
# 32 differ. Matters for small sets trained for many epochs: the augmentation is a fixed table by position in the batch
# order, and the model memorises sooner. Call transform.set_random_seed in worker_init_fn, from torch.initial_seed()
# (that differs by worker and epoch).
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 albumentations==2.0.8 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 albumentations==2.0.8 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore NO_ALBUMENTATIONS_UPDATE=1
env/bin/python - <<'PY'
import sys
import albumentations, numpy as np, torch

class Crops(torch.utils.data.Dataset):
    def __init__(self):
        self.transform = albumentations.Compose([albumentations.RandomCrop(1, 1)])
    def __len__(self):
        return 16
    def __getitem__(self, i):
        return int(self.transform(image=np.arange(10_000, dtype=np.float32).reshape(100, 100))["image"].flat[0])

def seed(worker):
    torch.utils.data.get_worker_info().dataset.transform.set_random_seed(torch.initial_seed() % 2**32)

def epochs(**loader):
    batches = torch.utils.data.DataLoader(Crops(), batch_size=8, **loader)
    return [[batch.tolist() for batch in batches] for _ in range(2)]

def told(name, **loader):
    (first, second), (third, _) = epochs(**loader)
    print(f"{name}: workers alike {first == second}, epochs alike {first == third}; first crops {first[:4]} and {second[:4]}")
    return first == second, first == third

ok = told("2 workers", num_workers=2) == (True, True)
ok &= told("2 workers that stay", num_workers=2, persistent_workers=True) == (True, False)
ok &= told("none", num_workers=0) == (False, False)
ok &= told("2 workers, seeded", num_workers=2, worker_init_fn=seed) == (False, False)
print("as stated" if ok else "CHANGED: workers and epochs now draw for themselves")
sys.exit(int(not ok))
PY
