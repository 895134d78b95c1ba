"""Optimizers: how gradients change weights.

An optimizer holds settings only. Its state (velocities, moments) is a dictionary of arrays that
`init` makes and the trainer keeps, so that one optimizer may serve several trainers and the state
is saved like weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np

from fastcnn._backends import as_fast
from fastcnn._memory import zeros
from fastcnn._options import choice, flag, number
from fastcnn._settings import Checks, Settings
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend
from fastcnn.nn._repr import OptionsRepr
from fastcnn.nn._variable import Parameter

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "clip_gradients", "get_optimizer"]

State = dict[str, Array]

_positive = partial(number, low=0.0, open_low=True)
_share = partial(number, low=0.0, high=1.0, open_high=True)


def _limit(value: object, where: str) -> float | None:
    return None if value is None else _positive(value, where)


def _rate(value: object, where: str) -> float:
    if isinstance(value, (Mapping, Iterator, list)):
        raise TypeError(
            f"{where}: expected a number, got {type(value).__name__}; the trainer hands an "
            "optimizer its parameters"
        )
    return number(value, where, low=0.0)


def _factors(value: object, where: str) -> dict[str, float] | None:
    """Return the factors on the learning rate by the names of layers, or None for none."""
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise TypeError(
            f'{where}: expected a mapping of names of layers to factors, such as {{"0": 0.1}}, got '
            f"{type(value).__name__}"
        )
    return {name: number(factor, f"{where}: {name:.80}", 0.0) for name, factor in value.items()}


class Optimizer(OptionsRepr, Settings):
    """Base of the optimizers.

    learning_rate: above 0 (0 trains nothing and is allowed). weight_decay: at least 0, on every
    parameter. clip_norm: the largest norm of all gradients together, or None for no limit.
    layer_rates: factors on the learning rate for groups of layers, by the names that their weights
    begin with: {"0": 0.1, "3.body": 0.5}; the longest name that fits holds, and 1 for the rest. All
    settings may be changed between steps.
    """

    _checks: ClassVar[Checks] = {
        "learning_rate": _rate,
        "weight_decay": partial(number, low=0.0),
        "clip_norm": _limit,
        "layer_rates": _factors,
    }

    squares_gradients = False  # and keeps the squares, which must not overflow
    _op = ""  # the backend's, for the optimizers of this file

    def __init__(
        self,
        learning_rate: float,
        weight_decay: float,
        clip_norm: float | None,
        layer_rates: Mapping[str, float] | None = None,
    ) -> None:
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.layer_rates = layer_rates

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of the state's arrays, of which each parameter has its own."""
        return ()

    def state_shapes(self, parameters: Mapping[str, Parameter]) -> dict[str, Shape]:
        """Return the shapes of the state's arrays: {"velocity.0.weight": shape, ...}."""
        return {
            f"{slot}.{name}": parameter.shape
            for slot in self.slots
            for name, parameter in parameters.items()
        }

    def init(self, parameters: Mapping[str, Parameter]) -> State:
        """Return the state before the first step, zeros: {"velocity.0.weight": array, ...}."""
        return {
            f"{slot}.{name}": zeros(parameter.shape, parameter.data.dtype)
            for slot in self.slots
            for name, parameter in parameters.items()
        }

    def renewed(self, parameters: Mapping[str, Parameter], state: State) -> State:
        """Return the state for the next step: that of before, as far as settings still ask for it.

        Where a setting now asks for more (a momentum), that part starts like a new one.
        """
        self.groups(parameters)  # refuses names that fit nothing before the first step
        expected = self.state_shapes(parameters)
        if state and state.keys() == expected.keys():
            return state
        fresh = self.init(parameters)
        return {name: state.get(name, array) for name, array in fresh.items()}

    def groups(self, parameters: Mapping[str, Parameter]) -> list[tuple[float, dict[str, Any]]]:
        """Return (factor, parameters) of each group of layers that layer_rates tells apart.

        Raises ValueError for a name of layer_rates that no parameter's begins with.
        """
        factors = self.layer_rates or {}
        used: set[str] = set()
        found: dict[float, dict[str, Any]] = {}
        for name, parameter in parameters.items():
            fits = [layer for layer in factors if f"{name}.".startswith(f"{layer}.")]
            used.update(fits)
            factor = factors[max(fits, key=len)] if fits else 1.0
            found.setdefault(factor, {})[name] = parameter
        unknown = [layer for layer in factors if layer not in used]
        if unknown and parameters:
            raise ValueError(
                f"{type(self).__name__}: layer_rates: expected names that names of trained weights "
                f"begin with, such as {next(iter(parameters)).rpartition('.')[0]!r}, got "
                f"{unknown[0]!r:.80}"
            )
        return list(found.items())

    def _options(self, step: int, learning_rate: float) -> dict[str, Any]:
        """Return all options of `_op`, in its order."""
        raise NotImplementedError

    def _in_groups(
        self,
        parameters: Mapping[str, Parameter],
        gathered: list[tuple[Array, ...]],
        step: int,
        learning_rate: float,
    ) -> list[tuple[dict[str, Any], list[tuple[Array, ...]]]]:
        """Return the options of each group of layers, and what was gathered of its parameters."""
        if not self.layer_rates:
            return [(self._options(step, learning_rate), gathered)]
        by_name = dict(zip(parameters, gathered, strict=True))
        return [
            (self._options(step, learning_rate * factor), [by_name[name] for name in group])
            for factor, group in self.groups(parameters)
        ]

    def step(
        self,
        parameters: Mapping[str, Parameter],
        state: State,
        backend: Backend,
        *,
        step: int,
        learning_rate: float,
    ) -> None:
        """Change parameters and state in place by their gradients.

        step: the number of this step since the state was made, from 1. learning_rate: this step's,
        which a schedule may have scaled.
        """
        raise NotImplementedError


