"""Rows of all other layers, and what to say of those that have no row."""

from __future__ import annotations

from typing import Any

from fastcnn import nn
from fastcnn.keras._activations import activation_of, inner_activation, knows_activation
from fastcnn.keras._graph import Layer
from fastcnn.keras._held import Held, of_norm
from fastcnn.keras._table import ROWS, Made, Maker, Options, Shapes, axis_of, last_axis, new, row

__all__ = ["known", "unknown_in"]


# ---------------------------------------------------------------------- convolutions
def _window(o: Options) -> dict[str, Any]:
    o.only("padding", "valid", "same")
    return {"stride": o.get("strides", 1), "padding": o.get("padding", "valid")}


def _weighted(o: Options, shapes: Shapes, name: str, *args: Any, **options: Any) -> Made:
    """Return a layer with weights, and its activation."""
    here, behind = activation_of(o, shapes)
    use_bias = o.get("use_bias", True)
    return Made((new(name, *args, use_bias=use_bias, activation=here, **options), *behind))


@row("Conv2D Convolution2D", "Conv2D")
def _conv2d(o: Options, shapes: Shapes) -> Made:
    options = {"dilation": o.get("dilation_rate", 1), "groups": o.get("groups", 1), **_window(o)}
    return _weighted(o, shapes, "Conv2D", o.need("filters"), o.need("kernel_size"), **options)


@row("DepthwiseConv2D", "DepthwiseConv2D")
def _depthwise(o: Options, shapes: Shapes) -> Made:
    multiplier = o.get("depth_multiplier", 1)
    options = {"dilation": o.get("dilation_rate", 1), "depth_multiplier": multiplier, **_window(o)}
    return _weighted(o, shapes, "DepthwiseConv2D", o.need("kernel_size"), **options)


@row("SeparableConv2D SeparableConvolution2D", "SeparableConv2D")
def _separable(o: Options, shapes: Shapes) -> Made:
    multiplier = o.get("depth_multiplier", 1)
    options = {"dilation": o.get("dilation_rate", 1), "depth_multiplier": multiplier, **_window(o)}
    filters, size = o.need("filters"), o.need("kernel_size")
    return _weighted(o, shapes, "SeparableConv2D", filters, size, **options)


@row("Conv2DTranspose Convolution2DTranspose", "Conv2DTranspose")
def _transpose(o: Options, shapes: Shapes) -> Made:
    o.only("dilation_rate", 1, (1, 1))
    o.only("output_padding", None)
    options, size = _window(o), o.need("kernel_size")
    if options["padding"] == "valid":
        # An output of at least a stride for each pixel, where Keras's has more than a kernel has.
        pairs = zip(*(e if isinstance(e, tuple) else (e, e) for e in (options["stride"], size)),
                    strict=True)  # fmt: skip
        options["output_padding"] = tuple(max(stride - kernel, 0) for stride, kernel in pairs)
    return _weighted(o, shapes, "Conv2DTranspose", o.need("filters"), size, **options)


