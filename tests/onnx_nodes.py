"""The package onnx's own cases of single operators, of ranks 3 and 4, as models here.

    python tests/onnx_nodes.py [pattern]

prints which of them are not as the package says, with the reason that is known.
"""

from __future__ import annotations

import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnx_files import numpy_helper, written

import fastcnn

_WORDS = (
    "Conv ConvTranspose ConvInteger MaxPool AveragePool GlobalAveragePool GlobalMaxPool "
    "BatchNormalization InstanceNormalization GroupNormalization LayerNormalization LRN "
    "LpNormalization Resize Upsample Pad Relu LeakyRelu Elu Selu Celu Sigmoid HardSigmoid "
    "HardSwish Softplus Softsign Mish Gelu PRelu Clip Tanh Softmax LogSoftmax ThresholdedRelu "
    "Add Sub Mul Div Pow Max Min Sum Mean Exp Log Sqrt Abs Neg Reciprocal Erf Floor Ceil "
    "Round Sign Concat Slice Split Transpose Reshape Flatten Squeeze Unsqueeze Gather Expand "
    "Tile DepthToSpace SpaceToDepth ReduceMean ReduceSum ReduceMax ReduceMin ReduceL1 "
    "ReduceL2 Gemm MatMul MatMulInteger Dropout Identity Where QuantizeLinear "
    "DequantizeLinear DynamicQuantizeLinear"
)
OPERATORS = frozenset(_WORDS.split())
_CUT = "integers are floats here, whose quotients are not cut"
_UNSIGNED = (("u", 8), ("u", 16), ("u", 32), ("u", 64))
_RANDOM = "dropout of training, whose mask nobody can foresee"
_NONE = "a result of no numbers"
_RESIZE = "a way to resize that no file has been seen to use"
_JUDGE = "ONNX Runtime gives what is given here"
UNLIKE = {
    "test_batchnorm_example_training_mode": "statistics as results",
    "test_batchnorm_epsilon_training_mode": "statistics as results",
    "test_dequantizelinear_blocked": "scales of blocks",
    **{
        f"test_div_{kind}": _CUT
        for kind in ("int8", "int16", "uint8", "uint16", "uint32", "uint64")
    },
    "test_training_dropout": _RANDOM,
    "test_training_dropout_default": _RANDOM,
    "test_training_dropout_default_mask": _RANDOM,
    "test_training_dropout_mask": _RANDOM,
    "test_maxpool_with_argmax_2d_precomputed_pads": "places of maxima as a result",
    "test_maxpool_with_argmax_2d_precomputed_strides": "places of maxima as a result",
    "test_wrap_pad": "a mode that no file has been seen to use",
    "test_reduce_max_empty_set": _NONE,
    "test_reduce_max_empty_set_bool": _NONE,
    "test_reduce_min_empty_set": _NONE,
    "test_reshape_allowzero_reordered": _NONE,
    "test_slice_start_out_of_bounds": _NONE,
    "test_resize_downsample_scales_linear_align_corners": _JUDGE,
    "test_resize_downsample_scales_cubic_align_corners": _JUDGE,
    "test_resize_tf_crop_and_resize": _RESIZE,
    "test_resize_tf_crop_and_resize_extrapolation_value": _RESIZE,
    "test_resize_tf_crop_and_resize_axes_2_3": _RESIZE,
    "test_resize_tf_crop_and_resize_axes_3_2": _RESIZE,
    "test_resize_downsample_scales_linear_antialias": _RESIZE,
    "test_resize_downsample_sizes_linear_antialias": _RESIZE,
    "test_resize_downsample_scales_cubic_antialias": _RESIZE,
    "test_resize_downsample_sizes_cubic_antialias": _RESIZE,
}


def cases(pattern: str) -> Iterator[tuple[str, Any, Any, Any]]:
    """Yield (name, model, inputs, outputs) of those whose operator and rank are wanted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the package, which casts what does not fit
        from onnx.backend.test.case.node import collect_testcases

        found = collect_testcases(None)
    for case in found:
        nodes = [] if case.model is None else case.model.graph.node
        if not nodes or nodes[0].op_type not in OPERATORS or not re.search(pattern, case.name):
            continue
        if len(nodes) > 1 and "expanded" in case.name:
            continue
        for inputs, outputs in case.data_sets:
            if any(isinstance(each, list) or each is None for each in inputs):
                continue  # sequences and optional values
            given = [np.asarray(each) for each in inputs]
            if given and given[0].ndim in (3, 4) and all(x.dtype.kind in "fiub" for x in given):
                yield case.name, case.model, given, outputs


def problem(made: Any, given: list[Any], outputs: Any, folder: Path) -> str:
    """Return in what a case is unlike the package's, nothing if it is like it.

    What is given behind the first input is a constant of the file.
    """
    whole = type(made)()
    whole.CopyFrom(made)
    for array, each in zip(given[1:], whole.graph.input[1:], strict=True):
        whole.graph.initializer.append(numpy_helper.from_array(array, each.name))
    dtype = "float64" if given[0].dtype == np.float64 else "float32"
    try:
        loaded = fastcnn.onnx.load(written(whole, folder), layout="file", dtype=dtype)
        x = given[0].astype(dtype) if given[0].dtype.kind == "f" else given[0]
        made = fastcnn.Predictor(loaded, dtype=dtype)(x)
    except ValueError as error:
        return str(error)
    found = list(made) if isinstance(made, (list, tuple)) else [made]
    for y, other in zip(found, map(np.asarray, outputs), strict=True):
        if y.shape != other.shape:
            return f"expected shape {other.shape}, got {y.shape}"
        # Half floats and references that add up in another order.
        if not np.allclose(y, other.astype(dtype), rtol=1e-3, atol=1e-5, equal_nan=True):
            return f"expected {other.ravel()[:5]}, got {y.ravel()[:5]}"
    return ""


def run(pattern: str = "") -> tuple[int, dict[str, str]]:
    """Return how many cases there are, and what is unlike in which."""
    found: dict[str, str] = {}
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, made, given, outputs in cases(pattern):
            count += 1
            said = problem(made, given, outputs, Path(folder))
            if said:
                found[name] = said
    return count, found


def main() -> None:
    count, found = run(*sys.argv[1:2])
    for name, said in found.items():
        print(f"{name} ({UNLIKE.get(name, 'NO REASON IS KNOWN')}): {said}")
    print(f"{count - len(found)} of {count}")
    raise SystemExit(bool(found.keys() - UNLIKE.keys()))


if __name__ == "__main__":
    main()
