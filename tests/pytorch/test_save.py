"""What save_state writes: by hand, and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layers import IDS, LAYERS
from test_match import small, state

from fastcnn import nn, pytorch


def test_by_hand(tmp_path: Path) -> None:
    """The state dict that small was loaded from comes out, but for the number of batches."""
    model = small()
    model.load_pytorch_state(state())
    pytorch.save_state(model, tmp_path / "a")
    found = pytorch.load_state(tmp_path / "a")
    expected = {**state(), "1.num_batches_tracked": np.array(0)}
    assert sorted(found) == sorted(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=IDS)
def test_every_layer_comes_back(make: Any, shape: tuple[int, ...], tmp_path: Path) -> None:
    one, other = (nn.Sequential([make(), nn.Flatten(), nn.Dense(2)]) for _ in range(2))
    one.build(shape, seed=1)
    other.build(shape, seed=2)
    pytorch.save_state(one, tmp_path / "a")
    other.load_pytorch_state(tmp_path / "a")
    for name, array in one.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], array)


def test_one_layer_has_plain_names(tmp_path: Path) -> None:
    model = nn.Dense(2)
    model.build((3,))
    pytorch.save_state(model, tmp_path / "a")
    assert sorted(pytorch.load_state(tmp_path / "a")) == ["bias", "weight"]
    with pytest.raises(ValueError, match=r"left are .* weight \(2, 3\) here and nothing there"):
        model.load_pytorch_state({"bias": np.zeros(2)})


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="save_state: model: expected a model, got dict"):
        pytorch.save_state({}, tmp_path / "a")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="expected a built layer"):
        pytorch.save_state(nn.Sequential([nn.Dense(2)]), tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        pytorch.save_state(small(), tmp_path / "none" / "a")
    assert list(tmp_path.iterdir()) == []
