#!/usr/bin/env bash
# datasets 5.2.0, pyarrow 26.0.1. Parquet files whose classes are numbered differently are joined in silence: the names
# of the first file are put on the numbers of all. Seen 2026-11-27 with two files of one set, written by to_parquet with
# names [cat, dog] and [dog, cat]: load_dataset("parquet") gives 12 rows under [cat, dog], 6 of them wrong, streaming or
# not; concatenate_datasets and interleave_datasets of the same two sets refuse. Matters for shards made by two people
# or two releases, each with the classes it met in its own order: half the labels train the wrong class, the loss falls
# all the same, and the names in the features look right.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" datasets==5.2.0 pyarrow==26.0.1 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q datasets==5.2.0 pyarrow==26.0.1 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore HF_HOME="$tmp/hf" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1
env/bin/python - <<'PY'
import sys
from datasets import ClassLabel, Dataset, Features, Value, concatenate_datasets, interleave_datasets, load_dataset

truth = ["cat", "dog"] * 3

def written(names):
    columns = Features(truth=Value("string"), label=ClassLabel(names=names))
    made = Dataset.from_dict({"truth": truth, "label": [names.index(name) for name in truth]}, features=columns)
    made.to_parquet("-".join(names) + ".parquet")
    return made

def wrong(rows):
    names = rows.features["label"].names
    return sum(names[row["label"]] != row["truth"] for row in rows)

parts = [written(["cat", "dog"]), written(["dog", "cat"])]
files = ["cat-dog.parquet", "dog-cat.parquet"]
seen = {f"streaming={flag}": wrong(load_dataset("parquet", data_files=files, split="train", cache_dir="cache", streaming=flag)) for flag in (False, True)}
for join in (concatenate_datasets, interleave_datasets):
    try:
        seen[join.__name__] = wrong(join(parts))
    except ValueError:
        seen[join.__name__] = "refused"
print("wrong labels of 12:", seen)
ok = list(seen.values()) == [6, 6, "refused", "refused"]
print("as stated" if ok else "CHANGED: files with other class names are now refused or mapped by name")
sys.exit(int(not ok))
PY