class SGD(Optimizer):
    """Gradient descent: velocity = momentum * velocity + g; w -= learning_rate * velocity.

    nesterov: w -= learning_rate * (g + momentum * velocity), which needs momentum. weight_decay
    adds weight_decay * w to each gradient. The rule is PyTorch's, without dampening.
    """

    _op = "sgd_step"
    _checks: ClassVar[Checks] = {**Optimizer._checks, "momentum": _share, "nesterov": flag}

    def __init__(
        self,
        learning_rate: float,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        layer_rates: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, clip_norm, layer_rates)
        self.momentum = momentum
        self.nesterov = nesterov
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("SGD: nesterov: expected a momentum above 0 with it, got 0")

    @property
    def slots(self) -> tuple[str, ...]:
        """A velocity where there is momentum."""
        return ("velocity",) if self.momentum else ()

    def _options(self, step: int, learning_rate: float) -> dict[str, Any]:
        return {
            "learning_rate": learning_rate,
            "momentum": self.momentum,
            "nesterov": self.nesterov,
            "weight_decay": self.weight_decay,
        }

    def step(
        self,
        parameters: Mapping[str, Parameter],
        state: State,
        backend: Backend,
        *,
        step: int,
        learning_rate: float,
    ) -> None:
        """Call backend.sgd_step for each parameter."""
        gathered = _gathered(parameters, state, self.slots)
        for options, group in self._in_groups(parameters, gathered, step, learning_rate):
            if not _together(backend, self._op, group, options):
                for gradient, weights, *states in group:
                    backend.sgd_step(weights, gradient, states[0] if states else None, **options)


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015); weight_decay adds weight_decay * w to each gradient."""

    _op = "adam_step"
    decoupled = False
    squares_gradients = True
    _checks: ClassVar[Checks] = {
        **Optimizer._checks,
        "beta1": _share,
        "beta2": _share,
        "epsilon": _positive,
    }

    def __init__(
        self,
        learning_rate: float = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        layer_rates: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, clip_norm, layer_rates)
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon

    @property
    def slots(self) -> tuple[str, ...]:
        """The first and the second moment."""
        return ("m", "v")

    def _options(self, step: int, learning_rate: float) -> dict[str, Any]:
        return {
            "step": step,
            "learning_rate": learning_rate,
            "beta1": self.beta1,
            "beta2": self.beta2,
            "epsilon": self.epsilon,
            "weight_decay": self.weight_decay,
            "decoupled": self.decoupled,
        }

    def step(
        self,
        parameters: Mapping[str, Parameter],
        state: State,
        backend: Backend,
        *,
        step: int,
        learning_rate: float,
    ) -> None:
        """Call backend.adam_step for each parameter."""
        gathered = _gathered(parameters, state, self.slots)
        for options, group in self._in_groups(parameters, gathered, step, learning_rate):
            if not _together(backend, self._op, group, options):
                for gradient, weights, m, v in group:
                    backend.adam_step(weights, gradient, m, v, **options)


class AdamW(Adam):
    """Adam with decoupled decay, w *= 1 - learning_rate * weight_decay (Loshchilov and Hutter)."""

    decoupled = True

    def __init__(
        self,
        learning_rate: float = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        clip_norm: float | None = None,
        layer_rates: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            beta1=beta1,
            beta2=beta2,
            epsilon=epsilon,
            weight_decay=weight_decay,
            clip_norm=clip_norm,
            layer_rates=layer_rates,
        )


OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "sgd": partial(SGD, 0.05, momentum=0.9),
    "adam": Adam,
    "adamw": AdamW,
}


def get_optimizer(optimizer: Optimizer | str) -> Optimizer:
    """Return the optimizer of that name, with its usual settings; an optimizer is given back."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, type):
        raise TypeError(
            f"optimizer: expected an optimizer, got the class {optimizer.__name__}; call it"
        )
    if not isinstance(optimizer, str):
        raise TypeError(
            "optimizer: expected an optimizer of fastcnn.optim or its name, got "
            f"{type(optimizer).__name__}"
        )
    return OPTIMIZERS[choice(optimizer, "optimizer", OPTIMIZERS)]()


