#!/usr/bin/env bash
# mosaicml-streaming 0.13.0. A set that was written again under the same remote is read from the old local copy: index
# and shards that lie there are taken as they are, whatever the remote now holds. Seen 2026-11-27 with 10 labels, the
# folder removed and written with other labels: a new StreamingDataset, also in a new process, still gives the old ones,
# and a fresh local folder the new ones; no warning, though the indices differ. Matters when labels are mended or images
# are cropped anew: machines that have read the set go on with the old data, others take the new, and a run over both
# mixes them. Give each edition its own folder.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" mosaicml-streaming==0.13.0 torch==2.15.0 numpy==2.1.3
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q mosaicml-streaming==0.13.0 torch==2.15.0 numpy==2.1.3
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import shutil, subprocess, sys
from streaming import MDSWriter, StreamingDataset

def write(first):
    shutil.rmtree("remote", ignore_errors=True)
    with MDSWriter(out="remote", columns={"label": "int"}, hashes=["sha1"]) as writer:
        for label in range(first, first + 10):
            writer.write({"label": label})

code = ("import sys; from streaming import StreamingDataset\nif __name__ == '__main__':\n"
        "    print(StreamingDataset(remote='remote', local=sys.argv[1], batch_size=1, validate_hash='sha1')[0]['label'])")

def first_label(local):
    return int(subprocess.run([sys.executable, "-c", code, local], capture_output=True, text=True, check=True).stdout)

write(0)
old = first_label("local")
write(100)
seen = {"old edition": old, "new edition, local copy of the old": first_label("local"), "new edition, fresh local folder": first_label("other")}
print("first label read:", seen)
ok = list(seen.values()) == [0, 0, 100]
print("as stated" if ok else "CHANGED: a set written anew is now noticed")
sys.exit(int(not ok))
PY
