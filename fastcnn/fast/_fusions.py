"""The table of fusions: what the fast backend computes as one op."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn.fast import FastBackend
from fastcnn.fast._batch_norm_add import is_residual
from fastcnn.fast._batch_norm_relu import is_narrow
from fastcnn.fast._norm_pointwise import is_projection
from fastcnn.fast._pointwise_norm import is_expansion
from fastcnn.nn._options import pair
from fastcnn.program.match import Fusion, Match, register
from fastcnn.program.ops import OPS, Op

__all__ = ["INFERENCE", "TRAINING"]

_MOST_PLACES = 255  # of a pool's window, whose winner is noted in a byte beside "none"
_FEW_NUMBERS = 9  # of a filter, as in a first layer's 3x3 of one channel
_NO_PADDING = (0, (0, 0), ((0, 0), (0, 0)), "valid")


def _always(match: Match) -> bool:
    return True


def _pool_fits(match: Match) -> bool:
    """Whether the pool has no padding and a window whose places a byte can tell."""
    rows, columns = pair(match.option("max_pool2d", "pool_size"))
    padding = match.option("max_pool2d", "padding")
    fits = not match.option("max_pool2d", "ceil_mode") and rows * columns <= _MOST_PLACES
    return fits and padding in _NO_PADDING


def _is_image(match: Match) -> bool:
    x = match.values["x"]
    return x is not None and len(x.shape) == 4


def _norm_fits(match: Match) -> bool:
    return _is_image(match) and _pool_fits(match)


def _sees_few(match: Match) -> bool:
    """Whether the moments of what a filter sees tell its statistics.

    That takes less than to write the convolution's result and to read it again, where no gradient
    is needed in front of it (benchmarks/paths.py). In double they are exact enough for float32.
    """
    x, w = match.values["x"], match.values["w"]
    assert x is not None
    assert w is not None
    few = math.prod(w.shape[:3]) <= _FEW_NUMBERS and w.dtype == np.float32
    return few and x.kind == "input" and match.option("conv2d", "groups") == 1 and _pool_fits(match)


def _is_plain(match: Match) -> bool:
    """Whether a convolution has no stride, padding or groups."""
    stride, padding = match.option("conv2d", "stride"), match.option("conv2d", "padding")
    plain = pair(stride) == (1, 1) and padding in (*_NO_PADDING, "same")
    return plain and match.option("conv2d", "groups") == 1


def _expands(match: Match) -> bool:
    """Whether a 1x1 convolution gives far more than it reads, so that moments pay."""
    x, w = match.values["x"], match.values["w"]
    assert x is not None
    assert w is not None
    return _is_plain(match) and w.dtype == np.float32 and is_expansion(x.shape, w.shape)


def _projects(match: Match) -> bool:
    w = match.values["w"]
    assert w is not None
    return _is_image(match) and _is_plain(match) and is_projection(w.shape)


def _is_residual(match: Match) -> bool:
    x, r = match.values["x"], match.values["r"]
    assert x is not None
    assert r is not None
    return x.dtype == r.dtype and is_residual(x.shape, r.shape)


def _is_narrow(match: Match) -> bool:
    x = match.values["x"]
    return x is not None and is_narrow(x.shape)


def _options_of(*ops: str) -> Any:
    """Return what collects the options of these ops: of a max-pool its size and stride."""

    def collect(match: Match) -> dict[str, Any]:
        options: dict[str, Any] = {}
        for op in ops:
            if op == "max_pool2d":
                options["pool_size"] = match.option(op, "pool_size")
                options["pool_stride"] = match.option(op, "stride")
            else:
                options |= match.nodes[op].attributes
        return options

    return collect


_CONVOLUTION = ("x", "w", "b")
_NORM = ("x", "gamma", "beta")

TRAINING: Sequence[Fusion] = (
    Fusion(
        "conv_norm_block",
        "max_pool2d(relu(batch_norm(conv2d(x, w, b), gamma, beta)))",
        ("y", "argmax", "mean", "variance"),
        (*_CONVOLUTION, "gamma", "beta"),
        _sees_few,
        _options_of("conv2d", "batch_norm", "max_pool2d"),
    ),
    Fusion(
        "conv_block",
        "max_pool2d(relu(conv2d(x, w, b)))",
        ("y", "argmax"),
        _CONVOLUTION,
        _pool_fits,
        _options_of("conv2d", "max_pool2d"),
    ),
    Fusion(
        "batch_norm_block",
        "max_pool2d(relu(batch_norm(x, gamma, beta)))",
        ("y", "argmax", "mean", "variance"),
        _NORM,
        _norm_fits,
        _options_of("batch_norm", "max_pool2d"),
    ),
    Fusion(
        "pointwise_norm",
        "relu(batch_norm(conv2d(x, w, b), gamma, beta))",
        ("y", "mean", "variance", "moments"),
        (*_CONVOLUTION, "gamma", "beta"),
        _expands,
        _options_of("batch_norm"),
    ),
    Fusion(
        "norm_pointwise",
        "conv2d(relu(batch_norm(x, gamma, beta)), w, b)",
        ("y", "mean", "variance", "table"),
        (*_NORM, "w", "b"),
        _projects,
        _options_of("batch_norm"),
    ),
    Fusion(
        "batch_norm_relu",
        "relu(batch_norm(x, gamma, beta))",
        ("y", "mean", "variance", "table"),
        _NORM,
        _is_narrow,
        _options_of("batch_norm"),
    ),
    Fusion(
        "batch_norm_block",
        "relu(batch_norm(x, gamma, beta))",
        ("y", "argmax", "mean", "variance"),
        _NORM,
        _is_image,
        _options_of("batch_norm"),
    ),
    *(
        Fusion(
            "batch_norm_add",
            f"relu(add({terms}))",
            ("y", "mean", "variance"),
            (*_NORM, "r"),
            _is_residual,
            _options_of("batch_norm"),
        )
        for terms in ("batch_norm(x, gamma, beta), r", "r, batch_norm(x, gamma, beta)")
    ),
    Fusion(
        "linear_relu",
        "relu(linear(x, w, b))",
        ("y",),
        _CONVOLUTION,
        _always,
        _options_of("linear"),
    ),
    Fusion(
        "cross_entropy_with_gradient",
        "softmax_cross_entropy(logits, labels)",
        ("loss", "gradient"),
        ("logits",),
        _always,
        _options_of("softmax_cross_entropy"),
    ),
)
register(TRAINING, FastBackend)


# ---------------------------------------------------------------------- inference
# A product is a convolution or dense layer with what its kernel takes along. The norm of running
# statistics behind it goes into its weights.
_NORM_OF = "batch_norm_inference({}, gamma, beta, mean, variance)"


def _product_options(match: Match) -> dict[str, Any]:
    options: dict[str, Any] = {"relu": "relu" in match.nodes}
    for op in ("conv2d", "batch_norm_inference"):
        if op in match.nodes:
            options |= match.nodes[op].attributes
    if "max_pool2d" in match.nodes:
        options["pool_size"] = match.option("max_pool2d", "pool_size")
        options["pool_stride"] = match.option("max_pool2d", "stride")
    return options


def _product_fits(match: Match) -> bool:
    weights = (value for name, value in match.values.items() if name not in "xr")
    if any(value is not None and value.kind in ("input", "result") for value in weights):
        return False
    x, r = match.values["x"], match.values.get("r")
    if r is not None and "add" in match.nodes:
        y = match.nodes["add"].results[0]
        assert y is not None
        assert x is not None
        return r.shape == match.shape(y)
    if "max_pool2d" in match.nodes:
        return _pool_fits(match) and match.option("conv2d", "groups") == 1
    return True


INFERENCE: Sequence[Fusion] = tuple(
    Fusion(
        f"{op}_product",
        pattern.format(layer),
        ("y",),
        (),
        _product_fits,
        _product_options,
    )
    for op, patterns in (
        (
            "conv2d",
            (
                "max_pool2d(relu({}))",
                "relu(add({}, r))",
                "relu(add(r, {}))",
                "add({}, r)",
                "add(r, {})",
                "relu({})",
                "{}",
            ),
        ),
        ("linear", ("relu({})", "{}")),
    )
    for pattern in patterns
    for layer in (_NORM_OF.format(f"{op}(x, w, b)"), f"{op}(x, w, b)")
)
OPS.update({row.name: Op(row.results, (), None) for row in INFERENCE})
