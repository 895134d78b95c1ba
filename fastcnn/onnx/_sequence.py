"""Recurrent operators, as ONNX has them: in inference alone."""

from __future__ import annotations

from typing import Any

from fastcnn.onnx._call import Call, operator
from fastcnn.onnx._shaping import cut
from fastcnn.onnx._tensor import Tensor

__all__: list[str] = []

_GATES = (0, 2, 3, 1)  # of ours, i f g o, among those of a file, i o f g


@operator("LSTM")
def _lstm(c: Call) -> list[Tensor]:
    """Return Y (T, D, N, K) and the last states (D, N, K), D of one direction or of both."""
    if c.input(4) is not None or c.input(7) is not None or c.get("clip"):
        raise ValueError("expected no lengths, peepholes and clip, got one of them")
    names = c.get("activations") or ["Sigmoid", "Tanh", "Tanh"]
    if [name.lower() for name in names[:3]] != ["sigmoid", "tanh", "tanh"] or c.get("input_forget"):
        raise ValueError(f"expected sigmoid and tanh as its activations, got {names}")
    batch_first = bool(c.get("layout", 0))
    x = c.x if batch_first else c.x.transposed((1, 0, 2))
    direction = c.get("direction", "forward")
    reversed_ = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    rows = x.stored(c.backend)
    found = [_one(c, rows, d, backwards) for d, backwards in enumerate(reversed_)]
    joined = []
    for arrays in zip(*found, strict=True):
        lifted = [c.backend.reshape(each, (1, *each.shape)) for each in arrays]
        joined.append(lifted[0] if len(lifted) == 1 else c.backend.concat(lifted, 0))
    y, h, state = map(Tensor, joined)  # (D, N, T, K), (D, N, K), (D, N, K)
    if batch_first:
        return [y.transposed((1, 2, 0, 3)), h.transposed((1, 0, 2)), state.transposed((1, 0, 2))]
    return [y.transposed((2, 0, 1, 3)), h, state]


def _one(c: Call, x: Any, d: int, backwards: bool) -> Any:
    """Return (y, h, c) of one direction, of sequences (N, T, C)."""
    w, r = (_turned(c, _direction(c, c.tensor(at), d)) for at in (1, 2))
    b = None
    if c.input(3) is not None:
        both = _direction(c, c.tensor(3), d)
        units = both.shape[0] // 2
        halves = [cut(c, both, (part,)) for part in (slice(0, units), slice(units, None))]
        b = _in_our_order(c, c.meet("add", *halves).array, 0)
    batch_first = bool(c.get("layout", 0))
    states = {}
    for name, at in (("h0", 5), ("c0", 6)):
        if c.input(at) is not None:
            state = c.tensor(at)
            state = state.transposed((1, 0, 2)) if batch_first else state
            states[name] = _direction(c, state, d).stored(c.backend)
    return c.backend.lstm(x, w, r, b, reverse=backwards, **states)


def _direction(c: Call, value: Tensor, d: int) -> Tensor:
    """Return a tensor (D, ...) at one direction."""
    one = value
    if value.shape[0] > 1:
        parts = [slice(d, d + 1), *[slice(None)] * (value.rank - 1)]
        one = cut(c, value, tuple(parts))
    return one.reshaped(c.backend, value.shape[1:])


def _turned(c: Call, w: Tensor) -> Any:
    """Return weights (4 * K, C) as ours, (C, 4 * K)."""
    return _in_our_order(c, w.transposed((1, 0)).stored(c.backend), 1)


def _in_our_order(c: Call, array: Any, axis: int) -> Any:
    units = array.shape[axis] // 4
    places = [gate * units + k for gate in _GATES for k in range(units)]
    return c.backend.take(array, places, axis)
