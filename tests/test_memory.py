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

import numpy as np
import pytest

import fastcnn
from fastcnn import FastBackend
from fastcnn._kernels import _memory
from fastcnn._memory import empty, zeros

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="mprotect and limits are Linux's here")


def run(script: str, *args: str) -> str:
    """Run a script with the tests' folder on its path; return what it printed."""
    head = f"import sys; sys.path.append({str(Path(__file__).parent)!r})\n"
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
    from calls import OPS, UPDATED, arguments, run
    from compare import assert_same_bits
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
                given = {name: moved(value, at_end) for name, value in call.items()}
                result = getattr(backend, op)(**given)
            finally:
                _memory._memory = own
            if op in UPDATED:
                result = tuple(given[name] for name in UPDATED[op])
            results = result if isinstance(result, tuple) else (result,)
            assert_same_bits(results, expected, f"{op} {about}")

    class Prepared:
        '''Winograd's convolution and block on weights that are kept, with all that may follow.'''

        def conv2d(self, x, w, b, residual, padding):
            options = dict(stride=1, padding=padding, dilation=1, groups=1)
            op = winograd.prepared.conv2d(w, b, relu=True, follow=False, **options)
            return op(x, residual)

        def conv_block(self, x, w, b, padding):
            options = dict(stride=1, padding=padding, dilation=1, groups=1)
            pools = dict(pool_size=2, pool_stride=2)
            return winograd.prepared.conv_block(w, b, follow=False, **options, **pools)(x)

    backend = FastBackend(isa=sys.argv[1], num_threads=2)
    winograd = FastBackend(isa=sys.argv[1], num_threads=2, convolution="winograd")
    if sys.argv[2] == "overrun":
        x = moved(np.ones(PAGE, np.float32), True)
        np.lib.stride_tricks.as_strided(x, (PAGE + 1,)).sum()
    count = 0
    for op in OPS:
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
            check(by, "conv_block", call, channels)
        check(winograd, "conv2d", call, channels)
        check(Prepared(), "conv2d", {**call, "residual": dy}, channels)
        check(winograd, "conv2d_backward", {"dy": dy, "x": x, "w": w, "padding": 1}, channels)
        count += 5
    # The gradients of blocks: windows that leave pixels out, more pixels and filters than 64.
    sizes = ((5, 4, 16, 3), (7, 9, 32, 64), (8, 7, 17, 65), (20, 21, 8, 130), (19, 20, 16, 66))
    strides = (None, 1, (2, 3))
    dtypes = ("float32", "float64")
    for size, padding, step, dtype in itertools.product(sizes, (0, 1), strides, dtypes):
        rng = np.random.default_rng(1)
        height, width, channels, filters = size
        x = rng.standard_normal((2, height, width, channels)).astype(dtype)
        w = rng.standard_normal((3, 3, channels, filters)).astype(dtype)
        options = dict(padding=padding, pool_stride=step)
        dy, argmax = backend.conv_block(x, w, **options)
        print("conv_block_backward", size, options, file=sys.stderr)
        call = {"dy": dy, "argmax": argmax, "x": x, "w": w, **options}
        check(backend, "conv_block_backward", call, options)
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
        print("conv_norm_block", w.shape, space, width, file=sys.stderr)
        call = {"x": x, "w": w, "b": b, "gamma": gamma}
        y, argmax, mean, variance = backend.conv_norm_block(**call, beta=beta, **space)
        check(backend, "conv_norm_block", {**call, "beta": beta, **space}, space)
        call |= {"dy": y, "argmax": argmax, "mean": mean, "variance": variance, **space}
        call["input_gradient"] = False
        check(backend, "conv_norm_block_backward", call, space)
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


# ---------------------------------------------------------------------- the pool
def test_results_begin_at_a_cache_line(dtype: Any) -> None:
    for size in [1, 2, 3, 15, 16, 17, 63, 64, 65, 1000, 4095, 4097, 10**5, 10**6 + 1, 3 * 10**6]:
        array = empty((size,), dtype)
        assert array.ctypes.data % 64 == 0
        assert (array.shape, array.dtype) == ((size,), dtype)
        array.fill(1)
        assert zeros((size,), dtype).sum() == 0


def test_no_two_arrays_share_memory() -> None:
    """Blocks of all sizes, taken and given back in any order, each with its own number inside."""
    rng = np.random.default_rng(0)
    kept: dict[int, np.ndarray[Any, Any]] = {}
    for number in range(3000):
        if kept and rng.random() < 0.45:
            key = int(rng.choice(list(kept)))
            assert (kept.pop(key) == key).all()
        kept[number] = empty((int(rng.integers(1, 5000)),), np.dtype(np.float64))
        kept[number].fill(number)
    for key, array in kept.items():
        assert (array == key).all()


