"""Bad calls of every op, made from the contract: what tests/test_contract.py tries.

A good call of each op, one argument at a time replaced by everything of its kind that is wrong,
or right in an odd way.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from calls import UPDATED, arguments

from fastcnn import reference

HUGE = 2**62
SIZES = (
    "stride",
    "dilation",
    "pool_size",
    "factor",
    "groups",
    "step",
    "output_padding",
    "size",
    "output_size",
)
Call = dict[str, Any]


def bad_arrays(good: Any) -> Iterator[tuple[str, Any]]:
    """Whatever is no array of the right rank, shape and dtype, or is one in an odd way."""
    shape, dtype = good.shape, good.dtype
    yield from {
        "None": None,
        "a string": "x",
        "bytes": b"x",
        "an object": object(),
        "a dict": {"x": 1},
        "a set": {1.0, 2.0},
        "a generator": (i for i in range(3)),
        "a function": len,
        "a number": 3.0,
        "an empty list": [],
        "a ragged list": [[1.0, 2.0], [3.0]],
        "a list of None": [None, None],
        "a list of strings": ["a", "b"],
        "0-d": np.asarray(good.flat[0]),
        "a scalar": good.flat[0],
        "one axis more": good[None],
        "one axis less": good[0],
        "one more in the last axis": np.concatenate([good, good[..., :1]], axis=-1),
        "one more in the first axis": np.concatenate([good, good[:1]]),
        "none in the last axis": good[..., :0],
        "none in the first axis": good[:0],
        "flat": good.ravel(),
        "complex": good.astype(complex),
        "objects": good.astype(object),
        "text": good.astype("U9"),
        "extended precision": good.astype(np.longdouble),
        "dates": good.astype("M8[s]"),
        "durations": good.astype("m8[s]"),
        "structured": np.zeros(shape, [("a", "f4"), ("b", "f4")]),
        "raw": np.zeros(shape, "V4"),
        "integers": np.ceil(np.abs(good.astype(float))).astype(int),
        "truth values": good.astype(bool),
        "half precision": good.astype(np.float16),
        "the other float": good.astype("f4" if dtype == np.float64 else "f8"),
        "other byte order": good.astype(dtype.newbyteorder()),
        "masked": np.ma.masked_less(good.astype(float), 0.5).astype(dtype),
        "a matrix": good.reshape(shape[0], -1).view(np.matrix),
        "a huge first axis": np.broadcast_to(good[:1], (HUGE // 2**10, *shape[1:]))
        if good[:1].nbytes < 2**8
        else good,
        "a huge array": np.broadcast_to(good.ravel()[:1], (2**29, 2**29)),
        "a huge array of the right rank": np.broadcast_to(
            good.ravel()[:1].reshape((1,) * good.ndim), (2**57, *(1,) * (good.ndim - 1))
        ),
    }.items()
    if dtype.kind == "f":
        for name, value in (("NaN", np.nan), ("infinity", np.inf), ("minus", -1.0)):
            spoiled = good.copy()
            spoiled.flat[0] = value
            yield name, spoiled
    if dtype.kind in "iu":
        for value in (-1, 255, 2**31, -(2**62)):
            spoiled = good.astype(np.int64)
            spoiled.flat[0] = value
            yield f"{value} as int64", spoiled
            if np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
                yield f"{value}", spoiled.astype(dtype)
        yield "unsigned", np.full(shape, 2**64 - 1, np.uint64)
        yield "fractions", np.full(shape, 0.5)


NUMBERS: dict[str, Any] = {
    "None": None,
    "True": True,
    "np.True_": np.True_,
    "a string": "1",
    "bytes": b"1",
    "zero": 0,
    "minus one": -1,
    "one": 1,
    "NumPy's one": np.int64(1),
    "uint8": np.uint8(2),
    "2.0": 2.0,
    "0.5": 0.5,
    "float32": np.float32(0.5),
    "longdouble": np.longdouble(0.5),
    "a fraction": Fraction(1, 2),
    "a decimal": Decimal("0.5"),
    "complex": 1j,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "minus infinity": -np.inf,
    "2**31": 2**31,
    "2**62": HUGE,
    "2**62 + 1": HUGE + 1,
    "2**63 - 1": 2**63 - 1,
    "2**63": 2**63,
    "2**64": 2**64,
    "2**100": 2**100,
    "-2**62": -HUGE,
    "10**400": 10**400,
    "10**5000": 10**5000,  # Python refuses to write it out
    "an object": object(),
    "a list": [1],
    "an empty list": [],
    "0-d": np.array(1),
    "0-d float": np.array(0.5),
    "an array": np.array([0.5, 0.5]),
    "a dict": {},
    "a type": int,
}

PAIRS: dict[str, Any] = {
    "three": (1, 2, 3),
    "one": (1,),
    "nested": ((1, 1), (1, 1)),
    "half nested": ((1, 1), 1),
    "deeper": (((1, 1), (1, 1)), ((1, 1), (1, 1))),
    "nested triple": ((1, 1, 1), (1, 1, 1)),
    "a zero": (1, 0),
    "a minus": (-1, 1),
    "a float": (1.0, 1),
    "a bool": (True, 1),
    "a string": ("1", 1),
    "a None": (None, 1),
    "a huge one": (1, HUGE),
    "huge ones": (HUGE, HUGE),
    "gigantic": (1, 2**100),
    "a list": [2, 1],
    "an array": np.array([2, 1]),
    "a float array": np.array([2.0, 1.0]),
    "a 2-d array": np.array([[1, 1], [1, 1]]),
    "a range": range(1, 3),
    "a set": {1, 2},
    "text": "12",
    "SAME": "SAME",
    "same": "same",
    "full": "full",
    "a huge pad": ((0, HUGE), (0, 0)),
    "huge pads": ((HUGE, HUGE), (HUGE, HUGE)),
    "a negative pad": ((0, -1), (0, 0)),
}

SHAPES: dict[str, Any] = {
    "three": (2, 5, 4),
    "five": (2, 5, 4, 3, 1),
    "none": (),
    "a zero": (2, 0, 4, 3),
    "a minus": (2, -5, 4, 3),
    "floats": (2.0, 5.0, 4.0, 3.0),
    "a bool": (True, 5, 4, 3),
    "a list": [2, 5, 4, 3],
    "an array": np.array([2, 5, 4, 3]),
    "NumPy's integers": tuple(np.array([2, 5, 4, 3])),
    "other images": (3, 5, 4, 3),
    "no images": (0, 5, 4, 3),
    "other channels": (2, 5, 4, 4),
    "huge images": (HUGE, 5, 4, 3),
    "huge height": (2, HUGE, 4, 3),
    "all huge": (HUGE, HUGE, HUGE, HUGE),
    "beyond": (2, 5, 2**100, 3),
    "text": "2543",
    "a dict": {},
}

# Of an array of four axes.
FOURS: dict[str, Any] = {
    "of each axis": (0, 1, 2, 3),
    "counted from the end": (-1, -2, -3, -4),
    "one twice": (0, 1, 1, 3),
    "one too far": (0, 1, 2, 4),
    "one too low": (0, 1, 2, -5),
    "a None": (0, None, 1, 2),
    "zeros": (0, 0, 0, 0),
    "floats": (0.0, 1.0, 2.0, 3.0),
    "a float": (0, 1, 2, 3.0),
    "a bool": (0, True, 2, 3),
    "a string": (0, "1", 2, 3),
    "huge": (0, 1, 2, HUGE),
    "gigantic": (0, 1, 2, 2**100),
    "far below": (0, 1, 2, -(2**100)),
    "an array": np.arange(4),
    "a float array": np.arange(4.0),
    "a range": range(4),
    "pads": ((0, 1), (1, 0), (0, 0), (1, 1)),
    "pads as lists": [[0, 1], [1, 0], [0, 0], [1, 1]],
    "an array of pads": np.ones((4, 2), int),
    "a float among pads": ((0, 1), (1, 0), (0, 0.0), (1, 1)),
    "a bool among pads": ((0, 1), (1, 0), (0, True), (1, 1)),
    "a triple among pads": ((0, 1), (1, 0), (0, 0, 0), (1, 1)),
    "a number among pads": ((0, 1), (1, 0), 1, (1, 1)),
    "a minus among pads": ((0, 1), (1, 0), (0, -1), (1, 1)),
    "wide pads": ((0, 9), (9, 0), (0, 0), (1, 1)),
    "a huge pad": ((0, 1), (HUGE, 0), (0, 0), (1, 1)),
    "huge pads": ((HUGE, HUGE),) * 4,
}
SEVERAL = ("axis", "axes", "shape", "widths", "starts", "stops", "steps", "indices", "block")
WORDS = (
    "",
    "constant",
    "CONSTANT",
    "edge",
    "reflect",
    "wrap",
    "DCR",
    "CRD",
    "dcr",
    b"DCR",
    ["DCR"],
)


def bad_values(op: str, name: str, good: Any) -> Iterator[tuple[str, Any]]:
    """Everything that an argument is replaced with."""
    if isinstance(good, np.ndarray):
        yield from bad_arrays(good)
        if name in UPDATED.get(op, ()):
            yield "read-only", np.frombuffer(good.tobytes(), good.dtype).reshape(good.shape)
            yield "gaps", np.repeat(good, 2, axis=0)[::2]
            yield "a list", good.tolist()
        return
    yield from NUMBERS.items()
    if name == "xs":
        yield from ((f"one {label}", [good[0], bad]) for label, bad in bad_arrays(good[1]))
    if name == "shapes":
        yield from ((f"one: {label}", [good[0], bad]) for label, bad in SHAPES.items())
    if name.endswith("_shape"):
        yield from SHAPES.items()
    if name in SEVERAL:
        yield from ((f"four: {key}", value) for key, value in FOURS.items())
    if name == "mode":
        yield from ((f"mode {value!r}", value) for value in WORDS)
    if name in (*SIZES, *SEVERAL, "padding", "scale"):
        yield from ((f"pair: {key}", value) for key, value in PAIRS.items())


def bad_calls(op: str, dtype: str = "float32") -> Iterator[tuple[str, str, Call]]:
    """Return (argument, what it is, the call) for every bad call of an op."""
    good = arguments(op, np.random.default_rng(0), dtype, reference, height=4)
    for name, value in good.items():
        for label, bad in bad_values(op, name, value):
            yield name, label, {**good, name: bad}
    # Two at a time: sizes whose product or sum is beyond every integer.
    padded = {"stride", "dilation", "pool_size"} if "padding" in good else set()
    for name in good.keys() & padded:
        for padding in (HUGE, 2**61, "same", ((0, 0), (2**40, 0))):
            call = {**good, name: 2**61, "padding": padding}
            yield name, f"huge with padding {padding}", call
    if op == "max_pool2d_backward":
        call = {"x_shape": (1, 3, 3, 1), "pool_size": 2, "stride": 1, "padding": 0}
        dy = np.ones((1, 2, 2, 1), np.float32)
        for place in (3, 4, 128, 255):
            argmax = np.full(dy.shape, place, np.uint8)
            yield "argmax", f"place {place}", {"dy": dy, "argmax": argmax, **call}
