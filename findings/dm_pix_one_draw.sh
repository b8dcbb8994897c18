#!/usr/bin/env bash
# dm-pix 0.4.5, jax 0.10.2. The random augmentations take a batch of pictures and draw once for all of it. Seen
# 2026-11-27 with 64 equal pictures and 20 keys: random_flip_left_right turns none or all of a batch, and random_crop,
# random_brightness, random_contrast, random_hue, random_saturation and random_gamma leave the 64 alike; under jax.vmap
# with a key for each, 20 of 20 batches are mixed. Matters because nothing looks wrong in pictures: the batches of a
# training are then all turned one way or the other, gradients see half the variety, and per-batch statistics
# (BatchNorm, a loss by noise level) swing between two values.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" dm-pix==0.4.5 jax==0.10.2 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q dm-pix==0.4.5 jax==0.10.2 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys
import dm_pix, jax, jax.numpy as jnp

picture = jax.random.uniform(jax.random.key(0), (8, 8, 3))
batch = jnp.tile(picture, (64, 1, 1, 1))
draws = {
    "flip": dm_pix.random_flip_left_right,
    "crop": lambda key, x: dm_pix.random_crop(key, x, (*x.shape[:-3], 4, 4, 3)),
    "brightness": lambda key, x: dm_pix.random_brightness(key, x, 0.5),
    "contrast": lambda key, x: dm_pix.random_contrast(key, x, 0.5, 1.5),
    "hue": lambda key, x: dm_pix.random_hue(key, x, 0.3),
    "saturation": lambda key, x: dm_pix.random_saturation(key, x, 0.5, 1.5),
    "gamma": lambda key, x: dm_pix.random_gamma(key, x, 0.5, 2.0),
}
keys = [jax.random.key(i) for i in range(20)]

def mixed(draw):
    """Batches of 20 in which pictures differ."""
    return sum(bool((jnp.abs(made - made[:1]) > 1e-6).any()) for made in map(draw, keys))

whole = {name: mixed(lambda key: draw(key, batch)) for name, draw in draws.items()}
each = {name: mixed(lambda key: jax.vmap(draw)(jax.random.split(key, 64), batch)) for name, draw in list(draws.items())[:2]}
turned = {bool((dm_pix.random_flip_left_right(key, batch) != batch).any()) for key in keys}
print("of 20 batches of equal pictures, those in which pictures differ afterwards:", whole, "with vmap:", each, "flips happen:", turned)
ok = not any(whole.values()) and all(n == 20 for n in each.values()) and turned == {True, False}
print("as stated" if ok else "CHANGED: pictures of a batch are now drawn for one by one")
sys.exit(int(not ok))
PY
