"""What the machine says of its caches, and that no result depends on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn import FastBackend, _kernels
from fastcnn._kernels import _cpu
from fastcnn._kernels.caches import cache_bytes
from fastcnn.backend import Array, Backend

KB = 1024
SIZES = {  # L1, L2, L3: an old laptop's, a large server's, none worth the name
    "small": (32 * KB, 256 * KB, 3072 * KB),
    "large": (48 * KB, 4096 * KB, 262144 * KB),
    "least": (16 * KB, 128 * KB, 1024 * KB),
}


def describe(folder: Path, *caches: tuple[str, str, str, str]) -> Path:
    """Write caches (level, type, size, CPUs) as Linux describes them."""
    for number, cache in enumerate(caches):
        index = folder / f"index{number}"
        index.mkdir()
        names = ("level", "type", "size", "shared_cpu_list")
        for name, value in zip(names, cache, strict=True):
            (index / name).write_text(value + "\n")
    return folder


def test_sizes_are_those_of_one_cpu_but_all_of_the_last_level(tmp_path: Path) -> None:
    folder = describe(
        tmp_path,
        ("1", "Data", "48K", "0,64"),
        ("1", "Instruction", "64K", "0,64"),
        ("2", "Unified", "2M", "0,64"),
        ("3", "Unified", "32768K", "0-31,64-95"),
    )
    assert cache_bytes(folder) == (24 * KB, 1024 * KB, 32768 * KB)


def test_a_virtual_machine_has_not_all_of_its_host_s_last_level(tmp_path: Path) -> None:
    folder = describe(tmp_path, ("3", "Unified", "307200K", "0-1"))
    assert cache_bytes(folder)[2] == 2 * 8 * 1024 * KB
    (tmp_path / "host").mkdir()
    folder = describe(tmp_path / "host", ("3", "Unified", "307200K", "0-59"))
    assert cache_bytes(folder)[2] == 307200 * KB


def test_without_a_third_level_there_is_as_much_as_of_the_second(tmp_path: Path) -> None:
    folder = describe(tmp_path, ("1", "Data", "64K", "0"), ("2", "Unified", "2048K", "0-3"))
    assert cache_bytes(folder) == (64 * KB, 512 * KB, 1024 * KB)


def test_a_machine_that_does_not_say_has_the_usual_sizes(tmp_path: Path) -> None:
    usual = (32 * KB, 1024 * KB, 32768 * KB)
    assert cache_bytes(tmp_path / "missing") == usual
    odd = describe(tmp_path, ("2", "Unified", "unknown", "0"), ("1", "Data", "32K", "all"))
    assert cache_bytes(odd) == usual


def test_a_size_beyond_belief_is_not_believed(tmp_path: Path) -> None:
    folder = describe(
        tmp_path,
        ("1", "Data", "0K", "0"),
        ("2", "Unified", "1K", "0"),
        ("3", "Unified", "9G", "0-255"),
    )
    assert cache_bytes(folder) == (16 * KB, 128 * KB, 1048576 * KB)


def test_the_kernels_know_this_machine() -> None:
    assert _kernels.cache_sizes() == cache_bytes()


@contextmanager
def caches(sizes: tuple[int, int, int]) -> Iterator[None]:
    found = _cpu.cache_bytes()
    _cpu.set_cache_bytes(*sizes)
    try:
        yield
    finally:
        _cpu.set_cache_bytes(*found)


# (x, filters, kernel, options): the direct kernel, Winograd's, that for 1x1, few channels.
CONVOLUTIONS: dict[str, tuple[tuple[int, int, int, int], int, int, dict[str, Any]]] = {
    "5x5": ((3, 19, 17, 40), 70, 5, {"padding": 2}),
    "strided": ((2, 33, 30, 24), 50, 3, {"stride": 2, "padding": 1}),
    "winograd": ((3, 30, 29, 72), 80, 3, {"padding": 1}),
    "1x1": ((2, 31, 33, 300), 130, 1, {}),
    "1x1 of few": ((4, 20, 20, 100), 16, 1, {}),
    "few": ((5, 23, 21, 1), 21, 3, {"padding": 1}),
}


@pytest.mark.parametrize("isa", _kernels.available())
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_have_the_same_bits_whatever_the_caches(name: str, isa: str) -> None:
    size, filters, kernel, options = CONVOLUTIONS[name]
    random = np.random.default_rng(0)
    x = random.standard_normal(size, dtype=np.float32)
    w = random.standard_normal((kernel, kernel, size[3], filters), dtype=np.float32)
    backend = FastBackend(isa=isa, num_threads=2)
    dy = random.standard_normal(backend.conv2d(x, w, **options).shape, dtype=np.float32)

    def results() -> list[Array]:
        found = [
            backend.conv2d(x, w, **options),
            *backend.conv2d_backward(dy, x, w, **options),
            *backend._conv2d_relu_max_pool2d(x, w, pool_size=3, pool_stride=1, **options),
            *backend._conv2d_relu_max_pool2d(x, w, **options),
        ]
        return [array for array in found if array is not None]

    expected = results()
    for sizes in SIZES.values():
        with caches(sizes):
            for array, other in zip(results(), expected, strict=True):
                np.testing.assert_array_equal(array, other)


@pytest.mark.parametrize("count", [4096 * 3, 4096 * 2 + 37])
@pytest.mark.parametrize("isa", _kernels.available())
def test_activations_have_the_same_bits_past_the_caches(isa: str, count: int) -> None:
    random = np.random.default_rng(0)
    x, dy = random.standard_normal((2, count), dtype=np.float32)
    backend: Backend = FastBackend(isa=isa, num_threads=2)
    expected = backend.relu(x), backend.gelu(x), backend.relu_backward(dy, x)
    with caches((KB, KB, KB)):
        found = backend.relu(x), backend.gelu(x), backend.relu_backward(dy, x)
    for array, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(array, other)
