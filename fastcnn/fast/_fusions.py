"""The table of fusions: what the fast backend computes as one op."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn._options import BYTE_PLACES, pair
from fastcnn.fast import FastBackend
from fastcnn.fast._activations import Pair, pair_of
from fastcnn.fast._batch_norm_add_relu import is_residual
from fastcnn.fast._batch_norm_relu_conv2d import is_projection
from fastcnn.fast._batch_norm_relu_unmasked import is_whole
from fastcnn.fast._conv2d_batch_norm_relu import is_expansion
from fastcnn.fast._conv2d_batch_norm_relu_depthwise import spreads
from fastcnn.fast._conv2d_batch_norm_relu_max_pool2d import sees_few
from fastcnn.program.match import Fusion, Match, register
from fastcnn.program.ops import parameters_of

__all__ = ["ACTIVATIONS", "INFERENCE", "TRAINING"]

_NO_PADDING = (0, (0, 0), ((0, 0), (0, 0)), "valid")


def _always(match: Match) -> bool:
    return True


def _pool_fits(match: Match) -> bool:
    """Whether the pool has no padding, no dilation and a window whose places a byte can tell."""
    rows, columns = pair(match.option("max_pool2d", "pool_size"))
    padding = match.option("max_pool2d", "padding")
    # Of the places that a byte tells apart one is for "none".
    fits = not match.option("max_pool2d", "ceil_mode") and rows * columns < BYTE_PLACES
    dilation = match.option("max_pool2d", "dilation")
    return fits and padding in _NO_PADDING and pair(dilation) == (1, 1)


def _is_image(match: Match) -> bool:
    x = match.values["x"]
    return x is not None and len(x.shape) == 4


def _norm_fits(match: Match) -> bool:
    return _is_image(match) and _pool_fits(match)


def _sees_few(match: Match) -> bool:
    """Whether the op can compute it, and no gradient is needed in front of it: then it pays."""
    x, w = match.values["x"], match.values["w"]
    assert x is not None
    assert w is not None
    few = sees_few(w.shape, w.dtype, match.option("conv2d", "groups"))
    return few and x.kind == "input" and _pool_fits(match)


def _is_plain(match: Match, conv2d: str = "conv2d") -> bool:
    """Whether a convolution has no stride, padding or groups."""
    stride, padding = match.option(conv2d, "stride"), match.option(conv2d, "padding")
    plain = pair(stride) == (1, 1) and padding in (*_NO_PADDING, "same")
    return plain and match.option(conv2d, "groups") == 1


def _expands(match: Match, conv2d: str = "conv2d") -> bool:
    """Whether a 1x1 convolution gives far more than it reads, so that moments pay."""
    x, w = match.values["x"], match.values["w"]
    assert x is not None
    assert w is not None
    plain = _is_plain(match, conv2d) and w.dtype == np.float32
    return plain and is_expansion(x.shape, w.shape)


def _spreads(match: Match) -> bool:
    """Whether such a convolution lies before a depthwise one that the op takes."""
    x, v = match.values["x"], match.values["v"]
    assert x is not None
    assert v is not None
    if not _expands(match, "conv2d'"):
        return False
    z = match.shape(str(match.nodes["conv2d"].results[0]))
    names = ("stride", "dilation", "groups")
    stride, dilation, groups = (match.option("conv2d", name) for name in names)
    depthwise = groups == z[3] > 1 and pair(dilation) == (1, 1)
    return depthwise and spreads((*x.shape[:3], z[3]), v.shape, z, pair(stride))


def _spread_options(match: Match) -> dict[str, Any]:
    options = {name: match.option("conv2d", name) for name in ("stride", "padding")}
    return {**options, **match.nodes["batch_norm"].attributes}


def _projects(match: Match) -> bool:
    w = match.values["w"]
    assert w is not None
    return _is_image(match) and _is_plain(match) and is_projection(w.shape)


def _is_residual(match: Match) -> bool:
    x, r = match.values["x"], match.values["r"]
    assert x is not None
    assert r is not None
    return x.dtype == r.dtype and is_residual(x.shape, r.shape)


def _is_whole(match: Match) -> bool:
    x = match.values["x"]
    return x is not None and is_whole(x.shape)


def _branches_off(match: Match) -> bool:
    """Whether others read what a convolution reads, and it has a gradient."""
    x = match.values["x"]
    return x is not None and x.kind == "result" and match.reads[x.name] > 1


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
        "conv2d_batch_norm_relu_max_pool2d",
        "max_pool2d(relu(batch_norm(conv2d(x, w, b), gamma, beta)))",
        ("y", "argmax", "mean", "variance"),
        (*_CONVOLUTION, "gamma", "beta"),
        _sees_few,
        _options_of("conv2d", "batch_norm", "max_pool2d"),
    ),
    Fusion(
        "conv2d_relu_max_pool2d",
        "max_pool2d(relu(conv2d(x, w, b)))",
        ("y", "argmax"),
        _CONVOLUTION,
        _pool_fits,
        _options_of("conv2d", "max_pool2d"),
    ),
    Fusion(
        "batch_norm_relu_max_pool2d",
        "max_pool2d(relu(batch_norm(x, gamma, beta)))",
        ("y", "argmax", "mean", "variance"),
        _NORM,
        _norm_fits,
        _options_of("batch_norm", "max_pool2d"),
    ),
    Fusion(
        "conv2d_batch_norm_relu",
        "relu(batch_norm(conv2d(x, w, b), gamma, beta))",
        ("y", "mean", "variance", "moments"),
        (*_CONVOLUTION, "gamma", "beta"),
        _expands,
        _options_of("batch_norm"),
    ),
    Fusion(
        "conv2d_batch_norm_relu_depthwise",
        "conv2d(relu(batch_norm(conv2d(x, w, b), gamma, beta)), v, c)",
        ("y", "mean", "variance", "moments", "table"),
        (*_CONVOLUTION, "gamma", "beta", "v", "c"),
        _spreads,
        _spread_options,
    ),
    Fusion(
        "batch_norm_relu_conv2d",
        "conv2d(relu(batch_norm(x, gamma, beta)), w, b)",
        ("y", "mean", "variance", "table"),
        (*_NORM, "w", "b"),
        _projects,
        _options_of("batch_norm"),
    ),
    Fusion(
        "batch_norm_relu_unmasked",
        "relu(batch_norm(x, gamma, beta))",
        ("y", "mean", "variance", "table"),
        _NORM,
        _is_whole,
        _options_of("batch_norm"),
    ),
    Fusion(
        "batch_norm_relu",
        "relu(batch_norm(x, gamma, beta))",
        ("y", "argmax", "mean", "variance"),
        _NORM,
        _is_image,
        _options_of("batch_norm"),
    ),
    *(
        Fusion(
            "batch_norm_add_relu",
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
    # Behind all others that end in a convolution.
    Fusion(
        "conv2d_branch",
        "conv2d(x, w, b)",
        ("y",),
        _CONVOLUTION,
        _branches_off,
        _options_of("conv2d"),
    ),
)
register(TRAINING, FastBackend)


# ---------------------------------------------------------------------- inference
# A product is a convolution or dense layer with what its kernel takes along. The norm of running
# statistics behind it goes into its weights.

# What the last write of a kernel computes: `loops_of` of activations.pyx has a line for each. In
# front of a max-pool it must fall and then rise, or only rise (_four.pxd).
ACTIVATIONS = (
    "relu",
    "leaky_relu",
    "clip",
    "hard_sigmoid",
    "hard_swish",
    "elu",
    "selu",
    "celu",
    "gelu",
    "silu",
    "mish",
    "softplus",
    "sigmoid",
    "tanh",
)

_NORM_OF = "batch_norm_inference({}, gamma, beta, mean, variance)"


def _activation(match: Match) -> tuple[str, Pair] | None:
    """Return the activation of a product and its parameters; the op's error for a wrong option."""
    for op in ACTIVATIONS:
        if op in match.nodes:
            options = {name: match.option(op, name) for name in parameters_of(op).options}
            return op, pair_of(op, options)
    return None


