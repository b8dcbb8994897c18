#!/usr/bin/env bash
# pillow 13.0.0. Saving an animation as GIF, APNG or WebP merges a frame with the one before where all pixels agree and
# adds up the durations; AVIF keeps every frame. Seen 2026-11-27, 10 frames of which 3 and 7 repeat their predecessor:
# 8, 8, 8 and 10 frames; ten identical frames as APNG or WebP are a still of one. Matters for pictures of sampling: a
# pause at the end and steps that change nothing after rounding vanish from the count, so code that maps frame numbers
# to steps, or checks for n_frames, is off by the merged ones, and two animations shown side by side run apart in
# viewers that ignore durations.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" pillow==13.0.0
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q pillow==13.0.0
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import io, sys
from PIL import Image

def frames(greys, form):
    pictures = [Image.new("L", (16, 16), g).convert("RGB") for g in greys]
    file = io.BytesIO()
    pictures[0].save(file, form, save_all=True, append_images=pictures[1:], duration=100)
    with Image.open(file) as back:
        return getattr(back, "n_frames", 1)

moving = [0, 20, 40, 40, 80, 100, 120, 120, 160, 180]
forms = ("GIF", "PNG", "WEBP", "AVIF")
seen = {form: (frames(moving, form), frames([50] * 10, form)) for form in forms}
print("frames kept of 10 with two repeats, and of 10 identical ones:", seen)
ok = all(seen[f][0] == 8 for f in forms[:3]) and seen["AVIF"][0] == 10 and seen["PNG"][1] == seen["WEBP"][1] == 1
print("as stated" if ok else "CHANGED: writers now keep identical frames")
sys.exit(int(not ok))
PY
