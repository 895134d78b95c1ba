"""Norms of samples and LayerScale take the weights of their twins in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastcnn import FastBackend, nn

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no outside judge")
t = torch.nn


class Branch(t.Module):
    """Scaled as in torchvision's ConvNeXt, whose factors are (C, 1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer_scale = t.Parameter(torch.ones(4, 1, 1))

    def forward(self, x: Any) -> Any:
        return self.layer_scale * x


class OfPixels(t.LayerNorm):
    """Over the channels of each pixel."""

    def forward(self, x: Any) -> Any:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def test_a_network_of_norms_answers_as_its_twin() -> None:
    model = nn.Sequential(
        [
            nn.Conv2D(4, 1),
            nn.GroupNorm(2),
            nn.InstanceNorm(),
            nn.LayerNorm(epsilon=1e-6),
            nn.LayerScale(),
            nn.LayerNorm(axis=1),  # of all of an image
            nn.Flatten(),
            nn.LayerNorm(),
            nn.Dense(3),
        ]
    )
    twin = t.Sequential(
        t.Conv2d(2, 4, 1),
        t.GroupNorm(2, 4),
        t.InstanceNorm2d(4, affine=True),
        OfPixels(4, eps=1e-6),
        Branch(),
        t.LayerNorm((4, 3, 5)),
        t.Flatten(),
        t.LayerNorm(60),
        t.Linear(60, 3),
    )
    for parameter in twin.parameters():
        t.init.normal_(parameter)
    model.build((3, 5, 2))
    loaded = model.load_pytorch_state(twin.state_dict()).loaded
    assert loaded["4.gamma"] == "4.layer_scale"
    assert loaded["5.gamma"] == "5.weight"
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 2)).astype(np.float32)
    with torch.no_grad():
        expected = twin(torch.tensor(x.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(model(x, FastBackend()), expected, rtol=1e-4, atol=1e-4)
