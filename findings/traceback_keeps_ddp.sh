#!/usr/bin/env bash
# torch 2.15.0, gloo. DistributedDataParallel holds its process group's connections, and destroy_process_group does not
# close them while a reference lives; a kept exception is one, since its traceback holds the frame with the wrapped
# model. Seen 2026-11-27, 2 processes, sockets open: 2 after each of two good jobs, then 4, 6, 8, 10 after failed ones
# whose errors are kept, 2 again after traceback.clear_frames. Matters for sweeps in one process (Hydra keeps the
# exception of a failed job): each failed job leaves its connections and its model behind, until ports, file handles or
# memory run out far from the cause.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
cat > jobs.py <<'PY'
import gc, os, sys, traceback
import torch, torch.distributed as dist, torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

def sockets():
    gc.collect()
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            pass
    return sum(link.startswith("socket") for link in links)

def job(fails):
    net = DistributedDataParallel(torch.nn.Linear(4, 4))
    net(torch.ones(1, 4)).sum().backward()
    if fails:
        raise ValueError("diverged")

def worker(rank, folder):
    kept, seen = [], []
    for number, fails in enumerate((False, False, True, True, True, True)):
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet{number}", rank=rank, world_size=2)
        try:
            job(fails)
        except ValueError as error:
            kept.append(error)
        dist.barrier()
        dist.destroy_process_group()
        seen.append(sockets())
    for error in kept:
        traceback.clear_frames(error.__traceback__)
    seen.append(sockets())
    if rank == 0:
        print("sockets after two good jobs, four failed ones whose errors are kept, and clear_frames:", seen)
        ok = seen[1] == seen[0] and max(seen) >= seen[1] + 4 and seen[-1] <= seen[1]
        print("as stated" if ok else "CHANGED: a kept traceback no longer keeps connections open")
        sys.exit(int(not ok))

if __name__ == "__main__":
    mp.spawn(worker, (os.getcwd(),), nprocs=2)
PY
env/bin/python jobs.py 2>"$tmp/errors" || { grep -v Warning "$tmp/errors" | tail -3; exit 1; }
