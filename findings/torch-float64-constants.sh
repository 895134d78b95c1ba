#!/usr/bin/env bash
# torch 2.13.0, CPU: some activations round a constant to float32 in float64 too. The gradient of
# hardsigmoid is 1/6 + 5e-9 instead of 1/6, so a comparison of gradients in float64 ends at 3e-8.
# Ours: tests compare with relu6(x + 3) / 6, which is exact.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 numpy
venv/bin/python - <<'PYTHON'
import torch
import torch.nn.functional as F

print("torch", torch.__version__)
errors = {}
for name, function in {"hardsigmoid": F.hardsigmoid, "relu6": lambda x: F.relu6(x + 3) / 6}.items():
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    function(x).sum().backward()
    errors[name] = abs(x.grad.item() - 1 / 6)
    print(f"{name}: gradient off by {errors[name]:.1e}")
assert 1e-9 < errors["hardsigmoid"] < 1e-7
assert errors["relu6"] < 1e-16
PYTHON
echo "as described"
