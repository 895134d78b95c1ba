"""Fixtures that run a test on every backend and every instruction set of this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

try:
    from fastcnn import FastBackend, _kernels, reference
except ImportError:  # from a clone that is not installed: the oracle alone
    import reference  # type: ignore[no-redef]

    BACKENDS: dict[str, Callable[[], Any]] = {"reference": lambda: reference}
else:
    BACKENDS = {"reference": lambda: reference} | {
        f"fast-{isa}": lambda isa=isa: FastBackend(isa=isa) for isa in _kernels.available()
    }


@pytest.fixture(scope="session", name="reference")
def _reference() -> Any:
    """The oracle."""
    return reference


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Any:
    """Every backend: the reference, and the fast one on each instruction set."""
    return BACKENDS[request.param]()


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> np.dtype[Any]:
    """Both float dtypes."""
    return np.dtype(str(request.param))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that depend on the test's name alone, so that a failure comes back."""
    return np.random.default_rng(list(request.node.name.encode()))
