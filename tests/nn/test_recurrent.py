"""The layer of a long short-term memory: in inference on every path, and in no training."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compare import assert_close, assert_same_bits
from layers import UNTRAINED

import fastcnn
from fastcnn import nn

NO_TRAINING = r"^LSTM: expected inference, for it has no gradient, got training$"


def network() -> nn.Sequential:
    """As in a recogniser of lines of text: a convolution, and columns as steps."""
    return nn.Sequential(
        [nn.Conv1D(6, 3, padding="same", activation="relu"), nn.LSTM(4, bidirectional=True)]
    )


@pytest.mark.parametrize(("make", "shape"), UNTRAINED)
def test_every_way_to_run_it(make: Any, shape: Any, fast_backend: Any, dtype: Any) -> None:
    layer = make()
    expected_shape = layer.build(shape, dtype=dtype)
    x = np.random.default_rng(0).standard_normal((5, *shape)).astype(dtype)
    y = layer(x, fast_backend)
    assert y.shape == (5, *expected_shape)
    assert_close(y, layer(x.astype("f8"), fastcnn.get_backend("reference")) if dtype == "f8" else
                 layer(x, fastcnn.get_backend("reference")))  # fmt: skip
    predict = fastcnn.Predictor(layer, backend=fast_backend)
    assert_same_bits((predict(x),), (y,))
    assert_same_bits((predict(x[1:2]),), (y[1:2],))
    assert_same_bits((layer.forward(x, fast_backend)[0],), (y,))
    assert "lstm" in str(layer.program(2))


def test_directions_and_sequences(backend: Any, dtype: Any, rng: Any) -> None:
    x = rng.standard_normal((2, 5, 3)).astype(dtype)
    both = nn.LSTM(4, bidirectional=True)
    both.build((5, 3), dtype=dtype)
    assert {name: array.shape for name, array in both.state_dict().items()} == {
        f"{prefix}{name}": shape
        for prefix in ("", "reverse_")
        for name, shape in [("weight", (3, 16)), ("recurrent_weight", (4, 16)), ("bias", (16,))]
    }
    y = both(x, backend)
    one, other = nn.LSTM(4), nn.LSTM(4)
    for layer, prefix, steps in ((one, "", x), (other, "reverse_", x[:, ::-1])):
        layer.build((5, 3), dtype=dtype)
        state = both.state_dict()
        layer.load_state_dict({name: state[f"{prefix}{name}"] for name in layer.state_dict()})
        found = layer(np.ascontiguousarray(steps), backend)
        part = y[..., :4] if layer is one else y[:, ::-1, 4:]
        assert_close(found, np.ascontiguousarray(part))
    last = nn.LSTM(4, bidirectional=True, return_sequences=False)
    last.build((5, 3), dtype=dtype)
    last.load_state_dict(both.state_dict())
    expected = np.concatenate([y[:, -1, :4], y[:, 0, 4:]], axis=-1)
    assert_same_bits((last(x, backend),), (expected,))


def test_a_file_keeps_it(tmp_path: Path, fast_backend: Any, rng: Any) -> None:
    model = network()
    model.build((7, 3))
    x = rng.standard_normal((2, 7, 3)).astype(np.float32)
    model.save(tmp_path / "model")
    loaded = fastcnn.load(tmp_path / "model")
    assert loaded.layers[1].config() == model.layers[1].config()
    assert_same_bits((loaded(x, fast_backend),), (model(x, fast_backend),))


def test_training_is_refused(backend: Any, rng: Any) -> None:
    model = nn.Sequential([nn.LSTM(4, return_sequences=False), nn.Dense(2)])
    model.build((7, 3))
    x = rng.standard_normal((8, 7, 3)).astype(np.float32)
    with pytest.raises(RuntimeError, match=NO_TRAINING):
        model.forward(x, backend, training=True)
    _, backward = model.forward(x, backend)
    with pytest.raises(RuntimeError, match=NO_TRAINING):
        backward(np.ones((8, 2), np.float32))
    trainer = fastcnn.Trainer(model, backend=backend)
    with pytest.raises(RuntimeError, match=NO_TRAINING):
        trainer.fit(x, np.arange(8) % 2, epochs=1, verbose=False)
    with pytest.raises(ValueError, match=re.escape("expected ops that have gradients in training")):
        model.program(2, gradients=True)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.LSTM(0), ValueError, "LSTM: units: expected an integer of at least 1"),
        (lambda: nn.LSTM(2, bidirectional=1), TypeError, "LSTM: bidirectional: expected True or F"),
        (lambda: nn.LSTM(2, return_sequences="no"), TypeError, "LSTM: return_sequences: expected"),
        (lambda: nn.LSTM(2, initializer="ones"), ValueError, "LSTM: initializer: expected one of"),
        (lambda: nn.LSTM(2).build((3,)), ValueError, r"LSTM: expected an input of shape \(T, C\)"),
    ],
)
def test_what_is_refused(make: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make()
