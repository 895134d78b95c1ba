"""Ten steps beside PyTorch, from the same weights: the losses agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import nn, optim

CLASSES = 4
SHAPE = (11, 8, 2)  # H unlike W and more than one channel, or a wrong order goes unseen


def model_and_twin(torch: Any) -> tuple[nn.Sequential, Any]:
    """A network of every kind of layer with weights, and the same of PyTorch."""
    model = nn.Sequential(
        [
            nn.Conv2D(6, 3, padding=1, use_bias=False),
            nn.BatchNorm(),
            nn.ReLU(),
            nn.MaxPool2D(2),
            nn.Conv2D(4, (3, 2), stride=(2, 1), groups=2, activation="gelu"),
            nn.AvgPool2D((1, 2), stride=1),
            nn.Conv2DTranspose(4, (2, 3), stride=(2, 1), padding=(0, 1), output_padding=(1, 0)),
            nn.UpSample2D(2, method="bilinear"),
            nn.Flatten(),
            nn.Dense(9, activation="tanh"),
            nn.BatchNorm(),
            nn.Dense(CLASSES),
        ]
    )
    t = torch.nn
    twin = t.Sequential(
        t.Conv2d(2, 6, 3, padding=1, bias=False),
        t.BatchNorm2d(6),
        t.ReLU(),
        t.MaxPool2d(2),
        t.Sequential(t.Conv2d(6, 4, (3, 2), stride=(2, 1), groups=2), t.GELU()),
        t.AvgPool2d((1, 2), stride=1),
        t.ConvTranspose2d(4, 4, (2, 3), stride=(2, 1), padding=(0, 1), output_padding=(1, 0)),
        t.Upsample(scale_factor=2, mode="bilinear"),
        t.Flatten(),
        t.Sequential(t.Linear(160, 9), t.Tanh()),
        t.BatchNorm1d(9),
        t.Linear(9, CLASSES),
    )
    return model, twin


def from_torch(model: nn.Sequential, twin: Any) -> dict[str, Any]:
    """The twin's weights in this library's layout.

    OIHW becomes HWIO by transpose(2, 3, 1, 0), and IOHW becomes HWOI. The rows of the first dense
    layer after a flatten go from C, H, W order to H, W, C.
    """
    names = {
        "running_var": "running_variance",
        "weight": "gamma",
        "bias": "beta",
    }
    state = {}
    for key, tensor in twin.state_dict().items():
        array = tensor.numpy().astype(model.dtype)
        index, *_, name = key.split(".")
        layer = model[int(index)]
        if name == "num_batches_tracked":
            continue
        if isinstance(layer, nn.BatchNorm):
            name = names.get(name, name)
        elif array.ndim == 4:
            array = array.transpose(2, 3, 1, 0)
        elif array.ndim == 2:
            array = array.T
            before = model[int(index) - 1]
            if isinstance(before, nn.Flatten):
                height, width, channels = before.input_shape
                array = array.reshape(channels, height, width, -1)
                array = array.transpose(1, 2, 0, 3).reshape(channels * height * width, -1)
        state[f"{index}.{name}"] = array
    return state


OPTIMIZERS = {
    "sgd": (
        lambda: optim.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
        lambda t, p: t.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
    ),
    "adam": (lambda: optim.Adam(3e-3), lambda t, p: t.Adam(p, 3e-3)),
    "adamw": (
        lambda: optim.AdamW(3e-3, weight_decay=0.1),
        lambda t, p: t.AdamW(p, 3e-3, weight_decay=0.1),
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ten_steps(name: str, backend: Any) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, *SHAPE)).astype(np.float32)
    y = rng.integers(0, CLASSES, 40)

    model, twin = model_and_twin(torch)
    model.build(SHAPE)
    assert model[8].input_shape == (10, 4, 4)
    model.load_state_dict(from_torch(model, twin))

    make, make_twin = OPTIMIZERS[name]
    trainer = fastcnn.Trainer(model, optimizer=make(), backend=backend)
    losses = trainer.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=False)["step_loss"]

    optimizer = make_twin(torch.optim, twin.parameters())
    expected = []
    for start in [*range(0, 40, 8)] * 2:
        images = torch.tensor(x[start : start + 8].transpose(0, 3, 1, 2))
        loss = torch.nn.functional.cross_entropy(twin(images), torch.tensor(y[start : start + 8]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    assert len(losses) == 10
    np.testing.assert_allclose(losses, expected, atol=1e-4)

    # Weights and running statistics have come the same way, and inference agrees.
    for key, array in from_torch(model, twin).items():
        np.testing.assert_allclose(model.state_dict()[key], array, atol=2e-3, err_msg=key)
    twin.eval()
    with torch.no_grad():
        logits = twin(torch.tensor(x.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(trainer.predict(x), logits, atol=5e-3)
