"""Ops made ready for weights that stay: packed once, options checked once a shape.

What a prepared op returns has the bits of the plain op: only what depends on the weights alone
is done beforehand, and `linear_few` sums in the order of `linear`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn._checks import float_arrays, rank, shape
from fastcnn._memory import empty, same_bytes, zeros
from fastcnn.backend import Array
from fastcnn.fast import _conv_block, _linear

if TYPE_CHECKING:
    from fastcnn.fast import FastBackend

__all__ = ["Preparation"]

Op = Callable[[Array], Array]
Call = Callable[[], object]
_FEW = 2  # rows that a linear layer multiplies by the weights as they lie; six packed cost no more
_MOST_SHAPES = 16  # that a prepared op remembers


class _Prepared:
    """What prepared ops share: weights, and workspaces that hold them packed.

    follow: the weights may change in place between calls. They are then compared with a copy,
    which costs little beside what the op does with them, and packed again.
    """

    def __init__(self, backend: FastBackend, w: Array, b: Array | None, follow: bool) -> None:
        self._backend = backend
        self._w, self._b = w, b
        self._kernels = backend._load(w)
        self._followed = [a for a in (w, b) if a is not None and follow]
        self._seen: list[Array] = []
        # Each call that runs has a workspace of its own; these wait for the next call.
        self._idle: list[Array] = []

    def _floats(self, op: str, x: Array) -> Array:
        """Return x as a kernel takes it."""
        if x.dtype == self._w.dtype and x.flags.c_contiguous and x.flags.aligned:
            return x
        return float_arrays(op, x=x, w=self._w)[0]

    def _run(self, size: int, kernel: Callable[[Array, bool], None]) -> None:
        """Call kernel(workspace, packed) with a workspace of `size` numbers."""
        if self._followed and not (self._seen and all(map(same_bytes, self._followed, self._seen))):
            self._seen = [a.copy() for a in self._followed]
            self._idle = []  # another list: what still runs gives its workspace back to the old one
        idle = self._idle
        try:
            workspace = idle.pop()
        except IndexError:
            workspace = empty((0,), self._w.dtype)
        packed = workspace.size == size  # it is not after a change of the number of threads
        if not packed:
            workspace = empty((size,), self._w.dtype)
        kernel(workspace, packed)
        idle.append(workspace)


class _ConvBlock(_Prepared):
    """conv_block without its argmax."""

    def __init__(
        self,
        backend: FastBackend,
        w: Array,
        b: Array | None,
        options: dict[str, Any],
        follow: bool,
    ) -> None:
        super().__init__(backend, w, b, follow)
        self._options = options
        self._blocks: dict[tuple[int, ...], tuple[_conv_block._Block, str]] = {}

    def _block(self, x: Array) -> tuple[_conv_block._Block, str]:
        """Return the checked options for an x of this shape, and the algorithm."""
        found = self._blocks.get(x.shape)
        if found is None:
            block = _conv_block._check("conv_block", x, self._w, **self._options)
            found = block, self._backend._algorithm(x, self._w, block)
            if len(self._blocks) == _MOST_SHAPES:
                self._blocks.clear()
            self._blocks[x.shape] = found
        return found

    def __call__(self, x: Array) -> Array:
        x = self._floats("conv_block", x)
        return self._backend._fused_block(x, self._w, self._b, *self._block(x), self._run)[0]

    def bind(self, x: Array) -> tuple[Call, Array]:
        """Return (call, y): each call computes y from what is in x then."""
        w, b, threads = self._w, self._b, self._backend.num_threads
        block, algorithm = self._block(x)
        y = empty((x.shape[0], *block.output, w.shape[3]), w.dtype)
        argmax = empty(y.shape, np.dtype(np.uint8))
        if algorithm == "few":
            bias = zeros(w.shape[3:], w.dtype) if b is None else b
            few = self._kernels.conv_block_few
            return few.bound(y, argmax, x, w, bias, *block.pool[2:], threads), y
        kernel, size, options = self._backend._block_kernel(w, block, algorithm, threads)
        arrays = y, argmax, x, w, b, empty((size,), w.dtype)
        seen: list[Array] = []

        def packing() -> None:
            seen[:] = [a.copy() for a in self._followed]
            kernel.conv_block(*arrays, *options, threads)

        packing()
        packed: Call = kernel.bound(*arrays, *options, threads)
        if not self._followed:
            return packed, y

        def following() -> None:
            if all(map(same_bytes, self._followed, seen)):
                packed()
            else:
                packing()

        return following, y


class _Linear(_Prepared):
    """linear, with ReLU if asked for."""

    def __init__(
        self, backend: FastBackend, w: Array, b: Array | None, relu: bool, follow: bool
    ) -> None:
        super().__init__(backend, w, b, follow)
        self._relu = relu

    def __call__(self, x: Array) -> Array:
        x, w, b = self._floats("linear", x), self._w, self._b
        rank("linear", "x", x, "N, C")
        shape("linear", "x", x, (x.shape[0], w.shape[0]), f"w has shape {w.shape}")
        y = empty((x.shape[0], w.shape[1]), w.dtype)
        threads = self._backend.num_threads
        if len(x) <= _FEW:
            if len(x):
                self._kernels.linear_few.linear_few(y, x, w, b, self._relu, threads)
            return y
        kernel = self._kernels.conv2d
        self._run(
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
            ),
        )
        if self._relu:
            self._kernels.activations.relu(y.reshape(-1), y.reshape(-1), self._backend._team(y))
        return y

    def bind(self, x: Array) -> tuple[Call, Array] | None:
        """Return (call, y): each call computes y from what is in x then; None for many rows."""
        if len(x) > _FEW:
            return None
        y = empty((x.shape[0], self._w.shape[1]), self._w.dtype)
        few = self._kernels.linear_few
        threads = self._backend.num_threads
        return few.bound(y, x, self._w, self._b, self._relu, threads), y


class Preparation:
    """Makes ops of a fast backend ready: each method returns a function of x.

    w, b: C-contiguous arrays of one float dtype. With `follow` a change of them in place is
    noticed, without it they must not change.
    """

    def __init__(self, backend: FastBackend) -> None:
        self._backend = backend

    @property
    def num_threads(self) -> int:
        """How many threads an op would use now; what is bound keeps the number of then."""
        return self._backend.num_threads

    def conv2d(self, w: Array, b: Array | None, *, relu: bool, follow: bool, **options: Any) -> Op:
        """Prepare conv2d, with ReLU if asked for."""
        backend = self._backend

        def run(x: Array) -> Array:
            y = backend.conv2d(x, w, b, **options)
            if relu and y.size:
                flat = y.reshape(-1)
                backend._load(y).activations.relu(flat, flat, backend._team(y))
            return y

        return run

    def conv_block(self, w: Array, b: Array | None, *, follow: bool, **options: Any) -> Op:
        """Prepare conv_block; the result is y alone."""
        backend = self._backend
        if options["groups"] > 1:
            return lambda x: backend.conv_block(x, w, b, **options)[0]
        return _ConvBlock(backend, w, b, options, follow)

    def linear(self, w: Array, b: Array | None, *, relu: bool, follow: bool) -> Op:
        """Prepare linear, with ReLU if asked for."""
        return _Linear(self._backend, w, b, relu, follow)
