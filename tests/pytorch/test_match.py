"""Which array of a state dict goes where, by hand: names, order, axes, what is said of the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layers import LAYERS
from torch_files import ARRAYS, honest

from fastcnn import nn, pytorch
from fastcnn.pytorch._layers import _THERE


def counted(*shape: int, start: int = 0) -> np.ndarray:
    return np.arange(start, start + np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)


def small() -> nn.Sequential:
    """A model of each kind of array, with a flattened image of 2x3 pixels and 2 channels."""
    model = nn.Sequential(
        [
            nn.Conv2D(2, (2, 1), activation="relu"),
            nn.BatchNorm(),
            nn.Flatten(),
            nn.Dense(2, use_bias=False),
        ]
    )
    model.build((3, 3, 1))
    return model


def state() -> dict[str, np.ndarray]:
    """Its state dict in PyTorch."""
    return {
        "0.weight": counted(2, 1, 2, 1),
        "0.bias": counted(2, start=10),
        "1.weight": counted(2, start=20),
        "1.bias": counted(2, start=30),
        "1.running_mean": counted(2, start=40),
        "1.running_var": counted(2, start=50),
        "1.num_batches_tracked": np.array(9),
        "3.weight": counted(2, 12),
    }


def require_loaded(model: nn.Sequential) -> None:
    """By hand: a kernel (O, I, R, S) is (R, S, I, O) here, rows of C, H, W are rows of H, W, C."""
    found = model.state_dict()
    np.testing.assert_array_equal(found["0.weight"].squeeze(), [[0, 2], [1, 3]])
    np.testing.assert_array_equal(found["0.bias"], [10, 11])
    np.testing.assert_array_equal(found["1.gamma"], [20, 21])
    np.testing.assert_array_equal(found["1.beta"], [30, 31])
    np.testing.assert_array_equal(found["1.running_mean"], [40, 41])
    np.testing.assert_array_equal(found["1.running_variance"], [50, 51])
    rows = [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]
    np.testing.assert_array_equal(found["3.weight"][:, 0], rows)
    np.testing.assert_array_equal(found["3.weight"][:, 1], np.array(rows) + 12)


def test_by_name() -> None:
    model = small()
    report = model.load_pytorch_state(state())
    require_loaded(model)
    assert report == pytorch.Loaded(
        {
            "0.weight": "0.weight",
            "0.bias": "0.bias",
            "1.gamma": "1.weight",
            "1.beta": "1.bias",
            "1.running_mean": "1.running_mean",
            "1.running_variance": "1.running_var",
            "3.weight": "3.weight",
        },
        (),
        (),
    )


def test_names_decide_where_all_are_there() -> None:
    """Of two layers alike the state lists the second first."""
    model = nn.Sequential([nn.Dense(2, use_bias=False), nn.Dense(2, use_bias=False)])
    model.build((2,))
    twin = {"1.weight": counted(2, 2, start=10), "0.weight": counted(2, 2)}
    model.load_pytorch_state(twin)
    np.testing.assert_array_equal(model.state_dict()["0.weight"], [[0, 2], [1, 3]])
    np.testing.assert_array_equal(model.state_dict()["1.weight"], [[10, 12], [11, 13]])


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod."])
def test_names_of_wrappers(wrapper: str) -> None:
    model = small()
    report = model.load_pytorch_state({f"{wrapper}{k}": v for k, v in state().items()})
    require_loaded(model)
    assert report.loaded["0.weight"] == "0.weight"


def test_in_order() -> None:
    names = {"0": "features.conv1", "1": "features.bn1", "3": "fc"}
    other = {f"{names[name[0]]}{name[1:]}": array for name, array in state().items()}
    model = small()
    report = model.load_pytorch_state(other)
    require_loaded(model)
    assert report.loaded["1.running_variance"] == "features.bn1.running_var"
    # Another order of modules of other kinds or shapes is none.
    model = small()
    model.load_pytorch_state(dict(reversed(other.items())))
    require_loaded(model)


def test_in_order_each_takes_the_next_of_its_kind_and_shape() -> None:
    model = nn.Sequential([nn.Conv2D(2, 1, use_bias=False), nn.BatchNorm(), nn.Conv2D(2, 1)])
    model.build((1, 1, 2))
    other = {
        "b.weight": counted(2, 2, 1, 1, start=10),
        "b.bias": counted(2),
        "a.weight": counted(2, 2, 1, 1, start=20),
        "n.weight": counted(2),
        "n.bias": counted(2),
        "n.running_mean": counted(2),
        "n.running_var": counted(2),
    }
    report = model.load_pytorch_state(other)
    assert report.loaded["0.weight"] == "a.weight"
    assert report.loaded["2.weight"] == "b.weight"


def test_a_1x1_convolution_may_be_a_dense_layer() -> None:
    """As in gates behind a global average, which PyTorch's models compute as images."""
    model = nn.Sequential([nn.GlobalAvgPool2D(), nn.Dense(2), nn.Dense(3)])
    model.build((2, 2, 3))
    other = {
        "a.weight": counted(2, 3, 1, 1),
        "a.bias": counted(2),
        "b.weight": counted(3, 2),
        "b.bias": counted(3),
    }
    model.load_pytorch_state(other)
    np.testing.assert_array_equal(model.state_dict()["1.weight"], counted(2, 3).T)


