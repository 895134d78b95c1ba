"""Convolutions, pools, resizing and normalizations of ONNX files, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_files import Case, agree, answers, numbers, run, written

W, X = numbers, (2, 4, 7, 6)
NONE = np.zeros(0, np.float32)  # a region of interest that nobody reads
V = np.abs(numbers(4)) + 0.5

CASES = [
    # convolutions
    Case("Conv", X, W(6, 4, 3, 3)),
    Case("Conv", X, W(6, 4, 3, 3), W(6), pads=[1, 0, 2, 1], strides=[2, 1]),
    Case("Conv", X, W(6, 4, 2, 3), W(6), kernel_shape=[2, 3], dilations=[2, 1], opset=11),
    Case("Conv", X, W(6, 2, 3, 1), W(6), group=2, auto_pad="NOTSET"),
    Case("Conv", X, W(8, 1, 3, 3), group=4, strides=[2, 1], pads=[1, 1, 1, 1]),
    Case("Conv", X, W(4, 1, 5, 5), W(4), group=4, pads=[2, 2, 2, 2], opset=7),
    *(
        Case("Conv", (2, 4, size, size + 1), W(3, 4, k, k), auto_pad=pad, strides=[s, s])
        for pad in ("SAME_UPPER", "SAME_LOWER", "VALID")
        for size, k, s in ((8, 3, 2), (7, 2, 1), (5, 2, 2))
    ),
    Case("Conv", (2, 4, 9), W(6, 4, 3), W(6), pads=[2, 1], strides=[2]),
    Case("Conv", (2, 4, 9), W(6, 2, 3), group=2, dilations=[2], auto_pad="VALID"),
    Case("Conv", (2, 4, 8), W(3, 4, 3), strides=[2], auto_pad="SAME_LOWER"),
    Case("Conv", (2, 3, 1, 40), W(2, 3, 1, 32), strides=[1, 8]),
    Case("ConvTranspose", X, W(4, 3, 2, 2), W(3), strides=[2, 2]),
    Case("ConvTranspose", X, W(4, 3, 3, 2), strides=[2, 1], pads=[1, 0, 0, 1]),
    Case("ConvTranspose", X, W(4, 3, 3, 3), strides=[2, 2], output_padding=[1, 1], pads=[1] * 4),
    Case("ConvTranspose", X, W(4, 2, 3, 3), group=2, dilations=[2, 1]),
    Case("ConvTranspose", X, W(4, 3, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
    Case("ConvTranspose", X, W(4, 3, 3, 3), strides=[2, 2], auto_pad="SAME_LOWER"),
    Case("ConvTranspose", X, W(4, 3, 3, 3), strides=[2, 2], output_shape=[14, 12]),
    Case("ConvTranspose", (2, 4, 5), W(4, 3, 3), W(3), strides=[2], pads=[1, 0]),
    # pools
    *(
        Case(op, X, kernel_shape=[3, 2], strides=[2, 2], **options)
        for op in ("MaxPool", "AveragePool")
        for options in (
            {},
            {"pads": [0, 0, 1, 1]},
            {"pads": [1, 0, 1, 1], "ceil_mode": 1},
            {"auto_pad": "SAME_UPPER"},
            {"auto_pad": "SAME_LOWER"},
            {"auto_pad": "VALID"},
        )
    ),
    Case("MaxPool", X, kernel_shape=[2, 2], dilations=[2, 3]),
    Case("MaxPool", X, kernel_shape=[5, 5], pads=[2] * 4),
    Case("MaxPool", (1, 2, 9, 9), kernel_shape=[9, 9], strides=[1, 1], pads=[4] * 4),
    Case("MaxPool", X, kernel_shape=[3, 3], pads=[2, 2, 0, 0]),
    Case("MaxPool", X, kernel_shape=[2, 2], opset=8),
    Case("MaxPool", (2, 4, 9), kernel_shape=[3], strides=[2], pads=[1, 1]),
    Case("AveragePool", X, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1),
    Case("AveragePool", X, kernel_shape=[3, 3], pads=[0, 1, 2, 1], count_include_pad=0),
    Case("AveragePool", X, kernel_shape=[3, 3], pads=[1] * 4, opset=7),
    *(
        Case(
            "AveragePool",
            (1, 2, 6, 7),
            kernel_shape=[3, 3],
            strides=[2, 2],
            pads=[1] * 4,
            ceil_mode=1,
            count_include_pad=whole,
            opset=opset,
        )
        for whole in (0, 1)
        for opset in (11, 19)
    ),
    Case("AveragePool", X, kernel_shape=[2, 2], dilations=[2, 2], opset=19),
    Case("AveragePool", X, kernel_shape=[2, 2], dilations=[2, 1], pads=[1] * 4, opset=19),
    Case("AveragePool", (2, 4, 9), kernel_shape=[4], strides=[3], pads=[1, 0]),
    *(Case(op, shape) for op in ("GlobalAveragePool", "GlobalMaxPool") for shape in (X, (2, 4, 9))),
    # other sizes
    Case("Upsample", X, np.array([1, 1, 2, 3], np.float32), mode="nearest", opset=9),
    Case("Upsample", X, scales=[1.0, 1.0, 2.0, 3.0], mode="nearest", opset=7),
    Case("Upsample", X, np.array([1, 1, 2, 2], np.float32), mode="linear", opset=9),
    Case("Resize", X, np.array([1, 1, 2, 2], np.float32), mode="nearest", opset=10),
    *(
        Case(
            "Resize",
            X,
            NONE,
            np.array([1, 1, *scale], np.float32),
            mode=mode,
            coordinate_transformation_mode=rule,
            opset=opset,
        )
        for mode in ("nearest", "linear", "cubic")
        for rule in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
        for scale, opset in (((2, 3), 11), ((1.7, 0.6), 18))
    ),
    *(
        Case(
            "Resize",
            X,
            None,
            np.array([1, 1, 2.5, 1.5], np.float32),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode=rounding,
        )
        for rounding in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
    ),
    Case("Resize", X, NONE, NONE, np.array([2, 4, 9, 5]), mode="linear"),
    Case("Resize", X, None, None, np.array([9, 5]), mode="linear", axes=[2, 3], opset=18),
    Case(
        "Resize",
        X,
        None,
        None,
        np.array([14, 14]),
        mode="nearest",
        axes=[2, 3],
        opset=18,
        keep_aspect_ratio_policy="not_larger",
    ),
    Case("Resize", (2, 4, 6), None, np.array([1, 1, 2], np.float32), mode="linear"),
    Case("DepthToSpace", (2, 8, 3, 2), blocksize=2),
    Case("DepthToSpace", (2, 8, 3, 2), blocksize=2, mode="CRD"),
    Case("SpaceToDepth", (2, 3, 4, 6), blocksize=2),
    # normalizations
    *(
        Case("BatchNormalization", shape, V, W(4), W(4, seed=1), V, epsilon=1e-3)
        for shape in (X, (2, 4, 9), (2, 4))
    ),
    Case("BatchNormalization", X, V, W(4), W(4, seed=1), V, opset=7),
    Case("InstanceNormalization", X, V, W(4)),
    Case("InstanceNormalization", (2, 4, 9), V, W(4), epsilon=1e-2),
    Case("GroupNormalization", X, V, W(4), num_groups=2, opset=21),
    Case("LayerNormalization", (2, 5, 4), V, W(4)),
    Case("LayerNormalization", (2, 5, 4), V),
    Case("LayerNormalization", X, W(7, 6), W(7, 6), axis=2, epsilon=1e-3),
    Case("LayerNormalization", X, W(4, 7, 6), W(4, 7, 6), axis=1),
    Case("LRN", X, size=3),
    Case("LRN", X, size=5, alpha=0.1, beta=0.5, bias=2.0),
    Case("LpNormalization", (2, 5), axis=-1),
    Case("LpNormalization", X, axis=1, p=1),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_it_is_as_in_onnx_runtime(case: Case, tmp_path: Path) -> None:
    # Sums over windows of float32 and interpolated places differ in the last bits.
    agree(*case.made(), tmp_path, bound=1e-5)


def test_group_normalization_had_a_number_for_each_group(tmp_path: Path) -> None:
    """Before opset 21, which ONNX Runtime does not have."""
    old = Case("GroupNormalization", X, V[:2], W(2), num_groups=2, opset=18)
    new = Case("GroupNormalization", X, V[:2].repeat(2), W(2).repeat(2), num_groups=2, opset=21)
    made, feeds = old.made()
    (found,) = run(written(made, tmp_path), feeds)
    np.testing.assert_allclose(found, answers(*new.made())[0], atol=1e-5)
