"""Handwritten-looking digits, drawn from stroke skeletons: a data set that needs no download.

A digit is a skeleton of curves and lines in the unit square (several ways of writing each).
For every image the skeleton is bent by a random smooth warp, slanted, turned, scaled, placed,
and inked with a pen of random width, softness and darkness; then noise is added.

Same seed, same images, on every machine: random numbers are PCG64's `random()` alone, and the
drawing uses nothing but elementwise +, -, *, /, minimum, maximum and comparison in float64,
which IEEE 754 defines to the last bit (no sin or exp, whose last bit differs between
libraries, and no sums by NumPy, whose order is its own). A longer set begins with the images
of a shorter one.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np

from fastcnn._options import integer
from fastcnn._types import Array

__all__ = ["SIZE", "TEST_SIZE", "TRAIN_SIZE", "draw", "load"]

SIZE: Final = 28
TRAIN_SIZE: Final = 20_000
TEST_SIZE: Final = 2_000

Point = tuple[float, float]
Segment = tuple[Point, Point]


# ---------------------------------------------------------------------- skeletons
# Points are (x, y) in the unit square, y downwards.
def _line(*points: Point) -> list[Segment]:
    return list(pairwise(points))


def _curve(*points: Point, pieces: int = 2) -> list[Segment]:
    """Draw a Catmull-Rom curve through the points, `pieces` straight segments between each two.

    It is closed smoothly where the last point equals the first.
    """
    closed = points[0] == points[-1]
    before = points[-2] if closed else points[0]
    after = points[1] if closed else points[-1]
    p = (before, *points, after)
    drawn = [points[0]]
    for i in range(1, len(p) - 2):
        for piece in range(1, pieces + 1):
            t = piece / pieces
            # the four cubic weights of Catmull and Rom (1974)
            weights = (
                (2.0 - t) * t * t - t,
                (3.0 * t - 5.0) * t * t + 2.0,
                (4.0 - 3.0 * t) * t * t + t,
                (t - 1.0) * t * t,
            )
            x = y = 0.0
            for weight, (px, py) in zip(weights, p[i - 1 : i + 3], strict=True):
                x += 0.5 * weight * px
                y += 0.5 * weight * py
            drawn.append((x, y))
    return _line(*drawn)


_RING = ((0.5, 0.0), (0.1, 0.2), (0.0, 0.5), (0.1, 0.8),
         (0.5, 1.0), (0.9, 0.8), (1.0, 0.5), (0.9, 0.2))  # fmt: skip

_SKELETONS: Final[tuple[tuple[list[Segment], ...], ...]] = (
    (  # 0: a closed ring; one whose pen began inside; a narrow one
        _curve(*_RING, _RING[0]),
        _curve((0.72, 0.12), (0.5, 0.0), *_RING[1:], (0.5, 0.02), (0.3, 0.1)),
        _curve(*((0.5 + 0.7 * (x - 0.5), y) for x, y in (*_RING, _RING[0]))),
    ),
    (  # 1: a bar; with a flag; with a flag and a foot
        _line((0.5, 0.0), (0.5, 1.0)),
        _line((0.22, 0.24), (0.52, 0.0), (0.52, 1.0)),
        _line((0.25, 0.2), (0.5, 0.0), (0.5, 1.0)) + _line((0.2, 1.0), (0.8, 1.0)),
    ),
    (  # 2: straight foot; looped foot; swan neck
        _curve((0.05, 0.25), (0.2, 0.05), (0.5, 0.0), (0.85, 0.1), (0.92, 0.32), (0.65, 0.6),
               (0.3, 0.83), (0.0, 1.0)) + _line((0.0, 1.0), (1.0, 1.0)),
        _curve((0.08, 0.2), (0.45, 0.0), (0.85, 0.15), (0.85, 0.4), (0.5, 0.75), (0.2, 0.97),
               (0.02, 0.9), (0.15, 0.78), (0.45, 0.9), (0.75, 1.0), (1.0, 0.9)),
        _curve((0.1, 0.15), (0.5, 0.0), (0.9, 0.22), (0.7, 0.55), (0.05, 0.97))
        + _curve((0.05, 0.97), (0.5, 0.92), (0.95, 1.0)),
    ),
    (  # 3: two bowls; flat top
        _curve((0.08, 0.12), (0.45, 0.0), (0.85, 0.12), (0.82, 0.36), (0.4, 0.47))
        + _curve((0.4, 0.47), (0.85, 0.58), (0.95, 0.8), (0.55, 1.0), (0.05, 0.88)),
        _line((0.08, 0.0), (0.9, 0.0), (0.42, 0.4))
        + _curve((0.42, 0.4), (0.85, 0.52), (0.95, 0.78), (0.55, 1.0), (0.05, 0.88)),
    ),
    (  # 4: open; closed; open with a short stem
        _line((0.22, 0.0), (0.05, 0.6), (1.0, 0.6)) + _line((0.75, 0.15), (0.72, 1.0)),
        _line((0.7, 1.0), (0.7, 0.0), (0.0, 0.68), (1.0, 0.68)),
        _curve((0.1, 0.02), (0.03, 0.35), (0.2, 0.52), (0.78, 0.48))
        + _line((0.85, 0.0), (0.72, 1.0)),
    ),
    (  # 5: cap, stem and bowl; in one stroke
        _line((0.92, 0.0), (0.18, 0.0), (0.12, 0.45))
        + _curve((0.12, 0.45), (0.5, 0.36), (0.9, 0.52), (0.9, 0.82), (0.5, 1.0), (0.05, 0.9)),
        _curve((0.95, 0.03), (0.55, 0.02), (0.22, 0.12), (0.2, 0.38), (0.6, 0.48), (0.92, 0.68),
               (0.75, 0.95), (0.35, 1.0), (0.05, 0.88)),
    ),
    (  # 6: round back; straight back
        _curve((0.82, 0.03), (0.4, 0.15), (0.08, 0.5), (0.1, 0.85), (0.5, 1.0), (0.88, 0.85),
               (0.85, 0.58), (0.5, 0.48), (0.1, 0.7)),
        _curve((0.55, 0.0), (0.2, 0.4), (0.05, 0.75), (0.35, 1.0), (0.8, 0.92), (0.85, 0.65),
               (0.5, 0.53), (0.12, 0.72)),
    ),
    (  # 7: plain; crossed; with a serif
        _line((0.02, 0.02), (0.98, 0.0), (0.35, 1.0)),
        _line((0.02, 0.02), (0.95, 0.0), (0.4, 1.0)) + _line((0.3, 0.52), (0.95, 0.5)),
        _line((0.05, 0.2), (0.06, 0.02), (0.95, 0.02))
        + _curve((0.95, 0.02), (0.6, 0.45), (0.45, 1.0)),
    ),
    (  # 8: two rings; one crossing stroke
        _curve((0.5, 0.46), (0.17, 0.34), (0.17, 0.12), (0.5, 0.0), (0.83, 0.12), (0.83, 0.34),
               (0.5, 0.46))
        + _curve((0.5, 0.46), (0.08, 0.6), (0.08, 0.88), (0.5, 1.0), (0.92, 0.88), (0.92, 0.6),
                 (0.5, 0.46)),
        _curve((0.88, 0.12), (0.5, 0.0), (0.15, 0.15), (0.3, 0.4), (0.75, 0.6), (0.88, 0.85),
               (0.5, 1.0), (0.1, 0.85), (0.25, 0.6), (0.7, 0.4), (0.88, 0.12)),
    ),
    (  # 9: straight stem; round tail; stem from the ring
        _curve((0.9, 0.25), (0.55, 0.0), (0.12, 0.12), (0.1, 0.4), (0.45, 0.52), (0.85, 0.38),
               (0.9, 0.25)) + _line((0.9, 0.2), (0.82, 1.0)),
        _curve((0.88, 0.2), (0.5, 0.0), (0.12, 0.18), (0.2, 0.46), (0.6, 0.48), (0.88, 0.2),
               (0.92, 0.55), (0.75, 0.9), (0.4, 1.0), (0.12, 0.9)),
        _curve((0.88, 0.15), (0.5, 0.0), (0.1, 0.25), (0.4, 0.5), (0.88, 0.15))
        + _curve((0.88, 0.15), (0.85, 0.55), (0.6, 1.0)),
    ),
)  # fmt: skip


def _table() -> tuple[Array, Array, Array]:
    """All skeletons as one array (variant, segment, 4); the first and the number by digit."""
    longest = max(len(segments) for ways in _SKELETONS for segments in ways)
    rows: list[list[Segment]] = []
    first, count = [], []
    for ways in _SKELETONS:
        first.append(len(rows))
        count.append(len(ways))
        # padded with copies of the first segment, which change no distance
        rows.extend(way + [way[0]] * (longest - len(way)) for way in ways)
    table = np.array(rows, dtype=np.float64).reshape(len(rows), longest, 4)
    return table, np.array(first), np.array(count)


_TABLE, _FIRST, _COUNT = _table()


# ---------------------------------------------------------------------- random numbers
_GRID = 4  # the warp is a Bernstein polynomial of degree 3 in x and in y
_WARP = 2 * _GRID * _GRID
_N_SCALARS = 13
_N_DRAWS = _N_SCALARS + _WARP + SIZE * SIZE
_BLOCK = 10  # images are drawn in blocks that hold every class once
_CHUNK = 4 * _BLOCK  # images at a time: the temporaries stay in the cache


def _between(u: Array, low: float, high: float) -> Array:
    """Uniform numbers of [0, 1) stretched to [low, high)."""
    return low + (high - low) * u


def _labels(keys: Array) -> Array:
    """Return the ten digits in the order of the ten keys of each block: (n,) -> (n,) int64."""
    order = np.argsort(keys.reshape(-1, _BLOCK), axis=1, kind="stable")
    return order.reshape(-1).astype(np.int64)


# ---------------------------------------------------------------------- drawing
def _bernstein(t: Array) -> tuple[Array, ...]:
    """Return the four cubic Bernstein polynomials at t."""
    s = 1.0 - t
    return s * s * s, 3.0 * (s * s * t), 3.0 * (s * t * t), t * t * t


def _warp(x: Array, y: Array, u: Array, strength: Array) -> tuple[Array, Array]:
    """Bend the points x, y (n, points) by a random smooth field, u (n, _WARP)."""
    d = (2.0 * u.reshape(-1, 2, _GRID, _GRID, 1) - 1.0) * strength.reshape(-1, 1, 1, 1, 1)
    by_x, by_y = _bernstein(x), _bernstein(y)
    dx, dy = np.zeros_like(x), np.zeros_like(y)
    for i in range(_GRID):
        for j in range(_GRID):
            weight = by_y[i] * by_x[j]
            dx += weight * d[:, 0, i, j]
            dy += weight * d[:, 1, i, j]
    return x + dx, y + dy


def _draw_chunk(u: Array, labels: Array) -> Array:
    """Draw one image per row of random numbers: u (n, _N_DRAWS) -> (n, SIZE, SIZE) uint8."""
    n = len(u)
    # (n, 1) columns, each with its own meaning
    (way, strength, aspect, height, slant, turn, shift_x, shift_y, width, soft, dark, grain,
     _key) = (u[:, i : i + 1] for i in range(_N_SCALARS))  # fmt: skip

    variant = _FIRST[labels] + (way[:, 0] * _COUNT[labels]).astype(np.int64)
    segments = _TABLE[variant]  # (n, segments, 4)
    x, y = _warp(
        segments[:, :, 0::2].reshape(n, -1),
        segments[:, :, 1::2].reshape(n, -1),
        u[:, _N_SCALARS : _N_SCALARS + _WARP],
        _between(strength, 0.05, 0.25),
    )

    # Slant and turn are shears, (x, y) -> (x + a y, y + b x): no sine is needed.
    height = _between(height, 14.0, 20.0)
    y = (y - 0.5) * height
    x = (x - 0.5) * (height * _between(aspect, 0.45, 0.8))
    turn = _between(turn, -0.25, 0.25)
    x = x + (_between(slant, -0.35, 0.2) - turn) * -y
    y = y + turn * x
    middle = 0.5 * (SIZE - 1)
    x = x + (middle + _between(shift_x, -2.4, 2.4))
    y = y + (middle + _between(shift_y, -2.4, 2.4))

    distance = _distance_to_segments(x.reshape(n, -1, 2), y.reshape(n, -1, 2))

    # A pen of radius `width` whose edge fades over `soft` pixels.
    width, soft = _between(width, 0.6, 1.7), _between(soft, 1.0, 1.8)
    ink = np.minimum(np.maximum((width - distance) / soft + 0.5, 0.0), 1.0)
    noise = u[:, _N_SCALARS + _WARP :] - 0.5
    grain = grain * grain * 0.3
    ink = ink * _between(dark, 0.6, 1.0) + grain * noise
    ink = np.minimum(np.maximum(ink, 0.0), 1.0)
    return (ink * 255.0 + 0.5).astype(np.uint8).reshape(n, SIZE, SIZE)


def _distance_to_segments(x: Array, y: Array) -> Array:
    """Distance from every pixel to the nearest segment; x, y (n, segments, 2) -> (n, SIZE**2).

    With q = pixel - a and the segment's d = b - a, the nearest point is a + t d,
    t = clip(q.d / d.d, 0, 1), and the squared distance q.q + t (t d.d - 2 q.d).
    q.d and q.q are sums of a term by column and a term by row.
    """
    pixel = np.arange(SIZE, dtype=np.float64)
    nearest = np.full((len(x), SIZE, SIZE), np.inf)
    for segment in range(x.shape[1]):
        ax, ay = x[:, segment, :1], y[:, segment, :1]
        dx, dy = x[:, segment, 1:] - ax, y[:, segment, 1:] - ay
        dd = (dx * dx + dy * dy + 1e-9)[:, :, np.newaxis]
        qx, qy = pixel - ax, pixel - ay  # (n, SIZE)
        along = (qx * dx)[:, np.newaxis, :] + (qy * dy)[:, :, np.newaxis]
        t = along * (1.0 / dd)
        np.maximum(t, 0.0, out=t)
        np.minimum(t, 1.0, out=t)
        along *= 2.0
        squared = t * dd
        squared -= along
        squared *= t
        squared += (qx * qx)[:, np.newaxis, :] + (qy * qy)[:, :, np.newaxis]
        np.minimum(nearest, squared, out=nearest)
    # rounding can leave a pixel on a stroke slightly below zero
    distance: Array = np.sqrt(np.maximum(nearest, 0.0))
    return distance.reshape(len(x), -1)


# ---------------------------------------------------------------------- public
def draw(n: int, *, seed: int = 0, split: str = "train") -> tuple[Array, Array]:
    """Draw n digits.

    Returns x (n, 28, 28, 1) uint8, 0 the background and 255 full ink, and y (n,) int64.
    Every ten images in a row hold each digit once. `split` is "train" or "test": the two come
    from different random streams of the same seed. Raises TypeError or ValueError for a number
    of images below one, a negative seed or an unknown split.
    """
    n = integer(n, "strokes: n")
    seed = integer(seed, "strokes: seed", 0, any_size=True)
    if split not in ("train", "test"):
        raise ValueError(f'strokes: split: expected "train" or "test", got {split!r}')
    stream = np.random.SeedSequence(seed, spawn_key=(("train", "test").index(split),))
    rng = np.random.Generator(np.random.PCG64(stream))

    x = np.empty((n, SIZE, SIZE, 1), dtype=np.uint8)
    y = np.empty(n, dtype=np.int64)
    for start in range(0, n, _CHUNK):
        left = min(_CHUNK, n - start)
        u = rng.random((-(-left // _BLOCK) * _BLOCK, _N_DRAWS))  # whole blocks
        labels = _labels(u[:, _N_SCALARS - 1])[:left]
        x[start : start + left, :, :, 0] = _draw_chunk(u[:left], labels)
        y[start : start + left] = labels
    return x, y


def load(
    *, train_size: int = TRAIN_SIZE, test_size: int = TEST_SIZE, seed: int = 0
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Return (x_train, y_train), (x_test, y_test), drawn by `draw`."""
    return draw(train_size, seed=seed), draw(test_size, seed=seed, split="test")
