#!/usr/bin/env bash
# gradio 6.31.0, pillow 12.3.0. gr.Image and gr.Gallery send a picture that a function returns as lossy WebP unless
# format="png" is said, and that file is also what the download button gives. Seen 2026-11-27: random 28x28 pixels come
# back off by 48 of 255 on average (205 at most), a smooth 64x64 ramp by up to 10; with format="png" exactly. Matters
# for a demo of a diffusion model: small pictures (MNIST, CIFAR) are shown with blocks and smeared colours that the
# model never drew, samples saved from the page must not be used for a metric, and the noisy frames of a trajectory
# suffer most.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" gradio==6.31.0 pillow==12.3.0 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q gradio==6.31.0 pillow==12.3.0 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore GRADIO_ANALYTICS_ENABLED=False GRADIO_TEMP_DIR="$tmp/gradio"
env/bin/python - <<'PY'
import sys
import gradio as gr, numpy as np
from PIL import Image

def error(component, picture):
    sent = component.postprocess([picture] if isinstance(component, gr.Gallery) else picture)
    path = sent.root[0].image.path if isinstance(component, gr.Gallery) else sent.path
    off = np.abs(np.asarray(Image.open(path).convert("RGB")).astype(int) - picture)
    return path.rsplit(".", 1)[1], round(float(off.mean()), 1), int(off.max())

y, x = np.mgrid[:64, :64]
pictures = {"noise": np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8),
            "ramp": np.stack([4 * x, 4 * y, 2 * (x + y)], -1).astype(np.uint8)}
ok = True
for name, picture in pictures.items():
    image, gallery, png = (error(c, picture) for c in (gr.Image(), gr.Gallery(), gr.Image(format="png")))
    print(f"{name}: (file, mean and largest error) Image {image}, Gallery {gallery}, Image(format='png') {png}")
    ok &= image[0] == gallery[0] == "webp" and min(image[2], gallery[2]) > 3 and png[2] == 0
print("as stated" if ok else "CHANGED: pictures are now sent without loss by default")
sys.exit(int(not ok))
PY