def _product_options(match: Match) -> dict[str, Any]:
    options: dict[str, Any] = {}
    activation = _activation(match)
    if activation is not None:
        options = {"activation": activation[0], "parameters": activation[1]}
    for op in ("conv2d", "batch_norm_inference"):
        if op in match.nodes:
            options |= {**parameters_of(op).options, **match.nodes[op].attributes}
    if "max_pool2d" in match.nodes:
        options["pool_size"] = match.option("max_pool2d", "pool_size")
        options["pool_stride"] = match.option("max_pool2d", "stride")
    return options


def _own_options(match: Match) -> dict[str, Any]:
    """Return the options of a match of one op."""
    (node,) = match.nodes.values()
    return dict(node.attributes)


def _product_fits(match: Match) -> bool:
    weights = (value for name, value in match.values.items() if name not in "xr")
    if any(value is not None and value.kind in ("input", "result") for value in weights):
        return False
    try:
        _activation(match)
    except (TypeError, ValueError):
        return False  # the op says what is wrong
    x, r = match.values["x"], match.values.get("r")
    if r is not None and "add" in match.nodes:
        y = match.nodes["add"].results[0]
        assert y is not None
        assert x is not None
        return r.shape == match.shape(y)
    if "max_pool2d" in match.nodes:
        return _pool_fits(match) and match.option("conv2d", "groups") == 1
    return True


_PRODUCTS = {
    "conv2d_pool_product": [f"max_pool2d({each}({{}}))" for each in ACTIVATIONS],
    "conv2d_product": [
        *(f"{each}(add({{}}, r))" for each in ACTIVATIONS),
        *(f"{each}(add(r, {{}}))" for each in ACTIVATIONS),
        "add({}, r)",
        "add(r, {})",
        *(f"{each}({{}})" for each in ACTIVATIONS),
        "{}",
    ],
    "linear_product": [*(f"{each}({{}})" for each in ACTIVATIONS), "{}"],
}

INFERENCE: Sequence[Fusion] = (
    *(
        Fusion(op, pattern.format(layer), ("y",), (), _product_fits, _product_options)
        for op, patterns in _PRODUCTS.items()
        for call in (f"{op.partition('_')[0]}(x, w, b)",)
        for pattern in patterns
        for layer in (_NORM_OF.format(call), call)
    ),
    Fusion("max_pool2d_values", "max_pool2d(x)", ("y",), (), _always, _own_options),
)
register(INFERENCE, FastBackend)
