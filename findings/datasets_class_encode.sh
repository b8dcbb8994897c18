#!/usr/bin/env bash
# datasets 5.2.0. class_encode_column on a column of integer labels turns them into text, sorts the text and numbers the
# result, so with more than ten classes the ids are no longer the integers. Seen 2026-11-27 for labels 0 to 11: 2
# becomes 4, 9 becomes 11, 10 becomes 2, without a warning; names hold the old numbers as text. Matters for class-
# conditional training on CIFAR-100 or ImageNet labels kept as integers: after this call "class 2" of the model is
# another picture than in the paper, the judge network or an older checkpoint, though training looks right. cast_column
# to a ClassLabel with names in numeric order keeps the ids.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" datasets==5.2.0
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q datasets==5.2.0
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore HF_HOME="$tmp/hf" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1
env/bin/python - <<'PY'
import sys
from datasets import ClassLabel, Dataset

rows = Dataset.from_dict({"label": list(range(12))})
encoded = list(rows.class_encode_column("label")["label"])
kept = list(rows.cast_column("label", ClassLabel(names=[str(i) for i in range(12)]))["label"])
print("labels 0 to 11 after class_encode_column:", encoded)
print("after cast_column to a ClassLabel:       ", kept)
ok = encoded == [0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 2, 3] and kept == list(range(12))
print("as stated" if ok else "CHANGED: class_encode_column now keeps integers")
sys.exit(int(not ok))
PY
