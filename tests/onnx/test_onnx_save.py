"""Models as ONNX files: checked, run in ONNX Runtime, and read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import graphs
import layers
import numpy as np
import pytest
from onnx_files import answers

import fastcnn
from fastcnn import nn

onnx = pytest.importorskip("onnx", reason="onnx is not installed: no files")
OPSETS = (13, 17, 20, 24)


def first(x: Any, layout: str = "NCHW") -> Any:
    """Return images as a file has them."""
    return x.transpose(0, 3, 1, 2) if layout == "NCHW" and x.ndim == 4 else x


def last(x: Any, layout: str = "NCHW") -> Any:
    return x.transpose(0, 2, 3, 1) if layout == "NCHW" and x.ndim == 4 else x


def built(model: Any, shape: Any = None) -> Any:
    """Return a model with weights of its own everywhere."""
    model.build(seed=1) if shape is None else model.build(shape, seed=1)
    rng = np.random.default_rng(2)
    for name, variable in model.variables().items():
        low = 0.5 if name.endswith("variance") else -0.5
        variable.data[...] = rng.uniform(low, 1.0, variable.shape)
    return model


def same(found: Any, wanted: Any) -> None:
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max()))


def refusal(layer: str, opset: int) -> str:
    """Return what is said of a layer that ONNX has no operator for."""
    if "Resize2D(size=4, scale=1.7" in layer:
        return r"resize2d: expected the size that its scale gives"
    if "AvgPool" in layer and "dilation=" in layer and opset < 19:
        return r"avg_pool2d: expected opset 19 for means of dilated windows"
    return ""


def through(model: Any, path: Path, inputs: list[Any], **options: Any) -> Path:
    """Save a model, run it in ONNX Runtime and, read again, here; each gives what it gives."""
    given = [x.astype(np.float32) for x in inputs]
    made = fastcnn.Predictor(model)(*given)
    wanted = list(made) if isinstance(made, (list, tuple)) else [made]
    lacking = refusal(repr(model), options.get("opset", 17))
    if lacking:
        with pytest.raises(ValueError, match=lacking):
            fastcnn.onnx.save(model, path, **options)
        return path
    fastcnn.onnx.save(model, path, **options)
    onnx.checker.check_model(str(path), full_check=True)
    layout = options.get("layout", "NCHW")
    names = [each.name for each in onnx.load(path).graph.input]
    feeds = {name: first(x, layout) for name, x in zip(names, given, strict=True)}
    for y, other in zip(answers(path, feeds), wanted, strict=True):
        same(last(y, layout), other)
    again = fastcnn.onnx.load(path, layout="file")
    made = fastcnn.Predictor(again)(*feeds.values())
    for y, other in zip(list(made) if isinstance(made, (list, tuple)) else [made], wanted,
                        strict=True):  # fmt: skip
        same(last(y, layout), other)
    return path


# ---------------------------------------------------------------------- layers
@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(("make", "shape"), layers.LAYERS, ids=layers.IDS)
def test_every_layer(make: Any, shape: Any, opset: int, tmp_path: Path) -> None:
    model = built(nn.Sequential([make()]), shape)
    x = np.random.default_rng(0).standard_normal((3, *shape))
    through(model, tmp_path / "model.onnx", [x], opset=opset)


@pytest.mark.parametrize(("make", "shape"), layers.LAYERS, ids=layers.IDS)
def test_every_layer_with_channels_last_and_folded(make: Any, shape: Any, tmp_path: Path) -> None:
    model = built(nn.Sequential([make()]), shape)
    if len(model.output_shape) != 2:  # which batch normalization does not take
        model = built(nn.Sequential([make(), nn.BatchNorm()]), shape)
    x = np.random.default_rng(0).standard_normal((3, *shape))
    through(model, tmp_path / "model.onnx", [x], layout="NHWC", fold=True)


# ---------------------------------------------------------------------- networks
@pytest.mark.parametrize("name", {**graphs.NETWORKS, **graphs.SEVERAL})
@pytest.mark.parametrize("fold", [False, True])
def test_every_network(name: str, fold: bool, tmp_path: Path) -> None:
    model = {**graphs.NETWORKS, **graphs.SEVERAL}[name]()
    model = built(model, None if isinstance(model, nn.Model) else graphs.SHAPE)
    path = tmp_path / "model.onnx"
    if any(word in name for word in ("Foreign", "Product", "Pair")) and "Traceable" not in name:
        with pytest.raises(ValueError, match="save: expected ops that ONNX has, got python of "):
            fastcnn.onnx.save(model, path)
        assert not path.exists()
        return
    through(model, path, graphs.inputs_of(model), fold=fold)


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        [
            nn.Conv2D(4, 3, padding="same", activation="relu"), nn.BatchNorm(), nn.MaxPool2D(2),
            nn.Conv2D(4, 3, stride=2, padding=1, activation="silu"), nn.UpSample2D(2),
            nn.DepthwiseConv2D(3, padding="same"), nn.GroupNorm(2), nn.Conv2D(2, 1),
        ]
    )  # fmt: skip


@pytest.mark.parametrize("opset", OPSETS)
def test_images_of_any_size(opset: int, tmp_path: Path) -> None:
    model = built(convolutional(), (16, 16, 3))
    path = tmp_path / "model.onnx"
    x = np.random.default_rng(0).standard_normal((2, 16, 16, 3))
    through(model, path, [x], opset=opset, any_size=True)
    loaded = fastcnn.onnx.load(path)
    assert loaded.input_shape == (None, None, 3)
    for rows, columns in ((16, 16), (20, 12), (33, 27)):
        x = np.random.default_rng(0).standard_normal((2, rows, columns, 3)).astype(np.float32)
        (wanted,) = answers(path, {"x": first(x)})
        same(fastcnn.Predictor(loaded)(x), last(wanted))


@pytest.mark.parametrize(
    "layer",
    [nn.Flatten(), nn.Resize2D((4, 4)), nn.AdaptiveAvgPool2D(3)],
    ids=lambda x: type(x).__name__,
)
def test_any_size_is_refused_where_something_depends_on_it(layer: Any, tmp_path: Path) -> None:
    model = built(nn.Sequential([nn.Conv2D(2, 3), layer]), (9, 9, 3))
    with pytest.raises(ValueError, match=r"^save: "):
        fastcnn.onnx.save(model, tmp_path / "model.onnx", any_size=True)
    assert not list(tmp_path.iterdir())


def test_folded_files_hold_no_batch_normalization(tmp_path: Path) -> None:
    model = built(nn.Sequential([nn.Conv2D(4, 3, use_bias=False), nn.BatchNorm(), nn.ReLU()]),
                  (6, 6, 3))  # fmt: skip
    for fold, ops in ((False, ["Conv", "BatchNormalization", "Relu"]), (True, ["Conv", "Relu"])):
        fastcnn.onnx.save(model, tmp_path / "a.onnx", fold=fold)
        graph = onnx.load(tmp_path / "a.onnx").graph
        assert [each.op_type for each in graph.node] == [*ops, "Identity"]


def test_names_are_those_of_the_model(tmp_path: Path) -> None:
    a, b = nn.Input((4, 4, 2), name="image"), nn.Input((3,), name="meta")
    z = nn.concat([nn.GlobalAvgPool2D()(nn.Conv2D(3, 3)(a)), b])
    model = built(nn.Model([a, b], [nn.Dense(2, name="digit")(z), nn.Dense(1, name="even")(z)]))
    fastcnn.onnx.save(model, tmp_path / "a.onnx")
    graph = onnx.load(tmp_path / "a.onnx").graph
    assert [each.name for each in graph.input] == list(model.input_names)
    assert [each.name for each in graph.output] == list(model.output_names)
    held = {each.name for each in graph.initializer}
    assert held >= set(model.state_dict())


def test_a_model_of_doubles_is_a_file_of_doubles(tmp_path: Path) -> None:
    model = nn.Sequential([nn.Conv2D(3, 3), nn.ELU(), nn.GlobalAvgPool2D()])
    model.build((5, 5, 2), seed=0, dtype=np.float64)
    path = tmp_path / "a.onnx"
    fastcnn.onnx.save(model, path)
    x = np.random.default_rng(0).standard_normal((2, 5, 5, 2))
    wanted = fastcnn.Predictor(model)(x)
    found = fastcnn.Predictor(fastcnn.onnx.load(path, dtype="float64"))(x)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-13)
    kind = onnx.load(path).graph.input[0].type.tensor_type.elem_type
    assert kind == 11


# ---------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"opset": 12}, ValueError, "save: opset: expected an integer of at least 13, got 12"),
        ({"opset": 25}, ValueError, "save: opset: expected 13 to 24, got 25"),
        ({"opset": 17.0}, TypeError, "save: opset: expected an integer, got "),
        ({"layout": "HWC"}, ValueError, "save: layout: expected "),
        ({"fold": 1}, TypeError, "save: fold: expected "),
        ({"any_size": None}, TypeError, "save: any_size: expected "),
    ],
)
def test_options_that_are_none(options: Any, error: Any, said: str, tmp_path: Path) -> None:
    model = built(nn.Sequential([nn.Dense(2)]), (3,))
    with pytest.raises(error, match=f"^{said}"):
        fastcnn.onnx.save(model, tmp_path / "a.onnx", **options)


def test_models_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"^save: model: expected a fastcnn.nn model, got int$"):
        fastcnn.onnx.save(3, tmp_path / "a.onnx")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="weights"):
        fastcnn.onnx.save(nn.Sequential([nn.Dense(2)]), tmp_path / "a.onnx")


def test_a_file_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    model = built(nn.Sequential([nn.Dense(2)]), (3,))
    with pytest.raises(OSError, match="none"):
        fastcnn.onnx.save(model, tmp_path / "none" / "a.onnx")
    path = tmp_path / "a.onnx"
    path.write_bytes(b"before")
    with pytest.raises(ValueError, match="ops that ONNX has"):
        fastcnn.onnx.save(built(graphs.NETWORKS["Product"]()), path)
    assert path.read_bytes() == b"before"
