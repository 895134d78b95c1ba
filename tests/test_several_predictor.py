"""Predictors of models with several inputs and outputs."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from several import branched, directly, inputs

import fastcnn
from fastcnn import nn


# ---------------------------------------------------------------------- Predictor
@pytest.mark.parametrize("count", [1, 5])
def test_a_predictor_takes_inputs_in_their_order_and_gives_a_list(count: int, backend: Any) -> None:
    model = branched()
    predictor = fastcnn.Predictor(model, backend)
    batches = [inputs(count, seed) for seed in range(2)]  # the second by what was prepared
    for found, given in [(predictor(*given), given) for given in batches]:
        assert isinstance(found, list)
        assert len(found) == 2
        for one, wanted in zip(found, directly(model, *given, fastcnn.reference), strict=True):
            np.testing.assert_allclose(one, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_copies_of_a_predictor_take_several_inputs(twin: Any) -> None:
    predictor, given = fastcnn.Predictor(branched()), inputs(3)
    for one, wanted in zip(twin(predictor)(*given), predictor(*given), strict=True):
        np.testing.assert_array_equal(one, wanted)


def test_a_list_of_one_is_one() -> None:
    """A model whose one input, or whose one output, was given in a list."""
    numbers = inputs(3)[1]
    for ends in ("both", "input", "output"):
        x = nn.Input((4,))
        y = nn.Dense(2)(x)
        model = nn.Model(x if ends == "output" else [x], y if ends == "input" else [y])
        model.build()
        found = fastcnn.Predictor(model)(numbers)
        layer: Any = model.layers[0]
        wanted = numbers @ layer.weight.data + layer.bias.data
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


IMAGES, NUMBERS = inputs(5)


@pytest.mark.parametrize(
    ("given", "kind", "sentence"),
    [
        ((IMAGES,), TypeError, "Predictor: expected 2 inputs, as many as the model takes, got 1"),
        (([IMAGES, NUMBERS],), TypeError, r"got 1; a list of them goes in as predictor\(\*inputs"),
        ((IMAGES, NUMBERS, NUMBERS), TypeError, "expected 2 inputs.* got 3"),
        ((IMAGES, NUMBERS[:3]), ValueError, r"^inputs\[1\]: expected 5 samples.*got shape \(3, 4"),
        ((NUMBERS, IMAGES), ValueError, r"^inputs\[0\]: expected a batch of shape \(n, 8, 8, 1"),
        ((IMAGES, NUMBERS.astype(int)), TypeError, r"^inputs\[1\]: expected uint8"),
        ((IMAGES, NUMBERS[:, :3]), ValueError, r"^inputs\[1\]: expected a batch of shape \(n, 4"),
    ],
)
def test_a_predictor_names_the_input(given: Any, kind: Any, sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        fastcnn.Predictor(branched())(*given)


def test_a_predictor_of_one_input_takes_one() -> None:
    model = nn.Sequential([nn.Dense(2)])
    model.build((4,))
    with pytest.raises(TypeError, match="expected 1 input, as many as the model takes, got 2"):
        fastcnn.Predictor(model)(NUMBERS, NUMBERS)


def test_an_input_may_have_any_name() -> None:
    symbols = {name: nn.Input((2,)) for name in ("self", "inputs", "named", "x", "größe")}
    model = nn.Model(symbols, nn.concat(list(symbols.values())))
    model.build()
    arrays = {name: np.full((1, 2), at, np.float32) for at, name in enumerate(symbols)}
    joined = fastcnn.Predictor(model)(**arrays)
    np.testing.assert_array_equal(joined, np.concatenate(list(arrays.values()), axis=1))
