"""What a library costs beside its time: measured in a process that does nothing else.

The functions below run in a fresh process of a competitor, whose module was imported and started.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

from benchmarks._cases import Cost, Inference, Training
from benchmarks._peers import PEERS, Job, Results

__all__ = ["import_seconds", "measure"]

WARM_UP = 2  # epochs, after which training takes no memory that it has not taken before


def measure(peer: ModuleType, case: Cost, option: str) -> tuple[Results, float]:
    """Return the results of what was run, and the case's value: seconds, bytes or faults."""
    if case.what == "first prediction":
        return _first_prediction(peer, option)
    training = Training(case.batch)
    job: Job = peer.training(training, option)
    value = _peak_memory(job) if case.what == "peak memory" else _page_faults(job, training)
    return job.result(), value


def import_seconds(name: str) -> float:
    """Return how long a new interpreter takes to import a competitor's package, above its own."""
    package = PEERS[name].packages[0]
    return _interpreter(f"import {package}") - _interpreter("pass")


def _interpreter(program: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    return time.perf_counter() - start


def _first_prediction(peer: ModuleType, option: str) -> tuple[Results, float]:
    """Return the logits of one image and the seconds to build the network and compute them."""
    case = Inference(1)
    case.data()
    start = time.perf_counter()
    job: Job = peer.inference(case, option)
    job.run()
    taken = time.perf_counter() - start
    return job.result(), taken


def _peak_memory(job: Job) -> float:
    """Return the most resident memory during an epoch of training, above that before it."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of now
    before = _status("VmRSS")
    job.run()
    return _status("VmHWM") - before


def _page_faults(job: Job, case: Training) -> float:
    """Return the page faults of a step, after epochs in which the memory was taken."""
    for _ in range(WARM_UP):
        job.run()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    job.run()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return faults / case.steps


def _status(field: str) -> float:
    """Return a field of this process's status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return float(line.split()[1]) * 1024
    raise KeyError(f"/proc/self/status: no {field}")
