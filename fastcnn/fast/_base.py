"""What every op family of the fast backend shares: its kernels and its threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastcnn import _kernels, _threads
from fastcnn._memory import empty
from fastcnn._sentences import explained
from fastcnn._types import Array

__all__ = ["Base"]

_CONVOLUTIONS = ("auto", "direct", "winograd")


class Base:
    """The state of a fast backend: an instruction set and a number of threads."""

    name = "fast"

    @explained
    def __init__(
        self,
        isa: str | None = None,
        num_threads: int | None = None,
        *,
        convolution: str = "auto",
    ) -> None:
        if isa is not None and not isinstance(isa, str):
            raise TypeError(f"isa: expected a name or None, got {type(isa).__name__}")
        if not isinstance(convolution, str):
            raise TypeError(f"convolution: expected a name, got {type(convolution).__name__}")
        if convolution not in _CONVOLUTIONS:
            raise ValueError(
                f"convolution: expected one of {', '.join(_CONVOLUTIONS)}, got {convolution!r}"
            )
        self.convolution = convolution
        self._asked_isa = isa
        self.isa = _kernels.select(isa)
        self._num_threads = _threads.checked_num_threads("FastBackend", num_threads)

    @property
    def num_threads(self) -> int:
        """How many threads an op uses; follows `fastcnn.set_num_threads` unless given."""
        return _threads.get_num_threads(self._num_threads)

    # An op looks at shapes alone, but for what it hands to these: so a plan, which replaces them,
    # can prepare the op once and run it for other numbers in the same arrays.
    def _run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call what computes: it is all that reads or writes numbers. Return what it returns."""
        return call(*arguments)

    def _check(self, check: Callable[..., Any], *arguments: Any) -> None:
        """Call what refuses numbers that a user may have got wrong."""
        check(*arguments)

    def _kept(self, size: int, pack: Callable[..., None], w: Array, *more: Any) -> Array | None:
        """Return weights as a kernel reads them, where they stay for many calls; else None.

        pack(room, w, *more) leaves them in so much room. What stays is known in inference alone.
        """
        return None

    def _last(self, kernels: Any, activation: str | None, parameters: Sequence[float]) -> Any:
        """Return an activation as the last write of a kernel takes it; None for none."""
        return (
            None if activation is None else kernels.activations.last_write(activation, parameters)
        )

    def _weights(
        self, size: int, pack: Callable[..., None], w: Array, *more: Any
    ) -> tuple[Array, bool]:
        """Return room for weights as a kernel reads them, and whether they are in it already.

        Where they are not, the kernel packs them itself.
        """
        kept = self._kept(size, pack, w, *more)
        return (self._room(size, w.dtype), False) if kept is None else (kept, True)

    def _empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return an array for an op's result, or between its calls."""
        return empty(shape, dtype)

    def _room(self, size: int, dtype: np.dtype[Any]) -> Array:
        """Return a workspace of so many numbers."""
        return self._empty((size,), dtype)

    def _zeros(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return such an array of zeros."""
        array = self._empty(shape, dtype)
        self._run(array.fill, 0)
        return array

    @property
    def _eager(self) -> Any:
        """The backend whose ops run when they are called: itself, but for a plan's."""
        return self

    def _load(self, array: np.ndarray[Any, Any]) -> Any:
        """Return the kernel modules for an array's dtype."""
        return _kernels.load(self.isa, "float64" if array.dtype.itemsize == 8 else "float32")

    def __getstate__(self) -> dict[str, Any]:
        """Return the configuration: another machine may have other instruction sets."""
        return {name: value for name, value in vars(self).items() if name != "isa"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.isa = _kernels.select(self._asked_isa)

    def __repr__(self) -> str:
        return (
            f"FastBackend(isa={self.isa!r}, num_threads={self.num_threads}, "
            f"convolution={self.convolution!r})"
        )
