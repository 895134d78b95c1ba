"""The optimizer's steps of an epoch, each of them whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastcnn._backends import as_fast
from fastcnn._finite import largest_gradient, wild_gradient
from fastcnn._types import Array
from fastcnn.backend import Backend
from fastcnn.nn._variable import Parameter
from fastcnn.optim import SGD, Adam, Optimizer

__all__ = ["Update"]

_HOUSE = frozenset({SGD.step, Adam.step})


class Update:
    """Takes steps of an optimizer whose gradients are finite.

    For the optimizers of the house, where the backend can, a step is one call, which looks at all
    gradients and then changes all weights. What belongs together is looked up once an epoch, and
    arrays that stay are looked at once; other arrays, state and settings than before are noticed.
    """

    def __init__(
        self, optimizer: Optimizer, parameters: dict[str, Parameter], backend: Backend
    ) -> None:
        self._optimizer, self._parameters, self._backend = optimizer, parameters, backend
        house = type(optimizer).step in _HOUSE and "step" not in vars(optimizer)
        self._fast = as_fast(backend) if house and parameters else None
        self._state: dict[str, Array] = {}  # where these were found:
        self._slots: tuple[str, ...] | None = None
        self._kept: list[tuple[Parameter, list[Array]]] = []
        self._bound: Callable[..., bool] | None = None  # to these:
        self._arrays: list[tuple[Parameter, Array, Array | None]] = []

    def __call__(
        self, state: dict[str, Array], step: int, learning_rate: float, same_arrays: bool
    ) -> str | None:
        """Take a step; or change nothing and return whose gradient is not finite, or too large.

        same_arrays: whether the gradients lie in the same arrays from now on.
        """
        optimizer = self._optimizer
        rate = learning_rate * (1 + optimizer.weight_decay)
        if optimizer.layer_rates:
            rate *= max(1.0, *optimizer.layer_rates.values())
        if self._take(state, step, learning_rate, rate, same_arrays):
            return None
        parameters, backend = self._parameters, self._backend
        squared = optimizer.squares_gradients
        name = wild_gradient(parameters, backend, rate=rate, squared=squared)
        if name is None:
            optimizer.step(parameters, state, backend, step=step, learning_rate=learning_rate)
        return name

    def _take(
        self,
        state: dict[str, Array],
        step: int,
        learning_rate: float,
        rate: float,
        same_arrays: bool,
    ) -> bool:
        """Take a step in one call; or return False, with nothing changed."""
        fast, optimizer = self._fast, self._optimizer
        if fast is None or optimizer.layer_rates or not self._find(state):
            return False
        size = self._kept[0][0]._data.itemsize
        limit = largest_gradient(size, rate, optimizer.squares_gradients)
        if not limit:
            return False
        options = optimizer._options(step, learning_rate)
        if not same_arrays:
            self._bound = None
            return fast._steps(optimizer._op, self._gathered(), options, limit)
        if self._bound is None or not self._are_the_same():
            self._bound = fast._bound_steps(optimizer._op, self._gathered())
            self._arrays = [(each, each._data, each.grad) for each, _ in self._kept]
        return self._bound is not None and self._bound(options, limit)

    def _find(self, state: dict[str, Array]) -> bool:
        """Look up what the optimizer keeps for each parameter; return whether it is there."""
        slots = self._optimizer.slots
        if slots != self._slots or state is not self._state:
            self._bound, self._slots = None, None
            names = [[f"{slot}.{name}" for slot in slots] for name in self._parameters]
            if any(name not in state for each in names for name in each):
                return False
            kept = [[state[name] for name in each] for each in names]
            self._kept = list(zip(self._parameters.values(), kept, strict=True))
            self._state, self._slots = state, slots
        return True

    def _gathered(self) -> list[tuple[Any, ...]]:
        return [(parameter.grad, parameter._data, *kept) for parameter, kept in self._kept]

    def _are_the_same(self) -> bool:
        for parameter, weights, gradient in self._arrays:
            if parameter._data is not weights or parameter.grad is not gradient:
                return False
        return True
