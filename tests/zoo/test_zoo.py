"""The architectures: as large and of the shapes that were published, and whole models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compare import assert_same_bits

import fastcnn
from fastcnn import nn, zoo

# Parameters: of torchvision's networks as its documentation has them; of MobileNet those that Keras
# trains of its own; of ResNet-20 the 269,722 of the paper and 2,752 of its 1x1 convolutions; of
# LeNet-5 and U-Net as commonly counted.
PARAMETERS = {
    "convnext_tiny": 28_589_128,
    "densenet121": 7_978_856,
    "efficientnet_b0": 5_288_548,
    "googlenet": 6_624_904,
    "lenet5": 61_706,
    "mobilenet_v1": 4_231_976,
    "mobilenet_v2": 3_504_872,
    "mobilenet_v3_large": 5_483_032,
    "mobilenet_v3_small": 2_542_856,
    "regnet_y_400mf": 4_344_144,
    "resnet18": 11_689_512,
    "resnet20": 272_474,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "shufflenet_v2_x1_0": 2_278_604,
    "squeezenet1_0": 1_248_424,
    "squeezenet1_1": 1_235_496,
    "unet": 31_037_698,
    "vgg11": 132_863_336,
    "vgg16": 138_357_544,
}
# The input of other sizes that each takes.
SMALL = dict.fromkeys(PARAMETERS, (64, 48, 3)) | {"lenet5": (20, 24, 1)}
BUILT = [name for name in SMALL if not name.startswith("vgg")]  # whose weights are half a gigabyte


def test_the_table_holds_every_function() -> None:
    functions = [name for name in zoo.__all__ if name not in ("ARCHITECTURES", "names")]
    assert list(zoo.names()) == sorted(functions) == list(zoo.ARCHITECTURES)
    for name, make in zoo.ARCHITECTURES.items():
        assert make is getattr(zoo, name)
    assert fastcnn.zoo is zoo


@pytest.mark.parametrize("name", zoo.names())
def test_it_is_as_large_as_published(name: str) -> None:
    model = zoo.ARCHITECTURES[name]()
    assert not model.built
    assert model.parameter_count == PARAMETERS[name]
    last = model.output_shape[-1]
    assert last == {"lenet5": 10, "resnet20": 10, "unet": 2}.get(name, 1000)
    assert f"{PARAMETERS[name]:,}" in " ".join((zoo.ARCHITECTURES[name].__doc__ or "").split())


@pytest.mark.parametrize("name", zoo.names())
def test_images_of_other_sizes_and_other_classes(name: str) -> None:
    model = zoo.ARCHITECTURES[name](3, SMALL[name])
    assert model.input_shape == SMALL[name]
    assert model.output_shape == ((64, 48, 3) if name == "unet" else (3,))


def test_vgg_with_batch_normalization() -> None:
    model = zoo.vgg16(batch_norm=True)
    assert model.parameter_count == 138_365_992  # of torchvision's vgg16_bn
    convolution, norm, relu, *_ = model
    assert [type(each) for each in (convolution, norm, relu)] == [nn.Conv2D, nn.BatchNorm, nn.ReLU]


def test_what_is_left_out_without_dropout() -> None:
    def rates(model: Any) -> list[float]:
        return [each.rate for each in model.modules() if isinstance(each, nn.Dropout)]

    assert rates(zoo.mobilenet_v2()) == [0.2]
    assert rates(zoo.vgg11()) == [0.5, 0.5]
    for name in ("googlenet", "mobilenet_v2", "mobilenet_v3_small", "squeezenet1_1", "vgg11"):
        assert rates(zoo.ARCHITECTURES[name](dropout=0.0)) == []
    drops = rates(zoo.convnext_tiny())
    np.testing.assert_allclose(drops, np.linspace(0, 0.1, 18)[1:])
    assert rates(zoo.convnext_tiny(drop_path=0.0)) == []
    # Of the sixteen blocks, those that have a shortcut.
    numbers = np.array([2, 4, 6, 7, 9, 10, 12, 13, 14])
    np.testing.assert_allclose(rates(zoo.efficientnet_b0()), [*0.2 * numbers / 16, 0.2])


@pytest.mark.parametrize(("upsampling", "layer"), [("nearest", nn.UpSample2D),
    ("bilinear", nn.UpSample2D), ("transposed", nn.Conv2DTranspose)])  # fmt: skip
def test_unets_of_other_depths(upsampling: str, layer: type[nn.Module]) -> None:
    model = zoo.unet(1, (24, 16, 1), filters=4, depth=3, upsampling=upsampling)
    assert model.output_shape == (24, 16, 1)
    assert sum(isinstance(each, layer) for each in model.layers) == 3
    widest = max(each.filters for each in model.modules() if isinstance(each, nn.Conv2D))
    assert widest == 4 * 2**3


@pytest.mark.parametrize("name", BUILT)
def test_it_learns_and_its_file_brings_it_back(name: str, tmp_path: Path) -> None:
    shape = SMALL[name]
    model = zoo.ARCHITECTURES[name](3, shape)
    x = np.random.default_rng(0).random((2, *shape), np.float32)
    y: Any = np.array([0, 2])
    if name == "unet":
        y = np.zeros((2, *shape), np.float32)
    trainer = fastcnn.Trainer(
        model,
        optimizer=fastcnn.optim.SGD(1e-3),
        loss="mean_squared_error" if name == "unet" else "cross_entropy",
    )
    model.build(shape)
    before = model.state_dict()
    history = trainer.fit(x, y, epochs=1, batch_size=2, verbose=False)
    assert np.isfinite(history["loss"]).all()
    after = model.state_dict()
    first, *_, last = (key for key in before if key.endswith("weight"))
    assert (after[first] != before[first]).any()  # the gradient has come through all of it
    assert (after[last] != before[last]).any()
    model.save(tmp_path / "model.safetensors")
    again = fastcnn.load(tmp_path / "model.safetensors")
    assert_same_bits((fastcnn.Predictor(again)(x),), (fastcnn.Predictor(model)(x),))


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (lambda: zoo.resnet18(0), ValueError, "resnet18: classes: expected an integer of at least"),
        (lambda: zoo.resnet50("10"), TypeError, "resnet50: classes: expected an integer, got str"),  # type: ignore[arg-type]
        (lambda: zoo.vgg11(10, 224), TypeError, "vgg11: input_shape: expected a shape such as"),  # type: ignore[arg-type]
        (lambda: zoo.lenet5(10, (28, 28)), ValueError, r"lenet5: input_shape: .*\(H, W, C\)"),
        (lambda: zoo.vgg16(10, (16, 16, 3)), ValueError, "vgg16: layer .*: MaxPool2D: expected an"),
        (lambda: zoo.googlenet(10, (8, 8, 3)), ValueError, "googlenet: MaxPool2D: expected an inp"),
        (lambda: zoo.vgg11(batch_norm=1), TypeError, "vgg11: batch_norm: expected True or False"),  # type: ignore[arg-type]
        (lambda: zoo.resnet18(num_classes=10), TypeError, "resnet18: .* did you mean classes"),  # type: ignore[call-arg]
        (lambda: zoo.mobilenet_v2(dropout=1), ValueError, "mobilenet_v2: Dropout: rate: expected"),
        (lambda: zoo.mobilenet_v1(activation="rel"), ValueError, "activation: expected one of"),
        (lambda: zoo.convnext_tiny(drop_path=1), ValueError, "StochasticDepth: rate: expected"),
        (lambda: zoo.unet(1, (40, 32, 3)), ValueError, r"unet: input_shape: .* that 16 divides.*"),
        (lambda: zoo.unet(depth=0), ValueError, "unet: depth: expected an integer of at least 1"),
        (lambda: zoo.unet(filters=0), ValueError, "unet: filters: expected an integer of at leas"),
        (lambda: zoo.unet(upsampling="cubic"), ValueError, "unet: upsampling: expected one of"),
    ],
)
def test_errors(make: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        make()


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match=r"fastcnn.zoo has no resnet19: did you mean zoo\.res"):
        zoo.resnet19  # noqa: B018
