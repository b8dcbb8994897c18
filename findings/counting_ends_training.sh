#!/usr/bin/env bash
# ptflops 0.7.5, calflops 0.3.2, thop 0.1.1, torchinfo 1.8.0, torchprofile 0.1.0, torch 2.15.0. Counting the operations
# of a network leaves it in eval mode with ptflops and calflops: its dropout and BatchNorm stay off in the training that
# follows. Seen 2026-11-27: 0 of 3 modules are in training mode afterwards; the others restore it, but torchprofile
# moves BatchNorm's running averages by its random picture. Matters where a script prints the cost of a network before
# it trains: dropout of labels that is tied to training mode then never happens, the null class is not trained, and
# guidance pulls towards an untrained network. Call .train() after counting, or count a copy.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 ptflops==0.7.5 calflops==0.3.2 transformers==5.24.0 thop==0.1.1.post2209072238 torchinfo==1.8.0 torchprofile==0.1.0 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 ptflops==0.7.5 calflops==0.3.2 transformers==5.24.0 thop==0.1.1.post2209072238 torchinfo==1.8.0 torchprofile==0.1.0 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import contextlib, io, sys, torch

def ptflops_(net):
    from ptflops import get_model_complexity_info
    get_model_complexity_info(net, (3, 8, 8), print_per_layer_stat=False)

def calflops_(net):
    from calflops import calculate_flops
    calculate_flops(net, input_shape=(1, 3, 8, 8), print_results=False)

def thop_(net):
    from thop import profile
    profile(net, inputs=(torch.randn(1, 3, 8, 8),), verbose=False)

def torchinfo_(net):
    from torchinfo import summary
    summary(net, (1, 3, 8, 8), verbose=0)

def torchprofile_(net):
    from torchprofile import profile_macs
    profile_macs(net, torch.randn(1, 3, 8, 8))

seen = {}
for count in (ptflops_, calflops_, thop_, torchinfo_, torchprofile_):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.Dropout(0.5)).train()
    before = {name: value.clone() for name, value in net.named_buffers()}
    with contextlib.redirect_stdout(io.StringIO()):
        count(net)
    moved = any(not torch.equal(value, dict(net.named_buffers())[name]) for name, value in before.items())
    seen[count.__name__.strip("_")] = (sum(part.training for part in net), moved)
print("modules of 3 still in training mode, and whether BatchNorm's averages moved:", seen)
ok = list(seen.values()) == [(0, False), (0, False), (3, False), (3, False), (3, True)]
print("as stated" if ok else "CHANGED: counting now leaves a network otherwise than it did")
sys.exit(int(not ok))
PY
