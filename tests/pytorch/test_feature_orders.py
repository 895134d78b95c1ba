"""Features of images, which PyTorch has in C, H, W order and this library in H, W, C, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_match import counted, small

from fastcnn import nn
from fastcnn.pytorch._layers import layers_of


def order_of(model: nn.Module, name: str, features: int, **options: Any) -> np.ndarray:
    """Which of PyTorch's features each row of a dense layer is for."""
    twin = {}
    for key, array in saved(model).items():
        twin[key] = np.zeros_like(array)
        if key == name:
            twin[key][0] = np.arange(features)
    model.load_pytorch_state(twin, **options)
    return model.state_dict()[name][:, 0].astype(int)


def saved(model: nn.Module) -> dict[str, np.ndarray]:
    """The twin's state dict, without numbers of batches."""
    return {
        f"{layer.prefix}{twin.name_there}": twin.to_there()
        for layer in layers_of(model)
        for twin in layer.twins
    }


IMAGE = counted(2, 2, 3).astype(int)  # (C, H, W), each pixel by its place in PyTorch


@pytest.mark.parametrize("flatten", ["CHW", "CWH", "HWC", "HCW", "WHC", "WCH"])
def test_every_order_of_axes(flatten: str) -> None:
    """Pixels as PyTorch flattens them, and where each of them is in H, W, C."""
    model = nn.Sequential([nn.Flatten(), nn.Dense(1)])
    model.build((2, 3, 2))
    axes = ["CHW".index(letter) for letter in flatten]
    there = IMAGE.transpose(axes).ravel()
    place = {int(pixel): at for at, pixel in enumerate(there)}
    expected = [place[int(pixel)] for pixel in IMAGE.transpose(1, 2, 0).ravel()]
    np.testing.assert_array_equal(order_of(model, "1.weight", 12, flatten=flatten), expected)


HWC = IMAGE.transpose(1, 2, 0).ravel()


