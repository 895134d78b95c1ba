"""The command on model files of every kind: convert, info, predict and evaluate."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from command import fail, run_command, succeed
from model_files import images, network, onnx_file
from torch_files import honest

import fastcnn
from fastcnn import datasets, nn
from fastcnn._info import multiply_adds


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# ---------------------------------------------------------------------- convert
def test_convert_to_onnx_and_back() -> None:
    pytest.importorskip("onnx", reason="needs the package onnx")
    model = network()
    model.save("model.safetensors")
    expected = fastcnn.Predictor(model)(images())
    out = succeed("convert", "model.safetensors", "out.onnx")
    assert re.fullmatch(r"out\.onnx: ONNX of opset 17, NCHW, 700 parameters, 0\.0 MB\n", out)
    options = ("--opset", 20, "--layout", "NHWC", "--fold")
    out = succeed("convert", "model.safetensors", "folded.onnx", *options)
    assert "ONNX of opset 20, NHWC, batch normalization folded, 700 parameters" in out
    assert "ONNX of opset 20: Conv 2" in succeed("info", "folded.onnx")
    assert "BatchNormalization" not in succeed("info", "folded.onnx")
    for name in ("out.onnx", "folded.onnx"):
        assert "a model of fastcnn, " in succeed("convert", name, "back.safetensors")
        given = fastcnn.Predictor(fastcnn.load("back.safetensors"))(images())
        np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)


def test_convert_to_weights_for_pytorch() -> None:
    model = network()
    model.save("model.safetensors")
    out = succeed("convert", "model.safetensors", "twin.safetensors", "--pytorch")
    assert out.startswith("twin.safetensors: arrays for PyTorch, 700 parameters")
    state = fastcnn.pytorch.load_state("twin.safetensors")
    np.testing.assert_array_equal(
        state["0.weight"], model.state_dict()["0.weight"].transpose(3, 2, 0, 1)
    )
    other = network()
    other.load_pytorch_state("twin.safetensors")


def test_convert_leaves_sizes_open_and_names_as_they_are() -> None:
    x = nn.Input((32, 32, 3), name="image")
    y = nn.Dense(4)(nn.GlobalAvgPool2D()(nn.Conv2D(4, 3)(x)))
    model = nn.Model(x, {"scores": y})
    model.build()
    onnx_file("open.onnx", model, any_size=True)
    succeed("convert", "open.onnx", "again.onnx", "--opset", 18)
    again = fastcnn.onnx.load("again.onnx")
    assert again.input_shape == (None, None, 3)
    assert (again.input_names, again.output_names) == (("image",), ("scores",))
    batch = images(2, (9, 14, 3))
    one, other = (fastcnn.Predictor(fastcnn.onnx.load(f"{n}.onnx")) for n in ("open", "again"))
    np.testing.assert_array_equal(one(batch), other(batch))


def test_convert_writes_over_other_files_and_never_over_its_own() -> None:
    model = network()
    model.save("model.safetensors")
    Path("run").mkdir()
    model.save("run/model.safetensors")
    Path("there.safetensors").write_text("something else")
    succeed("convert", "run", "there.safetensors")
    fastcnn.load("there.safetensors")
    for source, target in (("model.safetensors", Path.cwd() / "model.safetensors"), ("run", None)):
        target = target or "run/model.safetensors"
        message = fail("convert", source, target, "--pytorch")
        assert message.startswith("convert: OUT: expected another file than IN, got ")


def test_convert_of_what_onnx_lacks_writes_nothing() -> None:
    onnx_file()
    message = fail("convert", "model.onnx", "out.onnx", "--opset", 3)
    assert message == "save: opset: expected an integer of at least 13, got 3"
    Path("broken.onnx").write_bytes(Path("model.onnx").read_bytes()[:200])
    assert fail("convert", "broken.onnx", "out.onnx").startswith("broken.onnx: expected")
    assert not Path("out.onnx").exists()


@pytest.mark.parametrize("command", ["info", "predict", "convert", "evaluate"])
def test_without_the_package_onnx(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    Path("model.onnx").write_bytes(b"\x08\x07")
    monkeypatch.setitem(sys.modules, "onnx", None)
    rest = {"predict": ["a.npy"], "convert": ["b.onnx"], "evaluate": ["--dataset", "strokes"]}
    message = fail(command, "model.onnx", *rest.get(command, []))
    assert (
        message == 'fastcnn.onnx: expected the package onnx, got none; pip install "fastcnn[onnx]"'
    )


def test_files_of_keras_where_nothing_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastcnn.keras", None)
    for name in ("model.keras", "model.h5"):
        Path(name).write_bytes(b"PK")
        assert fail("info", name) == (
            f"{name}: expected a file that this fastcnn reads, got one of Keras, which it does not"
        )


def test_files_of_keras_go_to_their_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reader:
        @staticmethod
        def load(path: Path) -> nn.Module:
            assert path == Path("model.keras")
            return network()

    monkeypatch.setitem(sys.modules, "fastcnn.keras", Reader)
    Path("model.keras").write_bytes(b"PK")
    assert "Trained parameters: 700 (and 16" in succeed("info", "model.keras")
    assert "700 parameters" in succeed("convert", "model.keras", "out.safetensors")


# ---------------------------------------------------------------------- info
def test_info_of_a_model() -> None:
    model = network()
    model.save("model.safetensors")
    lines = succeed("info", "model.safetensors").splitlines()
    assert lines[:-1] == ["model.safetensors", *model.summary().splitlines()]
    # 12 x 10 pixels of 3 x 3 x 3 to 8; 4 x 3 of 3 x 3 x 8 to 6; 6 to 4
    count = 12 * 10 * 27 * 8 + 4 * 3 * 72 * 6 + 6 * 4
    assert lines[-1] == f"Multiply-adds: {count:,}"


def test_info_of_an_onnx_file() -> None:
    onnx_file()
    out = succeed("info", "model.onnx")
    assert out.startswith("model.onnx\nONNX of opset 17: BatchNormalization 1, Conv 2, ")
    assert re.search(r"^0 Conv +\(12, 10, 8\) +224$", out, re.MULTILINE)
    assert re.search(r"^4 Conv +\(4, 3, 6\) +432$", out, re.MULTILINE)
    assert 'Input "x" (12, 10, 3), float32\nOutput "y" (4,)' in out
    count = 12 * 10 * 27 * 8 + 4 * 3 * 72 * 6 + 6 * 4
    assert out.splitlines()[-1] == f"Multiply-adds: {count:,}"


def test_info_where_sizes_are_open() -> None:
    onnx_file(any_size=True)
    last = succeed("info", "model.onnx").splitlines()[-1]
    count = 224 * 224 * 27 * 8 + 110 * 110 * 72 * 6 + 6 * 4
    assert last == f"Multiply-adds: {count:,}, with 224 for each size that is left open"


def test_info_tells_operators_that_fastcnn_lacks() -> None:
    onnx = pytest.importorskip("onnx", reason="needs the package onnx")
    helper = onnx.helper
    info = [helper.make_tensor_value_info(name, 1, [1, 4]) for name in ("x", "y")]
    node = helper.make_node("Whirl", ["x"], ["y"], domain="elsewhere")
    graph = helper.make_graph([node], "g", info[:1], info[1:])
    onnx.save(helper.make_model(graph), "model.onnx")
    code, out, error = run_command(("info", "model.onnx"))
    assert code == 2
    assert "elsewhere.Whirl 1" in out
    assert error.startswith("fastcnn: model.onnx: expected")


def test_info_of_arrays_alone() -> None:
    files = {"archive": "state.pt", "old": "state.pth", "safetensors": "other.safetensors"}
    for form, name in files.items():
        Path(name).write_bytes(honest()[form])
        lines = succeed("info", name).splitlines()
        assert lines[0] == name
        assert [re.split("  +", line) for line in lines[3:6]] == [
            ["conv.weight", "(2, 3, 2, 2)", "float32"],
            ["conv.bias", "(2,)", "float64"],
            ["count", "()", "int64"],
        ]
        assert lines[-1] == "3 arrays of 27 numbers, as PyTorch has them; no network"
    network().save("model.safetensors")
    succeed("convert", "model.safetensors", "twin.safetensors", "--pytorch")
    out = succeed("info", "twin.safetensors")
    assert re.search(r"^0\.weight +\(8, 3, 3, 3\) +float32$", out, re.MULTILINE)
    Path("bad.pt").write_bytes(b"text")
    assert fail("info", "bad.pt").startswith("bad.pt: expected a state dict of PyTorch")


@pytest.mark.parametrize(
    ("layer", "shape", "count"),
    [
        (nn.Conv2D(6, 3, stride=2, groups=2), (9, 9, 4), 4 * 4 * 6 * 9 * 2),
        (nn.Conv2DTranspose(6, 3, stride=2), (5, 4, 2), 5 * 4 * 2 * 9 * 6),
        (nn.Dense(7), (5,), 35),
    ],
)
def test_multiply_adds(layer: nn.Module, shape: tuple[int, ...], count: int) -> None:
    model = nn.Sequential([layer])
    model.build(shape)
    assert multiply_adds(model.program(1)) == count
    assert multiply_adds(model.program(3)) == 3 * count
    with_gradients = model.program(1, training=True, gradients=True)
    assert multiply_adds(with_gradients) == count


def test_multiply_adds_of_matrices() -> None:
    a, b = nn.Input((2, 3, 4)), nn.Input((2, 4, 5))
    model = nn.Model([a, b], nn.MatMul()([a, b]))
    model.build()
    assert multiply_adds(model.program(1)) == 2 * 3 * 4 * 5


# ---------------------------------------------------------------------- predict, evaluate
def test_predict_by_an_onnx_file() -> None:
    onnx_file()
    batch = images()
    np.save("x.npy", batch)
    probabilities = fastcnn.Trainer(network()).predict_proba(batch)
    told = json.loads(succeed("predict", "model.onnx", "x.npy", "--format", "json"))
    given = [each["probabilities"] for each in told]
    np.testing.assert_allclose(given, probabilities, rtol=1e-5)

    Path("names.txt").write_text("cat\ndog\n red fox \nowl\n\n")
    out = succeed("predict", "model.onnx", "x.npy", "--labels", "names.txt", "--top", 4)
    assert all(name in out for name in ("cat", "dog", "red fox", "owl"))

    mean, std = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.2, 0.1])
    options = ("--mean", "0.5,0.4,0.3", "--std", "0.2,0.2,0.1", "--format", "json")
    told = json.loads(succeed("predict", "model.onnx", "x.npy", *options))
    prepared = ((batch / 255 - mean) / std).astype(np.float32)
    expected = fastcnn.Trainer(network()).predict_proba(prepared)
    given = [each["probabilities"] for each in told]
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-6)


def test_options_go_before_the_notes() -> None:
    model = network()
    model.notes = {"preprocessing": {"mean": 0.1, "std": 0.7}, "classes": list("abcd")}
    model.save("noted.safetensors")
    model.notes = {"preprocessing": {"mean": 0.2, "std": 0.7}, "classes": list("efgh")}
    model.save("other.safetensors")
    np.save("x.npy", images())
    Path("names.txt").write_text("e\nf\ng\nh")
    options = ("--mean", 0.2, "--labels", "names.txt")
    given = succeed("predict", "noted.safetensors", "x.npy", *options)
    assert given == succeed("predict", "other.safetensors", "x.npy")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mean", "1,2"], "predict: --mean: expected a number or 3 of them, got [1.0, 2.0]"),
        (["--mean", "nan"], "predict: --mean: expected a number or 3 of them, got [nan]"),
        (["--std", "1,0,1"], "predict: --std: expected a number or 3 of them, none of them 0"),
        (["--labels", "missing"], "missing: No such file or directory"),
        (["--labels", "three"], "predict: --labels: expected a line for each of the model's outp"),
        (["--labels", "bytes"], "bytes: expected a text file in UTF-8, a name a line"),
    ],
)
def test_errors_of_predict(options: list[str], message: str) -> None:
    network().save("model.safetensors")
    np.save("x.npy", images())
    Path("three").write_text("a\nb\nc\n")
    Path("bytes").write_bytes(b"\xff\xfe\xfa\n" * 4)
    assert fail("predict", "model.safetensors", "x.npy", *options).startswith(message)


def test_a_model_of_two_inputs_is_asked_nothing() -> None:
    a, b = nn.Input((8, 8, 3)), nn.Input((8, 8, 3))
    model = nn.Model([a, b], nn.Dense(3)(nn.Flatten()(nn.add(a, b))))
    model.build()
    model.save("model.safetensors")
    for command, rest in (("predict", ["x.npy"]), ("evaluate", ["--dataset", "strokes"])):
        message = fail(command, "model.safetensors", *rest)
        assert message == f"{command}: expected a model of one input, got one of 2"


def test_predict_of_any_size() -> None:
    image = pytest.importorskip("PIL.Image")
    onnx_file(any_size=True)
    (one,) = images(1, (15, 21, 3))
    np.save("x.npy", one)
    np.save("batch.npy", one[None])
    image.fromarray(one).save("x.png")
    turned = image.fromarray(np.rot90(one))
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    turned.save("turned.png", exif=exif)
    (probabilities,) = fastcnn.Trainer(fastcnn.onnx.load("model.onnx")).predict_proba(one[None])
    files = ("x.npy", "batch.npy", "x.png", "turned.png")
    lines = succeed("predict", "model.onnx", *files).splitlines()
    c = probabilities.argmax()
    said = f"class {c}, probability {probabilities[c]:.4f}"
    assert lines == [f"{name}: {said}" for name in files]


def test_evaluate_makes_images_of_the_models_size() -> None:
    model = network(10, (14, 14, 3))
    model.save("model.safetensors")
    _, (x, y) = datasets.load("strokes", limit_train=1, limit_test=30)
    # half the size by lines between pixels' centres: the mean of each four
    small = np.rint(x.reshape(30, 14, 2, 14, 2, 1).mean(axis=(2, 4))).astype(np.uint8)
    measured = fastcnn.Trainer(model).evaluate(np.repeat(small, 3, axis=3), y)
    options = ("--dataset", "strokes", "--limit-test", 30)
    out = succeed("evaluate", "model.safetensors", *options)
    assert out.splitlines()[1:] == [
        f"test loss: {measured['loss']:.4f}",
        f"test accuracy: {measured['accuracy']:.4f}",
    ]
