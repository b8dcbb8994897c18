#!/usr/bin/env bash
# torchvision 0.29.2, kornia-rs 0.2.0, pyspng 0.1.4, imageio 2.38.1, pillow 13.0.0. Decoders differ on files that are
# not plain RGB, and say nothing. Seen 2026-11-27: a PNG with a palette becomes one channel of palette indices in
# torchvision.io.decode_image (in its default mode) and kornia_rs, 3 channels in the others; 16-bit RGB gets a fourth
# channel in pyspng, the reader of StyleGAN's and EDM's loaders; and a CMYK JPEG is 4 inverted channels in imageio,
# while pillow gives the picture. Matters where one decoder judges or writes a set and another trains on it: one channel
# is repeated to three or the fourth cut off, shapes fit, and the pictures are wrong (124 and 128 levels off).
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 torchvision==0.29.2 kornia-rs==0.2.0 pyspng==0.1.4 imageio==2.38.1 opencv-python-headless==5.0.0.93 pillow==13.0.0 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 torchvision==0.29.2 kornia-rs==0.2.0 pyspng==0.1.4 imageio==2.38.1 opencv-python-headless==5.0.0.93 pillow==13.0.0 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys
import imageio.v3 as imageio, kornia_rs, numpy as np, pyspng, torch, torchvision
from PIL import Image

y, x = np.mgrid[:64, :64]
image = Image.fromarray(np.stack([4 * x, 4 * y, 255 - 2 * x], -1).astype(np.uint8))
image.quantize(64).save("palette.png")
image.convert("CMYK").save("cmyk.jpg", quality=95, subsampling=0)
imageio.imwrite("deep.png", np.asarray(image).astype(np.uint16) * 257, plugin="opencv")

decoders = {
    "pillow": lambda name: np.asarray(Image.open(name).convert("RGB")),
    "torchvision": lambda name: torchvision.io.decode_image(name).permute(1, 2, 0).numpy(),
    "torchvision RGB": lambda name: torchvision.io.decode_image(name, mode="RGB").permute(1, 2, 0).numpy(),
    "kornia_rs": lambda name: np.asarray(kornia_rs.read_image_any(name)),
    "pyspng": lambda name: pyspng.load(open(name, "rb").read()),
    "imageio": imageio.imread,
}

def off(name, by):
    """Number of channels, and how far three channels of it are from the picture, in levels."""
    array = decoders[by](name).astype(float)
    array = array / 257 if array.max() > 255 else array
    return array.shape[-1], round(float(np.abs(array[..., :3] - np.asarray(image.quantize(64).convert("RGB") if "palette" in name else image)).mean()))

seen = {"palette": {by: off("palette.png", by) for by in decoders}, "16-bit RGB": {by: off("deep.png", by) for by in ("torchvision", "pyspng")},
        "CMYK": {by: off("cmyk.jpg", by) for by in ("pillow", "torchvision", "imageio")}}
print("channels and levels off:", seen)
palette = seen["palette"]
ok = (all(palette[by][0] == 1 and palette[by][1] > 100 for by in ("torchvision", "kornia_rs"))
      and all(palette[by] == (3, 0) for by in ("pillow", "torchvision RGB", "pyspng", "imageio"))
      and seen["16-bit RGB"] == {"torchvision": (3, 0), "pyspng": (4, 0)}
      and seen["CMYK"]["pillow"] == (3, 0) and seen["CMYK"]["imageio"][0] == 4 and seen["CMYK"]["imageio"][1] > 100)
print("as stated" if ok else "CHANGED: the decoders now differ in another way")
sys.exit(int(not ok))
PY
