"""Channels that become blocks of pixels, and back (Shi et al., 2016: sub-pixel convolution).

N batch, H W height and width of what is deep, B block, K channels of what is large.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from ._checks import Array, array, float_dtype, integer, rounded, shown, zeros


def depth_to_space(x: ArrayLike, block: int, *, mode: str = "DCR") -> Array:
    """Return y (N, H*B, W*B, K) of x (N, H, W, B*B*K), float32 or float64 (ONNX's DepthToSpace).

    y[n, h*B + i, w*B + j, k] = x[n,h,w,c], c = (i*B + j)*K + k in mode "DCR", k*B*B + i*B + j in
    mode "CRD". TypeError for other dtypes, ValueError for channels that are no multiple of B*B.
    """
    return _spread("depth_to_space", "x", x, block, mode)


def depth_to_space_backward(dy: ArrayLike, block: int, *, mode: str = "DCR") -> Array:
    """Return dx (N, H, W, B*B*K): each gradient where its number was."""
    return _gather("depth_to_space_backward", "dy", dy, block, mode)


def space_to_depth(x: ArrayLike, block: int, *, mode: str = "DCR") -> Array:
    """Return y (N, H, W, B*B*K) of x (N, H*B, W*B, K): the inverse of depth_to_space."""
    return _gather("space_to_depth", "x", x, block, mode)


def space_to_depth_backward(dy: ArrayLike, block: int, *, mode: str = "DCR") -> Array:
    """Return dx (N, H*B, W*B, K): each gradient where its number was."""
    return _spread("space_to_depth_backward", "dy", dy, block, mode)


def _spread(op: str, name: str, x: ArrayLike, block: int, mode: str) -> Array:
    dtype = float_dtype(op, **{name: x})
    deep = array(op, name, x, dtype, ("N", "H", "W", "C"))
    B = _block(op, block, mode)
    N, H, W, C = deep.shape
    if C % (B * B):
        raise ValueError(f"{op}: {name}: expected a multiple of {B * B} channels, got {C}")
    K = C // (B * B)
    large = zeros(op, (N, H * B, W * B, K))
    for i in range(B):
        for j in range(B):
            for k in range(K):
                large[:, i::B, j::B, k] = deep[..., _channel(i, j, k, B, K, mode)]
    return rounded(large, dtype)


def _gather(op: str, name: str, x: ArrayLike, block: int, mode: str) -> Array:
    dtype = float_dtype(op, **{name: x})
    large = array(op, name, x, dtype, ("N", "H", "W", "C"))
    B = _block(op, block, mode)
    N, height, width, K = large.shape
    if height % B or width % B:
        raise ValueError(
            f"{op}: {name}: expected height and width that are multiples of {B}, got "
            f"{height} x {width}"
        )
    deep = zeros(op, (N, height // B, width // B, B * B * K))
    for i in range(B):
        for j in range(B):
            for k in range(K):
                deep[..., _channel(i, j, k, B, K, mode)] = large[:, i::B, j::B, k]
    return rounded(deep, dtype)


def _channel(i: int, j: int, k: int, B: int, K: int, mode: str) -> int:
    """Return in which channel lies the pixel (i, j) of a block, channel k."""
    return (i * B + j) * K + k if mode == "DCR" else k * B * B + i * B + j


def _block(op: str, block: Any, mode: Any) -> int:
    if not isinstance(mode, str):
        raise TypeError(f'{op}: mode: expected "DCR" or "CRD", got {shown(mode)}')
    if mode not in ("DCR", "CRD"):
        raise ValueError(f'{op}: mode: expected "DCR" or "CRD", got {shown(mode)}')
    return integer(op, "block", block, 1)
