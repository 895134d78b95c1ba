"""Optimizer steps on the compiled kernels: the only ops that write to their arguments."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import (
    FLOATS,
    flag,
    float_arrays,
    fraction,
    integer,
    number,
    positive,
    same_shape,
)
from fastcnn.backend import Array
from fastcnn.fast._memory_bound import MemoryBound

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
    same_shape(op, "dw", gradient, "w", w)
    for name, state in states.items():
        _check_updatable(op, name, state)
        if state.dtype != w.dtype:
            raise TypeError(f"{op}: {name}: expected {w.dtype} like w, got {state.dtype}")
        same_shape(op, name, state, "w", w)
    checked: Array = gradient
    return checked


def _are_arrays(w: Array, dw: ArrayLike, velocity: Array | None) -> bool:
    """Return whether a kernel may look at the arguments: the usual case."""
    return type(w) is type(dw) is np.ndarray and (velocity is None or type(velocity) is np.ndarray)


def _flat(array: Array) -> Array:
    """Return a view of one axis, or a copy where the memory is not aligned."""
    return (array if array.flags.aligned else array.copy()).reshape(-1)


def _write_back(array: Array, flat: Array) -> None:
    if not array.flags.aligned:
        array[...] = flat.reshape(array.shape)


class Optimizer(MemoryBound):
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
        options = (learning_rate, momentum, nesterov, weight_decay)
        if _are_arrays(w, dw, velocity) and self._load(w).optimizer.sgd_step(
            w, velocity, dw, *options, self._team(w)
        ):
            return
        states = {} if velocity is None else {"velocity": velocity}
        dw = _check(op, w, dw, **states)
        learning_rate = number(op, "learning_rate", learning_rate, 0)
        momentum = number(op, "momentum", momentum, 0)
        nesterov = flag(op, "nesterov", nesterov)
        weight_decay = number(op, "weight_decay", weight_decay, 0)
        if velocity is None and momentum:
            raise TypeError(f"{op}: velocity: expected an array for momentum {momentum}, got None")
        if w.size == 0:
            return
        flat_w, flat_velocity = _flat(w), None if velocity is None else _flat(velocity)
        done = self._load(w).optimizer.sgd_step(
            flat_w,
            flat_velocity,
            dw.reshape(-1),
            learning_rate,
            momentum,
            nesterov,
            weight_decay,
            self._team(w),
        )
        if not done:
            raise RuntimeError(f"{op}: the kernel refused arguments that passed the checks")
        _write_back(w, flat_w)
        if velocity is not None and flat_velocity is not None:
            _write_back(velocity, flat_velocity)

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
        dw = _check(op, w, dw, m=m, v=v)
        step = integer(op, "step", step)
        learning_rate = number(op, "learning_rate", learning_rate, 0)
        beta1, beta2 = fraction(op, "beta1", beta1), fraction(op, "beta2", beta2)
        epsilon = positive(op, "epsilon", epsilon)
        weight_decay = number(op, "weight_decay", weight_decay, 0)
        decoupled = flag(op, "decoupled", decoupled)
        if w.size == 0:
            return
        updated = [_flat(array) for array in (w, m, v)]
        self._load(w).optimizer.adam_step(
            *updated,
            dw.reshape(-1),
            1 - beta1**step,
            1 - beta2**step,
            learning_rate,
            beta1,
            beta2,
            epsilon,
            weight_decay,
            decoupled,
            self._team(w),
        )
        for array, flat in zip((w, m, v), updated, strict=True):
            _write_back(array, flat)
