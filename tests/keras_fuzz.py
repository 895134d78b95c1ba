"""Damaged files of Keras's forms, to be read: each is read, or refused by a ValueError.

    python tests/keras_fuzz.py [--count 100000] [--seed 0]

is the long run of what tests/test_keras_fuzz.py does in short. It ends with an error where another
exception comes, where a file takes more than some seconds or memory grows, and where reading one
imports or runs anything, opens another file or writes one.
"""

from __future__ import annotations

import argparse
import json
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
from keras_files import archive, described, h5, keras, sample, weights2, weights3

import fastcnn

SECONDS = 5.0  # for a file, on a crowded machine
MEGABYTES = 100.0  # by which the process may grow over all files, which are small
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1)
WORDS: tuple[Any, ...] = (
    None, True, -1, 0, 2**40, 1.5, "", "relu", "Lambda", "Add", "inner", [], [1], [[1, 2], 3], {},
    {"class_name": "Lambda", "config": {"function": ["4wEAAA==", None, None]}},
    ["inner", 0, 0], ["add", 0, 0], ["out", 1, 0], "channels_first", [None, 4, 4, 2],
)  # fmt: skip


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Return data with a fault, or a few."""
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at, length = int(rng.integers(len(found) + 1)), int(rng.integers(1, 9))
        kind = rng.integers(8)
        if kind < 2:
            found[at : at + 1] = rng.bytes(1)
        elif kind == 2:
            found[at : at + 1] = (
                bytes([found[at] ^ 1 << int(rng.integers(8))]) if found[at:] else b""
            )
        elif kind < 5:
            value = NUMBERS[rng.integers(len(NUMBERS))]
            width = int(rng.choice([1, 2, 4, 8]))
            found[at : at + width] = (value % 256**width).to_bytes(width, "little")
        elif kind == 5:  # addresses of elsewhere in the file
            start = int(rng.integers(len(found) + 1)) & ~7
            found[at & ~7 : (at & ~7) + 8] = found[start : start + 8]
        elif kind == 6 and rng.integers(8) == 0:
            del found[at:]
        else:
            del found[at : at + length]
        if not found:
            break
    return bytes(found)


def changed(value: Any, rng: np.random.Generator) -> Any:
    """Return a description with one thing in it that is another."""
    found = json.loads(json.dumps(value))
    places: list[tuple[Any, Any]] = []
    waiting = [found]
    while waiting:
        each = waiting.pop()
        keys = list(each) if isinstance(each, dict) else range(len(each))
        for key in keys:
            places.append((each, key))
            if isinstance(each[key], (dict, list)):
                waiting.append(each[key])
    for _ in range(rng.choice([1, 1, 2])):
        holder, key = places[rng.integers(len(places))]
        if key not in holder if isinstance(holder, dict) else key >= len(holder):
            continue
        kind = rng.integers(4)
        if kind == 0:
            del holder[key]
        elif kind == 1:
            other, index = places[rng.integers(len(places))]
            with suppress(KeyError, IndexError):
                # Of a copy, for what holds itself is no JSON.
                holder[key] = json.loads(json.dumps(other[index]))
        else:
            holder[key] = WORDS[rng.integers(len(WORDS))]
    return found


def damaged(count: int, seed: int) -> Iterator[bytes]:
    """Yield so many files: with faults in their bytes, or in one of their parts."""
    rng = np.random.default_rng(seed)
    model = sample()
    config, weights = described(model, 3), weights3(model)
    said = json.dumps(config).encode()
    files = [keras(model), archive(said, weights, zipfile.ZIP_DEFLATED), h5(model)]
    files += [h5(model, "3.15.1", 3), weights, weights2(model)]
    for _ in range(count):
        kind = rng.integers(8)
        if kind < 3:
            yield archive(json.dumps(changed(config, rng)).encode(), weights)
        elif kind < 5:
            yield archive(said, mutated(weights, rng))
        else:
            yield mutated(files[rng.integers(len(files))], rng)


# ---------------------------------------------------------------------- reading them
HARM = ("import", "exec", "compile", "os.", "subprocess.", "socket.", "ctypes.", "marshal.")
_watched: list[tuple[str, Any]] = []
_watching = ""


def _watch(event: str, given: tuple[Any, ...]) -> None:
    if not _watching:
        return
    others = event == "open" and (str(given[0]) != _watching or "r" not in str(given[1]))
    if event.startswith(HARM) or others:
        _watched.append((event, given))


def twin() -> Any:
    """Return a built model into which the weights of the files fit."""
    from fastcnn import nn

    x = nn.Input((6, 5, 2))
    shared = nn.Sequential([nn.Conv2D(4, 1), nn.BatchNorm()])
    first = nn.Conv2D(4, 3, padding="same", activation="relu")(x)
    y = nn.add(shared(first), shared(nn.Conv2D(4, 1, use_bias=False)(x)))
    model = nn.Model(x, nn.Dense(3)(nn.Flatten()(y)))
    model.build()
    return model


def read(data: bytes, path: Path, model: Any) -> str:
    """Read a file and return what came of it; RuntimeError where it did more or took long."""
    global _watching
    path.write_bytes(data)
    start = time.perf_counter()
    said = []
    for name, wanted in (("load", "a model of Keras"), ("load_weights", "weights of Keras for")):
        _watching = str(path)
        try:
            if name == "load":
                fastcnn.keras.load(path)
            else:
                fastcnn.keras.load_weights(model, path)
            said.append("read")
        except ValueError as error:
            text = str(error)
            if not text.startswith(f"{path}: expected {wanted}"):
                raise RuntimeError(f"it says {error!r}") from error
            if len(text) > 1000 or not text.isprintable():
                raise RuntimeError(f"it says {error!r}") from None
            said.append(text.split(": ", 2)[2])
        finally:
            _watching = ""
    if _watched:
        raise RuntimeError(f"it did {_watched[0]}")
    if time.perf_counter() - start > SECONDS:
        raise RuntimeError(f"it took longer than {SECONDS} s")
    return f"{' '.join(said[0].split()[:3])} | {' '.join(said[1].split()[:2])}"


def run(count: int, seed: int, path: Path) -> Counter[str]:
    """Read damaged files; return how often what was said, by its first words.

    The last one stays in its place where an error ends it.
    """
    sys.addaudithook(_watch)
    model = twin()
    for data in (keras(sample()), h5(sample()), b"PK", b"neither"):  # what is imported in use is
        path.write_bytes(data)
        with suppress(ValueError):
            fastcnn.keras.load(path)
        with suppress(ValueError):
            fastcnn.keras.load_weights(model, path)
    said: Counter[str] = Counter()
    for data in damaged(count, seed):
        said[read(data, path, model)] += 1
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
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run(100, given.seed, Path(folder, "damaged"))
        before = megabytes()
        said = run(given.count, given.seed, Path(folder, "damaged"))
    grown = megabytes() - before
    for words, times in said.most_common(60):
        print(f"{times:8} {words}")
    print(f"{given.count} files in {time.perf_counter() - start:.0f} s, {grown:.0f} MB more memory")
    if grown > MEGABYTES:
        raise SystemExit(f"expected at most {MEGABYTES} MB more")


if __name__ == "__main__":
    main()
