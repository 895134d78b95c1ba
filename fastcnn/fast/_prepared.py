"""Ops made ready for weights that stay: packed once, options checked once a shape.

What a prepared op returns has the bits of the plain op: only what depends on the weights alone
is done beforehand, and `linear_few` sums in the order of `linear`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn._checks import float_arrays, rank, shape
from fastcnn._memory import empty, zeros
from fastcnn.backend import Array
from fastcnn.fast import _conv_block, _conv_rules, _linear, _prepared_pools
from fastcnn.fast._prepared_pools import FRESH, Room

if TYPE_CHECKING:
    from fastcnn.fast import FastBackend

__all__ = ["Preparation"]

Op = Callable[[Array], Array]
Call = Callable[[], object]
_FEW = 2  # rows that a linear layer multiplies by the weights as they lie; six packed cost no more
_MOST_SHAPES = 16  # that a prepared op remembers
_ANY_ACTIVATION = ("few", "winograd")  # the kernels of a block that take any in place of ReLU
_WORTH_A_TEAM = 1 << 14  # numbers of a batch: its rows come from memory, one after another


class _Prepared:
    """What prepared ops share: weights, which stay, and workspaces that hold them packed."""

    def __init__(self, backend: FastBackend, w: Array, b: Array | None) -> None:
        self._backend = backend
        self._w, self._b = w, b
        self._kernels = backend._load(w)
        # Each call that runs has a workspace of its own; these wait for the next call. How the
        # weights lie in one depends on the images' shape and on the number of threads.
        self._idle: list[tuple[tuple[Any, ...], Array]] = []

    def _loop(self, activation: str | None, parameter: float) -> tuple[Any, float]:
        """Return an activation as the last write of a kernel takes it."""
        if activation is None:
            return None, 0.0
        return self._kernels.activations.loop(activation, parameter), parameter

    def _floats(self, op: str, x: Array) -> Array:
        """Return x as a kernel takes it."""
        if x.dtype == self._w.dtype and x.flags.c_contiguous and x.flags.aligned:
            return x
        return float_arrays(op, x=x, w=self._w)[0]

    def _run(
        self, shape: tuple[int, ...], size: int, kernel: Callable[[Array, bool], None]
    ) -> None:
        """Call kernel(workspace, packed) with a workspace of `size` numbers, for such images."""
        key = *shape, size
        try:
            found, workspace = self._idle.pop()
        except IndexError:
            found, workspace = (), empty((0,), self._w.dtype)
        if workspace.size != size:
            workspace = empty((size,), self._w.dtype)
        kernel(workspace, found == key)
        self._idle.append((key, workspace))


class _Conv2D(_Prepared):
    """conv2d, then a residual is added, then an activation, as far as they are asked for."""

    def __init__(
        self,
        backend: FastBackend,
        w: Array,
        b: Array | None,
        activation: str | None,
        parameter: float,
        options: dict[str, Any],
    ) -> None:
        super().__init__(backend, w, b)
        self._activation = self._loop(activation, parameter)
        self._options = options
        self._shapes: dict[tuple[int, ...], tuple[_conv_rules.Geometry, str]] = {}
        self._packed: dict[str, Array] = {}  # by algorithm: what its kernel reads, never changed

    def __call__(self, x: Array, residual: Array | None = None) -> Array:
        x = self._floats("conv2d", x)
        residual = None if residual is None else self._floats("conv2d", residual)
        y = empty(self._output_shape(x), x.dtype)
        if y.size:
            self._call(y, x, residual, FRESH)()
        return y

    def bind(self, x: Array, room: Room, residual: Array | None = None) -> tuple[Call, Array]:
        """Return (call, y): each call computes y, an array of room's, from what is in x then."""
        y = room.make(self._output_shape(x), x.dtype)
        return self._call(y, x, residual, room), y

    def _shape(self, x: Array) -> tuple[_conv_rules.Geometry, str]:
        """Return the checked options for an x of this shape, and the algorithm."""
        found = self._shapes.get(x.shape)
        if found is None:
            geometry = _conv_rules.geometry_of("conv2d", x, self._w, **self._options)
            found = geometry, self._backend._conv2d_algorithm(x, self._w, geometry)
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            self._shapes[x.shape] = found
        return found

    def _output_shape(self, x: Array) -> tuple[int, ...]:
        return (x.shape[0], *self._shape(x)[0].output, self._w.shape[3])

    def _call(self, y: Array, x: Array, residual: Array | None, room: Room) -> Call:
        geometry, algorithm = self._shape(x)
        w, b, threads, kernels = self._w, self._b, self._backend.num_threads, self._kernels
        last = threads, *self._activation, residual
        packed = self._weights(algorithm, geometry.groups)
        call: Call
        if algorithm == "depthwise":
            call = kernels.depthwise_conv2d.bound(y, x, w, b, *geometry.window, *last)
        elif algorithm == "grouped":
            call = kernels.grouped_conv2d.bound(y, x, w, b, packed, *geometry.window, *last)
        elif algorithm == "pointwise":
            strides = geometry.strides
            call = kernels.pointwise_conv2d.bound(y, x, w[0, 0], b, packed, *strides, *last)
        elif algorithm == "winograd":
            size = kernels.winograd.workspace_size(*y.shape[:3], *w.shape[2:], threads, True)
            scratch = room.keep((size,), w.dtype)
            call = kernels.winograd.bound(y, x, w, b, scratch, *geometry.pads, packed, *last)
        else:
            call = kernels.conv2d.bound(
                y, x, w, b, packed, *geometry.window, geometry.groups, *last
            )
        return call

    def pooled(self, y: Array, x: Array, block: _conv_block._Block, room: Room) -> Call:
        """Return a call that writes the max-pool of it to y, by Winograd's kernel."""
        kernel, threads = self._kernels.winograd, self._backend.num_threads
        size = _conv_block._tiles_workspace(kernel, y, self._w, threads, kept=True)
        scratch, u = room.keep((size,), self._w.dtype), self._weights("winograd", 1)
        argmax = room.keep(y.shape, np.dtype(np.uint8))
        arrays, pads = (y, argmax, x, self._w, self._b, scratch), block.window[2:4]
        call: Call = kernel.bound_block(*arrays, *pads, threads, u, *self._activation)
        return call

    def _weights(self, algorithm: str, groups: int) -> Array:
        """Return the weights as a kernel reads them, packed once."""
        packed = self._packed.get(algorithm)
        if packed is None:
            packed = self._packed[algorithm] = self._pack(algorithm, groups)
        return packed

    def _pack(self, algorithm: str, groups: int) -> Array:
        """Return the weights as a kernel reads them; nothing where it reads them as they are."""
        w, b, kernels, threads = self._w, self._b, self._kernels, self._backend.num_threads
        r, s, c, k = w.shape
        if algorithm == "pointwise":
            packed = empty((kernels.pointwise_conv2d.workspace_size(c, k),), w.dtype)
            kernels.pointwise_conv2d.pack_weights(w[0, 0], b, packed)
        elif algorithm == "grouped":
            packed = empty((kernels.grouped_conv2d.workspace_size(r * s, c, k),), w.dtype)
            kernels.grouped_conv2d.pack_weights(w, packed)
        elif algorithm == "direct":
            size = kernels.conv2d.workspace_size(groups, r * s, c, k // groups)
            packed = empty((size,), w.dtype)
            kernels.conv2d.pack_weights(w, b, packed, groups)
        elif algorithm == "winograd":
            packed = empty((kernels.winograd.kept_size(c, k),), w.dtype)
            size = kernels.winograd.workspace_size(1, 1, 1, c, k, threads, True)
            scratch = empty((size,), w.dtype)
            kernels.winograd.transform_all_weights(packed, w, scratch, threads)
        else:
            packed = empty((0,), w.dtype)
        return packed


class _ConvBlock(_Prepared):
    """conv_block without its argmax, with ReLU or another activation."""

    def __init__(
        self,
        backend: FastBackend,
        w: Array,
        b: Array | None,
        activation: str,
        parameter: float,
        options: dict[str, Any],
    ) -> None:
        super().__init__(backend, w, b)
        self._activation = self._loop(activation, parameter)
        self._is_relu = activation == "relu"
        self._options = options
        self._blocks: dict[tuple[int, ...], tuple[_conv_block._Block, str]] = {}
        pools = ("pool_size", "pool_stride")
        convolution = {name: options[name] for name in options if name not in pools}
        # Where it is plain or by Winograd's algorithm:
        self._convolution = _Conv2D(backend, w, b, activation, parameter, convolution)
        self._pool = _prepared_pools.MaxPool2D(
            backend,
            pool_size=options["pool_size"],
            stride=options["pool_stride"],
            padding=0,
            ceil_mode=False,
        )

    def _block(self, x: Array) -> tuple[_conv_block._Block, str]:
        """Return the checked options for an x of this shape, and the algorithm."""
        found = self._blocks.get(x.shape)
        if found is None:
            block = _conv_block._check("conv_block", x, self._w, **self._options)
            algorithm = self._backend._algorithm(x, self._w, block)
            if not self._is_relu and algorithm not in _ANY_ACTIVATION:
                algorithm = "plain"
            found = block, algorithm
            if len(self._blocks) >= _MOST_SHAPES:
                self._blocks.clear()
            self._blocks[x.shape] = found
        return found

    def __call__(self, x: Array) -> Array:
        x = self._floats("conv_block", x)
        block, algorithm = self._block(x)
        if algorithm == "plain":
            return self._pool(self._convolution(x))
        if algorithm in _ANY_ACTIVATION:
            call, y = self.bind(x, FRESH)
            if y.size:
                call()
            return y
        run = partial(self._run, x.shape[1:])
        return self._backend._fused_block(x, self._w, self._b, block, algorithm, run)[0]

    def bind(self, x: Array, room: Room) -> tuple[Call, Array]:
        """Return (call, y): each call computes y, an array of room's, from what is in x then."""
        w, b, threads = self._w, self._b, self._backend.num_threads
        block, algorithm = self._block(x)
        if algorithm == "plain":
            convolve, z = self._convolution.bind(x, room)
            pool, y = self._pool.bind(z, room)

            def plain() -> None:
                convolve()
                pool()

            return plain, y
        y = room.make((x.shape[0], *block.output, w.shape[3]), w.dtype)
        if algorithm == "winograd":
            return self._convolution.pooled(y, x, block, room), y
        argmax = room.keep(y.shape, np.dtype(np.uint8))
        if algorithm == "few":
            bias = zeros(w.shape[3:], w.dtype) if b is None else b
            few = self._kernels.conv_block_few
            return few.bound(y, argmax, x, w, bias, *block.pool[2:], threads, *self._activation), y
        kernel, size, options = self._backend._block_kernel(w, block, algorithm, threads)
        arrays = y, argmax, x, w, b, room.keep((size,), w.dtype)
        kernel.conv_block(*arrays, *options, threads)  # it packs the weights
        call: Call = kernel.bound(*arrays, *options, threads)
        return call, y


class _Linear(_Prepared):
    """linear, with an activation if asked for."""

    def __init__(
        self,
        backend: FastBackend,
        w: Array,
        b: Array | None,
        activation: str | None,
        parameter: float,
    ) -> None:
        super().__init__(backend, w, b)
        self._activation = self._loop(activation, parameter)

    def __call__(self, x: Array) -> Array:
        x, w, b = self._floats("linear", x), self._w, self._b
        rank("linear", "x", x, "N, C")
        shape("linear", "x", x, (x.shape[0], w.shape[0]), f"w has shape {w.shape}")
        y = empty((x.shape[0], w.shape[1]), w.dtype)
        threads = self._backend.num_threads
        if len(x) <= _FEW:
            if len(x):
                self._kernels.linear_few.linear_few(y, x, w, b, *self._activation, threads)
            return y
        kernel = self._kernels.conv2d
        self._run(
            (),
            kernel.workspace_size(1, 1, *w.shape),
            lambda workspace, packed: kernel.conv2d(
                _linear._as_image(y),
                _linear._as_image(x),
                w[None, None],
                b,
                workspace,
                *_linear._WINDOW,
                1,
                threads,
                packed,
                *self._activation,
            ),
        )
        return y

    def bind(self, x: Array, room: Room) -> tuple[Call, Array]:
        """Return (call, y): each call computes y from what is in x then.

        For many rows the first call packs the weights, which must not change from then on.
        """
        y = room.make((x.shape[0], self._w.shape[1]), self._w.dtype)
        w, b, threads = self._w, self._b, self._backend.num_threads
        if len(x) <= _FEW:
            return self._kernels.linear_few.bound(y, x, w, b, *self._activation, threads), y
        kernel, images = self._kernels.conv2d, (_linear._as_image(y), _linear._as_image(x))
        workspace = room.keep((kernel.workspace_size(1, 1, *w.shape),), w.dtype)
        arguments = *images, w[None, None], b, workspace, *_linear._WINDOW, 1, threads
        activation, packed = self._activation, False

        def call() -> None:
            nonlocal packed
            kernel.conv2d(*arguments, packed, *activation)
            packed = True

        return call, y


class Preparation:
    """Makes ops of a fast backend ready: each method returns a function of x.

    w, b: C-contiguous arrays of one float dtype, which must not change. Those of `linear` may, as
    long as it is called with at most `few_rows` rows: it reads them as they are then.
    """

    few_rows = _FEW

    def __init__(self, backend: FastBackend) -> None:
        self._backend = backend

    @property
    def num_threads(self) -> int:
        """How many threads an op would use now; what is bound keeps the number of then."""
        return self._backend.num_threads

    def conv2d(
        self,
        w: Array,
        b: Array | None,
        *,
        activation: str | None = None,
        parameter: float = 0.0,
        **options: Any,
    ) -> _Conv2D:
        """Prepare conv2d, with an activation if asked for; the op takes a residual too."""
        return _Conv2D(self._backend, w, b, activation, parameter, options)

    def conv_block(
        self,
        w: Array,
        b: Array | None,
        *,
        activation: str = "relu",
        parameter: float = 0.0,
        **options: Any,
    ) -> Op:
        """Prepare conv_block of one group, with any activation; the result is y alone."""
        return _ConvBlock(self._backend, w, b, activation, parameter, options)

    def linear(
        self,
        w: Array,
        b: Array | None,
        *,
        activation: str | None = None,
        parameter: float = 0.0,
    ) -> Op:
        """Prepare linear, with an activation if asked for."""
        return _Linear(self._backend, w, b, activation, parameter)

    def max_pool2d(self, **options: Any) -> Op:
        """Prepare max_pool2d; the result is y alone."""
        return _prepared_pools.MaxPool2D(self._backend, **options)

    def avg_pool2d(self, **options: Any) -> Op:
        """Prepare avg_pool2d."""
        return _prepared_pools.AvgPool2D(self._backend, **options)

    def global_avg_pool2d(self) -> Op:
        """Prepare global_avg_pool2d."""
        return _prepared_pools.GlobalAvgPool2D(self._backend)

    def taking(self, batch: Array, rows: Array) -> Callable[[Array], None] | None:
        """Return a function of `chosen` that writes rows[chosen] to a batch, uint8 divided by 255.

        None where no kernel can.
        """
        kernel = self._backend._load(batch).batches
        if rows.dtype not in (batch.dtype, np.uint8) or not rows.size:
            return None
        if not rows.flags.c_contiguous or not rows.flags.aligned:
            return None
        take = kernel.take if rows.dtype == batch.dtype else kernel.take_bytes
        threads = self.num_threads if batch.size >= _WORTH_A_TEAM else 1
        flat = batch.reshape(len(batch), -1), rows.reshape(len(rows), -1)
        return lambda chosen: take(*flat, chosen, threads)

    def steps(
        self,
        op: str,
        parameters: Sequence[tuple[Array, ...]],
        options: Mapping[str, Any],
        limit: float | None = None,
    ) -> bool:
        """Take sgd_step or adam_step for many parameters at once: (dw, w, states...) each.

        options: all of the op's, in its order. Returns False, with nothing changed, where an
        argument is not what the op takes as it is: then call the op for each; and where a number
        of a gradient is not between -limit and limit.
        """
        return self._backend._steps(op, parameters, options, limit)

    def bound_steps(
        self, op: str, parameters: Sequence[tuple[Array, ...]]
    ) -> Callable[[Mapping[str, Any], float | None], bool] | None:
        """Return `steps` of (options, limit) for arrays that stay; None where it takes none."""
        return self._backend._bound_steps(op, parameters)

    def within(self, gradients: Sequence[Array], limit: float) -> bool:
        """Return whether all numbers lie between -limit and limit; False where it can't be told."""
        if set(map(type, gradients)) != {np.ndarray}:
            return False
        backend = self._backend
        kernel = backend._load(gradients[0]).optimizer
        result: bool = kernel.within(list(zip(gradients)), limit, backend.num_threads)
        return result
