"""Activations: as layers, and as the `activation` argument of convolutions and dense layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np

from fastcnn._limits import limit, limits
from fastcnn._options import choice, flag, integer, number
from fastcnn._shapes import axis_of
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend
from fastcnn.nn._module import Backward, Module
from fastcnn.nn._variable import Parameter

ArrayBackward = Callable[[Array], Array]


class Activation(Module):
    """A layer that keeps the shape of its input, has no parameters and always gives dx.

    Its settings are the options of its op.
    """

    _op: ClassVar[str]
    _saves: ClassVar[str] = "x"  # what the backward op takes: x or y

    def declare(self, input_shape: Shape) -> Shape:
        return input_shape

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, ArrayBackward]:
        op, options = self._op, self._options_of_op()
        y = getattr(backend, op)(x, **options)
        saved = x if self._saves == "x" else y
        return y, lambda dy: getattr(backend, f"{op}_backward")(dy, saved, **options)

    def _options_of_op(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._settings}


class ReLU(Activation):
    """y = max(x, 0)."""

    _op, _saves = "relu", "y"


class LeakyReLU(Activation):
    """y = x where x > 0, else negative_slope * x."""

    _op = "leaky_relu"
    _settings: ClassVar = {
        "negative_slope": partial(number, where="LeakyReLU: negative_slope", low=0.0)
    }

    def __init__(self, negative_slope: float = 0.01, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.negative_slope = negative_slope


def _bound(value: Any, where: str, none: float) -> float | None:
    """Return a bound; None for the infinity that is none, which a file could not hold."""
    result = limit(value, where)
    return None if result == none else result


class Clip(Activation):
    """y = min(max(x, low), high); None or an infinity is no bound, low <= high."""

    _op, _saves = "clip", "y"
    _settings: ClassVar = {
        "low": partial(_bound, where="Clip: low", none=-math.inf),
        "high": partial(_bound, where="Clip: high", none=math.inf),
    }

    def __init__(
        self, low: float | None = None, high: float | None = None, *, name: str | None = None
    ) -> None:
        super().__init__(name=name)
        limits(low, high, "Clip")
        self.low = low
        self.high = high


class ReLU6(Activation):
    """y = min(max(x, 0), 6) (Krizhevsky, 2010)."""

    _op, _saves = "clip", "y"

    def _options_of_op(self) -> dict[str, Any]:
        return {"low": 0.0, "high": 6.0}


class HardSigmoid(Activation):
    """y = min(max(alpha * x + beta, 0), 1) (Courbariaux et al., 2015).

    As in PyTorch and Keras 3; Keras 2 and ONNX have alpha=0.2.
    """

    _op, _saves = "hard_sigmoid", "y"
    _settings: ClassVar = {
        "alpha": partial(number, where="HardSigmoid: alpha"),
        "beta": partial(number, where="HardSigmoid: beta"),
    }

    def __init__(self, alpha: float = 1 / 6, beta: float = 0.5, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.alpha = alpha
        self.beta = beta


class HardSwish(Activation):
    """y = x * min(max(x + 3, 0), 6) / 6 (Howard et al., 2019), SiLU in straight pieces."""

    _op = "hard_swish"


class ELU(Activation):
    """y = x where x > 0, else alpha * (exp(x) - 1) (Clevert et al., 2016)."""

    _op = "elu"
    _settings: ClassVar = {"alpha": partial(number, where="ELU: alpha", low=0.0)}

    def __init__(self, alpha: float = 1.0, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.alpha = alpha


class SELU(Activation):
    """y = 1.0507 * x where x > 0, else 1.75810 * (exp(x) - 1) (Klambauer et al., 2017)."""

    _op = "selu"


class CELU(Activation):
    """y = x where x > 0, else alpha * (exp(x / alpha) - 1) (Barron, 2017)."""

    _op = "celu"
    _settings: ClassVar = {"alpha": partial(number, where="CELU: alpha", low=0.0, open_low=True)}

    def __init__(self, alpha: float = 1.0, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.alpha = alpha


class GELU(Activation):
    """y = x * Phi(x), Phi the normal distribution function (Hendrycks and Gimpel, 2016).

    approximate: by a fit, Phi(x) = (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2.
    """

    _op = "gelu"
    _settings: ClassVar = {"approximate": partial(flag, where="GELU: approximate")}

    def __init__(self, approximate: bool = False, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.approximate = approximate


class SiLU(Activation):
    """y = x * sigmoid(x)."""

    _op = "silu"


class Mish(Activation):
    """y = x * tanh(softplus(x)) (Misra, 2019)."""

    _op = "mish"


class Softplus(Activation):
    """y = log(1 + exp(x)) (Dugas et al., 2001)."""

    _op = "softplus"


class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x))."""

    _op, _saves = "sigmoid", "y"


class Tanh(Activation):
    """y = tanh(x)."""

    _op, _saves = "tanh", "y"


class _OverAxis(Activation):
    """What is made of all numbers along an axis: of channels, unless another is given.

    Its ops go over the last axis; another changes places with that one.
    """

    _op: ClassVar[str]

    def __init__(self, axis: int = -1, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.axis = integer(axis, f"{type(self).__name__}: axis", -(2**31))

    def _at(self, rank: int) -> int:
        return axis_of(self.axis, f"{type(self).__name__}: axis", rank)

    def declare(self, input_shape: Shape) -> Shape:
        self._at(len(input_shape))
        return input_shape

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, ArrayBackward]:
        op, last = getattr(backend, self._op), x.ndim - 1

        def op_backward(dy: Array, y: Array) -> Array:
            dx: Array = getattr(backend, f"{self._op}_backward")(dy, y)
            return dx

        at = self._at(last) + 1
        if at == last:
            y = op(x)
            return y, lambda dy: op_backward(dy, y)
        axes = list(range(last + 1))
        axes[at], axes[last] = last, at
        z = op(backend.transpose(x, axes))

        def backward(dy: Array) -> Array:
            dz = op_backward(backend.transpose_backward(dy, axes), z)
            return backend.transpose_backward(dz, axes)

        return backend.transpose(z, axes), backward


class Softmax(_OverAxis):
    """y = exp(x) / sum(exp(x)) over an axis, the last by default.

    axis: of one input, without the batch axis, from 0 on or counted from the end. A classifier
    trained with cross-entropy ends without this layer: the loss takes logits.
    """

    _op = "softmax"


class LogSoftmax(_OverAxis):
    """y = x - log(sum(exp(x))) over an axis, the last by default: the logarithm of Softmax.

    axis: of one input, without the batch axis, from 0 on or counted from the end.
    """

    _op = "log_softmax"


class PReLU(Module):
    """y = x where x > 0, else slope * x, with slopes that are learned (He et al., 2015).

    shared: one slope for all, and not one for each channel. They begin at 0.25.

    Parameters: slope (C,), or (1,) if shared.
    """

    slope: Parameter

    def __init__(self, *, shared: bool = False, name: str | None = None) -> None:
        super().__init__(name=name)
        self.shared = flag(shared, "PReLU: shared")

    def declare(self, input_shape: Shape) -> Shape:
        shape = (1,) if self.shared else input_shape[-1:]
        self.slope = self.declare_parameter("slope", shape, lambda rng: np.full(shape, 0.25))
        return input_shape

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        self._require_built()
        slope = self.slope
        y = backend.prelu(x, slope._data)

        def backward(dy: Array) -> Array | None:
            dx, dslope = backend.prelu_backward(dy, x, slope._data)
            slope.grad = None if self._frozen else dslope
            return dx

        return y, backward


ACTIVATIONS: dict[str, type[Activation]] = {
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "relu6": ReLU6,
    "hard_sigmoid": HardSigmoid,
    "hard_swish": HardSwish,
    "elu": ELU,
    "selu": SELU,
    "celu": CELU,
    "gelu": GELU,
    "silu": SiLU,
    "mish": Mish,
    "softplus": Softplus,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "softmax": Softmax,
    "log_softmax": LogSoftmax,
}


def activation_named(name: str | None, where: str) -> Activation | None:
    """Return the layer that a name such as "relu" stands for, with its default options."""
    return None if name is None else ACTIVATIONS[choice(name, where, ACTIVATIONS)]()
