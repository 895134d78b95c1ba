"""Normalization of each sample by itself: the same in training and in inference."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np

from fastcnn._options import flag, image_shape, integer, number
from fastcnn._shapes import divides, last_axes
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend
from fastcnn.nn._module import Backward, Module
from fastcnn.nn._variable import Parameter


class _SampleNorm(Module):
    """What the norms with statistics of their own and a scale and center share."""

    gamma: Parameter
    beta: Parameter
    _op: ClassVar[str]

    def __init__(
        self,
        *,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        who = type(self).__name__
        self.epsilon = epsilon
        self.center = flag(center, f"{who}: center")
        self.scale = flag(scale, f"{who}: scale")

    def _declare(self, shape: Shape) -> None:
        if self.scale:
            self.gamma = self.declare_parameter("gamma", shape, lambda rng: np.ones(shape))
        if self.center:
            self.beta = self.declare_parameter("beta", shape, lambda rng: np.zeros(shape))

    def _call_options(self, x: Array) -> dict[str, Any]:
        """Return the op's options, but for epsilon."""
        raise NotImplementedError

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
        gamma = self.gamma._data if self.scale else None
        beta = self.beta._data if self.center else None
        options = {**self._call_options(x), "epsilon": self.epsilon}
        y = getattr(backend, self._op)(x, gamma, beta, **options)

        def backward(dy: Array) -> Array | None:
            op = getattr(backend, f"{self._op}_backward")
            dx: Array
            dx, *gradients = op(dy, x, gamma, **options)
            for parameter, gradient in zip(("gamma", "beta"), gradients, strict=True):
                if parameter in self._parameters:
                    self._parameters[parameter].grad = None if self._frozen else gradient
            return dx

        return y, backward


def _epsilon(layer: str) -> Any:
    return partial(number, where=f"{layer}: epsilon", low=0.0, open_low=True)


class LayerNorm(_SampleNorm):
    """Normalize each pixel over its channels (Ba, Kiros and Hinton, 2016).

    y = gamma * (x - mean) / sqrt(variance + epsilon) + beta, mean and biased variance over the axes
    from `axis` to the last: the channels by default, with axis=1 all of a sample. axis counts the
    batch axis too, and is not that one. scale, center: whether there are gamma and beta.

    Parameters: gamma, beta, both of the shape of the input from that axis on, (C,) by default.
    """

    _op = "layer_norm"
    _settings: ClassVar = {"epsilon": _epsilon("LayerNorm")}

    def __init__(
        self,
        *,
        axis: int = -1,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(epsilon=epsilon, center=center, scale=scale, name=name)
        self.axis = integer(axis, "LayerNorm: axis", -(2**31))

    def declare(self, input_shape: Shape) -> Shape:
        first = last_axes(self.axis, "LayerNorm: axis", len(input_shape) + 1)
        self._declare(input_shape[first - 1 :])
        return input_shape

    def _call_options(self, x: Array) -> dict[str, Any]:
        return {"axis": self.axis}


class GroupNorm(_SampleNorm):
    """Normalize groups of channels over the pixels of a sample (Wu and He, 2018).

    y = gamma * (x - mean) / sqrt(variance + epsilon) + beta, mean and biased variance over all
    pixels and the channels of a group, which lie side by side: (C,) and (H, W, C) inputs. groups
    divides the channels. scale, center: whether there are gamma and beta.

    Parameters: gamma (C,), beta (C,).
    """

    _op = "group_norm"
    _settings: ClassVar = {"epsilon": _epsilon("GroupNorm")}

    def __init__(
        self,
        groups: int,
        *,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(epsilon=epsilon, center=center, scale=scale, name=name)
        self.groups = integer(groups, "GroupNorm: groups")

    def declare(self, input_shape: Shape) -> Shape:
        if len(input_shape) not in (1, 3):
            raise ValueError(
                f"GroupNorm: expected an input of shape (C,) or (H, W, C), got {input_shape}"
            )
        divides(self.groups, "GroupNorm: groups", input_shape[-1])
        self._declare(input_shape[-1:])
        return input_shape

    def _call_options(self, x: Array) -> dict[str, Any]:
        return {"groups": self.groups}


class InstanceNorm(_SampleNorm):
    """Normalize each channel over the pixels of a sample (Ulyanov et al., 2016): (H, W, C) inputs.

    y = gamma * (x - mean) / sqrt(variance + epsilon) + beta: group normalization with as many
    groups as channels. scale, center: whether there are gamma and beta.

    Parameters: gamma (C,), beta (C,).
    """

    _op = "group_norm"
    _settings: ClassVar = {"epsilon": _epsilon("InstanceNorm")}

    def declare(self, input_shape: Shape) -> Shape:
        self._declare(image_shape(input_shape, "InstanceNorm")[-1:])
        return input_shape

    def _call_options(self, x: Array) -> dict[str, Any]:
        return {"groups": x.shape[-1]}


class LocalResponseNorm(Module):
    """Divide each number by the squares of the channels around it (Krizhevsky et al., 2012).

    y = x / (k + alpha / size * s)**beta, s the sum of x**2 over the channels from
    c - (size - 1) // 2 to c + size // 2. alpha is divided by the size, as in PyTorch and ONNX:
    AlexNet's is size=5, alpha=5e-4, beta=0.75, k=2.0 here. size: 1 or more. alpha, beta: at least
    0. k: above 0.
    """

    _settings: ClassVar = {
        "alpha": partial(number, where="LocalResponseNorm: alpha", low=0.0),
        "beta": partial(number, where="LocalResponseNorm: beta", low=0.0),
        "k": partial(number, where="LocalResponseNorm: k", low=0.0, open_low=True),
    }

    def __init__(
        self,
        size: int = 5,
        *,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1.0,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.size = integer(size, "LocalResponseNorm: size")
        self.alpha = alpha
        self.beta = beta
        self.k = k

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
    ) -> tuple[Array, Backward]:
        options: Any = {"size": self.size, "alpha": self.alpha, "beta": self.beta, "k": self.k}
        return (
            backend.local_response_norm(x, **options),
            lambda dy: backend.local_response_norm_backward(dy, x, **options),
        )
