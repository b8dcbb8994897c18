#!/usr/bin/env bash
# onnxslim 0.1.98, onnx_graphsurgeon 0.6.1, onnxscript 0.7.2, onnx 1.23.2, onnxruntime 1.32.0. Two tools that slim a
# graph run its random nodes once and keep the numbers: a sampler that draws its own noise returns one picture for ever.
# Seen 2026-11-27: onnxslim.slim and graphsurgeon's fold_constants turn RandomNormal, RandomUniform, Bernoulli,
# Multinomial and RandomNormalLike of a constant into constants, onnxscript's optimizer Bernoulli only; onnxsim and
# onnxoptimizer leave them; noise shaped like the graph's input stays. Matters for a stochastic sampler exported at a
# fixed batch: each step's noise is frozen, samples still look right one by one, and variety falls. Pass noise in.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" onnx==1.23.2 onnxruntime==1.32.0 onnxslim==0.1.98 onnx-graphsurgeon==0.6.1 onnxscript==0.7.2 onnxsim==0.8.1 onnxoptimizer==0.4.2 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q onnx==1.23.2 onnxruntime==1.32.0 onnxslim==0.1.98 onnx-graphsurgeon==0.6.1 onnxscript==0.7.2 onnxsim==0.8.1 onnxoptimizer==0.4.2 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys
import numpy as np, onnx, onnx_graphsurgeon, onnxoptimizer, onnxruntime, onnxscript.optimizer, onnxsim, onnxslim
from onnx import TensorProto, helper, numpy_helper

shape = [1, 3, 8, 8]
constants = {"half": np.full(shape, 0.5, np.float32), "odds": np.zeros((1, 9), np.float32)}
random = {
    "RandomNormal": [helper.make_node("RandomNormal", [], ["noise"], shape=shape)],
    "RandomUniform": [helper.make_node("RandomUniform", [], ["noise"], shape=shape)],
    "Like a constant": [helper.make_node("RandomNormalLike", ["half"], ["noise"])],
    "Bernoulli": [helper.make_node("Bernoulli", ["half"], ["noise"])],
    "Multinomial": [helper.make_node("Multinomial", ["odds"], ["drawn"], sample_size=8), helper.make_node("Cast", ["drawn"], ["noise"], to=TensorProto.FLOAT)],
    "Like the input": [helper.make_node("RandomNormalLike", ["x"], ["noise"])],
}

def graph(nodes):
    used = {name for node in nodes for name in node.input}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    held = [numpy_helper.from_array(array, name) for name, array in constants.items() if name in used]
    whole = helper.make_graph([*nodes, helper.make_node("Add", ["x", "noise"], ["y"])], "sampler", ends[:1], ends[1:], held)
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)

def frozen(model):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    first, second = (session.run(None, {"x": np.zeros(shape, np.float32)})[0] for _ in range(2))
    return np.array_equal(first, second)

tools = {
    "as written": lambda model: model,
    "onnxslim": onnxslim.slim,
    "graphsurgeon": lambda model: onnx_graphsurgeon.export_onnx(onnx_graphsurgeon.import_onnx(model).fold_constants().cleanup()),
    "onnxscript": onnxscript.optimizer.optimize,
    "onnxsim": lambda model: onnxsim.simplify(model)[0],
    "onnxoptimizer": onnxoptimizer.optimize,
}
seen = {name: [kind for kind, nodes in random.items() if frozen(tool(graph(nodes)))] for name, tool in tools.items()}
print("two runs give the same noise:", seen)
all_but_input = list(random)[:5]
ok = seen == {"as written": [], "onnxslim": all_but_input, "graphsurgeon": all_but_input, "onnxscript": ["Bernoulli"], "onnxsim": [], "onnxoptimizer": []}
print("as stated" if ok else "CHANGED: other tools or nodes are frozen now")
sys.exit(int(not ok))
PY
