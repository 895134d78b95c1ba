#!/usr/bin/env bash
# Linux counts as a process's peak memory (ru_maxrss of getrusage(RUSAGE_SELF)) what it held before
# its exec, too. A child of CPython's subprocess, which starts by vfork or fork, has its parent's
# memory until then: its ru_maxrss is at least what the parent held, whatever the child does. A test
# that makes a large picture and measures in a child what reading it takes measures itself. VmHWM in
# /proc/self/status is the child's own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv --without-pip venv
venv/bin/python - <<'PYTHON'
import platform
import subprocess
import sys

CHILD = """
import resource
high = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, int(high) // 1024)
"""


def child():
    run = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    return tuple(map(int, run.stdout.split()))


small = child()
held = bytearray(300_000_000)
large = child()
subprocess._USE_VFORK = False
forked = child()
print(f"Python {platform.python_version()}, Linux {platform.release().split('-')[0]}")
for name, (most, own) in {"small parent": small, "parent of 300 MB": large, "by fork": forked}.items():
    print(f"{name}: the child's ru_maxrss {most} MB, its VmHWM {own} MB")
assert small[0] < 50 < 280 < large[0] and max(small[1], large[1], forked[1]) < 50, (small, large, forked)
PYTHON
echo "as described"
