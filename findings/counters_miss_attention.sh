#!/usr/bin/env bash
# thop 0.1.1, ptflops 0.7.5, calflops 0.3.2, torchinfo 1.8.0, torch 2.15.0. Four tools that count multiplications leave
# attention's own products out where it is scaled_dot_product_attention, and torchinfo counts a linear layer once,
# however many tokens pass it; none says so. Seen 2026-11-27 for two transformer blocks of width 64 on 256 tokens, 41.9
# million multiplications by hand: thop and calflops 25.2, ptflops 25.6, torchinfo 0.1; torch's own counter (halved: it
# counts additions too) and torchprofile 41.9. Matters for curves of quality over compute: what a network loses
# grows with its resolution (1,024 tokens of width 384 lose 30 %), so that attention looks free.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 thop==0.1.1.post2209072238 ptflops==0.7.5 calflops==0.3.2 transformers==5.24.0 torchinfo==1.8.0 torchprofile==0.1.0 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 thop==0.1.1.post2209072238 ptflops==0.7.5 calflops==0.3.2 transformers==5.24.0 torchinfo==1.8.0 torchprofile==0.1.0 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import contextlib, io, sys, torch
import torch.nn.functional as F

class Block(torch.nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.qkv, self.out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.up, self.down = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)
    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, 4, d // 4).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))
        return x + self.down(F.gelu(self.up(x)))

def thop_(net):
    from thop import profile
    return profile(net, inputs=(torch.randn(1, 256, 64),), verbose=False)[0]

def ptflops_(net):
    from ptflops import get_model_complexity_info
    return get_model_complexity_info(net, (256, 64), as_strings=False, print_per_layer_stat=False)[0]

def calflops_(net):
    from calflops import calculate_flops
    return calculate_flops(net, input_shape=(1, 256, 64), print_results=False, output_as_string=False)[1]

def torchinfo_(net):
    from torchinfo import summary
    return summary(net, (1, 256, 64), verbose=0).total_mult_adds

def torchprofile_(net):
    from torchprofile import profile_macs
    return profile_macs(net, torch.randn(1, 256, 64))

def torch_(net):
    from torch.utils.flop_counter import FlopCounterMode
    with FlopCounterMode(display=False) as counter:
        net(torch.randn(1, 256, 64))
    return counter.get_total_flops() / 2

by_hand = 2 * (256 * 12 * 64 * 64 + 2 * 256 * 256 * 64)
seen = {}
for count in (thop_, ptflops_, calflops_, torchinfo_, torchprofile_, torch_):
    with contextlib.redirect_stdout(io.StringIO()):
        seen[count.__name__.strip("_")] = round(count(torch.nn.Sequential(Block(), Block())) / 1e6, 1)
print(f"million multiplications, {by_hand / 1e6:.1f} by hand:", seen)
ok = (all(0.55 * by_hand < 1e6 * seen[name] < 0.65 * by_hand for name in ("thop", "ptflops", "calflops")) and seen["torchinfo"] < 1
      and all(abs(1e6 * seen[name] / by_hand - 1) < 0.02 for name in ("torchprofile", "torch")))
print("as stated" if ok else "CHANGED: attention or tokens are now counted")
sys.exit(int(not ok))
PY
