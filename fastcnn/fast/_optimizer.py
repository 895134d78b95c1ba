"""Optimizer steps on the compiled kernels: the only ops that write to their arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import FLOATS, float_arrays, same_shape
from fastcnn._options import flag, integer, number
from fastcnn._types import Array
from fastcnn.fast._base import Base

__all__ = ["Optimizer"]


def _check_updatable(op: str, name: str, array: Array) -> None:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{op}: {name}: expected an array, got {type(array).__name__}")
    if array.dtype not in FLOATS:
        raise TypeError(
            f"{op}: {name}: expected float32 or float64 in native byte order, "
            f"got dtype {array.dtype.str}"
        )
    if not (array.flags.c_contiguous and array.flags.writeable):
        kind = "one that is not C-contiguous" if array.flags.writeable else "a read-only one"
        raise ValueError(f"{op}: {name}: expected a C-contiguous, writable array, got {kind}")


def _check(op: str, w: Array, dw: ArrayLike, **states: Array) -> Array:
    """Check that w and the states can be updated with dw; return dw as the kernels take it."""
    _check_updatable(op, "w", w)
    _, gradient = float_arrays(op, w=w, dw=dw)
    same_shape(gradient, f"{op}: dw", "w", w)
    for name, state in states.items():
        _check_updatable(op, name, state)
        if state.dtype != w.dtype:
            raise TypeError(f"{op}: {name}: expected {w.dtype} like w, got {state.dtype}")
        same_shape(state, f"{op}: {name}", "w", w)
    updated = {"w": w, **states}
    for (other, before), (name, array) in combinations(updated.items(), 2):
        if np.shares_memory(before, array):
            raise ValueError(
                f"{op}: {name}: expected memory of its own, got an array that overlaps {other}"
            )
    # As it was before the step, wherever it lies.
    overlaps = any(np.shares_memory(gradient, array) for array in updated.values())
    checked: Array = gradient.copy() if overlaps else gradient
    return checked


class Optimizer(Base):
    """The optimizers' steps."""

    def sgd_step(
        self,
        w: Array,
        dw: ArrayLike,
        velocity: Array | None,
        *,
        learning_rate: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        op = "sgd_step"
        options: dict[str, Any] = {
            "learning_rate": learning_rate,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
        }
        states = () if velocity is None else (velocity,)
        if self._steps(op, [(dw, w, *states)], options):
            return
        dw = _check(op, w, dw, **({} if velocity is None else {"velocity": velocity}))
        for name in ("learning_rate", "momentum", "weight_decay"):
            options[name] = number(options[name], f"{op}: {name}", 0)
        options["nesterov"] = flag(nesterov, f"{op}: nesterov")
        if velocity is None and momentum:
            raise TypeError(f"{op}: velocity: expected an array for momentum {momentum}, got None")
        self._step(op, dw, (w, *states), options)

    def adam_step(
        self,
        w: Array,
        dw: ArrayLike,
        m: Array,
        v: Array,
        *,
        step: int,
        learning_rate: float,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled: bool = False,
    ) -> None:
        op = "adam_step"
        options: dict[str, Any] = {
            "step": step,
            "learning_rate": learning_rate,
            "beta1": beta1,
            "beta2": beta2,
            "epsilon": epsilon,
            "weight_decay": weight_decay,
            "decoupled": decoupled,
        }
        if self._steps(op, [(dw, w, m, v)], options):
            return
        dw = _check(op, w, dw, m=m, v=v)
        options = {
            "step": integer(step, f"{op}: step"),
            "learning_rate": number(learning_rate, f"{op}: learning_rate", 0),
            "beta1": number(beta1, f"{op}: beta1", 0, 1, open_high=True),
            "beta2": number(beta2, f"{op}: beta2", 0, 1, open_high=True),
            "epsilon": number(epsilon, f"{op}: epsilon", 0, open_low=True),
            "weight_decay": number(weight_decay, f"{op}: weight_decay", 0),
            "decoupled": flag(decoupled, f"{op}: decoupled"),
        }
        self._step(op, dw, (w, m, v), options)

    def _steps(
        self,
        op: str,
        parameters: Sequence[tuple[Any, ...]],
        options: Mapping[str, Any],
        limit: float | None = None,
    ) -> bool:
        """Take the steps of all parameters, (dw, w, states...) each, in one parallel region.

        False, with nothing changed, where there are none or the kernel turns an argument down, or
        where a number of a gradient does not lie between -limit and limit.
        """
        if set(map(type, chain.from_iterable(parameters))) != {np.ndarray}:
            return False
        kernel = getattr(self._load(parameters[0][1]).optimizer, op)
        done: bool = kernel(parameters, *options.values(), limit, self.num_threads)
        return done

    def _within(self, gradients: Sequence[Array], limit: float) -> bool:
        """Return whether all numbers lie between -limit and limit; False where it can't be told."""
        if set(map(type, gradients)) != {np.ndarray}:
            return False
        kernel = self._load(gradients[0]).optimizer
        result: bool = kernel.within(list(zip(gradients)), limit, self.num_threads)
        return result

    def _bound_steps(
        self, op: str, parameters: Sequence[tuple[Any, ...]]
    ) -> Callable[[Mapping[str, Any], float | None], bool] | None:
        """Return `_steps` of (options, limit) for these arrays, which are looked at once."""
        if set(map(type, chain.from_iterable(parameters))) != {np.ndarray}:
            return None
        kernels = self._load(parameters[0][1]).optimizer
        bound, kernel = kernels.bound(parameters), getattr(kernels, op)
        if bound is None:
            return None

        def steps(options: Mapping[str, Any], limit: float | None) -> bool:
            done: bool = kernel(bound, *options.values(), limit, self.num_threads)
            return done

        return steps

    def _step(
        self, op: str, dw: Array, updated: tuple[Array, ...], options: Mapping[str, Any]
    ) -> None:
        """Take the step of one parameter whose arguments are checked; copies serve what is odd."""
        if dw.size == 0:
            return
        plain = [array.view(np.ndarray) for array in updated]
        plain = [array if array.flags.aligned else array.copy() for array in plain]
        if not self._steps(op, [(dw.view(np.ndarray), *plain)], options):
            raise RuntimeError(f"{op}: the kernel refused arguments that passed the checks")
        for array, copy in zip(updated, plain, strict=True):
            if not array.flags.aligned:
                array[...] = copy
