"""Memory: no kernel reads or writes outside of its arrays, none leaves a part unwritten.

For that, every array lies between pages that cannot be read, its last byte right before one of
them or its first byte right behind the other, and every result begins as NaN. A fault ends the
process, so each instruction set has one of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="mprotect and limits are Linux's here")


def run(script: str, *args: str) -> str:
    """Run a script with the tests' folder on its path; return what it printed."""
    head = f"import sys; sys.path.append({str(Path(__file__).parents[1])!r})\n"
    result = subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(script), *args],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ,
        check=False,
    )
    assert result.returncode == 0, f"exit {result.returncode}: {result.stderr[-2000:]}"
    return result.stdout


GUARDS = """
    import ctypes, faulthandler, itertools, mmap
    import numpy as np
    from calls import FUSED, OPS, UPDATED, arguments, each, run
    from compare import assert_same_bits
    from kept import Kept
    from windows import CONVOLUTIONS, POOLS
    import fastcnn
    from fastcnn import FastBackend, _memory

    faulthandler.enable()
    libc = ctypes.CDLL(None, use_errno=True)
    PAGE = mmap.PAGESIZE

    def guarded(size, at_end):
        '''Return NaN-filled memory with an unreadable page before it and one after it.'''
        whole = -(-size // PAGE) * PAGE
        pages = mmap.mmap(-1, whole + 2 * PAGE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
        start = PAGE + (whole - size if at_end else 0)
        memory = memoryview(pages)[start : start + size]
        memory[:] = b"\\xff" * size
        for guard in (address, address + PAGE + whole):
            assert libc.mprotect(ctypes.c_void_p(guard), PAGE, 0) == 0
        return memory

    def moved(value, at_end):
        if not isinstance(value, np.ndarray) or value.nbytes == 0:
            return value
        copy = np.ndarray(value.shape, value.dtype, guarded(value.nbytes, at_end))
        copy[...] = value
        return copy

    class Guarded:
        def __init__(self, at_end):
            self.at_end = at_end

        def Block(self, size):
            return guarded(size, self.at_end)

    def check(backend, op, call, about):
        expected = run(backend, op, call)
        for at_end in (True, False):
            own = _memory._memory
            _memory._memory = Guarded(at_end)
            try:
                given = {n: each(lambda v: moved(v, at_end), v) for n, v in call.items()}
                result = getattr(backend, op)(**given)
            finally:
                _memory._memory = own
            if op in UPDATED:
                result = tuple(given[name] for name in UPDATED[op])
            results = tuple(result) if isinstance(result, (tuple, list)) else (result,)
            assert_same_bits(results, expected, f"{op} {about}")

    class Prepared:
        '''Winograd's convolution on weights that are kept, with all that may follow.'''

        def conv2d(self, x, w, b, residual, padding):
            kept = Kept(sys.argv[1], 2, convolution="winograd")
            return kept._conv2d_product(x, w, b, residual, activation="relu", padding=padding)

        def _conv2d_relu_max_pool2d(self, x, w, b, padding):
            kept = Kept(sys.argv[1], 2, convolution="winograd")
            return kept._conv2d_pool_product(x, w, b, padding=padding)

    backend = FastBackend(isa=sys.argv[1], num_threads=2)
    winograd = FastBackend(isa=sys.argv[1], num_threads=2, convolution="winograd")
    if sys.argv[2] == "overrun":
        x = moved(np.ones(PAGE, np.float32), True)
        np.lib.stride_tricks.as_strided(x, (PAGE + 1,)).sum()
    count = 0
    for op in [*OPS, *FUSED]:
        for channels in [*range(1, 20), 23, 31, 32, 33, 47, 48, 49, 63, 64, 65, 67]:
            print(op, channels, file=sys.stderr)
            rng = np.random.default_rng(channels)
            dtype = ("float32", "float64")[channels % 3 == 0]
            size = dict(images=1 + channels % 2, height=4, width=3, channels=channels)
            check(backend, op, arguments(op, rng, dtype, backend, **size), f"{channels} {dtype}")
            count += 1
    # The last two: groups of filters and, of kept weights, point by point.
    pairs = [(channels, 68 - channels) for channels in [*range(1, 20), 33, 50, 67]]
    for channels, filters in [*pairs, (130, 201), (260, 130)]:
        rng = np.random.default_rng(channels)
        dtype = ("float32", "float64")[channels % 3 == 0]
        x = rng.standard_normal((1 + channels % 2, 5 + channels % 4, 6, channels)).astype(dtype)
        w = rng.standard_normal((3, 3, channels, filters)).astype(dtype)
        b = rng.standard_normal(filters).astype(dtype)
        dy = rng.standard_normal((*x.shape[:3], filters)).astype(dtype)
        print("winograd", channels, dtype, file=sys.stderr)
        call = {"x": x, "w": w, "b": b, "padding": 1}
        for by in (winograd, Prepared()):
            check(by, "_conv2d_relu_max_pool2d", call, channels)
        check(winograd, "conv2d", call, channels)
        check(Prepared(), "conv2d", {**call, "residual": dy}, channels)
        check(winograd, "conv2d_backward", {"dy": dy, "x": x, "w": w, "padding": 1}, channels)
        count += 5
    # Gradients through pools: windows that leave pixels out, more pixels and filters than 64.
    sizes = ((5, 4, 16, 3), (7, 9, 32, 64), (8, 7, 17, 65), (20, 21, 8, 130), (19, 20, 16, 66))
    strides = (None, 1, (2, 3))
    dtypes = ("float32", "float64")
    for size, padding, step, dtype in itertools.product(sizes, (0, 1), strides, dtypes):
        rng = np.random.default_rng(1)
        height, width, channels, filters = size
        x = rng.standard_normal((2, height, width, channels)).astype(dtype)
        w = rng.standard_normal((3, 3, channels, filters)).astype(dtype)
        options = dict(padding=padding, pool_stride=step)
        dy, argmax = backend._conv2d_relu_max_pool2d(x, w, **options)
        print("_conv2d_relu_max_pool2d_backward", size, options, file=sys.stderr)
        call = {"dy": dy, "argmax": argmax, "x": x, "w": w, **options}
        check(backend, "_conv2d_relu_max_pool2d_backward", call, options)
        count += 1
    # Moments of patches: vectors of places that end anywhere behind the last one of a patch.
    kernels = ((3, 3, 1), (1, 9, 1), (2, 2, 2), (9, 1, 1))
    spaces = ({}, {"padding": 4, "dilation": 3}, {"padding": (2, 3), "stride": (1, 2)})
    for (r, s, c), space, width in itertools.product(kernels, spaces, range(10, 20)):
        rng = np.random.default_rng(width)
        x, w = rng.random((8, 11, width, c), np.float32), rng.random((r, s, c, 5), np.float32)
        b, gamma, beta = rng.random((3, 5), np.float32)
        if (r, s) != (3, 3) and "dilation" in space:
            continue
        print("moments", w.shape, space, width, file=sys.stderr)
        call = {"x": x, "w": w, "b": b, "gamma": gamma}
        op, forward = "_conv2d_batch_norm_relu_max_pool2d", {**call, "beta": beta, **space}
        y, argmax, mean, variance = run(backend, op, forward)
        check(backend, op, forward, space)
        call |= {"dy": y, "argmax": argmax, "mean": mean, "variance": variance, **space}
        call["input_gradient"] = False
        check(backend, f"{op}_backward", call, space)
        count += 2
    for number, (shape, kernel, filters, options) in enumerate(CONVOLUTIONS):
        rng = np.random.default_rng(number)
        dtype = ("float32", "float64")[number % 3 == 0]
        x = rng.standard_normal(shape).astype(dtype)
        w_shape = (*kernel, shape[3] // options.get("groups", 1), filters)
        w = rng.standard_normal(w_shape).astype(dtype)
        b = rng.standard_normal(filters).astype(dtype)
        print("conv2d", shape, kernel, filters, options, file=sys.stderr)
        check(backend, "conv2d", {"x": x, "w": w, "b": b, **options}, options)
        dy = rng.standard_normal(backend.conv2d(x, w, **options).shape).astype(dtype)
        check(backend, "conv2d_backward", {"dy": dy, "x": x, "w": w, **options}, options)
        count += 2
    for number, (shape, pool_size, options) in enumerate(POOLS):
        rng = np.random.default_rng(number)
        x = rng.standard_normal(shape).astype(("float32", "float64")[number % 3 == 0])
        print("pool", shape, pool_size, options, file=sys.stderr)
        options = {"pool_size": pool_size, **options}
        check(backend, "max_pool2d", {"x": x, **options}, options)
        check(backend, "avg_pool2d", {"x": x, **options}, options)
        y, argmax = backend.max_pool2d(x, **options)
        back = {"dy": y, "x_shape": x.shape, **options}
        check(backend, "max_pool2d_backward", {"argmax": argmax, **back}, options)
        check(backend, "avg_pool2d_backward", back, options)
        count += 4
    print(count)
"""


@LINUX
def test_nothing_outside_is_touched_and_nothing_inside_is_left_out(fast_backend: Any) -> None:
    assert int(run(GUARDS, fast_backend.isa, "")) > 1000


@LINUX
def test_an_overrun_would_be_seen() -> None:
    with pytest.raises(AssertionError, match=r"exit -(11|7)"):
        run(GUARDS, "baseline", "overrun")