def _one(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


@row("Conv1D Convolution1D", "Conv1D")
def _conv1d(o: Options, shapes: Shapes) -> Made:
    options = {"dilation": _one(o.get("dilation_rate", 1)), "groups": o.get("groups", 1)}
    options |= {name: _one(value) for name, value in _window(o).items()}
    return _weighted(o, shapes, "Conv1D", o.need("filters"), _one(o.need("kernel_size")), **options)


@row("Dense", "Dense")
def _dense(o: Options, shapes: Shapes) -> Made:
    rank = len(shapes[0])
    if rank == 1:
        return _weighted(o, shapes, "Dense", o.need("units"))
    if rank not in (2, 3):
        raise ValueError(f"expected an input of at most three axes, got {shapes[0]}")
    # Over the last axis, whatever is in front of it.
    return _weighted(o, shapes, f"Conv{rank - 1}D", o.need("units"), 1)


# ---------------------------------------------------------------------- norms
@row("BatchNormalization BatchNormalizationV1 BatchNormalizationV2", "BatchNorm")
def _batch_norm(o: Options, shapes: Shapes) -> Made:
    last_axis(o, shapes)
    o.only("renorm", False)
    layer = new(
        "BatchNorm",
        momentum=o.get("momentum", 0.99),
        epsilon=o.get("epsilon", 1e-3),
        running_variance="biased",
    )
    return Made((layer,), of_norm(layer, o.get("scale", True), o.get("center", True)))


@row("LayerNormalization", "LayerNorm")
def _layer_norm(o: Options, shapes: Shapes) -> Made:
    o.only("rms_scaling", False)
    rank, axes = len(shapes[0]) + 1, o.get("axis", -1)
    axes = axes if isinstance(axes, tuple) else (axes,)
    if not all(type(axis) is int and -rank < axis < rank for axis in axes):
        raise ValueError(f"axis: expected axes of an array of {rank}, got {axes}")
    found = sorted(axis if axis < 0 else axis - rank for axis in axes)
    if found != list(range(-len(found), 0)):
        raise ValueError(f"axis: expected the last ones, got {axes}")
    scale, center = o.get("scale", True), o.get("center", True)
    epsilon = o.get("epsilon", 1e-3)
    options = {"axis": found[0], "epsilon": epsilon, "scale": scale, "center": center}
    return Made((new("LayerNorm", **options),))


@row("GroupNormalization", "GroupNorm")
def _group_norm(o: Options, shapes: Shapes) -> Made:
    last_axis(o, shapes)
    groups = o.get("groups", 32)
    options = {"epsilon": o.get("epsilon", 1e-3)}
    options |= {"scale": o.get("scale", True), "center": o.get("center", True)}
    return Made((new("GroupNorm", shapes[0][-1] if groups == -1 else groups, **options),))


@row("Rescaling", "Rescaling")
def _rescaling(o: Options, shapes: Shapes) -> Made:
    return Made((new("Rescaling", o.need("scale"), o.get("offset", 0.0)),), ())


@row("Normalization", "Normalization")
def _normalization(o: Options, shapes: Shapes) -> Made:
    o.only("invert", False)
    mean, variance = o.get("mean"), o.get("variance")
    if o.get("axis", -1) not in (None, ()):
        last_axis(o, shapes)
    if mean is not None and variance is not None:
        return Made((new("Normalization", _flat(mean), _flat(variance)),), ())
    layer = new("Normalization")
    held = (("mean", layer), ("variance", layer), ("count", None))
    return Made((layer,), tuple(Held(name, module, name) for name, module in held))


def _flat(value: Any) -> Any:
    """Return numbers without the axes that Keras may write around them."""
    while isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    return value


# ---------------------------------------------------------------------- windows, shapes
def _pool(name: str) -> Maker:
    def make(o: Options, shapes: Shapes) -> Made:
        options = _window(o)
        options["stride"] = o.get("strides")
        if name.endswith("1D"):
            options = {key: _one(value) for key, value in options.items()}
            return Made((new(name, _one(o.get("pool_size", 2)), **options),))
        return Made((new(name, o.get("pool_size", 2), **options),))

    return make


def _global_pool(name: str, window: str) -> Maker:
    def make(o: Options, shapes: Shapes) -> Made:
        o.only("keepdims", False, True)
        # The window that is the whole image leaves its axes.
        return Made((new(window, shapes[0][:2]) if o.get("keepdims") else new(name),))

    return make


for _kind, _name in {"Max": "MaxPool", "Average": "AvgPool"}.items():
    for _rank in ("1D", "2D"):
        row(f"{_kind}Pooling{_rank} {_name}{_rank}", f"{_name}{_rank}")(_pool(f"{_name}{_rank}"))
_AVERAGES, _MAXIMA = "GlobalAveragePooling2D GlobalAvgPool2D", "GlobalMaxPooling2D GlobalMaxPool2D"
row(_AVERAGES, "GlobalAvgPool2D")(_global_pool("GlobalAvgPool2D", "AvgPool2D"))
row(_MAXIMA, "GlobalMaxPool2D")(_global_pool("GlobalMaxPool2D", "MaxPool2D"))


@row("GlobalAveragePooling1D GlobalAvgPool1D", "GlobalAvgPool1D")
def _global_average_1d(o: Options, shapes: Shapes) -> Made:
    o.only("keepdims", False)
    return Made((new("GlobalAvgPool1D"),))


@row("UpSampling2D", "UpSample2D")
def _upsampling(o: Options, shapes: Shapes) -> Made:
    o.only("interpolation", "nearest", "bilinear")
    method = o.get("interpolation", "nearest")
    return Made((new("UpSample2D", o.get("size", 2), method=method),))


@row("ZeroPadding2D", "Pad2D")
def _zero_padding(o: Options, shapes: Shapes) -> Made:
    return Made((new("Pad2D", o.get("padding", 1)),))


@row("Cropping2D", "Cropping2D")
def _cropping(o: Options, shapes: Shapes) -> Made:
    return Made((new("Cropping2D", o.get("cropping", 0)),))


@row("Flatten", "Flatten")
def _flatten(o: Options, shapes: Shapes) -> Made:
    return Made((new("Flatten"),))


@row("Reshape", "Reshape")
def _reshape(o: Options, shapes: Shapes) -> Made:
    return Made((new("Reshape", o.need("target_shape")),))


@row("Permute", "Permute")
def _permute(o: Options, shapes: Shapes) -> Made:
    return Made((new("Permute", o.need("dims")),))


# ---------------------------------------------------------------------- the rest
@row("Dropout", "Dropout")
def _dropout(o: Options, shapes: Shapes) -> Made:
    noise, shape = o.get("noise_shape"), shapes[0]
    rate = o.need("rate")
    if noise is None or noise == (None,) * (len(shape) + 1):
        return Made((new("Dropout", rate),))
    if isinstance(noise, tuple) and noise[1:] == (1,) * len(shape):
        return Made((new("StochasticDepth", rate),))
    raise ValueError(f"noise_shape: expected that of values or whole samples, got {noise!r:.60}")


@row("SpatialDropout2D", "SpatialDropout2D")
def _spatial_dropout(o: Options, shapes: Shapes) -> Made:
    return Made((new("SpatialDropout2D", o.need("rate")),))


@row("Identity")
def _identity(o: Options, shapes: Shapes) -> Made:
    return Made(())


def _merging(name: str) -> Maker:
    return lambda o, shapes: Made((new(name),))


for _name in ("Add", "Multiply", "Subtract", "Maximum", "Minimum"):
    row(_name, _name)(_merging(_name))
for _name in ("Add", "Multiply"):
    row(f"ops.{_name}", _name)(_merging(_name))


@row("Concatenate", "Concat")
def _concatenate(o: Options, shapes: Shapes) -> Made:
    return Made((new("Concat", axis_of(o, len(shapes[0]) + 1)),))


# ---------------------------------------------------------------------- what has a row
def known() -> list[str]:
    """Return the names of the layers that are read."""
    own = [kind for kind, row in ROWS.items() if all(hasattr(nn, each) for each in row.needs)]
    return sorted(kind for kind in own if not kind.startswith("ops."))


def unknown_in(layer: Layer) -> str | None:
    """Return what is not known of a layer, by its own class or by that of its activation."""
    row = ROWS.get(f"ops.{layer.kind}" if layer.is_op else layer.kind)
    if row is None or not all(hasattr(nn, each) for each in row.needs):
        return f"{'ops.' * layer.is_op}{layer.kind:.60}"
    value = layer.options.get("activation")
    inner = inner_activation(value)
    if inner is not None:
        return unknown_in(inner)
    return None if knows_activation(value) else f"the activation {value!r:.60}"
