"""What a library costs beside its time: measured in a process that does nothing else.

`measure` runs in a fresh process of a competitor, whose module was imported and started; what is
asked of fastcnn alone, `step_faults` and `prediction_faults`, in one of `fresh`.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from benchmarks._cases import MOMENTUM, Cost, Inference, Training, noise
from benchmarks._networks import NETWORKS, model
from benchmarks._peers import PEERS, Job, Results
from fastcnn import FastBackend, Trainer
from fastcnn.optim import SGD

__all__ = ["fresh", "import_seconds", "measure", "prediction_faults", "step_faults"]

WARM_UP = 2  # epochs, after which training takes no memory that it has not taken before
COUNTED = 20  # steps or predictions
T = TypeVar("T")


def measure(peer: ModuleType, case: Cost, option: str) -> tuple[Results, float] | None:
    """Return the results of what was run, and the case's value: seconds, bytes or faults.

    None where the peer does not train the network in this way.
    """
    if case.what == "first prediction":
        return _first_prediction(peer, option)
    training = Training(case.batch, case.network)
    job: Job | None = peer.training(training, option)
    if job is None:
        return None
    if case.what == "page faults":
        value = _page_faults(job, training)
    else:
        value = _peak_memory(job, whole=case.what == "peak memory of the process")
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


def _peak_memory(job: Job, whole: bool) -> float:
    """Return the most resident memory during an epoch of training, above that before it.

    whole: nothing is subtracted; the library, the data and the network count.
    """
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of now
    before = 0.0 if whole else _status("VmRSS")
    job.run()
    return _status("VmHWM") - before


def _page_faults(job: Job, case: Training) -> float:
    """Return the page faults of a step, after epochs in which the memory was taken."""
    for _ in range(WARM_UP):
        job.run()
    before = _faults()
    job.run()
    return (_faults() - before) / case.steps


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def fresh(function: Callable[..., T], *arguments: object) -> T:
    """Return what a function of a module returns in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def step_faults(network: str, batch: int, threads: int) -> float:
    """Return the page faults of a step of Trainer.fit, those of the call's beginning among them.

    Over an epoch of 20 steps, after others in which the memory was taken.
    """
    x, y = noise(network, COUNTED * batch)
    trainer = Trainer(model(network), backend=FastBackend(num_threads=threads))
    trainer.optimizer = SGD(NETWORKS[network].learning_rate, momentum=MOMENTUM)
    for _ in range(WARM_UP):
        trainer.fit(x, y, batch_size=batch, verbose=False)
    before = _faults()
    trainer.fit(x, y, batch_size=batch, verbose=False)
    return (_faults() - before) / COUNTED


def prediction_faults(network: str, batch: int, threads: int) -> float:
    """Return the page faults of a Trainer.predict, after others in which the memory was taken."""
    x, _ = noise(network, batch)
    trainer = Trainer(model(network), backend=FastBackend(num_threads=threads))
    for _ in range(COUNTED):
        trainer.predict(x, batch_size=batch)
    before = _faults()
    for _ in range(COUNTED):
        trainer.predict(x, batch_size=batch)
    return (_faults() - before) / COUNTED


def _status(field: str) -> float:
    """Return a field of this process's status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return float(line.split()[1]) * 1024
    raise KeyError(f"/proc/self/status: no {field}")
