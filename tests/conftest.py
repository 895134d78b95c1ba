"""Fixtures that run a test on every backend and every instruction set of this machine.

FASTCNN_REQUIRE_PEERS=1 (or --require-peers), as in CI: what cannot be checked because PyTorch,
MNIST or anything else is missing is a failure and no skip.
FASTCNN_DATA: where MNIST is, else ../shared/data from the repository's root.
FASTCNN_TEST_SEED: other random numbers than the usual ones.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

import fastcnn
from fastcnn import FastBackend, _kernels, reference

ROOT = Path(__file__).parent.parent
SEED = int(os.environ.get("FASTCNN_TEST_SEED", "0"))

FAST_BACKENDS: dict[str, Callable[[], Any]] = {
    f"fast-{isa}": lambda isa=isa: FastBackend(isa=isa) for isa in _kernels.available()
}
BACKENDS: dict[str, Callable[[], Any]] = {"reference": lambda: reference} | FAST_BACKENDS

# The same examples every time; `pytest --hypothesis-profile=search` looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None, max_examples=60)
settings.register_profile("search", deadline=None, max_examples=3000)
settings.load_profile("same")


def pytest_configure() -> None:
    # A shell starts its background jobs, and so their children, with Ctrl-C ignored; some tests
    # press it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-peers",
        action="store_true",
        default=os.environ.get("FASTCNN_REQUIRE_PEERS") == "1",
        help="a skip is a failure: everything that tests compare with has to be there",
    )


def pytest_report_header() -> list[str]:
    return [f"fastcnn: {', '.join(BACKENDS)}; FASTCNN_TEST_SEED={SEED}"]


def _skip_is_a_failure(report: Any, required: bool) -> None:
    """Turn the report of a skip, not that of an expected failure, into one of a failure."""
    if required and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason}; with --require-peers a skip is a failure"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    _skip_is_a_failure(report, item.config.getoption("--require-peers"))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    report = yield
    _skip_is_a_failure(report, collector.config.getoption("--require-peers"))
    return report


@pytest.fixture(scope="session", name="reference")
def _reference() -> Any:
    """The oracle."""
    return reference


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Any:
    """Every backend: the reference, and the fast one on each instruction set."""
    return BACKENDS[request.param]()


@pytest.fixture(scope="session", params=FAST_BACKENDS)
def fast_backend(request: pytest.FixtureRequest) -> Any:
    """The fast backend on each instruction set."""
    return FAST_BACKENDS[request.param]()


@pytest.fixture(scope="session")
def fast_backends() -> list[Any]:
    """The fast backends of all instruction sets, for tests that ask the oracle only once."""
    return [make() for make in FAST_BACKENDS.values()]


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> np.dtype[Any]:
    """Both float dtypes."""
    return np.dtype(str(request.param))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that depend on the test's name alone, so that a failure comes back."""
    return np.random.default_rng([SEED, *request.node.name.encode()])


@pytest.fixture(autouse=True)
def _same_state() -> Iterator[None]:
    """Every test starts from the same global random state and default number of threads."""
    np.random.seed(SEED)  # noqa: NPY002 - what a test or a peer may draw from by mistake
    yield
    fastcnn.set_num_threads(None)


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """A data directory that holds MNIST; the test is skipped where there is none."""
    folder = Path(os.environ.get("FASTCNN_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "mnist").is_dir():
        pytest.skip(f"MNIST is not at {folder}: set FASTCNN_DATA to a folder that holds mnist/")
    return folder
