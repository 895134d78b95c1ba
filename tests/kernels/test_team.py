"""The threads of a process: after a fork, where none can be had, and beside Python's own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fastcnn import _kernels


def in_a_process(script: str, *args: str, timeout: float = 60, **environment: str) -> str:
    """Run a script with the tests' folder on its path; return what it printed."""
    head = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
    result = subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(script), *args],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | environment,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


FORKS = """
import os, signal, warnings
import numpy as np
from calls import FUSED, OPS, arguments, run
from compare import assert_same_bits
from fastcnn import FastBackend, _kernels

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on fork beside threads
backend = FastBackend(num_threads=4)
calls = []
for op in [*OPS, *FUSED]:
    call = arguments(op, np.random.default_rng(0), "float32", backend, images=48, height=72,
                     width=3, channels=32)
    calls.append((op, call, run(backend, op, call)))  # in parallel, before the fork

def compute():
    for op, call, expected in calls:
        assert_same_bits(run(backend, op, call), expected, op)

for n in range(10):
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        status = 1
        try:
            assert backend.num_threads == (4 if _kernels.has_team() else 1)
            compute()
            if n == 0:  # and so does a child's child
                grandchild = os.fork()
                if grandchild == 0:
                    compute()
                    os._exit(0)
                assert os.waitpid(grandchild, 0)[1] == 0
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0, f"child {n} ended with {status}"
compute()  # the parent still has its threads
assert backend.num_threads == 4
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.skipif(not _kernels.has_openmp(), reason="built without OpenMP: nothing to inherit")
def test_fork_after_a_parallel_op() -> None:
    """The child has none of the threads and starts its own, or is serial on a compiler's OpenMP."""
    assert in_a_process(FORKS) == "done\n"


OWN_THREADS = """
import os
import numpy as np
from calls import arguments, run
from fastcnn import FastBackend

backend = FastBackend(num_threads=4)
call = arguments("conv2d", np.random.default_rng(0), "float32", backend, images=48, height=72,
                 width=3, channels=32)
run(backend, "conv2d", call)
child = os.fork()
if child == 0:
    before = len(os.listdir("/proc/self/task"))
    run(backend, "conv2d", call)
    os._exit(len(os.listdir("/proc/self/task")) - before)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc to count threads in")
@pytest.mark.skipif(not _kernels.has_team(), reason="built for the compiler's OpenMP")
def test_a_child_after_fork_starts_threads_of_its_own() -> None:
    """It knows that those of its parent are not there: to wake them may take forever."""
    script = "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n"
    assert in_a_process(script + textwrap.dedent(OWN_THREADS)).strip() == "3"


TASKS = """
import os
import numpy as np
from calls import arguments, run
from fastcnn import FastBackend

before = len(os.listdir("/proc/self/task"))
for num_threads in (1, 4):
    backend = FastBackend(num_threads=num_threads)
    call = arguments("conv2d", np.random.default_rng(0), "float32", backend, images=48, height=72,
                     width=3, channels=32)
    run(backend, "conv2d", call)
    print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc to count threads in")
@pytest.mark.skipif(not _kernels.has_openmp(), reason="built without OpenMP")
def test_threads_are_what_was_asked_for() -> None:
    """None of our own for one thread, three more for four: OpenMP is really on."""
    assert in_a_process(TASKS).split() == ["0", "3"]


# ---------------------------------------------------------------------- the team
NEEDS_TEAM = pytest.mark.skipif(
    not _kernels.has_team(), reason="built for the compiler's OpenMP: it has the threads"
)

WORKERS = """
import numpy as np
from calls import arguments, run
from fastcnn import FastBackend
from fastcnn._kernels import _team

for num_threads in (1, 4, 3):
    backend = FastBackend(num_threads=num_threads)
    call = arguments("conv2d", np.random.default_rng(0), "float32", backend, images=48, height=72,
                     width=3, channels=32)
    run(backend, "conv2d", call)
    print(_team.num_workers())
"""


@NEEDS_TEAM
def test_kernels_run_on_the_team() -> None:
    assert in_a_process(WORKERS).split() == ["0", "3", "3"]


NO_THREADS = """
import os, resource, sys
import numpy as np
from calls import FUSED, OPS, arguments, run
from compare import assert_same_bits
from fastcnn import FastBackend

serial, backend = FastBackend(num_threads=1), FastBackend(num_threads=int(sys.argv[1]))
calls = []
for op in [*OPS, *FUSED]:
    call = arguments(op, np.random.default_rng(0), "float32", serial, images=48, height=72,
                     width=3, channels=32)
    calls.append((op, call, run(serial, op, call)))
if os.getuid() == 0:  # whom the limit does not bind
    os.setgid(65534)
    os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
for op, call, expected in calls:
    assert_same_bits(run(backend, op, call), expected, op)
print("computed")
"""


@NEEDS_TEAM
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the limit is Linux's")
@pytest.mark.parametrize("num_threads", [2, 8])
def test_where_no_thread_can_be_started_the_caller_does_all(num_threads: int) -> None:
    assert in_a_process(NO_THREADS, str(num_threads)) == "computed\n"


SIGNALS = """
import os, signal, threading
import numpy as np
from calls import arguments, run
from fastcnn import FastBackend

backend = FastBackend(num_threads=4)
call = arguments("conv2d", np.random.default_rng(0), "float32", backend, images=48, height=72,
                 width=3, channels=32)
before = set(os.listdir("/proc/self/task"))
run(backend, "conv2d", call)
for task in set(os.listdir("/proc/self/task")) - before:
    status = open(f"/proc/self/task/{task}/status").read()
    blocked = int(next(line.split()[1] for line in status.splitlines() if "SigBlk" in line), 16)
    print(blocked >> signal.SIGINT - 1 & 1, blocked >> signal.SIGTERM - 1 & 1)
"""


@NEEDS_TEAM
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc to look into")
def test_signals_are_for_threads_that_python_knows() -> None:
    assert in_a_process(SIGNALS).split() == ["1"] * 6
