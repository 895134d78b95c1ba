"""Convolutions and pools that the tests of all backends try: the tricky ones by hand, and any."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

# x (N, H, W, C), kernel (R, S), filters, options
Convolution = tuple[tuple[int, int, int, int], tuple[int, int], int, dict[str, Any]]

# So few filters for their channels that x and dy change places in the weight gradient.
FEW_FILTERS: list[Convolution] = [
    ((2, 5, 6, 70), (3, 3), 1, {}),
    ((2, 5, 6, 21), (3, 3), 1, {"padding": "same"}),
    ((1, 6, 5, 40), (2, 4), 2, {"padding": "same"}),
    ((2, 4, 7, 33), (3, 2), 1, {"padding": ((0, 2), (1, 0))}),
    ((1, 4, 3, 40), (3, 3), 1, {"padding": ((2, 5), (0, 4))}),
    ((1, 9, 8, 35), (3, 2), 2, {"dilation": (2, 3), "padding": (3, 1)}),
    ((2, 9, 7, 64), (5, 5), 3, {"padding": 2}),
    ((2, 7, 4, 39), (1, 1), 1, {}),
    ((3, 41, 43, 24), (1, 1), 1, {}),
]

CONVOLUTIONS: list[Convolution] = [
    # Every form of padding, alone and with a stride.
    ((2, 5, 6, 3), (3, 3), 5, {}),
    ((2, 5, 6, 3), (3, 3), 5, {"padding": "valid", "stride": 2}),
    ((2, 5, 6, 3), (3, 3), 5, {"padding": "same"}),
    ((2, 5, 6, 3), (2, 4), 5, {"padding": "same"}),
    ((2, 5, 6, 3), (4, 3), 5, {"padding": "same", "stride": (2, 3)}),
    ((1, 5, 6, 3), (1, 1), 4, {"padding": "same", "stride": 3}),
    ((2, 5, 6, 3), (3, 3), 5, {"padding": 1}),
    ((2, 5, 6, 3), (3, 2), 5, {"padding": (2, 0), "stride": 2}),
    ((2, 5, 6, 3), (3, 3), 5, {"padding": ((0, 2), (1, 0))}),
    ((2, 5, 6, 3), (3, 3), 5, {"padding": ((3, 0), (0, 1)), "stride": (3, 1)}),
    # Windows that lie in the padding altogether.
    ((1, 2, 2, 3), (2, 2), 5, {"padding": 4}),
    ((1, 2, 3, 2), (3, 3), 4, {"padding": ((7, 0), (0, 6)), "stride": (2, 3)}),
    ((1, 1, 1, 1), (1, 1), 1, {"padding": 2}),
    ((1, 1, 1, 2), (5, 5), 3, {"padding": 2}),
    # Strides that leave inputs out, larger than the kernel, larger than the image.
    ((1, 7, 8, 3), (1, 1), 4, {"stride": 2}),
    ((1, 9, 8, 3), (2, 1), 4, {"stride": (4, 3)}),
    ((2, 4, 5, 3), (2, 2), 4, {"stride": 100}),
    ((2, 2, 5, 4), (1, 1), 17, {"stride": 2}),
    ((1, 3, 2, 20), (1, 1), 5, {"stride": 100}),
    ((2, 3, 1, 5), (1, 1), 7, {"stride": (1, 3), "padding": (0, 1)}),
    ((1, 8, 7, 2), (3, 3), 17, {"stride": (1, 2), "padding": 1}),
    ((1, 8, 7, 2), (5, 3), 17, {"stride": (3, 2), "padding": (2, 1)}),
    # Dilation, beyond the image, and together with everything.
    ((1, 8, 9, 3), (3, 3), 4, {"dilation": (2, 3)}),
    ((1, 6, 6, 2), (2, 3), 4, {"dilation": 5, "padding": 6}),
    ((1, 6, 6, 2), (3, 3), 4, {"dilation": 7, "padding": 7}),
    ((1, 9, 9, 2), (3, 2), 4, {"dilation": (2, 3), "stride": 2, "padding": 2}),
    ((1, 9, 9, 2), (3, 2), 4, {"dilation": 2, "stride": (2, 4), "padding": "same"}),
    ((1, 9, 9, 2), (3, 3), 4, {"dilation": 2, "stride": 2, "padding": ((1, 2), (0, 3))}),
    ((1, 10, 10, 1), (2, 2), 2, {"dilation": 3, "stride": 6, "padding": 1}),
    # Groups, of even and odd widths, and depthwise, with and without a multiplier.
    ((2, 4, 4, 4), (3, 3), 6, {"groups": 2, "padding": 1}),
    ((1, 4, 4, 34), (2, 2), 34, {"groups": 2}),
    ((1, 4, 4, 6), (2, 2), 99, {"groups": 3, "stride": 2}),
    ((1, 4, 4, 51), (2, 2), 6, {"groups": 3, "padding": 1, "dilation": 2}),
    ((1, 4, 4, 10), (3, 3), 5, {"groups": 5, "padding": "same", "stride": 2}),
    ((2, 5, 4, 3), (3, 3), 3, {"groups": 3}),
    ((1, 5, 4, 16), (3, 3), 16, {"groups": 16, "padding": 1}),
    ((1, 6, 7, 33), (3, 2), 33, {"groups": 33, "padding": "same", "stride": 2}),
    ((1, 8, 8, 19), (3, 3), 19, {"groups": 19, "padding": 2, "dilation": 2, "stride": (1, 2)}),
    ((1, 5, 5, 5), (3, 3), 5, {"groups": 5, "padding": ((4, 1), (0, 5)), "stride": 3}),
    ((1, 4, 5, 3), (3, 3), 6, {"groups": 3, "padding": 1}),
    ((1, 4, 5, 7), (2, 3), 21, {"groups": 7, "stride": 2}),
    ((1, 5, 5, 1), (3, 3), 4, {"groups": 1}),
    # Narrow groups, several of which fill a vector: 2, 4 and 8 wide, the last vector whole or not.
    ((2, 9, 10, 40), (3, 3), 40, {"groups": 10, "padding": 1}),
    ((1, 6, 15, 34), (3, 3), 34, {"groups": 17, "padding": "same", "stride": 2}),
    ((1, 5, 12, 72), (2, 3), 72, {"groups": 9, "padding": (0, 2)}),
    ((1, 9, 13, 32), (3, 2), 32, {"groups": 8, "dilation": 2, "stride": (1, 2), "padding": 2}),
    ((2, 7, 9, 64), (3, 3), 64, {"groups": 32, "padding": ((2, 0), (0, 3)), "dilation": 3}),
    # Beyond the kernels' blocks: of channels read, of pixels in a row, of channels of a wide view.
    ((1, 3, 3, 1100), (1, 1), 16, {}),
    ((1, 4, 4, 1100), (1, 1), 16, {}),
    ((1, 3, 3, 16), (1, 1), 1100, {}),
    ((1, 2, 300, 3), (1, 3), 5, {"padding": (0, 1)}),
    ((1, 40, 40, 100), (2, 2), 2, {"dilation": 38}),
    ((2, 5, 6, 20), (1, 1), 33, {"stride": (3, 2), "padding": ((0, 2), (0, 1))}),
    ((2, 5, 6, 20), (1, 1), 64, {"stride": 2}),
    ((1, 5, 9, 35), (2, 7), 35, {"groups": 35, "padding": 2, "dilation": (1, 2)}),
    # Kernels: a row, a column, the whole image, larger than the image, wide.
    ((1, 5, 9, 3), (1, 7), 4, {}),
    ((1, 9, 5, 3), (7, 1), 4, {"padding": (3, 0)}),
    ((3, 5, 4, 2), (5, 4), 20, {}),
    ((1, 3, 3, 2), (7, 5), 3, {"padding": 3}),
    ((1, 12, 12, 1), (11, 11), 3, {"padding": 2}),
    # Images one pixel high or wide, more images than pixels, and none.
    ((2, 1, 17, 3), (1, 3), 5, {"padding": (0, 1)}),
    ((2, 17, 1, 3), (3, 1), 5, {"stride": 2}),
    ((13, 1, 1, 5), (1, 1), 7, {}),
    ((37, 2, 2, 2), (2, 2), 3, {}),
    ((0, 5, 6, 3), (3, 3), 5, {"padding": 1}),
    ((0, 5, 6, 4), (3, 3), 4, {"groups": 4}),
    # The layers of the sample network, one image, fewer pixels.
    ((1, 7, 7, 1), (3, 3), 32, {}),
    ((1, 5, 5, 32), (3, 3), 64, {}),
    *FEW_FILTERS,
    # As few, but with a stride, in groups, and with more padding than the kernel reaches.
    ((1, 7, 8, 200), (3, 3), 1, {"stride": 2}),
    ((1, 5, 4, 200), (3, 3), 2, {"groups": 2}),
    ((1, 4, 5, 60), (2, 2), 1, {"padding": 3}),
]


@st.composite
def convolutions(choose: st.DrawFn) -> tuple[Any, ...]:
    """Shapes and options that fit, small enough for the reference."""
    small = st.integers(1, 3)
    groups = choose(st.sampled_from([1, 1, 1, 2, 3, 8, 17]))
    group_channels = choose(st.sampled_from([1, 1, 2, 3, 9] if groups > 1 else [1, 2, 5, 16, 33]))
    multiplier = choose(st.sampled_from([1, 2, 5] if groups > 1 else [1, 3, 8, 17, 35]))
    kernel = choose(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = choose(st.one_of(small, st.tuples(small, small)))
    dilation = choose(st.one_of(small, st.tuples(small, small)))
    pads = st.integers(0, 4)
    padding = choose(
        st.one_of(
            st.sampled_from(["same", "valid"]),
            pads,
            st.tuples(pads, pads),
            st.tuples(st.tuples(pads, pads), st.tuples(pads, pads)),
        )
    )
    spread = dilation if isinstance(dilation, tuple) else (dilation, dilation)
    # The window always fits, so that no padding makes the sizes an error.
    height, width = (
        (k - 1) * d + 1 + choose(st.integers(0, 3)) for k, d in zip(kernel, spread, strict=True)
    )
    images = choose(st.integers(0, 2))
    x_shape = (images, height, width, groups * group_channels)
    w_shape = (*kernel, group_channels, groups * multiplier)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return x_shape, w_shape, options


# x (N, H, W, C), window, options
POOLS: list[tuple[tuple[int, int, int, int], Any, dict[str, Any]]] = [
    ((2, 4, 6, 3), 2, {}),
    ((2, 5, 7, 3), 2, {}),
    ((2, 5, 7, 3), 2, {"ceil_mode": True}),
    ((2, 1, 1, 3), 2, {"ceil_mode": True}),  # all of the image is less than a window
    ((2, 5, 7, 3), (2, 3), {"stride": 1}),
    ((2, 6, 6, 3), 3, {"stride": 2}),
    ((2, 6, 6, 3), 3, {"stride": 2, "ceil_mode": True}),
    ((2, 6, 6, 3), 3, {"stride": 2, "padding": 1}),
    ((1, 6, 6, 3), 3, {"stride": 2, "padding": 1, "ceil_mode": True}),
    ((1, 5, 5, 3), 2, {"padding": 1}),
    ((1, 4, 4, 2), 2, {"stride": 3, "padding": 1, "ceil_mode": True}),
    ((1, 6, 6, 2), 2, {"stride": 4, "padding": 1, "ceil_mode": True}),
    ((1, 5, 6, 2), (3, 2), {"padding": (1, 0), "stride": (1, 2)}),
    ((1, 5, 6, 2), (3, 4), {"padding": ((1, 0), (0, 2)), "stride": (2, 1)}),
    ((1, 5, 6, 2), (3, 4), {"padding": ((0, 1), (2, 1)), "ceil_mode": True}),
    ((1, 5, 6, 2), (3, 4), {"padding": "same"}),
    ((1, 5, 6, 2), (2, 2), {"padding": "same", "stride": 1}),
    ((1, 7, 7, 2), (3, 3), {"padding": "same", "stride": 2}),
    ((1, 5, 6, 2), 2, {"padding": "valid", "stride": 3}),
    ((1, 7, 7, 2), 1, {"stride": 3}),
    ((1, 7, 7, 2), 1, {}),
    ((1, 3, 9, 2), (1, 4), {"stride": (1, 2), "ceil_mode": True}),
    ((1, 9, 3, 2), (4, 1), {"stride": (2, 1), "padding": (2, 0)}),
    ((2, 4, 3, 5), (4, 3), {}),
    ((1, 4, 3, 5), 8, {"padding": 4}),
    ((1, 3, 3, 2), 5, {"ceil_mode": True, "stride": 2, "padding": 1}),
    ((1, 3, 3, 2), 7, {"padding": 3, "stride": 2}),
    ((1, 8, 8, 2), 5, {"stride": 1, "padding": 2}),
    ((1, 8, 8, 2), (5, 2), {"stride": (2, 5), "padding": (2, 1), "ceil_mode": True}),
    # 256 places fit into uint8, 257 and more do not.
    ((1, 17, 17, 2), 16, {"stride": 1}),
    ((1, 1, 260, 2), (1, 257), {"stride": 2, "ceil_mode": True}),
    ((1, 18, 17, 2), 17, {"stride": 1}),
    ((0, 4, 6, 3), 2, {}),
    ((9, 2, 2, 1), 2, {}),
]


DILATED_POOLS: list[tuple[tuple[int, int, int, int], Any, dict[str, Any]]] = [
    ((2, 6, 7, 3), 2, {"dilation": 2}),
    ((1, 9, 8, 2), (3, 2), {"dilation": (2, 3), "stride": 1, "padding": (2, 1)}),
    ((1, 9, 8, 17), 3, {"dilation": 2, "stride": 2, "padding": ((2, 1), (0, 2))}),
    ((1, 9, 8, 33), 3, {"dilation": 3, "stride": 3, "padding": "same"}),
    ((1, 8, 9, 2), (2, 3), {"dilation": (5, 3), "stride": (3, 2), "ceil_mode": True}),
    ((1, 7, 7, 40), 2, {"dilation": 6, "stride": 1, "padding": 3, "ceil_mode": True}),
    ((1, 3, 40, 2), (1, 3), {"dilation": (9, 11), "stride": 7}),
    ((2, 5, 5, 1), 1, {"dilation": 4}),
    ((1, 1, 700, 2), (1, 258), {"dilation": (1, 2), "stride": 5, "ceil_mode": True}),
]


@st.composite
def pools(choose: st.DrawFn) -> tuple[Any, ...]:
    """Shapes and options of pooling that fit."""
    window = choose(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    sides = tuple((choose(st.integers(0, k // 2)), choose(st.integers(0, k // 2))) for k in window)
    padding = choose(st.sampled_from([sides, sides, "same", "valid"]))
    step = st.integers(1, 5)
    stride = choose(st.one_of(st.none(), step, st.tuples(step, step)))
    height, width = (k + choose(st.integers(0, 5)) for k in window)
    x_shape = (choose(st.integers(0, 2)), height, width, choose(st.sampled_from([1, 2, 7, 17])))
    options = {"stride": stride, "padding": padding, "ceil_mode": choose(st.booleans())}
    return x_shape, window, options
