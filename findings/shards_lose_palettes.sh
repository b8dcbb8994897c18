#!/usr/bin/env bash
# mosaicml-streaming 0.13.0, litdata 0.2.76, pillow 13.0.0. A picture with a palette loses it in shards: MDSWriter's
# "pil" and litdata's serializer for pictures keep mode, size and the indices alone, and what is read is a picture of
# mode P with another palette. Seen 2026-11-27: a gradient of 64 colours comes back 145 levels off on average from both,
# in silence; modes 1, L, LA, I;16, RGBA, CMYK and F come back exactly, and so does P by MDSWriter's "png". Matters for
# pixel art, icons and sets made from GIF or small PNG, where some pictures have palettes: these classes train on noise
# of one hue, and only a look at the shards shows it. Convert to RGB before writing.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" mosaicml-streaming==0.13.0 litdata==0.2.76 pillow==13.0.0 numpy==2.1.3 torch==2.15.0
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q mosaicml-streaming==0.13.0 litdata==0.2.76 pillow==13.0.0 numpy==2.1.3 torch==2.15.0
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys
import numpy as np
from litdata.streaming.serializers import PILSerializer
from PIL import Image
from streaming import MDSWriter, StreamingDataset

y, x = np.mgrid[:16, :16]
image = Image.fromarray(np.stack([16 * x, 16 * y, 255 - 8 * x], -1).astype(np.uint8))
kinds = {"P": image.quantize(64), "I;16": Image.fromarray((4000 * x).astype(np.uint16)), **{mode: image.convert(mode) for mode in ("1", "L", "LA", "RGBA", "CMYK", "F")}}

def by_mds(picture, encoding, folder):
    with MDSWriter(out=folder, columns={"image": encoding}) as writer:
        writer.write({"image": picture})
    return StreamingDataset(local=folder, batch_size=1)[0]["image"]

def by_litdata(picture):
    serializer = PILSerializer()
    return serializer.deserialize(serializer.serialize(picture)[0])

def off(read, written):
    assert read.mode == written.mode and read.size == written.size
    return round(float(np.abs(np.asarray(read.convert("RGB"), float) - np.asarray(written.convert("RGB"), float)).mean()))

seen = {"mds pil": {mode: off(by_mds(p, "pil", f"pil{i}"), p) for i, (mode, p) in enumerate(kinds.items())},
        "mds png": {"P": off(by_mds(kinds["P"], "png", "png"), kinds["P"])},
        "litdata": {mode: off(by_litdata(p), p) for mode, p in kinds.items()}}
print("mean difference in levels, by mode of the picture:", seen)
ok = (all(seen[name]["P"] > 100 and not any(value for mode, value in seen[name].items() if mode != "P") for name in ("mds pil", "litdata"))
      and seen["mds png"]["P"] == 0)
print("as stated" if ok else "CHANGED: palettes are now kept, or other modes are not")
sys.exit(int(not ok))
PY
