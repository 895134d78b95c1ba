#!/usr/bin/env bash
# Cython 3.3.1: cythonize counts the .pxd files that Cython brings along (libc, cpython) among what
# a module depends on, by their times. pip installs Cython anew for each isolated build, so they are
# always newer than the C files of the last one: a second `pip install -e .` with nothing changed
# translates every module that cimports libc, and so compiles it again.
# Ours: setup.py asks for the project's own files alone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check cython==3.3.1 setuptools==80.9.0
cat > with_libc.pyx <<'PYX'
from libc.math cimport sqrt


def root(double x):
    return sqrt(x)
PYX
cat > without.pyx <<'PYX'
def same(double x):
    return x
PYX
cat > translate.py <<'PYTHON'
from Cython.Build import cythonize

cythonize(["with_libc.pyx", "without.pyx"], language_level=3)
PYTHON
venv/bin/python translate.py > first
venv/bin/python translate.py > second
sleep 1
venv/bin/python - <<'PYTHON'   # what a new environment does to the files
import pathlib
import Cython

for file in pathlib.Path(Cython.__file__).parent.joinpath("Includes").rglob("*.pxd"):
    file.touch()
PYTHON
venv/bin/python translate.py > third
echo "Cython $(venv/bin/python -c 'import Cython; print(Cython.__version__)')"
echo "first time: $(grep -c Cythonizing first) translated; again: $(grep -c Cythonizing second || true);" \
     "with a new copy of Cython: $(grep Cythonizing third)"
[ "$(grep -c Cythonizing first)" = 2 ]
[ "$(grep -c Cythonizing second || true)" = 0 ]
[ "$(grep -o 'Cythonizing .*' third)" = "Cythonizing with_libc.pyx" ]
echo "as described"
