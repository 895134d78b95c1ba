"""The same bits: for any number of threads, any batch, any place in memory, any caller."""

from __future__ import annotations

import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import pytest
from calls import FUSED, OPS, UPDATED, arguments, each, run
from compare import assert_same_bits

import fastcnn
from fastcnn import FastBackend, _kernels, _threads, nn, optim
from fastcnn._memory import empty
from fastcnn.backend import Array
from fastcnn.fast import _plan

# Large enough that every op, the losses of a row an image too, wakes its threads; and one image.
BATCH = {"images": 48, "height": 72, "width": 3, "channels": 32}
ONE_IMAGE = {"images": 1, "height": 150, "width": 31, "channels": 33}
SMALL = {"images": 3, "height": 6, "width": 5, "channels": 19}
ALL = [*OPS, *FUSED]


# ---------------------------------------------------------------------- number of threads
@pytest.mark.parametrize("size", [BATCH, ONE_IMAGE], ids=["batch", "one image"])
@pytest.mark.parametrize("op", ALL)
def test_any_number_of_threads(
    op: str, size: dict[str, int], dtype: Any, fast_backend: Any, rng: Any
) -> None:
    serial = FastBackend(isa=fast_backend.isa, num_threads=1)
    call = arguments(op, rng, dtype, serial, **size)
    expected = run(serial, op, call)
    for num_threads in range(2, 9):
        backend = FastBackend(isa=fast_backend.isa, num_threads=num_threads)
        assert_same_bits(run(backend, op, call), expected, f"{op} with {num_threads} threads")


def test_few_filters_with_any_number_of_threads(dtype: Any, fast_backend: Any, rng: Any) -> None:
    x, w = (rng.standard_normal(s).astype(dtype) for s in ((9, 40, 33, 24), (3, 3, 24, 2)))
    dy = rng.standard_normal((9, 38, 31, 2)).astype(dtype)
    serial, *others = (FastBackend(fast_backend.isa, threads) for threads in range(1, 9))
    expected = serial.conv2d_backward(dy, x, w)
    for backend in others:
        assert_same_bits(backend.conv2d_backward(dy, x, w), expected)


