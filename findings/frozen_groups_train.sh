#!/usr/bin/env bash
# pytorch_optimizer 4.1.0, dadaptation 3.2, prodigyopt 1.1.2, torch 2.15.0. A parameter group with lr=0, which these
# optimizers allow by name ("only supported for values of 0"), trains at the rate of the others. Seen 2026-11-27, 100
# steps of a small network: the group at 0 ends bit for bit where it ends at lr 1 with Prodigy and DAdaptAdam of
# pytorch_optimizer and DAdaptLion of dadaptation, and moves with ApolloDQN; prodigyopt's Prodigy, dadaptation's Adam
# and torch's AdamW leave it. Matters for a part frozen or warmed up by its rate (an encoder, pretrained class embeddings):
# it is trained away in silence, and log and checkpoint say lr 0. Use requires_grad_(False).
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if command -v uv >/dev/null; then
  uv venv -q --no-project --python '>=3.11,<3.14' "$tmp/env"
  uv pip install -q --python "$tmp/env/bin/python" torch==2.15.0 pytorch_optimizer==4.1.0 dadaptation==3.2 prodigyopt==1.1.2 numpy==2.4.6
else
  python3 -m venv "$tmp/env"
  "$tmp/env/bin/pip" install -q torch==2.15.0 pytorch_optimizer==4.1.0 dadaptation==3.2 prodigyopt==1.1.2 numpy==2.4.6
fi
cd "$tmp"
export TMPDIR="$tmp" PYTHONWARNINGS=ignore
env/bin/python - <<'PY'
import sys, torch
import dadaptation, prodigyopt, pytorch_optimizer

torch.manual_seed(0)
images, wanted = torch.randn(100, 16, 8), torch.randn(100, 16, 6)

def trained(make, rate):
    """How far the second layer moves in 100 steps with its group at a rate, and where it ends."""
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Linear(8, 12), torch.nn.Tanh(), torch.nn.Linear(12, 6))
    before = net[2].weight.detach().clone()
    optimizer = make([{"params": list(net[0].parameters())}, {"params": list(net[2].parameters()), "lr": rate}])
    for x, y in zip(images, wanted):
        optimizer.zero_grad()
        (net(x) - y).square().mean().backward()
        optimizer.step()
    after = net[2].weight.detach()
    return round(float((after - before).abs().max()), 3), after

load = pytorch_optimizer.load_optimizer
kinds = {
    "pytorch_optimizer Prodigy": lambda groups: load("prodigy")(groups, lr=1.0),
    "pytorch_optimizer DAdaptAdam": lambda groups: load("dadaptadam")(groups, lr=1.0),
    "dadaptation DAdaptLion": lambda groups: dadaptation.DAdaptLion(groups, lr=1.0),
    "pytorch_optimizer ApolloDQN": lambda groups: load("apollodqn")(groups, lr=0.01),
    "prodigyopt Prodigy": lambda groups: prodigyopt.Prodigy(groups, lr=1.0),
    "dadaptation DAdaptAdam": lambda groups: dadaptation.DAdaptAdam(groups, lr=1.0),
    "torch AdamW": lambda groups: torch.optim.AdamW(groups, lr=0.01),
}
seen = {}
for name, make in kinds.items():
    (far, frozen), (_, free) = trained(make, 0.0), trained(make, 1.0)
    seen[name] = (far, torch.equal(frozen, free))
print("how far weights at lr 0 move, and whether they end where lr 1 ends:", seen)
values = list(seen.values())
ok = (all(far > 0.05 and alike for far, alike in values[:3]) and values[3][0] > 0.05 and all(value == (0.0, False) for value in values[4:]))
print("as stated" if ok else "CHANGED: a group at lr 0 is now treated otherwise")
sys.exit(int(not ok))
PY
