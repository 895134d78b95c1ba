"""Networks of ONNX files that are trained on: as PyTorch would, frozen, with another head."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_files import answers, model, node, numbers, written

import fastcnn
from fastcnn import nn, optim

onnx = pytest.importorskip("onnx", reason="onnx is not installed: no files")
W = numbers


def network() -> Any:
    """A network of PyTorch's with what is trained: filters, normalization, slopes, dense layers."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no outside judge")

    class Block(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Conv2d(6, 6, 3, padding=1, groups=2)
            self.norm = torch.nn.BatchNorm2d(6)
            self.act = torch.nn.PReLU(6)

        def forward(self, x: Any) -> Any:
            return x + self.act(self.norm(self.first(x)))

    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, bias=False), torch.nn.BatchNorm2d(6), torch.nn.ReLU(), Block(),
        torch.nn.MaxPool2d(2), torch.nn.ConvTranspose2d(6, 4, 2, stride=2), torch.nn.Hardswish(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 5),
        torch.nn.LayerNorm(5), torch.nn.GELU(), torch.nn.Linear(5, 3),
    ).double()  # fmt: skip


def exported(twin: Any, path: Path) -> Path:
    """Write a network of PyTorch's to a file in which its normalization stays."""
    import torch

    x = torch.zeros((1, 3, 8, 8), dtype=torch.float64)
    twin.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its exporter, which is not its newest
        torch.onnx.export(
            twin, (x,), path, dynamo=False, training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False, input_names=["x"], dynamic_axes={"x": {0: "n"}},
            opset_version=17,
        )  # fmt: skip
    twin.train()
    return path


def images(count: int = 4) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, 8, 8, 3)), rng.integers(0, 3, count)


def test_a_step_is_that_of_pytorch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no outside judge")
    twin = network()
    path = exported(twin, tmp_path / "twin.onnx")
    kinds = [each.op_type for each in onnx.load(path).graph.node]
    assert kinds.count("BatchNormalization") == 2
    loaded = fastcnn.onnx.load(path, dtype="float64")
    x, labels = images()
    first = torch.tensor(x.transpose(0, 3, 1, 2))
    trainer = fastcnn.Trainer(loaded, optimizer=optim.SGD(0.1), loss="cross_entropy", seed=0)
    step = torch.optim.SGD(twin.parameters(), 0.1)
    for _ in range(2):
        loss = torch.nn.functional.cross_entropy(twin(first), torch.tensor(labels))
        step.zero_grad()
        loss.backward()
        step.step()
        history = trainer.fit(x, labels, epochs=1, batch_size=4, shuffle=False)
        assert abs(history["loss"][-1] - loss.item()) < 1e-10
    twin.eval()
    wanted = twin(first).detach().numpy()
    np.testing.assert_allclose(trainer.predict(x), wanted, rtol=0, atol=1e-8)
    # Written down again, the file gives what PyTorch gives.
    fastcnn.onnx.save(loaded, tmp_path / "trained.onnx")
    again = fastcnn.onnx.load(tmp_path / "trained.onnx", dtype="float64")
    np.testing.assert_allclose(fastcnn.Predictor(again)(x), wanted, rtol=0, atol=1e-8)


def body() -> Any:
    """A file of a small network up to its features."""
    v = np.abs(W(6)) + 0.5
    nodes = [
        node("Conv", "x w", "a", pads=[1] * 4, strides=[2, 2]),
        node("BatchNormalization", "a g b m v", "n"), node("Clip", "n zero six", "r"),
        node("Conv", "r u c", "s", group=6), node("GlobalAveragePool", "s", "p"),
        node("Flatten", "p", "features"),
    ]  # fmt: skip
    constants = {"w": W(6, 3, 3, 3), "g": v, "b": W(6), "m": W(6, seed=2), "v": v + 1,
                 "u": W(6, 1, 3, 3), "c": W(6), "zero": np.array(0, np.float32),
                 "six": np.array(6, np.float32)}  # fmt: skip
    return model(nodes, {"x": ("n", 3, 8, 8)}, ["features"], constants)


