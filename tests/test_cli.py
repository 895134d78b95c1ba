"""The fastcnn command: every user's error, evaluate, info, bench and the help."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command import FILES, SMALL, fail, small_run, start, succeed
from idx_files import small_files

import fastcnn
from fastcnn import _bench, _training_run, cli, datasets
from fastcnn._config import config_text


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTCNN_DATA", raising=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run of two epochs, not to be changed."""
    return small_run(tmp_path_factory.mktemp("run"))


# ---------------------------------------------------------------------- users' errors
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("fly", "argument COMMAND: invalid choice: 'fly'"),
        ("train --epochs 0", "argument --epochs: expected an integer of 1 or more, got '0'"),
        ("train --epochs 1.5", "argument --epochs: expected an integer of 1 or more, got '1.5'"),
        ("train --epochs", "argument --epochs: expected one argument"),
        ("train --batch-size -3", "argument --batch-size: expected an integer of 1 or more, got"),
        ("train --batch-size many", "argument --batch-size: expected an integer of 1 or more"),
        ("train --seed -1", "argument --seed: expected an integer of 0 or more, got '-1'"),
        ("train --threads 0", "argument --threads: expected an integer from 1 to 1024, got '0'"),
        ("train --threads 2000", "argument --threads: expected an integer from 1 to 1024, got"),
        ("train --limit-train 0", "argument --limit-train: expected an integer of 1 or more"),
        ("train --limit-test -1", "argument --limit-test: expected an integer of 1 or more"),
        ("train --lr 0", "argument --lr: expected a number above 0, got '0'"),
        ("train --lr nan", "argument --lr: expected a number above 0, got 'nan'"),
        ("train --lr inf", "argument --lr: expected a number above 0, got 'inf'"),
        ("train --lr fast", "argument --lr: expected a number above 0, got 'fast'"),
        ("train --dataset cifar", "argument --dataset: invalid choice: 'cifar'"),
        ("train --backend gpu", "argument --backend: invalid choice: 'gpu'"),
        ("train --optimizer lbfgs", "argument --optimizer: invalid choice: 'lbfgs'"),
        ("train --schedule none", "argument --schedule: invalid choice: 'none'"),
        ("train --epoch 3", "unrecognized arguments: --epoch 3"),  # no abbreviations
        ("train now", "unrecognized arguments: now"),
        ("train --output a-file", "--output: expected a folder, got the file a-file"),
        ("train --output a-file/below --limit-train 1", "a-file/below: Not a directory"),
        ("train --resume --output a-file", "--resume: expected a run in a-file, got no state"),
        ("evaluate", "the following arguments are required: MODEL"),
        ("evaluate missing", "missing: No such file or directory"),
        ("evaluate empty", "empty: expected a model file, or a directory with model.safetensors"),
        ("evaluate a-file", "a-file: expected a fastcnn model file"),
        ("predict missing a-file", "missing: No such file or directory"),
        ("predict a-file", "the following arguments are required: FILE"),
        ("train --freeze", "--freeze: expected --model, whose weights it keeps, got none"),
        ("evaluate missing.onnx", "missing.onnx: No such file or directory"),
        ("predict a-file b --mean 1,x", "argument --mean: expected numbers with commas between"),
        ("convert a-file", "the following arguments are required: OUT"),
        ("convert a-file b", "convert: OUT: expected a name in .onnx or .safetensors, got b"),
        ("convert a-file b.pt", "convert: OUT: expected a name in .onnx or .safetensors, got b.pt"),
        ("convert a-file b.onnx", "a-file: expected a fastcnn model file"),
        ("convert missing b.onnx", "missing: No such file or directory"),
        ("convert a b.onnx --opset x", "argument --opset: expected an integer of 1 or more, got"),
        ("convert a b.onnx --layout NCWH", "argument --layout: invalid choice: 'NCWH'"),
        ("convert a b.onnx --pytorch", "convert: --pytorch: expected OUT in .safetensors, got"),
        ("convert a b.safetensors --fold", "convert: --fold: expected OUT in .onnx, got b.safeten"),
        ("convert a b.safetensors --opset 17", "convert: --opset: expected OUT in .onnx, got b"),
        ("info a-file", "a-file: expected a fastcnn model file"),
        ("info a-file twice", "unrecognized arguments: twice"),
        ("bench --threads two", "argument --threads: expected an integer from 1 to 1024"),
    ],
)
def test_errors_are_one_sentence(arguments: str, message: str) -> None:
    Path("a-file").write_text("not a model")
    Path("empty").mkdir()
    assert fail(*arguments.split()).startswith(message)
    assert not Path("runs").exists()


