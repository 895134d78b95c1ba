"""The pool that results come from: what it hands out, holds and gives back; and want of memory."""

from __future__ import annotations

import errno
import gc
from typing import Any

import numpy as np
import pytest
from test_memory import LINUX, run

import fastcnn
from fastcnn import FastBackend, _kernels, nn
from fastcnn._kernels import _memory
from fastcnn._memory import empty, zeros
from fastcnn.fast import _inference


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


UNLOADED = """
    import resource
    import numpy as np
    from fastcnn import FastBackend

    x = np.ones(3, np.float32)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    for room in (0, 2**18, 2**19, 2**20):
        resource.setrlimit(resource.RLIMIT_AS, (used + room, resource.RLIM_INFINITY))
        try:
            FastBackend().relu(x)
        except MemoryError as error:
            assert str(error).startswith("no room for the kernels: "), error
        else:
            raise AssertionError("there was memory enough")
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(FastBackend().relu(x).tolist())
"""


@LINUX
def test_no_room_for_the_kernels_is_a_memory_error_and_passes() -> None:
    assert run(UNLOADED).strip() == "[1.0, 1.0, 1.0]"


def test_no_room_to_look_for_the_kernels_is_a_memory_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> Any:
        raise OSError(errno.ENOMEM, "Cannot allocate memory", "/a/folder")

    monkeypatch.setattr(_kernels, "find_spec", fails)
    with pytest.raises(MemoryError, match=r"^no room for the kernels: Cannot allocate memory$"):
        _kernels._is_there("fastcnn._kernels.baseline.float32.conv2d")


def test_kernels_that_cannot_be_loaded_otherwise_are_an_import_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(name: str) -> Any:
        raise ImportError(f"/allocate/memory/map/{name}.so: undefined symbol: GOMP_parallel")

    _kernels.load.cache_clear()
    monkeypatch.setattr(_kernels.importlib, "import_module", fails)
    with pytest.raises(ImportError, match="undefined symbol"):
        FastBackend().relu(np.ones(3, np.float32))


@LINUX
def test_no_memory_is_a_memory_error_and_the_model_stays() -> None:
    assert run(STARVED).splitlines() == ["(8, 6, 6, 2)", "done"]


def test_what_is_kept_for_small_batches_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many shapes come: each has arrays of its own ready."""
    monkeypatch.setattr(_inference, "_MOST_BYTES", 2 << 20)
    model = nn.Sequential([nn.Conv2D(32, 3, padding=1, activation="relu"), nn.Conv2D(32, 3)])
    model.build((16, 16, 8))
    predict = fastcnn.Predictor(model)
    x = np.random.default_rng(0).random((40, 16, 16, 8), dtype=np.float32)
    expected = predict(x)
    gc.collect()
    before = _memory.statistics()[0]
    for count in (40, *range(1, 16), 1, 2):
        np.testing.assert_array_equal(predict(x[:count]), expected[:count])
    gc.collect()
    assert _memory.statistics()[0] - before < 3 << 20


@pytest.mark.parametrize("layer", [nn.ReLU, lambda: nn.Dropout(0.5)], ids=["fused", "drawn"])
def test_an_epoch_takes_the_memory_of_the_one_before(layer: Any) -> None:
    """What the steps of an epoch keep dies with it, without the help of the collector of cycles."""
    x = np.random.default_rng(7).random((30, 12, 12, 3), dtype=np.float32)
    model = nn.Sequential([nn.Conv2D(4, 3), layer(), nn.Flatten(), nn.Dense(4)])
    trainer = fastcnn.Trainer(model, backend=FastBackend(num_threads=1))
    gc.collect()
    gc.disable()
    try:
        taken = []
        for _ in range(5):
            trainer.fit(x, np.arange(30) % 4, epochs=1, batch_size=10, verbose=False)
            taken.append(sum(_memory.statistics()))
    finally:
        gc.enable()
    assert taken[1:] == taken[1:2] * 4
