"""Long short-term memory: products on the kernels of linear layers, steps on one of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays, rank, shape
from fastcnn._options import flag
from fastcnn._types import Array
from fastcnn.fast._linear import FEW_ROWS, Linear, _as_image

__all__ = ["LSTM"]


class LSTM(Linear):
    """lstm, which has no gradient."""

    def lstm(
        self,
        x: ArrayLike,
        w: ArrayLike,
        r: ArrayLike,
        b: ArrayLike | None = None,
        *,
        h0: ArrayLike | None = None,
        c0: ArrayLike | None = None,
        reverse: bool = False,
    ) -> tuple[Array, Array, Array]:
        op = "lstm"
        x, w, r, b, h0, c0 = float_arrays(op, x=x, w=w, r=r, b=b, h0=h0, c0=c0)
        steps, units = _check(op, x, w, r)
        n = x.shape[0]
        if b is not None:
            shape(b, f"{op}: b", (4 * units,), f"r has shape {r.shape}")
        states = []
        for name, given in (("h0", h0), ("c0", c0)):
            if given is not None:
                shape(given, f"{op}: {name}", (n, units), "a state for each sequence")
            states.append(self._empty((n, units), x.dtype))
        order = range(steps - 1, -1, -1) if flag(reverse, f"{op}: reverse") else range(steps)
        y = self._result(op, "x", (n, steps, units), x.dtype)
        h, c = states
        if not n:
            return y, h, c
        for state, given in ((h, h0), (c, c0)):
            if given is None:
                self._run(state.fill, 0)
            else:
                self._run(np.copyto, state, given)
        # All steps' products with w are one. A row has the same bits in whatever batch it stands.
        from_x = self._linear_product(x.reshape(n * steps, x.shape[2]), w, b)
        from_x, from_h = from_x.reshape(n, steps, 4 * units), self._empty((n, 4 * units), x.dtype)
        kernels, threads, team = self._load(x), self.num_threads, self._team(from_h)
        product, room = kernels.pointwise_conv2d, None
        if n > FEW_ROWS:
            room = self._room(product.workspace_size(*r.shape), x.dtype)
            self._run(product.pack_weights, room, r, None)
        for t in order:
            if room is None:
                self._run(kernels.linear_few.linear_few, from_h, h, r, None, None, threads)
            else:
                images = _as_image(from_h), _as_image(h)
                last = 1, 1, threads, True, None
                self._run(product.pointwise_conv2d, *images, r, None, room, *last)
            self._run(kernels.lstm.lstm_step, y, h, c, from_x, from_h, t, team)
        return y, h, c


def _check(op: str, x: Array, w: Array, r: Array) -> tuple[int, int]:
    """Return the numbers of steps and of units."""
    rank(x, f"{op}: x", "N, T, C")
    rank(w, f"{op}: w", "C, 4 * K")
    rank(r, f"{op}: r", "K, 4 * K")
    if 0 in x.shape[1:]:
        raise ValueError(f"{op}: x: expected at least one step and one input, got shape {x.shape}")
    units = r.shape[0]
    if units == 0 or r.shape[1] != 4 * units:
        raise ValueError(f"{op}: r: expected shape (K, 4 * K), got {r.shape}")
    shape(w, f"{op}: w", (x.shape[2], 4 * units), f"x has shape {x.shape}, r {r.shape}")
    return x.shape[1], units
