#!/usr/bin/env bash
# datasets 5.2.0. load_dataset("imagefolder") takes a folder called train, test, val, valid, dev or eval for a split,
# also where it lies beside classes, and then leaves the other folders out; file names with such a word do the same.
# Seen 2026-11-27: car/, dog/ and train/ with 3 pictures each give 3 pictures without a label, adult/, dev/ and test/
# the 6 of dev and test; with a file dog/test_0.png beside twelve others, that one. Matters for CIFAR-100 and COCO,
# which have a class train, and for any folder with one stray file name: the model trains on a fraction of the set, or
# on one class, without a word. Name the files by data_files={"train": "**"}.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" datasets==5.2.0 pillow==13.0.0 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q datasets==5.2.0 pillow==13.0.0 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore HF_HOME="$tmp/hf" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1
env/bin/python - <<'PY'
import os, sys
import numpy as np
from datasets import load_dataset
from PIL import Image

def loaded(root, names, **given):
    for i, name in enumerate(names):
        os.makedirs(os.path.dirname(f"{root}/{name}"), exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(f"{root}/{name}.png")
    data = load_dataset("imagefolder", data_dir=root, **given)
    return {split: (len(rows), rows.features["label"].names if "label" in rows.features else None) for split, rows in data.items()}

def three(*classes):
    return [f"{name}/{i}" for name in classes for i in range(3)]

seen = [loaded("plain", three("car", "dog", "tram")), loaded("cifar", three("car", "dog", "train")), loaded("people", three("adult", "dev", "test")),
        loaded("stray", three("car", "dog", "tram", "zebra") + ["dog/test_0"])]
for name, what in zip(("car, dog, tram", "car, dog, train", "adult, dev, test", "car, dog, tram, zebra and a file dog/test_0.png"), seen):
    print(f"{name}: {what}")
named = loaded("cifar", [], data_files={"train": "**"})
print("car, dog, train with data_files:", named)
ok = seen[0]["train"][0] == 9 and seen[1] == {"train": (3, None)} and sum(rows for rows, _ in seen[2].values()) == 6 and named["train"][0] == 9
ok &= sum(rows for rows, _ in seen[3].values()) < 13
print("as stated" if ok else "CHANGED: folders beside train and test are no longer left out")
sys.exit(int(not ok))
PY
