"""Small integers, whose sums are exact: every backend gives the same bits for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from compare import assert_same_bits

from fastcnn import reference
from fastcnn.backend import Array

__all__ = ["inner", "integers", "same", "without_signed_zeros"]


def integers(seed: int, dtype: Any, *shapes: tuple[int, ...]) -> list[Array]:
    """Integers from -8 to 8, among them zeros and ties."""
    rng = np.random.default_rng(seed)
    return [rng.integers(-8, 9, shape).astype(dtype) for shape in shapes]


def without_signed_zeros(results: Any) -> tuple[Any, ...]:
    """Return results with -0.0 as 0.0: a sum of zeros may have either sign."""
    results = results if isinstance(results, tuple) else (results,)
    return tuple(
        result + 0 if isinstance(result, np.ndarray) and result.dtype.kind == "f" else result
        for result in results
    )


def same(backends: list[Any], op: str, *arguments: Any, **options: Any) -> tuple[Any, ...]:
    """Check that an op gives the reference's bits on every backend; return them."""
    expected = without_signed_zeros(getattr(reference, op)(*arguments, **options))
    for backend in backends:
        results = getattr(backend, op)(*arguments, **options)
        assert_same_bits(without_signed_zeros(results), expected, f"{backend.isa} {op} {options}")
    return expected


def inner(a: Array, b: Array) -> int:
    """Return the sum of products in Python's integers, which have no largest."""
    return sum(int(p) * int(q) for p, q in zip(a.flat, b.flat, strict=True))
