#!/usr/bin/env bash
# diffusers 0.42.1. A UNet2DConditionModel made without num_class_embeds takes class_labels and does not look at them;
# UNet2DModel raises. Seen 2026-11-27: outputs for the labels 1 and 7 are equal to the last bit; with
# num_class_embeds=10 they differ. Matters for class-conditional training with one's own loop: with one forgotten
# argument of the constructor the loss falls as it should, all classes sample alike, and guidance by labels changes
# nothing.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 diffusers==0.42.1 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 diffusers==0.42.1 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys, torch
from diffusers import UNet2DConditionModel, UNet2DModel

common = dict(sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(32,),
              down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",))

def difference(net, *context):
    image = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, seven = (net(image, 5, *context, class_labels=torch.tensor([label])).sample for label in (1, 7))
    return (one - seven).abs().max().item()

torch.manual_seed(0)
context = torch.zeros(1, 1, 8)
without = difference(UNet2DConditionModel(cross_attention_dim=8, attention_head_dim=4, **common), context)
told = difference(UNet2DConditionModel(cross_attention_dim=8, attention_head_dim=4, num_class_embeds=10, **common), context)
try:
    difference(UNet2DModel(**common))
    other = "no error"
except ValueError as error:
    other = f"ValueError: {error}"
print(f"UNet2DConditionModel, labels 1 against 7: without num_class_embeds {without}, with it {told:.0e}; UNet2DModel without: {other}")
ok = without == 0 and told > 0 and other.startswith("ValueError")
print("as stated" if ok else "CHANGED: labels without an embedding are now refused (or UNet2DModel takes them)")
sys.exit(int(not ok))
PY
