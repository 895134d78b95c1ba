"""Linear layers: 1x1 convolutions over an image one pixel wide and as high as the batch."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastcnn._checks import by_shape, float_arrays, rank, shape
from fastcnn._options import flag
from fastcnn._types import Array
from fastcnn.fast._activations import Activations

__all__ = ["FEW_ROWS", "Linear"]

FEW_ROWS = 2  # that are multiplied by the weights as they lie; six by packed ones cost no more

_WINDOW = (1, 1, 0, 0, 1, 1)  # strides, pads, dilations


@by_shape
def _check(op: str, x: Array, w: Array) -> bool:
    rank(x, f"{op}: x", "N, C")
    rank(w, f"{op}: w", "C, K")
    if 0 in w.shape:
        raise ValueError(f"{op}: w: expected at least one input and output, got {w.shape}")
    shape(x, f"{op}: x", (x.shape[0], w.shape[0]), f"w has shape {w.shape}")
    return True


def _as_image(x: Array) -> Array:
    return x.reshape(1, x.shape[0], 1, x.shape[1])


class Linear(Activations):
    """linear and its gradients."""

    def linear(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None) -> Array:
        x, w, b = float_arrays("linear", x=x, w=w, b=b)
        _check("linear", x, w)
        if b is not None:
            rank(b, "linear: b", "K")
            shape(b, "linear: b", w.shape[1:], "one for each column of w")
        return self._linear_product(x, w, b)

    def _linear_product(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        *,
        activation: str | None = None,
        parameters: tuple[float, float] = (0.0, 0.0),
    ) -> Array:
        """Return linear(x, w, b), and an activation of it if asked for, in one write."""
        y = self._empty((x.shape[0], w.shape[1]), x.dtype)
        if y.size:
            self._linear_into(y, x, w, b, activation, parameters)
        return y

    def _linear_into(
        self,
        y: Array,
        x: Array,
        w: Array,
        b: Array | None = None,
        activation: str | None = None,
        parameters: tuple[float, float] = (0.0, 0.0),
        room: Array | None = None,
    ) -> None:
        """Write the same to y; room: for the weights, where several calls share it."""
        kernels, threads, packed = self._load(x), self.num_threads, False
        last = self._last(kernels, activation, parameters)
        if len(x) <= FEW_ROWS:
            self._run(kernels.linear_few.linear_few, y, x, w, b, last, threads)
            return
        kernel = kernels.pointwise_conv2d
        if room is None:
            room, packed = self._weights(kernel.workspace_size(*w.shape), kernel.pack_weights, w, b)
        images = _as_image(y), _as_image(x)
        self._run(kernel.pointwise_conv2d, *images, w, b, room, 1, 1, threads, packed, last)

    def linear_backward(
        self,
        dy: ArrayLike,
        x: ArrayLike,
        w: ArrayLike,
        *,
        input_gradient: bool = True,
        weight_gradient: bool = True,
    ) -> tuple[Array | None, Array | None, Array | None]:
        dy, x, w = float_arrays("linear_backward", dy=dy, x=x, w=w)
        flag(input_gradient, "linear_backward: input_gradient")
        flag(weight_gradient, "linear_backward: weight_gradient")
        _check("linear_backward", x, w)
        shape(dy, "linear_backward: dy", (x.shape[0], w.shape[1]), "that of linear's result")
        dx = self._empty(x.shape, x.dtype) if input_gradient else None
        if x.shape[0] == 0:
            if not weight_gradient:
                return dx, None, None
            return dx, self._zeros(w.shape, w.dtype), self._zeros(w.shape[1:], w.dtype)
        if dx is not None:
            self._linear_dx_into(dx, dy, w)
        if not weight_gradient:
            return dx, None, None
        dw, db = self._empty(w.shape, w.dtype), self._empty(w.shape[1:], w.dtype)
        self._linear_dw_into(dw, db, dy, x)
        return dx, dw, db

    def _linear_dx_into(self, dx: Array, dy: Array, w: Array, room: Array | None = None) -> None:
        """Write dy @ w^T to dx; room: for the weights, where several calls share it."""
        kernel = self._load(dy).pointwise_conv2d
        if room is None:
            room = self._room(kernel.workspace_size(*w.shape[::-1]), dy.dtype)
        images = _as_image(dx), _as_image(dy)
        run = kernel.pointwise_conv2d_backward_input
        self._run(run, *images, w, room, 1, 1, self.num_threads)

    def _linear_dw_into(self, dw: Array, db: Array, dy: Array, x: Array) -> None:
        """Write x^T @ dy to dw and the sums of dy to db."""
        (n, c), k = x.shape, dy.shape[1]
        kernel, options = self._load(x).conv2d_backward_weights, (*_WINDOW, 1, self.num_threads)
        room = self._room(kernel.workspace_size(1, n, 1, c, n, 1, k, 1, 1, *options), x.dtype)
        arrays = dw[None, None], db, _as_image(dy), _as_image(x), room
        self._run(kernel.conv2d_backward_weights, *arrays, *options)

    # Fused; see _fusions.py.
    def _linear_relu(self, x: Array, w: Array, b: Array | None = None) -> Array:
        """Return relu(linear(x, w, b))."""
        return self._linear_product(x, w, b, activation="relu")

    def _linear_relu_backward(
        self,
        dy: Array,
        x: Array,
        w: Array,
        y: Array,
        *,
        input_gradient: bool = True,
        weight_gradient: bool = True,
    ) -> tuple[Array | None, Array | None, Array | None]:
        """Return (dx, dw, db) as linear_backward does; y is what _linear_relu returned."""
        asked = {"input_gradient": input_gradient, "weight_gradient": weight_gradient}
        return self.linear_backward(self.relu_backward(dy, y), x, w, **asked)
