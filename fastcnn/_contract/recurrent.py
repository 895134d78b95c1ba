"""Recurrent ops: along a sequence, each step with the state that the one before it left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from numpy.typing import ArrayLike

from fastcnn._contract.op import Op
from fastcnn._types import Array, Shape

__all__ = ["ROWS", "Recurrent"]


class Recurrent(Protocol):
    """See `fastcnn.backend.Backend`, whose rules hold for them."""

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
        """Run a long short-term memory over sequences: in inference, for it has no gradient.

        Hochreiter and Schmidhuber (1997), with the forget gate of Gers et al. (2000). At each step
        t, with z = x[:, t] @ w + h @ r + b in four blocks of K columns, of the gates i, f, g and o
        in the order of Keras and PyTorch:

            c = sigmoid(f) * c + sigmoid(i) * tanh(g);  h = y[:, t] = sigmoid(o) * tanh(c)

        x (N, T, C); w (C, 4 * K); r (K, 4 * K); b (4 * K,) or None; the first h and c, `h0` and
        `c0` (N, K), or None for zeros. Returns y (N, T, K), and h and c (N, K) behind the last
        step. `reverse` goes from the last step to the first: y[:, t] is still that of x[:, t].
        """


def _lstm(
    x: Shape, w: Shape, r: Shape, b: Shape | None = None, **others: object
) -> Sequence[Shape]:
    state = (x[0], r[0])
    return (*x[:2], r[0]), state, state


ROWS = {
    "lstm": Op(("y", "h", "c"), (), _lstm),
}
