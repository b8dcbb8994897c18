#!/usr/bin/env bash
# equinox 0.13.8, dm-haiku 0.0.17, flax 0.12.8, jax 0.10.2. A label beyond the table, as the null class of guidance is
# where the table has one row too few, is the last class in equinox and haiku: JAX cuts the index off. Seen 2026-11-27
# with 10 rows: label 10 gives row 9 in both, and its gradient goes to row 9; flax (linen and nnx) gives NaN, haiku's
# ONE_HOT lookup gives zeros; torch raises. Matters for classifier-free guidance: the unconditional network is the last
# class, which is then guided away from nothing while all others are guided away from it, and no loss shows it.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" equinox==0.13.8 dm-haiku==0.0.17 flax==0.12.8 jax==0.10.2
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q equinox==0.13.8 dm-haiku==0.0.17 flax==0.12.8 jax==0.10.2
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys
import equinox, haiku, jax, jax.numpy as jnp
import flax.linen as linen
from flax import nnx

key, label, last = jax.random.key(0), jnp.array([10]), jnp.array([9])

def by_haiku(style):
    net = haiku.without_apply_rng(haiku.transform(lambda x: haiku.Embed(10, 4, lookup_style=style)(x)))
    table = net.init(key, last)
    return lambda x: net.apply(table, x)

eqx = equinox.nn.Embedding(10, 4, key=key)
lin = linen.Embed(10, 4)
table = lin.init(key, last)
kinds = {"equinox": jax.vmap(eqx), "haiku": by_haiku("ARRAY_INDEX"), "haiku ONE_HOT": by_haiku("ONE_HOT"),
         "linen": lambda x: lin.apply(table, x), "nnx": nnx.Embed(10, 4, rngs=nnx.Rngs(0))}

def word(found, row):
    return "the last class" if (found == row).all() else "NaN" if jnp.isnan(found).all() else "zeros" if (found == 0).all() else "other"

seen = {name: word(embed(label), embed(last)) for name, embed in kinds.items()}
gradient = jax.grad(lambda rows: equinox.tree_at(lambda e: e.weight, eqx, rows)(jnp.array(10)).sum())(eqx.weight).sum(1).tolist()
print("label 10 of a table of 10:", seen, "equinox's gradient by row", gradient)
ok = list(seen.values()) == ["the last class", "the last class", "zeros", "NaN", "NaN"] and gradient == [0.0] * 9 + [4.0]
print("as stated" if ok else "CHANGED: a label beyond the table is now treated otherwise")
sys.exit(int(not ok))
PY
