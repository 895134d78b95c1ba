"""fastcnn train --model: networks of other tasks, trained on a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import SMALL, fail, run_command, succeed
from model_files import images, network, onnx_file

import fastcnn
from fastcnn import nn
from fastcnn._training_run import Settings, read_settings
from fastcnn.serialization import read_tensors, write_tensors


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_fine_tuning_trains_a_new_head_alone() -> None:
    onnx_file()
    out = succeed("train", *SMALL, "--epochs", 1, "--model", "model.onnx", "--freeze")
    assert "images are made 12 x 10 x 3, 0 MB of them" in out
    made = fastcnn.load("runs/strokes")
    assert (made.input_shape, made.output_shape) == ((12, 10, 3), (10,))
    assert set(made.trained_parameters()) == {"1.weight", "1.bias"}
    assert made.notes["classes"] == list("0123456789")
    before = fastcnn.onnx.load("model.onnx").state_dict()
    for name, array in made.state_dict().items():
        if name.startswith("0."):
            np.testing.assert_array_equal(array, before[name.removeprefix("0.")])
    accuracy = out.splitlines()[-1]
    assert accuracy in succeed("evaluate", "runs/strokes", "--limit-test", 20)
    assert "1 Dense" in succeed("info", "runs/strokes")
    np.save("x.npy", images())
    assert succeed("predict", "runs/strokes", "x.npy").count("class ") == 3
    succeed("convert", "runs/strokes", "tuned.onnx")
    options = ("--dataset", "strokes", "--limit-test", 20)
    assert accuracy in succeed("evaluate", "tuned.onnx", *options)


def test_fine_tuning_all_of_a_model_of_our_own() -> None:
    model = network()
    model.notes = {"preprocessing": {"mean": 0.2, "std": [0.3, 0.4, 0.5], "invert": True}}
    model.save("model.safetensors")
    succeed("train", *SMALL, "--epochs", 1, "--model", "model.safetensors", "--lr", 0.01)
    made = fastcnn.load("runs/strokes")
    assert made.notes["preprocessing"] == {"mean": 0.2, "std": [0.3, 0.4, 0.5], "invert": False}
    before, after = model.state_dict(), made.state_dict()
    assert (before["0.weight"] != after["0.weight"]).any()
    history = json.loads(Path("runs/strokes/history.json").read_text())
    out = succeed("evaluate", "runs/strokes", "--limit-test", 20)
    assert f"test loss: {history['val_loss'][-1]:.4f}" in out


@pytest.mark.parametrize("freeze", [[], ["--freeze"]])
def test_a_head_of_as_many_classes_stays(freeze: list[str]) -> None:
    model = network(10, (28, 28, 1))
    model.save("model.safetensors")
    options = ("--epochs", 1, "--lr", 1e-30, "--model", "model.safetensors", *freeze)
    succeed("train", *SMALL, *options)
    made = fastcnn.load("runs/strokes")
    for name, parameter in made.parameters().items():
        np.testing.assert_allclose(parameter.data, model.state_dict()[name], rtol=0, atol=1e-30)
    trained = set(made.trained_parameters())
    assert trained == ({"6.weight", "6.bias"} if freeze else set(made.parameters()))


def test_a_model_of_probabilities_gets_a_head_of_logits() -> None:
    model = nn.Sequential([nn.Flatten(), nn.Dense(10, activation="softmax")])
    model.build((28, 28, 1))
    model.save("model.safetensors")
    succeed("train", *SMALL, "--epochs", 1, "--model", "model.safetensors")
    made: Any = fastcnn.load("runs/strokes")
    assert made.layers[-1].activation is None


def test_fine_tuning_resumes_to_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    onnx_file(any_size=True)
    options = [*SMALL, "--epochs", "2", "--model", "model.onnx", "--freeze"]
    succeed("train", *options, "--output", "whole")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # before the first epoch is done
        patch.setattr("fastcnn._training_run._draw_curves", stop)
        assert run_command(("train", *options, "--output", "out"))[0] == 130
    Path("below").mkdir()
    monkeypatch.chdir("below")  # the file is found from anywhere
    succeed("train", "--resume", "--output", "../out")
    monkeypatch.chdir("..")
    for name in ("model.safetensors", "history.json", "state.safetensors"):
        assert Path("out", name).read_bytes() == Path("whole", name).read_bytes()
    message = fail("train", "--resume", "--output", "out", "--model", "other.onnx")
    assert message.startswith("--resume: expected --model /")


def test_states_of_before_are_resumed() -> None:
    succeed("train", *SMALL, "--epochs", 1)
    state = Path("runs/strokes/state.safetensors")
    tensors, told = read_tensors(state, "fastcnn-state")
    for name in ("model", "freeze"):
        del told["notes"]["run"][name]
    write_tensors(state, tensors, told)
    assert read_settings(state) == Settings(
        epochs=1, batch_size=20, seed=3, limit_train=40, limit_test=20
    )


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        ([nn.Dense(3)], (4,), "--model: expected a network that takes images such as (28, 28, 1)"),
        ([nn.Flatten(), nn.Dense(3)], (8, 8, 2), "--model: expected a network that takes images"),
        ([nn.Flatten()], (8, 8, 3), "with_new_head: model: expected one output of a dense layer"),
    ],
)
def test_what_cannot_be_fine_tuned(model: Any, shape: tuple[int, ...], message: str) -> None:
    made = nn.Sequential(model)
    made.build(shape)
    made.save("model.safetensors")
    assert fail("train", *SMALL, "--model", "model.safetensors").startswith(message)
    assert fail("train", "--model", "missing").endswith("missing: No such file or directory")
    assert not Path("runs").exists()
