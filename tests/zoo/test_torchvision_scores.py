"""Torchvision's architectures: with the same weights they answer the same."""

from __future__ import annotations

import numpy as np
import pytest
from torchvision_scores import CLASSES, SCORES, SHAPE, drawn, image

from fastcnn import Predictor, nn, zoo
from fastcnn.pytorch._layers import layers_of


def fill(model: nn.Module) -> None:
    """Draw the weights by the rule."""
    layers = layers_of(model)
    shapes = [{twin.name_there: twin.shape_there for twin in layer.twins} for layer in layers]
    for layer, arrays in zip(layers, drawn(shapes), strict=True):
        for twin in layer.twins:
            twin.variable.data[...] = twin.from_there(arrays[twin.name_there])


@pytest.mark.parametrize("name", SCORES)
def test_it_answers_as_torchvisions(name: str) -> None:
    models = [zoo.ARCHITECTURES[name](CLASSES, SHAPE) for _ in range(2)]
    for model, dtype in zip(models, (np.float64, np.float32), strict=True):
        model.build(SHAPE, dtype=dtype)
    fill(models[0])
    state = models[0].state_dict()
    models[1].load_state_dict({key: array.astype(np.float32) for key, array in state.items()})
    largest = np.abs(SCORES[name]).max()
    for model, part in zip(models, (1e-7, 1e-4), strict=True):
        found = Predictor(model)(image().astype(model.dtype))[0]
        np.testing.assert_allclose(found, SCORES[name], rtol=0, atol=part * largest)


def test_every_architecture_of_torchvision_is_among_them() -> None:
    others = {"lenet5", "mobilenet_v1", "resnet20", "unet"}
    large = {"vgg11", "vgg16"}  # half a gigabyte of weights; their layers are a chain
    assert set(SCORES) == set(zoo.names()) - others - large
