#!/usr/bin/env bash
# torchsde 0.2.6, torch 2.15.0, numpy 2.4.6. sdeint draws the seed of its Brownian path from numpy, so torch.manual_seed
# does not repeat a solution, and numpy.random.seed does. Seen 2026-11-27: two solutions after torch.manual_seed(0)
# differ, two after numpy.random.seed(0) are equal, and so are two with a BrownianInterval of given entropy. Matters for
# sampling a score model by its SDE: a figure with its seed written beside it cannot be drawn again, and processes that
# seed torch by rank and numpy alike draw the same paths.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 torchsde==0.2.6 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 torchsde==0.2.6 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys
import numpy as np, torch, torchsde

class Field(torch.nn.Module):
    noise_type, sde_type = "diagonal", "ito"
    def f(self, t, y):
        return -y
    def g(self, t, y):
        return torch.ones_like(y)

def twice(seed, **path):
    ends = []
    for _ in range(2):
        seed()
        given = {name: make() for name, make in path.items()}
        ends.append(torchsde.sdeint(Field(), torch.zeros(4, 2), torch.tensor([0.0, 1.0]), dt=0.1, **given)[-1])
    return torch.equal(*ends)

seen = {
    "torch.manual_seed(0)": twice(lambda: torch.manual_seed(0)),
    "numpy.random.seed(0)": twice(lambda: np.random.seed(0)),
    "BrownianInterval(entropy=0)": twice(lambda: None, bm=lambda: torchsde.BrownianInterval(0.0, 1.0, (4, 2), entropy=0, levy_area_approximation="space-time")),
}
print("two solutions are equal:", seen)
ok = list(seen.values()) == [False, True, True]
print("as stated" if ok else "CHANGED: torch.manual_seed now repeats a solution")
sys.exit(int(not ok))
PY