def test_a_frozen_body_with_a_head_of_ones_own(tmp_path: Path) -> None:
    frozen = fastcnn.onnx.load(written(body(), tmp_path))
    frozen.trainable = False
    before = frozen.state_dict()
    x = nn.Input((8, 8, 3))
    whole = nn.Model(x, nn.Dense(3)(frozen(x)))
    pictures, labels = images(8)
    pictures = pictures.astype(np.float32)
    trainer = fastcnn.Trainer(whole, optimizer=optim.SGD(0.1), loss="cross_entropy", seed=0)
    history = trainer.fit(pictures, labels, epochs=5, batch_size=4)
    assert history["loss"][-1] < history["loss"][0]
    for name, array in frozen.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert [array.shape for array in whole.trained_parameters().values()] == [(6, 3), (3,)]
    wanted = trainer.predict(pictures)
    whole.save(tmp_path / "whole.safetensors")
    again = fastcnn.load(tmp_path / "whole.safetensors")
    first, second = (fastcnn.Predictor(each)(pictures) for each in (whole, again))
    np.testing.assert_array_equal(first, second)
    fastcnn.onnx.save(whole, tmp_path / "whole.onnx")
    (found,) = answers(tmp_path / "whole.onnx", {"x": pictures.transpose(0, 3, 1, 2)})
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_one_operator_is_frozen_by_its_layer(tmp_path: Path) -> None:
    loaded = fastcnn.onnx.load(written(body(), tmp_path))
    names = list(loaded.children())
    loaded.children()[names[0]].trainable = False
    before = loaded.state_dict()
    x, _ = images(4)
    trainer = fastcnn.Trainer(loaded, optimizer=optim.SGD(0.1), loss="mean_squared_error", seed=0)
    trainer.fit(x.astype(np.float32), np.ones((4, 6), np.float32), epochs=1, batch_size=4)
    after = loaded.state_dict()
    moved = {name.rpartition(".")[0] for name in after
             if not np.array_equal(after[name], before[name])}  # fmt: skip
    assert names[0] not in moved
    assert moved >= set(names[1:])


def test_dropout_of_a_file_drops_in_training_alone(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", "x w", "a"),
        node("Dropout", "a ratio", "d"),
        node("MatMul", "d u", "y"),
    ]
    constants = {"w": W(5, 40), "u": W(40, 2), "ratio": np.array(0.5, np.float32)}
    loaded = fastcnn.onnx.load(written(model(nodes, {"x": ("n", 5)}, ["y"], constants), tmp_path))
    ops = [each.op for each in loaded.program(2, training=True).nodes]
    assert "dropout" in ops
    assert "dropout" not in [each.op for each in loaded.program(2).nodes]


def test_backends_train_it_alike(tmp_path: Path) -> None:
    path = written(body(), tmp_path)
    x, _ = images(3)
    losses = []
    for backend in ("fast", "reference"):
        loaded = fastcnn.onnx.load(path, dtype="float64")
        trainer = fastcnn.Trainer(loaded, optimizer=optim.SGD(0.01), loss="mean_squared_error",
                                  backend=backend, seed=0)  # fmt: skip
        history = trainer.fit(x, np.ones((3, 6)), epochs=2, batch_size=3)
        losses.append(history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-10)


def test_several_outputs_have_a_loss_each(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "a"), node("Relu", "a", "y"), node("MatMul", "y u", "z")]
    made = model(nodes, {"x": ("n", 5)}, ["y", "z"], {"w": W(5, 4), "u": W(4, 2)})
    loaded = fastcnn.onnx.load(written(made, tmp_path))
    losses = ["mean_squared_error", "mean_squared_error"]
    trainer = fastcnn.Trainer(loaded, optimizer=optim.SGD(0.01), loss=losses, seed=0)
    x = W(6, 5)
    history = trainer.fit(x, [W(6, 4), W(6, 2)], epochs=3, batch_size=3)
    assert history["loss"][-1] < history["loss"][0]
    assert [y.shape for y in trainer.predict(x)] == [(6, 4), (6, 2)]
