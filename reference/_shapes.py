"""Padding and output sizes of windows that slide over an image.

The reference works them out by itself, so that an off-by-one cannot hide in both backends.
"""

from __future__ import annotations

from typing import Any

from ._checks import integer, is_sequence, shown

Pads = tuple[tuple[int, int], tuple[int, int]]


def pads(
    op: str,
    padding: Any,
    image: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> Pads:
    """Return ((top, bottom), (left, right)) of any form of `padding`.

    "same" is TensorFlow's: the output is ceil(n / s) long, the total is what that needs, and
    an odd pixel goes after.
    """
    if isinstance(padding, str):
        if padding == "valid":
            return (0, 0), (0, 0)
        if padding == "same":
            return (
                _same(image[0], kernel[0], stride[0], dilation[0]),
                _same(image[1], kernel[1], stride[1], dilation[1]),
            )
        raise ValueError(
            f'{op}: padding: expected "valid", "same" or numbers, got {shown(padding)}'
        )
    if not is_sequence(padding):
        padding = (padding, padding)
    if len(padding) == 2:
        if not any(isinstance(side, (tuple, list)) for side in padding):
            padding = [(side, side) for side in padding]
        if all(isinstance(side, (tuple, list)) and len(side) == 2 for side in padding):
            (top, bottom), (left, right) = (
                (integer(op, "padding", before, 0), integer(op, "padding", after, 0))
                for before, after in padding
            )
            return (top, bottom), (left, right)
    raise ValueError(
        f"{op}: padding: expected a number, a (height, width) pair or "
        f"((top, bottom), (left, right)), got {shown(padding)}"
    )


def _same(n: int, k: int, s: int, d: int) -> tuple[int, int]:
    out = -(-n // s)
    total = max(0, (out - 1) * s + (k - 1) * d + 1 - n)
    return total // 2, total - total // 2


def conv_size(
    op: str, axis: str, n: int, k: int, s: int, d: int, before_after: tuple[int, int]
) -> int:
    """Return (n + before + after - (k - 1) * d - 1) // s + 1, the windows that fit."""
    before, after = before_after
    size = (n + before + after - (k - 1) * d - 1) // s + 1
    if size < 1:
        raise ValueError(
            f"{op}: x: expected an output {axis} of at least 1, got "
            f"({n} + {before} + {after} - ({k} - 1) * {d} - 1) // {s} + 1 = {size}"
        )
    return size


def pool_size(
    op: str,
    axis: str,
    n: int,
    k: int,
    s: int,
    d: int,
    before_after: tuple[int, int],
    ceil_mode: bool,
) -> int:
    """Return how many windows of `k` fit, with one that hangs over the end in `ceil_mode`.

    Padding is at most half the window, a window that would start in the padding after the image is
    dropped, and one that starts before it does not step over it: so each holds at least one pixel.
    """
    before, after = before_after
    span = (k - 1) * d + 1
    if 2 * max(before, after) > span:
        raise ValueError(
            f"{op}: padding: expected at most half the window's {axis} of {span}, "
            f"got {before} and {after}"
        )
    if before > 0 and d > n > 0:
        raise ValueError(
            f"{op}: dilation: expected at most the input's {axis} of {n}, before which there is "
            f"padding, got {d}"
        )
    if max(n + before + after, span) > 2**62:
        raise ValueError(
            f"{op}: pool_size: expected a padded {axis} and a window of at most 2**62, "
            f"got {n + before + after} and {span}"
        )
    if not ceil_mode:
        return conv_size(op, axis, n, k, s, d, before_after)
    size = -(-(n + before + after - span) // s) + 1
    if (size - 1) * s >= n + before:
        size -= 1
    if size < 1:
        raise ValueError(
            f"{op}: x: expected an output {axis} of at least 1, got "
            f"ceil(({n} + {before} + {after} - {span}) / {s}) + 1 = {size}"
        )
    return size