def test_a_steady_loop_allocates_nothing() -> None:
    backend = FastBackend(num_threads=1)
    x, w = np.ones((4, 20, 20, 8), np.float32), np.ones((3, 3, 8, 16), np.float32)

    def step() -> None:
        y = backend.conv2d(x, w)
        y = backend.relu(y)
        backend.conv2d_backward(y, x, w)

    step()
    in_use, idle = _memory.statistics()
    for _ in range(20):
        step()
        assert _memory.statistics() == (in_use, idle)


def test_idle_memory_is_given_back() -> None:
    array = empty((10**6,), np.dtype(np.float32))
    in_use, _ = _memory.statistics()
    del array
    after, idle = _memory.statistics()
    assert after <= in_use - 4 * 10**6
    assert idle >= 4 * 10**6
    fastcnn.empty_cache()
    assert _memory.statistics() == (after, 0)


CHANGING = """
    import os
    import numpy as np
    from fastcnn._kernels import _memory
    from fastcnn._memory import empty

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    BYTE = np.dtype(np.uint8)
    LITTLE = 8 << 20  # may be held without need
    rng = np.random.default_rng(0)
    before, needed = resident(), 0
    for largest in (2 * 10**5, 3 * 10**6, 3 * 10**7):
        for _ in range(200):
            sizes = rng.integers(largest // 50, largest, 4).tolist()
            kept = [empty((size,), BYTE) for size in sizes]
            for array in kept:
                array[::4096] = 1
            needed = max(needed, sum(sizes))
            # Sizes are rounded up by an eighth at most; the interpreter takes some pages too.
            assert sum(_memory.statistics()) < 2 * 1.125 * needed + LITTLE, sizes
            assert resident() - before < 2 * 1.125 * needed + 2 * LITTLE, sizes
            del kept, array

    # A loop that repeats itself, but touches more than what may be held.
    for _ in range(2**17):
        _memory.Block(1000)
    sizes = [int(4e6 * 1.05**i) for i in range(48)]

    def step():
        last = None
        for size in sizes:
            last = empty((size,), BYTE), last and last[0]

    for _ in range(3):
        step()
    held = _memory.statistics()
    assert sum(held) < sum(sizes) / 2, held
    for _ in range(10):
        step()
        assert _memory.statistics() == held
"""


@LINUX
def test_sizes_that_change_hold_no_more_than_twice_what_is_needed() -> None:
    assert run(CHANGING) == ""


def test_a_peak_is_forgotten() -> None:
    fastcnn.empty_cache()
    kept = [empty((4 * 10**6,), np.dtype(np.uint8)) for _ in range(20)]
    del kept
    assert _memory.statistics()[1] >= 8 * 10**7
    for _ in range(2**17 + 1):
        _memory.Block(1000)
    assert _memory.statistics()[1] < 2 * _memory.statistics()[0] + (9 << 20)


def test_an_array_outlives_its_backend_and_the_cache() -> None:
    y = FastBackend().relu(np.full(1000, 3, np.float32))
    view = y[10:20]
    del y
    fastcnn.empty_cache()
    FastBackend().relu(np.zeros(1000, np.float32))
    assert view.tolist() == [3] * 10


STARVED = """
    import resource
    import numpy as np
    import fastcnn
    from fastcnn import nn

    backend = fastcnn.FastBackend(num_threads=2)
    x, y = np.random.default_rng(0).random((8, 8, 8, 1), np.float32), np.arange(8) % 4
    model = nn.Sequential([nn.Conv2D(8, 3, padding=400), nn.GlobalAvgPool2D(), nn.Dense(4)])
    trainer = fastcnn.Trainer(model, backend=backend)
    trainer.fit(x[:2], y[:2], batch_size=1, verbose=False)
    before = model.state_dict()
    fastcnn.empty_cache()
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**25, resource.RLIM_INFINITY))
    for attempt in range(3):
        try:
            trainer.fit(x, y, batch_size=8, verbose=False)
        except MemoryError:
            pass
        else:
            raise AssertionError("there was memory enough")
    after = model.state_dict()
    assert all((before[name] == after[name]).all() for name in before)
    print(backend.conv2d(x, np.ones((3, 3, 1, 2), np.float32)).shape)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    trainer.fit(x, y, batch_size=8, verbose=False)
    print("done")
"""


@LINUX
def test_no_memory_is_a_memory_error_and_the_model_stays() -> None:
    assert run(STARVED).splitlines() == ["(8, 6, 6, 2)", "done"]
