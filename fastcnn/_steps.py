"""A model's layers as the steps of inference: what can be joined is one step, ready beforehand."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from fastcnn import nn
from fastcnn._memory import copied, empty, same_bytes
from fastcnn.backend import Array, Backend
from fastcnn.nn._block import as_block_pool

__all__ = ["Plan", "flat", "in_turn", "steps_of"]

Call = Callable[[], object]


class Plan:
    """Steps with arrays of their own: all is looked up, checked and allocated beforehand.

    That leaves next to nothing around the arithmetic of one image. `whole`: whether every step
    can be bound, in at most `most_bytes`; nothing is kept else. `nbytes`: what is kept.
    """

    def __init__(self, steps: list[Step], x: Array, most_bytes: int) -> None:
        self.calls: list[Call] = []
        self._ops: list[tuple[_Product, int, Any]] = []
        self._rooms: dict[int, Array] = {}  # memory of arrays by their addresses
        self._free: list[Array] = []
        self._x = x.copy()
        self.nbytes = x.nbytes
        y = self.bind(steps, self._x)
        self.whole = y is not None and self.nbytes <= most_bytes
        if y is None or not self.whole:
            self.calls, self._ops, self._rooms, self._free = [], [], {}, []
            self._x = y = np.empty(0)
            self.nbytes = 0
        self._y = y

    def bind(self, steps: list[Step], x: Array) -> Array | None:
        """Bind steps to x, which they leave as it is, and return their result's array, or None."""
        y = x
        for step in steps:
            bound = step.bind(self, y)
            if bound is None:
                return None
            if not np.may_share_memory(y, x) and not np.may_share_memory(y, bound):
                self.release(y)
            y = bound
        return y

    def make(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return an array for a step's result: what nobody reads any more is written anew."""
        size = math.prod(shape) * dtype.itemsize
        fitting = [room for room in self._free if room.size >= size]
        if fitting:
            room = min(fitting, key=len)
            self._free = [other for other in self._free if other is not room]
        else:
            room = self.keep((size,), np.dtype(np.uint8))
        array: Array = np.ndarray(shape, dtype, room)
        self._rooms[array.__array_interface__["data"][0]] = room
        return array

    def keep(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return an array for a step alone, such as its workspace."""
        array = empty(shape, dtype)
        self.nbytes += array.nbytes
        return array

    def release(self, array: Array) -> None:
        """Let the next steps write to an array of `make`; another array is left alone."""
        room = self._rooms.pop(array.__array_interface__["data"][0], None)
        if room is not None:
            self._free.append(room)

    def add(self, call: Call) -> None:
        """Add what computes a step."""
        self.calls.append(call)

    def made_by(self, product: _Product, rows: int, op: Any) -> None:
        """Note the op of a product that a call came from."""
        self._ops.append((product, rows, op))

    def current(self) -> bool:
        """Return whether the ops are those of the weights as they are now."""
        return all(product.op(rows) is op for product, rows, op in self._ops)

    def __call__(self, x: Array) -> Array:
        self._x[...] = x
        for call in self.calls:
            call()
        return self._y.copy()


def in_turn(steps: list[Step], x: Array) -> Array:
    for step in steps:
        x = step(x)
    return x


def flat(module: nn.Module) -> list[nn.Module]:
    """Return the layers of nested Sequentials in the order in which they run."""
    # Here and below a subclass, which may compute something else, is a layer of its own.
    if type(module) is not nn.Sequential:
        return [module]
    return [leaf for layer in module.layers for leaf in flat(layer)]


def steps_of(layers: list[nn.Module], backend: Backend, prepared: Any, follow: bool) -> list[Step]:
    steps: list[Step] = []
    while layers:
        layer = layers.pop(0)
        if type(layer) in (nn.Conv2D, nn.DepthwiseConv2D, nn.Dense):
            steps.append(_Product(layer, layers, backend, prepared, follow))
        elif type(layer) is nn.Residual:
            steps.append(_Sum(layer, layers, backend, prepared, follow))
        elif type(layer) in (nn.MaxPool2D, nn.AvgPool2D, nn.GlobalAvgPool2D):
            steps.append(_Pool(layer, prepared))
        elif type(layer) is nn.Flatten:
            steps.append(_Flat())
        elif type(layer) is not nn.Dropout:
            steps.append(_Plain(layer, backend))
    return steps


class Step(Protocol):
    """A part of a model: a function of x, which can be bound to an x that stays where it is."""

    def __call__(self, x: Array) -> Array: ...

    def bind(self, plan: Plan, x: Array) -> Array | None:
        """Add calls to the plan that compute the step from x; return their result's array.

        None where the step can't be bound.
        """


class _Flat:
    """Flatten."""

    def __call__(self, x: Array) -> Array:
        return x.reshape(len(x), -1)

    def bind(self, plan: Plan, x: Array) -> Array | None:
        return self(x)


class _Pool:
    """A pooling, without its argmax."""

    def __init__(self, layer: Any, prepared: Any) -> None:
        if type(layer) is nn.GlobalAvgPool2D:
            self._op = prepared.global_avg_pool2d()
            return
        options: dict[str, Any] = {
            "pool_size": layer.pool_size,
            "stride": layer.stride,
            "padding": layer.padding,
            "ceil_mode": layer.ceil_mode,
        }
        if type(layer) is nn.MaxPool2D:
            self._op = prepared.max_pool2d(**options)
        else:
            options["count_include_pad"] = layer.count_include_pad
            self._op = prepared.avg_pool2d(**options)

    def __call__(self, x: Array) -> Array:
        y: Array = self._op(x)
        return y

    def bind(self, plan: Plan, x: Array) -> Array | None:
        call, y = self._op.bind(x, plan)
        plan.add(call)
        result: Array = y
        return result


class _Plain:
    """A layer that runs as it is."""

    def __init__(self, layer: nn.Module, backend: Backend) -> None:
        self._layer, self._backend = layer, backend

    def __call__(self, x: Array) -> Array:
        return self._layer(x, self._backend)

    def bind(self, plan: Plan, x: Array) -> Array | None:
        # A layer of one's own may give another shape each time.
        if type(self._layer) not in _OF_THE_HOUSE:
            return None
        result = self(x)
        y = plan.make(result.shape, result.dtype)
        plan.add(lambda: np.copyto(y, self(x)))
        return y


_OF_THE_HOUSE = frozenset(vars(nn)[name] for name in nn.__all__)


class _Sum:
    """Residual: what the body gives is added to what the shortcut gives.

    Where the body ends with a convolution that adds, and takes the ReLU behind the sum along,
    there is no pass over the arrays for either.
    """

    def __init__(
        self,
        layer: nn.Residual,
        behind: list[nn.Module],
        backend: Backend,
        prepared: Any,
        follow: bool,
    ) -> None:
        self._backend = backend
        self._body = steps_of(flat(layer.body), backend, prepared, follow)
        self._shortcut = (
            []
            if layer.shortcut is None
            else steps_of(flat(layer.shortcut), backend, prepared, follow)
        )
        self._last: _Product | None = None
        last = self._body[-1] if self._body else None
        if isinstance(last, _Product) and last.adds:
            self._body.pop()
            self._last = last
            if behind and type(behind[0]) is nn.ReLU:
                behind.pop(0)
                last.relu_behind_sum()

    def __call__(self, x: Array) -> Array:
        residual, y = in_turn(self._shortcut, x), in_turn(self._body, x)
        if self._last is None:
            return self._backend.add(y, residual)
        return self._last(y, residual)

    def bind(self, plan: Plan, x: Array) -> Array | None:
        residual = plan.bind(self._shortcut, x)
        if residual is None:
            return None
        body = plan.bind(self._body, x)
        if body is None:
            return None
        if self._last is None:
            y: Array | None = plan.make(body.shape, body.dtype)
            plan.add(lambda: np.add(body, residual, out=y))
        else:
            y = self._last.bind(plan, body, residual)
        for array in (body, residual):
            if not np.may_share_memory(array, x):
                plan.release(array)
        return y


class _Made(NamedTuple):
    """An op and what it was made from, in one: another Python thread sees both or neither."""

    op: Any
    weights: list[Array]  # copies, or, where the op reads them as they lie, the arrays themselves
    epsilon: float | None


class _Product:
    """A convolution or dense layer with what can be joined to it of the layers behind it.

    That is batch normalization, whose factors go into the weights, then ReLU, then max-pool.
    Takes what it joins from the front of `behind`.

    With `follow` an op is made from a copy of the weights, and made again when they differ from
    that copy. Whatever other threads do to them meanwhile, what is in use is what was compared.
    """

    def __init__(
        self, layer: Any, behind: list[nn.Module], backend: Backend, prepared: Any, follow: bool
    ) -> None:
        self._layer, self._prepared, self._follow = layer, prepared, follow
        self._norm: nn.BatchNorm | None = None
        self._pool: nn.MaxPool2D | None = None
        self._activation: nn.Module | None = None
        self._backend = backend
        self._relu = layer.activation == "relu"
        if layer.activation is None:
            if behind and type(behind[0]) is nn.BatchNorm:
                self._norm = cast("nn.BatchNorm", behind.pop(0))
            if behind and type(behind[0]) is nn.ReLU:
                behind.pop(0)
                self._relu = True
        elif not self._relu:
            self._activation = layer._activation
        if self._relu and not isinstance(layer, nn.Dense) and behind:
            self._pool = as_block_pool(behind[0])
            if self._pool is not None:
                behind.pop(0)
        # To compare the weights of a dense layer with a copy takes longer than to use them once:
        # a few rows read them where they are.
        in_place = follow and isinstance(layer, nn.Dense) and self._norm is None
        self._rows_in_place = prepared.few_rows if in_place else 0
        # What the op depends on: w, b if there is one, those of the norm.
        self._variables = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
        if self._norm is not None:
            norm = self._norm
            self._variables += [norm.gamma, norm.beta, norm._running_mean, norm._running_variance]
        self._made: _Made | None = None
        self._made_in_place: _Made | None = None

    @property
    def adds(self) -> bool:
        """Whether the op can add a residual to what it gives."""
        layer = self._layer
        of_rank_4 = not isinstance(layer, nn.Dense) and self._pool is None
        return of_rank_4 and not self._relu and self._activation is None

    def relu_behind_sum(self) -> None:
        """Take a ReLU along that comes behind the sum with a residual."""
        self._relu = True

    def op(self, rows: int) -> Any:
        """Return the op of the weights as they are now, for a batch of so many rows."""
        made = self._made
        if made is not None and not self._follow:
            return made.op
        weights = [variable.data for variable in self._variables]
        if rows <= self._rows_in_place:
            made = self._made_in_place
            if made is not None and all(map(operator.is_, weights, made.weights)):
                return made.op
            if all(array.flags.c_contiguous and array.flags.aligned for array in weights):
                made = self._made_in_place = self._make(weights)
                return made.op
            made = self._made
        if made is None or not self._is_made_of(weights, made):
            if self._follow or isinstance(self._layer, nn.Dense):
                weights = [copied(array, array.dtype) for array in weights]
            made = self._made = self._make(weights)
        return made.op

    def __call__(self, x: Array, residual: Array | None = None) -> Array:
        op = self.op(len(x))
        y: Array = op(x) if residual is None else op(x, residual)
        return y if self._activation is None else self._activation(y, self._backend)

    def bind(self, plan: Plan, x: Array, residual: Array | None = None) -> Array | None:
        op = self.op(len(x))
        if self._activation is not None or not hasattr(op, "bind"):
            return None
        bound = op.bind(x, plan) if residual is None else op.bind(x, plan, residual)
        if bound is None:
            return None
        call, y = bound
        plan.add(call)
        plan.made_by(self, len(x), op)
        result: Array = y
        return result

    def _is_made_of(self, weights: list[Array], made: _Made) -> bool:
        """Return whether an op is that of these weights, compared number by number."""
        if self._norm is not None and self._norm.epsilon != made.epsilon:
            return False
        return all(map(same_bytes, weights, made.weights))

    def _make(self, weights: list[Array]) -> _Made:
        """Make the op of these weights, which stay as they are."""
        layer, pool = self._layer, self._pool
        epsilon = None if self._norm is None else self._norm.epsilon
        weight, bias = weights[0], None if layer.bias is None else weights[1]
        if epsilon is not None:
            weight, bias = _fold(weight, bias, weights[-4:], epsilon)
        w = np.require(weight, requirements=("C", "A"))
        b = None if bias is None else np.require(bias, requirements=("C", "A"))
        if isinstance(layer, nn.Dense):
            return _Made(self._prepared.linear(w, b, relu=self._relu), weights, epsilon)
        options: dict[str, Any] = {
            "stride": layer.stride,
            "padding": layer.padding,
            "dilation": layer.dilation,
            "groups": layer._groups,
        }
        if pool is None:
            op = self._prepared.conv2d(w, b, relu=self._relu, **options)
            return _Made(op, weights, epsilon)
        options |= {"pool_size": pool.pool_size, "pool_stride": pool.stride}
        return _Made(self._prepared.conv_block(w, b, **options), weights, epsilon)


def _fold(
    weight: Array, bias: Array | None, norm: list[Array], epsilon: float
) -> tuple[Array, Array]:
    """Return weight and bias of the layer that does what a layer and its norm do.

    norm: gamma, beta, mean and variance. gamma * (x @ w + b - mean) / s + beta =
    x @ (w * gamma / s) + (b - mean) * gamma / s + beta, s = sqrt(variance + epsilon): Jacob et
    al., 2018, arXiv:1712.05877.
    """
    gamma, beta, mean, variance = (array.astype(np.float64) for array in norm)
    with np.errstate(all="ignore"):  # what is not finite shows in the results, as it would unfolded
        scale = gamma / np.sqrt(variance + epsilon)
        b = ((0.0 if bias is None else bias) - mean) * scale + beta
        return (weight * scale).astype(weight.dtype), b.astype(weight.dtype)