def test_names_that_are_given() -> None:
    names = {"": "net", "0": "conv1", "3": "net.head.fc"}
    there = {"0": "conv1", "1": "net.1", "3": "net.head.fc"}
    other = {f"{there[name[0]]}{name[1:]}": array for name, array in state().items()}
    model = small()
    report = model.load_pytorch_state(other, names=names)
    require_loaded(model)
    assert report.loaded["1.gamma"] == "net.1.weight"
    with pytest.raises(ValueError, match=r"left are .*0\.weight \(2, 1, 2, 1\) here and conv1"):
        small().load_pytorch_state(other, names={"0": "conv2", "1": "net.1", "3": "net.head.fc"})
    for wrong, kind, message in [
        ({"4": "a"}, ValueError, "names: expected names of the model's layers, got '4'"),
        ({"0": 3}, TypeError, "names: expected strings, got '0': 3"),
        ("0", TypeError, "names: expected a dict of names, got str"),
    ]:
        with pytest.raises(kind, match=message):
            small().load_pytorch_state(other, names=wrong)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- what does not fit
def test_what_does_not_fit_is_said_and_nothing_changes() -> None:
    model = small()
    before = model.state_dict()
    other = {**state(), "3.weight": counted(3, 12), "4.weight": counted(2)}
    del other["0.bias"]
    with pytest.raises(ValueError, match="left are") as error:
        model.load_pytorch_state(other)
    assert str(error.value) == (
        "load_pytorch_state: expected an array of PyTorch's for each of the model's, and none "
        "besides; left are (shapes are PyTorch's) 3.weight (2, 12) here and 3.weight (3, 12) "
        "there; 0.bias (2,) here and 4.weight (2,) there"
    )
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_not_strict() -> None:
    """A head of other classes stays as it is."""
    model = small()
    before = model.state_dict()["3.weight"]
    report = model.load_pytorch_state({**state(), "3.weight": counted(5, 12)}, strict=False)
    assert report.missing == ("3.weight",)
    assert report.unexpected == ("3.weight",)
    assert len(report.loaded) == 6
    np.testing.assert_array_equal(model.state_dict()["3.weight"], before)
    np.testing.assert_array_equal(model.state_dict()["0.bias"], [10, 11])


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"0.bias": np.array([1, 2])}, TypeError, "0.bias: expected floats, got int64"),
        ({"3.weight": np.full((2, 12), 1e39)}, ValueError, "3.weight: expected numbers that float"),
        ({"3.weight": [[1.0], [1.0, 2.0]]}, ValueError, "3.weight: expected an array"),
        ({"3.weight": None}, TypeError, "3.weight: expected an array, got NoneType"),
        ({3: np.ones(2)}, TypeError, "expected names that are strings, got int"),
    ],
)
def test_arrays_that_are_none(change: Any, kind: type[Exception], message: str) -> None:
    model = small()
    before = model.state_dict()
    with pytest.raises(kind, match=f"load_pytorch_state: {message}"):
        model.load_pytorch_state({**state(), **change})
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_arguments_that_are_wrong() -> None:
    with pytest.raises(RuntimeError, match="expected a built layer"):
        nn.Sequential([nn.Dense(2)]).load_pytorch_state({})
    with pytest.raises(TypeError, match="path: expected a file's name, got int"):
        small().load_pytorch_state(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="load_pytorch_state: strict: expected"):
        small().load_pytorch_state(state(), strict="no")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="load_pytorch_state: flatten: expected"):
        small().load_pytorch_state(state(), flatten="CHWN")


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(honest()["archive"])
    model = nn.Sequential([nn.Conv2D(2, 2, name="conv")])
    model.build((2, 2, 3))
    with pytest.raises(ValueError, match=r"nothing here and count \(\) there"):
        model.load_pytorch_state(tmp_path / "a.pt")
    report = model.load_pytorch_state(tmp_path / "a.pt", strict=False)
    assert report.unexpected == ("count",)
    np.testing.assert_array_equal(
        model.state_dict()["0.weight"], ARRAYS["conv.weight"].transpose(2, 3, 1, 0)
    )
    assert model.dtype == np.float32


# ---------------------------------------------------------------------- layers that are added
def test_every_layer_with_arrays_is_known() -> None:
    """Who adds a layer says in _THERE what its arrays are there: {} where they are the same."""
    known = tuple(kind for kind, _ in _THERE)
    for make, shape in LAYERS:
        layer = make()
        layer.build(shape)
        for module in layer.modules():
            assert not module._own() or isinstance(module, known), type(module).__name__
