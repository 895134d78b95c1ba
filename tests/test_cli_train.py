"""fastcnn train: what it prints and writes, and how a run resumes after any interruption."""

from __future__ import annotations

import json
import os
import re
import struct
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import FILES, SMALL, contents, fail, small_run, start, succeed
from idx_files import small_files

import fastcnn
from fastcnn import cli, datasets, optim
from fastcnn._training_run import sample_network


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTCNN_DATA", raising=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run of two epochs, not to be changed."""
    return small_run(tmp_path_factory.mktemp("run"))


# ---------------------------------------------------------------------- train
def test_train_prints_and_writes_what_it_should() -> None:
    out = succeed("train", *SMALL, "--epochs", 2)
    last = out.splitlines()[-1]
    assert re.fullmatch(r"test accuracy: [01]\.\d{4}", last)
    folder = Path("runs/strokes")
    written = sorted(p.name for p in folder.iterdir())
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        assert written == sorted(FILES)
    else:
        assert written == sorted([*FILES, "curves.png"])
        assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")

    history = json.loads((folder / "history.json").read_text())
    assert {name: len(values) for name, values in history.items()} == {
        "step_loss": 4,
        "loss": 2,
        "accuracy": 2,
        "val_loss": 2,
        "val_accuracy": 2,
    }
    assert last == f"test accuracy: {history['val_accuracy'][-1]:.4f}"


def test_train_does_what_the_library_does(run: Path) -> None:
    (x, y), test = datasets.load("strokes", limit_train=40, limit_test=20)
    trainer = fastcnn.Trainer(
        sample_network(), optimizer=optim.SGD(0.05, momentum=0.9), schedule="cosine", seed=3
    )
    history = trainer.fit(x, y, epochs=2, batch_size=20, validation_data=test, verbose=False)
    assert json.loads((run / "history.json").read_text()) == history
    weights = fastcnn.load(run / "model.safetensors").state_dict()
    for name, array in trainer.model.state_dict().items():
        np.testing.assert_array_equal(weights[name], array)


@pytest.mark.parametrize(
    "options",
    [
        ["--optimizer", "adam"],
        ["--optimizer", "adamw", "--lr", "0.002"],
        ["--lr", "1e-3"],
        ["--schedule", "constant"],
        ["--schedule", "step"],
        ["--schedule", "warmup-cosine"],
        ["--seed", "7"],
        ["--limit-train", "39"],
        ["--batch-size", "8"],
    ],
    ids=" ".join,
)
def test_every_setting_changes_the_weights(run: Path, options: list[str]) -> None:
    succeed("train", *SMALL, "--epochs", 2, *options, "--output", "out")
    assert Path("out/model.safetensors").read_bytes() != (run / FILES[0]).read_bytes()


def test_threads_and_folders_do_not(run: Path) -> None:
    try:
        succeed("train", *SMALL, "--epochs", 2, "--threads", 1, "--output", "deep/er/out")
    finally:
        fastcnn.set_num_threads(None)
    for name in FILES:
        assert (Path("deep/er/out") / name).read_bytes() == (run / name).read_bytes()


def test_the_reference_backend_trains_to_the_same_losses() -> None:
    losses = []
    for backend in ("fast", "reference"):
        limits = ("--limit-train", 4, "--limit-test", 1, "--batch-size", 2, "--epochs", 1)
        succeed("train", *limits, "--backend", backend, "--output", backend)
        losses.append(json.loads(Path(backend, "history.json").read_text())["step_loss"])
    np.testing.assert_allclose(*losses, rtol=0, atol=1e-4)


def test_mnist_from_a_folder() -> None:
    Path("data/mnist").mkdir(parents=True)
    for name, content in small_files().items():
        Path("data/mnist", name).write_bytes(content)
    out = succeed("train", "--dataset", "mnist", "--data-dir", "data", "--epochs", 1)
    assert "mnist: 12 training and 7 test images" in out
    assert Path("runs/mnist/model.safetensors").is_file()
    # the run tells evaluate which data set it was
    assert out.splitlines()[-1] in succeed("evaluate", "runs/mnist", "--data-dir", "data")


def test_a_second_run_replaces_the_first_and_says_so(run: Path) -> None:
    succeed("train", *SMALL, "--epochs", 1, "--seed", 5)
    out = succeed("train", *SMALL, "--epochs", 2, "--output", "runs/strokes")
    assert "runs/strokes: its run will be replaced when the first epoch is done" in out
    for name in FILES:
        assert Path("runs/strokes", name).read_bytes() == (run / name).read_bytes()


def test_a_run_that_could_not_be_written_does_not_begin() -> None:
    Path("out/history.json").mkdir(parents=True)
    said = fail("train", *SMALL, "--output", "out")
    assert said == "out/history.json: path: expected a regular file or a new one"
    assert os.listdir("out") == ["history.json"]


def test_without_matplotlib_there_are_no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    out = succeed("train", *SMALL, "--epochs", 1)
    assert sorted(p.name for p in Path("runs/strokes").iterdir()) == sorted(FILES)
    assert "curves.png" not in out


def test_the_command_alone_learns_the_strokes() -> None:
    out = succeed("train")
    assert float(out.split()[-1]) >= 0.985


# ---------------------------------------------------------------------- resume
def assert_same_run(folder: Path, other: Path) -> None:
    for name in FILES:
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name


class Killed(BaseException):
    pass


