"""Every op of the fast backend, on every instruction set, against the reference.

The reference is asked in float64 for arguments that are exact in the tested dtype: its answer is
then the right one. Convolution, linear layers and pooling have a file of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from calls import ACTIVATIONS, OPS, UPDATED, arguments, each, run
from compare import assert_results, assert_same_bits, untouched
from hypothesis import given
from hypothesis import strategies as st

from fastcnn import reference
from fastcnn.backend import Array

INF, NAN = np.inf, np.nan
DTYPES = ["float32", "float64"]


def check(op: str, call: dict[str, Any], dtype: Any, backends: list[Any], about: str) -> None:
    """Compare an op of all backends with the reference, which is asked in float64."""
    exact = {
        name: value.astype(np.float64)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f"
        else value
        for name, value in call.items()
    }
    expected = run(reference, op, exact)
    dy = np.abs(call.get("dy", 0.0))
    largest_dy = float(np.max(dy, where=np.isfinite(dy), initial=0))
    for backend in backends:
        with untouched(*call.values()):
            results = run(backend, op, call)
        about = f"{backend.isa} {dtype} {op} {about}"
        assert_results(results, expected, op, dtype, about, largest_dy=largest_dy)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_every_op_of_any_width(op: str, dtype: str, fast_backends: list[Any]) -> None:
    for channels in range(1, 68):
        rng = np.random.default_rng(channels)
        # Images and rows vary with the width, so that flat lengths meet every remainder too.
        call = arguments(
            op, rng, dtype, reference, images=1, height=4, width=1 + channels % 2, channels=channels
        )
        check(op, call, dtype, fast_backends, f"{channels} channels")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
@given(seed=st.integers(0))
def test_every_op_on_other_numbers(
    op: str, dtype: str, seed: int, fast_backends: list[Any]
) -> None:
    rng = np.random.default_rng(seed)
    images, height, width, channels = (int(rng.integers(1, top)) for top in (3, 5, 5, 9))
    if "batch_norm" in op or op.startswith("conv2d"):
        images, height = images + 1, height + 3
    call = arguments(
        op,
        rng,
        dtype,
        reference,
        images=images,
        height=height,
        width=width,
        channels=channels,
    )
    check(op, call, dtype, fast_backends, f"seed {seed}")


FUNCTIONS = ("exp", "log", "sqrt", "abs", "negative", "reciprocal", "erf")
ELEMENTWISE = [
    op for op in OPS if op.removesuffix("_backward") in (*ACTIVATIONS, "dropout", *FUNCTIONS)
]


def extremes(dtype: Any) -> Array:
    """Zeros, subnormal numbers, the ends of every range, infinities, NaN, and ordinary ones."""
    info = np.finfo(dtype)
    tiny, largest = float(info.tiny), float(info.max)
    ends = [0.0, tiny / 8, tiny, 1e-20, 1e-8, 1e-4, 0.1, 0.5, 1, 5.5, 17, 40, 1e4, largest / 4]
    exponents = [86, 87, 88, 89, 90, 103, 104, 105, 707, 709, 710, 745, 746, 747]
    values = np.array([*ends, *exponents, largest, INF])
    return np.concatenate([values, -values, [NAN], np.linspace(-30, 30, 241)]).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ELEMENTWISE)
def test_activations_of_extremes(op: str, dtype: str, fast_backends: list[Any]) -> None:
    x = extremes(dtype)
    if op in ("sigmoid_backward", "tanh_backward"):
        x = np.tanh(x)  # what forward may return: from -1 to 1
        x = x if op == "tanh_backward" else np.abs(x)
    call = arguments(op, np.random.default_rng(0), dtype, reference)
    for name, value in call.items():
        if isinstance(value, np.ndarray):
            call[name] = np.ones(x.shape, value.dtype) if name in ("dy", "mask") else x
    # Apart from the small ones, so that these are compared on their own scale; and all of them
    # once more beginning elsewhere, in other lanes.
    for part in (np.abs(x) <= 50, ~(np.abs(x) <= 50)):
        for shift in range(3):
            moved = {
                name: value[part][shift:] if isinstance(value, np.ndarray) else value
                for name, value in call.items()
            }
            check(op, moved, dtype, fast_backends, f"extremes from {shift}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ["softmax", "log_softmax", "softmax_cross_entropy"])
def test_softmax_of_extremes(op: str, dtype: str, fast_backends: list[Any]) -> None:
    largest = float(np.finfo(dtype).max) / 4
    rows = [
        [0, 0, 0],
        [1000, 999, 998],
        [-1000, 0, 1000],
        [largest, 0, -largest],
        [-largest, -largest, -largest],
        [88, -88, 0],
        [-INF, 0, 1],
        [NAN, 0, 1],
        [1e-30, -1e-30, 0],
    ]
    for row in rows:
        x = np.array([row, [1, 2, 3]], dtype)
        call: dict[str, Any] = {"x": x}
        if op == "softmax_cross_entropy":
            call = {"logits": x, "labels": np.array([1, 2])}
            if not np.isfinite(x).all():
                continue
        check(op, call, dtype, fast_backends, f"of {row}")


# ---------------------------------------------------------------------- memory
def unaligned(a: Array) -> Array:
    return np.frombuffer(b"_" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape)


def gaps(a: Array) -> Array:
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


def read_only(a: Array) -> Array:
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS: dict[str, Callable[[Array], Any]] = {
    "fortran": np.asfortranarray,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "little-endian": lambda a: a.astype(a.dtype.newbyteorder("<")),
    "unaligned": unaligned,
    "read-only": read_only,
    "gaps": gaps,
    "backwards": lambda a: a[::-1].copy()[::-1],
    "mirrored": lambda a: a[..., ::-1].copy()[..., ::-1],
    "transposed": lambda a: a.T.copy().T,
    "masked": lambda a: a.view(np.ma.MaskedArray),
    "subclass": lambda a: a.view(type("Subclass", (np.ndarray,), {})),
    "memoryview": memoryview,
    "nested lists": lambda a: [list(row) for row in a] if a.ndim > 1 else list(a),
}


def _holds_arrays(value: Any) -> bool:
    return isinstance(value, np.ndarray) or (isinstance(value, list) and _holds_arrays(value[0]))


# One test for all layouts, and one for all dtypes: there are many ops.
@pytest.mark.parametrize("op", OPS)
def test_any_layout(op: str, dtype: Any, rng: Any, fast_backend: Any) -> None:
    """The same bits from the same numbers, wherever they lie, and none of them is written to."""
    call = arguments(op, rng, dtype, fast_backend, height=4)
    expected = run(fast_backend, op, call)
    updated = UPDATED.get(op, ())
    arrays = [n for n, v in call.items() if _holds_arrays(v) and n not in updated]
    for layout in LAYOUTS:
        for changed in (*([name] for name in arrays), arrays):
            other = {name: each(LAYOUTS[layout], call[name]) for name in changed}
            with untouched(*other.values(), *call.values()):
                results = run(fast_backend, op, call | other)
            assert_same_bits(results, expected, f"{op} {layout} {changed}")
            for result in results:
                if isinstance(result, np.ndarray):
                    for name in changed if op != "add_backward" else ():
                        for value in other[name] if name == "xs" else [other[name]]:
                            assert not np.shares_memory(result, np.asarray(value))


@pytest.mark.parametrize("op", OPS)
def test_other_dtypes_are_converted(op: str, dtype: Any, rng: Any, fast_backend: Any) -> None:
    """One argument of another dtype takes that of the others; alone it becomes float32."""
    call = arguments(op, rng, dtype, fast_backend, height=4)
    updated = UPDATED.get(op, ())
    floats = [
        name
        for name, value in call.items()
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and name not in updated
    ]
    for name, kind in product(floats, "?bBhHiIqQe"):
        whole = np.ceil(np.abs(call[name])).astype(kind)
        alone = len(floats) == 1 and not updated
        wanted = np.float32 if alone else dtype
        results = run(fast_backend, op, call | {name: whole})
        expected = run(fast_backend, op, call | {name: whole.astype(wanted)})
        assert_same_bits(results, expected, f"{op} {name} {kind}")
        for result in results:
            if isinstance(result, np.ndarray) and result.dtype.kind == "f":
                assert result.dtype == wanted