def clip_gradients(parameters: Mapping[str, Parameter], clip_norm: float) -> float:
    """Scale all gradients so that their norm together is at most `clip_norm`; return the norm.

    Raises FloatingPointError, with the gradients as they were, where the norm is not finite.
    """
    gradients = [arrays[0] for arrays in _gathered(parameters, {}, ())]
    # Not by dot: a threaded BLAS would give other bits with other numbers of threads.
    norm = math.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in gradients))
    if not math.isfinite(norm):
        raise FloatingPointError(f"clip_norm: expected gradients of a finite norm, got {norm}")
    if norm > clip_norm:
        for gradient in gradients:
            gradient *= clip_norm / norm
    return norm


def _gathered(
    parameters: Mapping[str, Parameter], state: State, slots: tuple[str, ...]
) -> list[tuple[Array, ...]]:
    """Return (gradient, weights, state...) of all parameters, before any of them is touched."""
    gathered = []
    for name, parameter in parameters.items():
        if parameter.grad is None:
            raise ValueError(f"{name}: expected a gradient, got none; call backward first")
        gradient, weights = np.asanyarray(parameter.grad), parameter._data
        if gradient.shape != weights.shape or gradient.dtype != weights.dtype:
            raise ValueError(
                f"{name}: expected a gradient of shape {weights.shape} and {weights.dtype}, got "
                f"{gradient.shape} and {gradient.dtype}"
            )
        if not weights.flags.carray:
            raise ValueError(f"{name}: expected weights that are C-contiguous and writable")
        try:
            kept = [state[f"{slot}.{name}"] for slot in slots]
        except KeyError as error:
            raise RuntimeError(
                f"optimizer: expected a state for its settings, got none for {error}; change them "
                "between epochs"
            ) from None
        gathered.append((gradient, weights, *kept))
    return gathered


def _together(
    backend: Backend, op: str, parameters: list[tuple[Array, ...]], options: dict[str, Any]
) -> bool:
    """Take the steps of all parameters in one call, if the backend has one and takes them."""
    fast = as_fast(backend)
    return fast is not None and fast._steps(op, parameters, options)