@pytest.mark.parametrize("nth", range(1, 10))
def test_resume_after_a_stop_at_every_write(
    run: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """Cut the run off just before its n-th replacement of a file, then go on."""
    count = 0
    replace = os.replace

    def stop_at(source: Any, target: Any) -> None:
        nonlocal count
        count += 1
        if count == nth:
            raise Killed
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop_at)
        with pytest.raises(Killed):
            cli.main(["train", *SMALL, "--epochs", "2", "--output", "out"])
    if Path("out/state.safetensors").exists():
        succeed("train", "--resume", "--output", "out")
    else:  # nothing had begun
        succeed("train", *SMALL, "--epochs", 2, "--output", "out")
    assert_same_run(Path("out"), run)
    assert not [p.name for p in Path("out").iterdir() if p.name.startswith(".")]


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
@pytest.mark.parametrize("seconds", [0.1, 0.3])
def test_resume_after_kill_9(seconds: float) -> None:
    settings = ["--limit-train", "400", "--limit-test", "20", "--batch-size", "20"]
    settings += ["--epochs", "6"]
    succeed("train", *settings, "--output", "whole")
    process = start("train", *settings, "--output", "out")
    while not Path("out/state.safetensors").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    time.sleep(seconds)
    process.kill()
    process.communicate()
    succeed("train", "--resume", "--output", "out")
    assert_same_run(Path("out"), Path("whole"))


def test_resume_of_a_finished_run_changes_nothing(run: Path) -> None:
    before = contents(run)
    out = succeed("train", "--resume", "--output", run, *SMALL)  # the same settings may be named
    accuracy = json.loads((run / "history.json").read_text())["val_accuracy"][-1]
    assert out.splitlines()[-1] == f"test accuracy: {accuracy:.4f}"
    after = contents(run)
    assert {k: v for k, v in after.items() if ".png" not in k} == {
        k: v for k, v in before.items() if ".png" not in k
    }


def test_resume_of_a_finished_run_brings_missing_files_back(run: Path) -> None:
    # as after a kill between the last epoch's files
    Path("out").mkdir()
    Path("out/state.safetensors").write_bytes((run / "state.safetensors").read_bytes())
    succeed("train", "--resume", "--output", "out")
    assert_same_run(Path("out"), run)


def test_more_epochs_may_be_asked_for() -> None:
    constant = [*SMALL, "--schedule", "constant"]
    succeed("train", *constant, "--epochs", 3, "--output", "whole")
    succeed("train", *constant, "--epochs", 1, "--output", "out")
    out = succeed("train", "--resume", "--epochs", 3, "--output", "out")
    assert "out: going on after epoch 1 of 3" in out
    assert_same_run(Path("out"), Path("whole"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lr", "0.1"], "expected --lr 0.05, with which the run in .* began, got 0.1"),
        (["--batch-size", "10"], "expected --batch-size 20, .* got 10"),
        (["--optimizer", "adam"], "expected --optimizer sgd, .* got adam"),
        (["--schedule", "step"], "expected --schedule cosine, .* got step"),
        (["--seed", "1"], "expected --seed 3, .* got 1"),
        (["--limit-train", "41"], "expected --limit-train 40, .* got 41"),
        (["--limit-test", "21"], "expected --limit-test 20, .* got 21"),
        (["--dataset", "mnist"], "expected --dataset strokes, .* got mnist"),
        (["--epochs", "1"], "expected --epochs 2 or more, as many as are done, got 1"),
    ],
)
def test_resume_with_other_settings(run: Path, options: list[str], message: str) -> None:
    before = contents(run)
    assert re.match(f"--resume: {message}", fail("train", "--resume", "--output", run, *options))
    assert contents(run) == before


def test_resume_needs_a_state_of_a_run(run: Path) -> None:
    assert "expected a run in runs/strokes, got no state" in fail("train", "--resume")
    out = Path("out")
    out.mkdir()
    state = out / "state.safetensors"
    good = (run / "state.safetensors").read_bytes()
    for content in (
        b"",
        b"text",
        good[:100],
        good[:-1],
        good + b"x",
        struct.pack("<Q", 2**60) + good[8:],
        (run / "model.safetensors").read_bytes(),
        good.replace(b'\\"dataset\\": \\"strokes\\"', b'\\"dataset\\": \\"strakes\\"'),
        good.replace(b'\\"epochs\\": 2', b'\\"epochs\\": 0'),
        good.replace(b'\\"epochs\\": 2', b'\\"epochs\\":[]'),
        good.replace(b'\\"run\\"', b'\\"ran\\"'),
    ):
        assert content != good
        state.write_bytes(content)
        assert fail("train", "--resume", "--output", out).startswith(f"{state}: expected a")
    state.unlink()

    trainer = fastcnn.Trainer(sample_network())  # a state, but of no run of this command
    trainer.model.build((28, 28, 1))
    trainer.fit(np.zeros((2, 28, 28, 1), np.uint8), [0, 1], verbose=False)
    trainer.save_state(state)
    assert "it does not say with which settings" in fail("train", "--resume", "--output", out)


def test_resume_with_other_data(run: Path) -> None:
    content = (run / "state.safetensors").read_bytes()
    changed = content.replace(b'\\"limit_train\\": 40', b'\\"limit_train\\": 60')
    assert changed != content
    Path("out").mkdir()
    Path("out/state.safetensors").write_bytes(changed)
    assert "expected the data that the run began with, 4 steps in 2 epochs, got" in fail(
        "train", "--resume", "--output", "out"
    )
