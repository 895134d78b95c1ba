#!/usr/bin/env bash
# NumPy 2.4.6: np.take along axis 0 of an array that is not C-contiguous copies the whole array
# first, however few rows are taken, with and without `out`. Batches drawn from channels-first data
# seen as channels-last (x.transpose(0, 2, 3, 1)) so cost the data set a batch; indexing, x[rows],
# does not. With mode="raise", the default, `out` costs a buffer of its size besides.
# Ours: fastcnn/_batches.py takes rows of the array in the order in which it lies in memory.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check numpy==2.4.6
venv/bin/python - <<'PYTHON'
import sys
import tracemalloc

import numpy as np

images = np.zeros((20_000, 3, 32, 32), np.uint8).transpose(0, 2, 3, 1)  # 61 MB
rows = np.arange(20)
out = np.empty((20, 32, 32, 3), np.uint8)


def peak(call):
    tracemalloc.start()
    call()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / 1e6


found = {
    "np.take(x, rows, axis=0)": peak(lambda: np.take(images, rows, axis=0)),
    "np.take(x, rows, axis=0, out=out, mode='clip')": peak(
        lambda: np.take(images, rows, axis=0, out=out, mode="clip")
    ),
    "x[rows]": peak(lambda: images[rows]),
    "np.take of a C-contiguous array": peak(
        lambda: np.take(images.transpose(0, 3, 1, 2), rows, axis=0)
    ),
}
print(f"NumPy {np.__version__}, Python {sys.version.split()[0]}; 20 of 20,000 images, 61 MB in all")
for name, megabytes in found.items():
    print(f"{name}: {megabytes:.2f} MB at most")
assert [megabytes > 60 for megabytes in found.values()] == [True, True, False, False], found
PYTHON
echo "as described"