def test_bad_data_files(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("data/mnist").mkdir(parents=True)
    for name, content in small_files().items():
        Path("data/mnist", name).write_bytes(content[:-1])
    message = fail("train", "--dataset", "mnist", "--data-dir", "data")
    assert message.startswith("data/mnist/train-images-idx3-ubyte.gz: truncated")
    monkeypatch.setenv("FASTCNN_DATA", "data")
    assert fail("train", "--dataset", "mnist") == message
    message = fail("train", "--dataset", "mnist", "--data-dir", "dtaa")
    assert message == "data folder: expected one that exists, got dtaa; make it to download to it"
    assert not Path("runs").exists()
    assert not Path("dtaa").exists()


def test_a_loss_that_is_not_finite() -> None:
    succeed("train", *SMALL, "--epochs", 1)
    with np.errstate(all="ignore"):
        message = fail("train", *SMALL, "--lr", "1e30")
    assert re.search(r"the loss of step \d is (nan|inf)", message)


def test_a_full_disk_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    succeed("train", *SMALL, "--epochs", 1)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in fail("train", *SMALL, "--epochs", 2)
    assert sorted(p.name for p in Path("runs/strokes").glob("*.safetensors")) == FILES[1:]


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_ctrl_c() -> None:
    process = start("train", "--epochs", "1000", *SMALL)
    while not Path("runs/strokes/model.safetensors").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert error.splitlines()[-1] == "fastcnn: stopped by Ctrl-C; what was saved before is whole"
    assert "Traceback" not in error
    fastcnn.load("runs/strokes/model.safetensors")


def test_a_reader_that_leaves() -> None:
    # the pipe's reading end is closed before anything is written
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [sys.executable, "-m", "fastcnn", "info"], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert process.stderr == ""


# ---------------------------------------------------------------------- evaluate
def test_evaluate(run: Path) -> None:
    history = json.loads((run / "history.json").read_text())
    out = succeed("evaluate", run, "--limit-test", 20, "--batch-size", 7)
    assert out.splitlines()[0] == "strokes: 20 test images"
    loss = float(out.splitlines()[1].removeprefix("test loss: "))
    assert loss == pytest.approx(history["val_loss"][-1], abs=1e-4)
    assert out.splitlines()[2] == f"test accuracy: {history['val_accuracy'][-1]:.4f}"

    alone = Path("alone.safetensors")
    alone.write_bytes((run / "model.safetensors").read_bytes())
    assert "evaluate: expected --dataset" in fail("evaluate", alone)
    options = ("--dataset", "strokes", "--limit-test", 20)
    assert succeed("evaluate", alone, *options).splitlines()[2] == out.splitlines()[2]


def test_evaluate_a_model_of_another_shape() -> None:
    model = fastcnn.nn.Sequential([fastcnn.nn.Flatten(), fastcnn.nn.Dense(10)])
    model.build((8, 8, 2))
    model.save("other.safetensors")
    message = fail("evaluate", "other.safetensors", "--dataset", "strokes", "--limit-test", 1)
    assert "expected a batch of shape (n, 8, 8, 2), got (1, 28, 28, 1)" in message


def test_evaluate_prepares_as_the_notes_say(run: Path) -> None:
    model = fastcnn.load(run)
    model.notes = {"preprocessing": {"invert": True, "mean": 0.13, "std": [0.31]}}
    model.save("noted.safetensors")
    _, (x, y) = datasets.load("strokes", limit_train=1, limit_test=50)
    # as predict takes arrays of uint8: "invert" is about pictures
    x = ((x / 255 - 0.13) / 0.31).astype(np.float32)
    measured = fastcnn.Trainer(model).evaluate(x, y)
    options = ("--dataset", "strokes", "--limit-test", 50, "--batch-size", 7)
    out = succeed("evaluate", "noted.safetensors", *options)
    assert out.splitlines()[1:] == [
        f"test loss: {measured['loss']:.4f}",
        f"test accuracy: {measured['accuracy']:.4f}",
    ]

    model.notes = {"preprocessing": {"std": 0}}
    model.save("bad.safetensors")
    message = fail("evaluate", "bad.safetensors", *options)
    assert message.startswith('evaluate: "std" in the model\'s notes: expected')


def test_evaluate_a_model_that_ends_in_softmax(run: Path) -> None:
    model = fastcnn.load(run)
    model.notes = {}
    model.save("logits.safetensors")
    ended = fastcnn.nn.Sequential([model, fastcnn.nn.Softmax()])
    ended.build((28, 28, 1))
    ended.save("softmax.safetensors")
    options = ("--dataset", "strokes", "--limit-test", 50, "--batch-size", 7)
    expected = succeed("evaluate", "logits.safetensors", *options)
    assert succeed("evaluate", "softmax.safetensors", *options) == expected


# ---------------------------------------------------------------------- info, bench, help
def test_info(run: Path) -> None:
    assert succeed("info").strip() == config_text()
    out = succeed("info", run)
    assert fastcnn.load(run / "model.safetensors").summary() in out
    assert "225,034" in out


def test_bench_compares_before_it_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bench, "_BUDGET", 0.0)
    out = succeed("bench")
    for name in ("conv2d_backward", "max_pool2d", "batch_norm", "linear", "training step"):
        assert re.search(rf"^{name}.* [mu]?s .*x$", out, re.MULTILINE), name

    monkeypatch.setattr(fastcnn.FastBackend, "relu", lambda self, x: x + np.float32(0.01))
    assert fail("bench").startswith("bench: relu 32x14x14x16: the backends' results differ by")


@pytest.mark.parametrize(
    "command", ["", "train", "evaluate", "predict", "convert", "info", "bench"]
)
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main([*command.split(), "--help"])
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: fastcnn")
    assert max(map(len, out.splitlines())) <= 100
    if command == "train":
        options = """dataset data-dir epochs batch-size optimizer lr schedule backend threads seed
            limit-train limit-test output resume model freeze"""
        for option in options.split():
            assert f"  --{option} " in out
        for default in ("strokes", "3", "64", "sgd", "0.05 for sgd", "cosine", "runs/DATASET"):
            assert f"(default: {default}" in out


def test_version_and_python_m() -> None:
    for flag, output in (("--version", f"fastcnn {fastcnn.__version__}\n"), ("--help", None)):
        process = start(flag)
        out, error = process.communicate()
        assert process.returncode == 0
        assert error == ""
        assert out == output or (output is None and out.startswith("usage: fastcnn "))


def test_settings_are_checked_wherever_they_come_from() -> None:
    with pytest.raises(ValueError, match="optimizer: expected one of"):
        _training_run.Settings(optimizer="lbfgs")
    with pytest.raises(TypeError, match="epochs: expected an integer"):
        _training_run.Settings(epochs=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="lr: expected a finite number"):
        _training_run.Settings(lr=0.0)
