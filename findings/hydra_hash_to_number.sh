#!/usr/bin/env bash
# hydra-core 1.3.8, omegaconf 2.3.1. An override is parsed as a number before its field's type is asked, so a field
# declared as str gets the number's text: name=12e4567 becomes 'inf', name=12e45 '1.2e+46', name=1.10 '1.1'. Seen
# 2026-11-27, and of 100 000 random short git hashes (7 hex digits) 1.75 % read as a float and are changed; quotes
# inside the override keep them. Matters where a run is named by a commit, a W&B id or a data version on the command
# line: two runs get the one name 'inf', a resume looks for a run that is not there, and nothing is raised, since the
# schema says str.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" hydra-core==1.3.8 omegaconf==2.3.1
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q hydra-core==1.3.8 omegaconf==2.3.1
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import random, sys
from dataclasses import dataclass
from hydra import compose, initialize
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser

@dataclass
class Run:
    name: str = "none"

ConfigStore.instance().store("run", Run)
with initialize(version_base="1.3", config_path=None):
    seen = {text: compose("run", [f"name={text}"]).name for text in ("12e4567", "12e45", "1.10", "'12e4567'", "12a4567")}
print(seen)
draw = random.Random(0)
hashes = ["".join(draw.choices("0123456789abcdef", k=7)) for _ in range(100_000)]
maybe = [h for h in hashes if set(h) <= set("0123456789e")]
parser = OverridesParser.create()
lost = sum(isinstance(parser.parse_override(f"name={h}").value(), float) for h in maybe)
print(f"short hashes that are read as a float: {lost / len(hashes):.2%}")
ok = seen["12e4567"] == "inf" and seen["12e45"] == "1.2e+46" and seen["'12e4567'"] == "12e4567" and lost > 1000
print("as stated" if ok else "CHANGED: a field of type str now keeps the text of an override")
sys.exit(int(not ok))
PY
