#!/usr/bin/env bash
# PyTorch 2.13.0: a tensor of real numbers may be the negative of what its file holds. The imaginary
# part of a conjugated complex tensor is a view with a bit "neg"; torch.save writes the numbers as
# they lie, and the bit into a seventh argument of _rebuild_tensor_v2, {"neg": True}. A reader that
# passes over this argument loads weights of the wrong sign in silence.
# Ours: fastcnn/pytorch/_names.py refuses such tensors.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 numpy
venv/bin/python - <<'PYTHON'
import io
import pickletools
import zipfile

import torch

values = torch.complex(torch.zeros(2), torch.tensor([1.0, 2.0])).conj().imag
file = io.BytesIO()
torch.save({"a": values}, file)
parts = zipfile.ZipFile(file)
stored = torch.frombuffer(bytearray(parts.read("archive/data/0")), dtype=torch.float32)
texts = [given for _, given, _ in pickletools.genops(parts.read("archive/data.pkl"))]
print(f"PyTorch {torch.__version__}: {values.tolist()} is stored as {stored.tolist()}")
assert values.dtype == torch.float32 and values.tolist() == [-1, -2]
assert stored.tolist() == [0, 1, 0, 2]
assert "neg" in texts
file.seek(0)
assert torch.load(file)["a"].tolist() == [-1, -2]
PYTHON
echo "as described"
