#!/usr/bin/env bash
# torch 2.15.0, faiss-cpu 1.15.1. Distances that find copies of training pictures are not 0 for copies, and name the
# wrong neighbour among near ones: from some 20 rows on both multiply out |a|^2 - 2ab + |b|^2 in float32. Seen
# 2026-11-27 with 200 pictures of 3 x 32 x 32 in 0 to 255: a picture is up to 4.0 from itself by torch.cdist and up to
# 16 (squared) by faiss, 0 when asked alone; of 200 pictures that differ in 1 % of their values by one level, 8 % get
# their true nearest neighbour from cdist. Matters for counts of memorised pictures by a threshold of distance: they
# depend on the size of the batch. Use cdist's compute_mode="donot_use_mm_for_euclid_dist", or subtract the mean first.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 faiss-cpu==1.15.1 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 faiss-cpu==1.15.1 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys
import faiss, numpy as np, torch

generator = torch.Generator().manual_seed(0)
images = (255 * torch.rand(200, 3072, generator=generator)).round()
near = images[:1] + (torch.rand(200, 3072, generator=generator) < 0.01).float()
exact = (near[:, None] - near[None]).square().sum(-1).fill_diagonal_(float("inf")).argmin(1)

def nearest(mode):
    return float((torch.cdist(near, near, compute_mode=mode).fill_diagonal_(float("inf")).argmin(1) == exact).float().mean())

index = faiss.IndexFlatL2(3072)
index.add(images.numpy())
default, subtracts = "use_mm_for_euclid_dist_if_necessary", "donot_use_mm_for_euclid_dist"
seen = {
    "cdist of 200 to themselves": round(float(torch.cdist(images, images).diagonal().max()), 2),
    "of 20": float(torch.cdist(images[:20], images[:20]).diagonal().max()),
    "without products": float(torch.cdist(images, images, compute_mode=subtracts).diagonal().max()),
    "faiss, 200 asked": float(index.search(images.numpy(), 1)[0].max()),
    "faiss, one asked": float(index.search(images[:1].numpy(), 1)[0].max()),
    "true neighbours of near copies": round(nearest(default), 2),
    "true neighbours without products": round(nearest(subtracts), 2),
}
print(seen)
values = list(seen.values())
ok = values[0] > 1 and values[1] == values[2] == values[4] == 0 and values[3] > 1 and values[5] < 0.5 and values[6] == 1
print("as stated" if ok else "CHANGED: copies are now at distance 0 in a batch")
sys.exit(int(not ok))
PY
