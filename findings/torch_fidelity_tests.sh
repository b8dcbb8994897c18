#!/usr/bin/env bash
# torch-fidelity 0.4.0. The wheel installs two top-level packages, torch_fidelity and tests. Seen 2026-11-27:
# top_level.txt names both, and about 40 files lie in site-packages/tests. Matters for a project that measures its
# samples with it and keeps its own helpers in tests/: run from any other place than its root, or with pytest's
# importlib mode, `from tests.helpers import ...` can find the stranger first. Name the helper package otherwise, or
# import relatively.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch-fidelity==0.4.0 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch-fidelity==0.4.0 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import importlib.metadata, importlib.util, os, sys

files = [str(f) for f in importlib.metadata.files("torch-fidelity")]
mine = [f for f in files if f.startswith("tests/")]
found = importlib.util.find_spec("tests")
where = os.path.basename(os.path.dirname(os.path.dirname(found.origin))) if found and found.origin else None
print(f"top-level folders of the wheel: {sorted({f.split('/')[0] for f in files if '/' in f and 'dist-info' not in f and not f.startswith('..')})}")
print(f"files below tests/: {len(mine)}; `import tests` from an empty folder finds it in {where}")
ok = len(mine) > 10 and where == "site-packages"
print("as stated" if ok else "CHANGED: the package no longer installs a top-level tests")
sys.exit(int(not ok))
PY