def trained(num_threads: int, isa: str) -> dict[str, Array]:
    """Return the weights after some steps of a network with a layer of every kind."""
    rng = np.random.default_rng(0)
    x, y = rng.random((160, 12, 12, 3), np.float32), rng.integers(0, 10, 160)
    layers = [
        nn.Conv2D(24, 3, padding="same", activation="relu"),
        nn.BatchNorm(),
        nn.Residual(nn.DepthwiseConv2D(3, padding=1, activation="silu")),
        nn.MaxPool2D(3, stride=2, padding=1),
        nn.Conv2D(32, 3, groups=2, activation="gelu"),
        nn.AvgPool2D(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Dense(48, activation="tanh"),
        nn.Dense(10),
    ]
    trainer = fastcnn.Trainer(
        nn.Sequential(layers),
        optimizer=optim.AdamW(0.003),
        backend=FastBackend(isa=isa, num_threads=num_threads),
        seed=1,
    )
    history = trainer.fit(x, y, epochs=2, batch_size=80, verbose=False)
    state: dict[str, Array] = trainer.model.state_dict()
    return {**state, "losses": np.array(history["step_loss"]), "predicted": trainer.predict(x)}


def test_a_training_run_with_any_number_of_threads(fast_backend: Any) -> None:
    expected = trained(1, fast_backend.isa)
    for num_threads in range(2, 9):
        state = trained(num_threads, fast_backend.isa)
        assert list(state) == list(expected)
        for name in expected:
            assert_same_bits((state[name],), (expected[name],), f"{name}, {num_threads} threads")


def test_an_op_asks_once_how_many_threads_there_are(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    """Another Python thread may change it between two questions: a workspace would be too small."""
    asked: list[int] = []

    def num_threads(_: FastBackend) -> int:
        asked.append(1)
        return 2

    monkeypatch.setattr(FastBackend, "num_threads", property(num_threads))
    x = rng.standard_normal((2, 12, 12, 32), np.float32)
    for kernel, groups in ((3, 1), (5, 1), (1, 1), (3, 8), (3, 32)):
        w = rng.standard_normal((kernel, kernel, 32 // groups, 32), np.float32)
        dy = rng.standard_normal((2, 13 - kernel, 13 - kernel, 32), np.float32)
        backend = FastBackend()
        backend.conv2d(x, w, groups=groups)
        backend.conv2d_backward(dy, x, w, groups=groups, weight_gradient=False)
        backend.conv2d_backward(dy, x, w, groups=groups, input_gradient=False)
        assert len(asked) == 3, (kernel, groups)
        asked.clear()


def test_the_default_number_of_threads_is_for_backends_that_were_given_none() -> None:
    if not _kernels.has_openmp():
        assert FastBackend(num_threads=3).num_threads == 1
        return
    default, three = FastBackend(), FastBackend(num_threads=3)
    fastcnn.set_num_threads(5)
    assert (default.num_threads, three.num_threads) == (5, 3)
    fastcnn.set_num_threads(np.int64(1))
    assert (default.num_threads, three.num_threads) == (1, 3)
    fastcnn.set_num_threads(None)
    assert default.num_threads >= 1


@pytest.mark.parametrize("quota", [math.inf, 1.5, 0.5, 3.0, 6.5])
def test_a_quota_is_kept_to(quota: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_threads, "cpu_quota", lambda: quota)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert _threads.default_num_threads() == min(6, max(1, math.floor(min(quota, 6))))


@pytest.mark.parametrize(
    ("asked", "threads"),
    [
        *(("2,1", 2), (" 2 ", 2), ("+2", 2), ("\t2\n", 2), ("3 , +4,5", 3), ("007", 7)),
        *(("1025", 1024), ("4294967296", 1024), ("3,4294967296", 3)),
        # Not these: they are errors to gcc's runtime, which goes on without them.
        *((text, 6) for text in ("", " ", "0", "-1", "2x", "2 4", "+ 2", "++2", "2.0", "1e3")),
        *((text, 6) for text in (",2", "2,", "2,x", "2,0", "2,-1", "0x2", "٢", "9" * 20)),
    ],
)
def test_omp_num_threads_as_gcc_reads_it(
    asked: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_threads, "cpu_quota", lambda: math.inf)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert _threads.default_num_threads() == threads


# ---------------------------------------------------------------------- batch and memory
BATCH_WIDE = (
    "batch_norm",
    *("mean_squared_error", "mean_absolute_error", "huber", "binary_cross_entropy", "focal"),
    *("_cross_entropy_with_gradient", *(op for op in FUSED if "batch_norm" in op)),
)
PER_IMAGE = [op for op in ALL if not op.endswith(("_backward", "_step")) and op not in BATCH_WIDE]
PER_ROW = ("linear", "_linear_relu", "softmax_cross_entropy")  # an image has its height of them


@pytest.mark.parametrize("size", [BATCH, SMALL], ids=["batch", "small"])
@pytest.mark.parametrize("op", PER_IMAGE)
def test_a_batch_is_its_images_one_by_one(
    op: str, size: dict[str, int], dtype: Any, fast_backend: Any, rng: Any
) -> None:
    call = arguments(op, rng, dtype, fast_backend, **size)
    per_image: tuple[str, ...] = ("x", "xs", "a", "logits", "labels", "mask", "sample_weights")
    more = {"multiply": ("b",), "dice": ("target",), "lstm": ("h0", "c0"), "where": ("condition",)}
    per_image += more.get(op, ())
    together = run(fast_backend, op, call)
    step = size["height"] if op in PER_ROW else 1
    count = size["images"]
    for n in {0, 1, count // 2, count - 1}:
        part = slice(n * step, (n + 1) * step)
        alone = run(
            fast_backend,
            op,
            {k: each(itemgetter(part), v) if k in per_image else v for k, v in call.items()},
        )
        for one, whole in zip(alone, together, strict=True):
            if isinstance(whole, np.ndarray):  # the loss is the batch's
                assert_same_bits((one,), (whole[part],), f"{op} of image {n}")


def moved(a: Array, places: int) -> Array:
    """Return a copy that begins `places` elements after a multiple of 64 bytes."""
    memory = np.zeros(a.nbytes + 128 + 64, np.uint8)
    start = -memory.ctypes.data % 64 + places * a.itemsize
    copy = memory[start : start + a.nbytes].view(a.dtype).reshape(a.shape)
    copy[...] = a
    return copy


@pytest.mark.parametrize("op", ALL)
def test_any_alignment(op: str, dtype: Any, fast_backend: Any, rng: Any) -> None:
    call = arguments(op, rng, dtype, fast_backend, **SMALL)
    expected = run(fast_backend, op, call)
    for places in range(1, 16):
        shifted = {
            name: value
            if name in UPDATED.get(op, ())
            else each(partial(moved, places=places), value)
            for name, value in call.items()
        }
        assert_same_bits(run(fast_backend, op, shifted), expected, f"{op} at {places}")


@pytest.mark.parametrize("op", UPDATED)
def test_any_alignment_of_what_a_step_updates(
    op: str, dtype: Any, fast_backend: Any, rng: Any
) -> None:
    call = arguments(op, rng, dtype, fast_backend, **SMALL)
    expected = run(fast_backend, op, call)
    for places in range(1, 16):
        shifted = call | {name: moved(call[name], places) for name in UPDATED[op]}
        getattr(fast_backend, op)(**shifted)
        assert_same_bits(tuple(shifted[name] for name in UPDATED[op]), expected, f"{places}")


# ---------------------------------------------------------------------- callers
def test_many_python_threads_at_once(fast_backend: Any) -> None:
    """Each gets the serial bits, though their teams of threads run over each other."""
    serial = FastBackend(isa=fast_backend.isa, num_threads=1)
    backend = FastBackend(isa=fast_backend.isa, num_threads=2)
    calls = []
    for number, op in enumerate(ALL):
        size = BATCH if number % 3 == 0 else SMALL
        call = arguments(op, np.random.default_rng(number), "float32", serial, **size)
        calls.append((op, call, run(serial, op, call)))

    def work(worker: int) -> int:
        for turn in range(2):
            for number in range(len(calls)):
                op, call, expected = calls[(number * (worker + 1) + turn) % len(calls)]
                assert_same_bits(run(backend, op, call), expected, op)
        return worker

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(6))) == list(range(6))


def test_who_comes_while_weights_are_packed_takes_no_part_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = FastBackend(convolution="direct")
    model = nn.Sequential([nn.Conv2D(8, 3)])
    model.build((6, 6, 4))
    x = np.random.default_rng(0).standard_normal((2, 6, 6, 4)).astype(np.float32)
    predict, expected = fastcnn.Predictor(model, backend), model(x, backend)
    kernel = backend._load(x).conv2d
    pack, begun, other_is_done = kernel.pack_weights, threading.Event(), threading.Event()

    def slow(*arguments: Any) -> None:
        if not begun.is_set():
            begun.set()
            assert other_is_done.wait(60)
        pack(*arguments)

    def of_nan(shape: Any, dtype: Any) -> Any:  # memory of before may hold these very weights
        return np.full(shape, np.nan, dtype) if dtype.kind == "f" else empty(shape, dtype)

    monkeypatch.setattr(kernel, "pack_weights", slow)
    monkeypatch.setattr(_plan, "empty", of_nan)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(predict, x)
        assert begun.wait(60)
        second = predict(x)
        other_is_done.set()
        np.testing.assert_array_equal(second, expected)
        np.testing.assert_array_equal(first.result(), expected)