class Scale(nn.Module):
    """A layer of one's own with one number."""

    traceable = True

    def declare(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        self.scale = self.declare_parameter("scale", (1,), lambda rng: np.ones(1))
        return input_shape

    def forward(self, x: Any, backend: Any, **options: Any) -> Any:  # type: ignore[override]
        return backend.multiply(x, self.scale.data)


@pytest.mark.parametrize(
    "between",
    [
        [],
        [nn.Dropout(0.5)],
        [nn.ReLU(), nn.Flatten()],
        [nn.BatchNorm(), nn.HardSwish()],
        [nn.Residual(nn.Tanh())],
        [nn.Sequential([nn.Sigmoid()])],
        [Scale()],
    ],
)
def test_what_lies_between_hands_the_order_on(between: list[nn.Module]) -> None:
    model = nn.Sequential([nn.Flatten(), *between, nn.Dense(12), nn.Dense(12)])
    model.build((2, 3, 2))
    at = len(between) + 1
    np.testing.assert_array_equal(order_of(model, f"{at}.weight", 12), HWC)
    np.testing.assert_array_equal(order_of(model, f"{at + 1}.weight", 12), np.arange(12))


def test_batch_normalization_of_a_flattened_image() -> None:
    model = nn.Sequential([nn.Flatten(), nn.BatchNorm()])
    model.build((2, 3, 2))
    names = ("weight", "bias", "running_mean", "running_var")
    model.load_pytorch_state({f"1.{name}": np.arange(12.0) for name in names})
    for array in model.state_dict().values():
        np.testing.assert_array_equal(array, HWC)


def test_biases_are_over_outputs_where_they_are_as_many_as_features() -> None:
    model = nn.Sequential([nn.Flatten(), nn.Dense(12)])
    model.build((2, 3, 2))
    model.load_pytorch_state({"1.weight": np.zeros((12, 12)), "1.bias": np.arange(12.0)})
    np.testing.assert_array_equal(model.state_dict()["1.bias"], np.arange(12))


def test_joined_features() -> None:
    x = nn.Input((2, 3, 2))
    joined = nn.concat([nn.Flatten()(x), nn.GlobalAvgPool2D()(x), nn.Flatten()(nn.ReLU()(x))])
    model = nn.Model(x, nn.Dense(1)(joined))
    model.build()
    (name,) = (name for name in saved(model) if name.endswith("weight"))
    expected = [*HWC, 12, 13, *(HWC + 14)]
    np.testing.assert_array_equal(order_of(model, name, 26), expected)


@pytest.mark.parametrize("shape", [(1, 1, 4), (3, 2, 1), (4,)])
def test_where_both_have_one_order(shape: tuple[int, ...]) -> None:
    model = nn.Sequential([nn.Flatten(), nn.Dense(1)])
    model.build(shape)
    count = int(np.prod(shape))
    np.testing.assert_array_equal(order_of(model, "1.weight", count), np.arange(count))


class Image(nn.Module):
    """Features as an image of 2x3 pixels."""

    traceable = True

    def declare(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return 2, 3, input_shape[0] // 6

    def forward(self, x: Any, backend: Any, **options: Any) -> Any:  # type: ignore[override]
        return x.reshape(len(x), 2, 3, -1)


def test_an_image_made_of_features() -> None:
    """The outputs of a dense layer are in PyTorch's order, and so are its biases."""
    model = nn.Sequential([nn.Dense(12), nn.BatchNorm(), nn.ReLU(), Image(), nn.Conv2D(1, 1)])
    model.build((2,))
    names = ("weight", "bias", "running_mean", "running_var")
    twin = {
        "0.weight": np.stack([np.arange(12.0), np.arange(12.0)], 1),
        "0.bias": np.arange(12.0),
        **{f"1.{name}": np.arange(12.0) for name in names},
        "4.weight": np.zeros((1, 2, 1, 1)),
        "4.bias": np.zeros(1),
    }
    model.load_pytorch_state(twin)
    found = model.state_dict()
    for name in ("0.bias", "1.gamma", "1.beta", "1.running_mean", "1.running_variance"):
        np.testing.assert_array_equal(found[name], HWC, err_msg=name)
    np.testing.assert_array_equal(found["0.weight"], [HWC, HWC])
    for name, array in saved(model).items():
        np.testing.assert_array_equal(array, twin[name])


def test_a_dense_layer_between_two_images() -> None:
    model = nn.Sequential([nn.Flatten(), nn.Dense(12), nn.Tanh(), Image(), nn.Flatten()])
    model.build((2, 3, 2))
    weight = np.arange(144.0).reshape(12, 12)
    model.load_pytorch_state({"1.weight": weight, "1.bias": np.zeros(12)})
    np.testing.assert_array_equal(model.state_dict()["1.weight"], weight[np.ix_(HWC, HWC)].T)
    np.testing.assert_array_equal(saved(model)["1.weight"], weight)


def test_features_that_are_an_image_again() -> None:
    """Or that come as one, or whose order nobody can know."""
    back = nn.Sequential([nn.Flatten(), nn.ReLU(), Image(), nn.Conv2D(1, 1)])
    back.build((2, 3, 2))
    given = nn.Sequential([nn.BatchNorm(), Image(), nn.Conv2D(1, 1)])
    given.build((12,))
    for model in (back, given):
        twin = saved(model)
        assert model.load_pytorch_state(twin).missing == ()
        for name, array in saved(model).items():
            np.testing.assert_array_equal(array, twin[name])
    unknown = nn.Sequential([nn.GlobalAvgPool2D(), Image(), nn.Conv2D(1, 1)])
    unknown.build((2, 3, 12))
    with pytest.raises(ValueError, match=r"GlobalAvgPool2D 0: expected features of one order"):
        unknown.load_pytorch_state(saved(small()))


def test_a_layer_that_sees_features_in_two_orders() -> None:
    x, y = nn.Input((2, 3, 2)), nn.Input((12,))
    dense = nn.Dense(2)
    model = nn.Model([x, y], nn.add(dense(nn.Flatten()(x)), dense(y)))
    model.build()
    with pytest.raises(ValueError, match=r"Dense \d: expected features of one order .* at all"):
        model.load_pytorch_state({})
