"""Damaged files of PyTorch's forms, to be read: each is read, or refused by a ValueError.

    python tests/torch_fuzz.py [--count 100000] [--seed 0]

is the long run of what tests/pytorch/test_fuzz.py does in short. It ends with an error where
another exception comes, where a file takes more than some seconds or memory grows, and where
reading one runs or imports anything, or writes a file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from torch_files import (
    HOOKS,
    archive,
    called,
    honest,
    items,
    named,
    number,
    old_file,
    pickled,
    stored,
    tensor,
    text,
)

from fastcnn import pytorch

SECONDS = 5.0  # for a file: the worst ones take less than two on a machine that does nothing else
MEGABYTES = 100.0  # by which the process may grow over all files, which are small
OPCODES = b"0(1t)]}eusabRQqhjlN.\x81\x85\x86\x87\x93"
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1)


def checkpoint(*, old: bool = False) -> bytes:
    """The pickle of a checkpoint that has a bit of everything."""
    weight = tensor(stored("0", 24, old=old), [2, 3, 2, 2], [1, 2, 6, 12])
    state = items(
        {
            "a.weight": called(named("torch._utils", "_rebuild_parameter"), weight, b"\x88", HOOKS),
            "a.bias": tensor(stored("0", 24, old=old), [2], [5], 3),
            "a.count": tensor(stored("1", 1, "int64", old=old), [], []),
        }
    )
    sizes = called(named("torch", "Size"), b"K\x01K\x02\x86")
    options = items({"lr": b"G" + bytes(8), "betas": b"](K\x01K\x02e", "args": b")", "s": sizes})
    return pickled(
        items({"state_dict": state, "epoch": number(3), "options": options, "name": text("é")})
    )


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Return data with a fault, or a few."""
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at, length = int(rng.integers(len(found) + 1)), int(rng.integers(1, 9))
        kind = rng.integers(7)
        if kind == 0:
            found[at : at + 1] = rng.bytes(1)
        elif kind == 1:
            del found[at : at + length]
        elif kind == 2:
            found[at:at] = rng.bytes(length)
        elif kind == 3:
            value = NUMBERS[rng.integers(len(NUMBERS))]
            width = int(rng.choice([1, 2, 4, 8]))
            found[at : at + width] = (value % 256**width).to_bytes(width, "little")
        elif kind == 4:
            start = int(rng.integers(len(found) + 1))
            found[at:at] = found[start : start + 8 * length]
        elif kind == 5 and rng.integers(8) == 0:
            del found[at:]
        else:
            found[at:at] = rng.choice(list(OPCODES)).tobytes()[:1]
        if not found:
            break
    return bytes(found)


def damaged(count: int, seed: int) -> Iterator[bytes]:
    """Yield so many files: whole ones with faults, and whole ones of a pickle with faults."""
    rng = np.random.default_rng(seed)
    storages = {"0": bytes(96), "1": bytes(8)}
    counted = {"0": (24, bytes(96)), "1": (1, bytes(8))}
    files = [
        *honest().values(),
        archive(checkpoint(), storages),
        archive(checkpoint(), storages, method=zipfile.ZIP_DEFLATED),
        old_file(checkpoint(old=True), counted),
    ]
    for _ in range(count):
        kind = rng.integers(4)
        if kind == 0:
            yield archive(mutated(checkpoint(), rng), storages)
        elif kind == 1:
            yield old_file(mutated(checkpoint(old=True), rng), counted)
        else:
            yield mutated(files[rng.integers(len(files))], rng)


# ---------------------------------------------------------------------- reading them
HARM = ("import", "exec", "compile", "os.", "subprocess.", "socket.", "ctypes.", "marshal.")
_watched: list[tuple[str, Any]] = []
_watching = False


def _watch(event: str, given: tuple[Any, ...]) -> None:
    if _watching and (event.startswith(HARM) or (event == "open" and "r" not in str(given[1]))):
        _watched.append((event, given))


def read(data: bytes, path: Path) -> str:
    """Read a file and return what came of it; RuntimeError where it ran something or took long."""
    global _watching
    path.write_bytes(data)
    start = time.perf_counter()
    _watching = True
    try:
        found = pytorch.load_state(path)
        if not all(isinstance(array, np.ndarray) for array in found.values()):
            raise RuntimeError(f"it gave other than arrays: {data!r:.2000}")
        said = "read"
    except ValueError as error:
        said = str(error).removeprefix(f"{path}: expected a state dict of PyTorch: ")
        if said == str(error) or len(said) > 240 or not said.isprintable():
            raise RuntimeError(f"it says {error!r} of {data!r:.2000}") from None
    finally:
        _watching = False
    if _watched:
        raise RuntimeError(f"it did {_watched[0]}: {data!r:.2000}")
    if time.perf_counter() - start > SECONDS:
        raise RuntimeError(f"it took longer than {SECONDS} s: {data!r:.2000}")
    return said


def run(count: int, seed: int, path: Path) -> Counter[str]:
    """Read damaged files; return how often what was said, by its first two words."""
    sys.addaudithook(_watch)
    for data in (*honest().values(), b"neither"):  # what is imported in use is imported
        path.write_bytes(data)
        with suppress(ValueError):
            pytorch.load_state(path)
    said: Counter[str] = Counter()
    for data in damaged(count, seed):
        said[" ".join(read(data, path).split()[:2])] += 1
    return said


def megabytes() -> float:
    """Return the most memory that this process had; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0.0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    before, start = megabytes(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        said = run(given.count, given.seed, Path(folder, "damaged"))
    grown = megabytes() - before
    for words, times in said.most_common():
        print(f"{times:8} {words}")
    print(f"{given.count} files in {time.perf_counter() - start:.0f} s, {grown:.0f} MB more memory")
    if grown > MEGABYTES:
        raise SystemExit(f"expected at most {MEGABYTES} MB more")


if __name__ == "__main__":
    main()
