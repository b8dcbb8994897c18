#!/usr/bin/env bash
# onnxruntime 1.32.0, onnx 1.23.2. A graph that draws its noise itself (RandomNormal, RandomNormalLike without a seed)
# is seeded when a session opens, with one seed for the whole process: two sessions of one file give the same noise, run
# for run. Seen 2026-11-27: the first and second draws of two sessions are equal, the two draws of one session differ,
# and a second process draws otherwise. Matters for a stochastic sampler that was exported whole: a session for each
# request or thread serves everybody the same pictures, and samples gathered from several sessions repeat. Pass the
# noise as an input, or call onnxruntime.set_seed before each session.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import subprocess, sys
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper

node = helper.make_node("RandomNormalLike", ["x"], ["noise"])
add = helper.make_node("Add", ["x", "noise"], ["y"])
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in ("x", "y")]
model = helper.make_model(helper.make_graph([node, add], "sampler", ends[:1], ends[1:]), opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
onnx.save(model, "sampler.onnx")

def draws():
    session = onnxruntime.InferenceSession("sampler.onnx")
    return [session.run(None, {"x": np.zeros((2, 3), np.float32)})[0] for _ in range(2)]

one, two = draws(), draws()
onnxruntime.set_seed(1)
three = draws()
code = "import numpy as np, onnxruntime as o; print(repr(o.InferenceSession('sampler.onnx').run(None, {'x': np.zeros((2, 3), np.float32)})[0].tolist()))"
elsewhere = np.array(eval(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout), np.float32)
seen = {"two sessions": all(np.array_equal(a, b) for a, b in zip(one, two)), "two draws of one": np.array_equal(*one),
        "after set_seed": np.array_equal(one[0], three[0]), "another process": np.array_equal(one[0], elsewhere)}
print("equal noise:", seen)
ok = list(seen.values()) == [True, False, False, False]
print("as stated" if ok else "CHANGED: sessions now draw for themselves")
sys.exit(int(not ok))
PY
