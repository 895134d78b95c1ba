"""Keras 3 on TensorFlow, or on JAX or PyTorch where that is missing (or KERAS_BACKEND says so).

Keras has no convolution of its own: where it runs on TensorFlow, TensorFlow's is measured.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks._cases import (
    CHECKED_STEPS,
    LEARNING_RATE,
    MOMENTUM,
    Convolution,
    Inference,
    Training,
)
from benchmarks._peers import Job, Results
from fastcnn.backend import Array

_installed = [name for name in ("tensorflow", "jax", "torch") if find_spec(name) is not None]
if not _installed:
    raise ImportError("keras needs tensorflow, jax or torch, and none is installed")
os.environ.setdefault("KERAS_BACKEND", _installed[0])
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402 (it reads KERAS_BACKEND)

BACKEND: str = keras.config.backend()


def start(threads: int) -> str:
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        return f"Keras {keras.__version__} on TensorFlow {tf.__version__}"
    if BACKEND == "jax":
        from benchmarks._peers import jax_jit

        return f"Keras {keras.__version__} on {jax_jit.start(threads)}"
    from benchmarks._peers import pytorch

    return f"Keras {keras.__version__} on {pytorch.start(threads)}"


def options(kind: str) -> dict[str, str]:
    if kind == "convolution":
        return {"tf.nn": "tf.nn.conv2d in a tf.function"} if BACKEND == "tensorflow" else {}
    call = "Model.fit" if kind == "training" else "Model.predict_on_batch"
    if BACKEND != "tensorflow":
        return {"auto": f"{call}, jit_compile='auto'"}
    names = {"graph": f"{call}, jit_compile=False", "xla": f"{call}, jit_compile=True"}
    if kind == "inference":
        names["function"] = "tf.function(model)"
    return names


def _network(option: str, weights: Mapping[str, Array]) -> Any:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile={"graph": False, "xla": True}.get(option, "auto"),
    )
    _load(model, weights)
    return model


def _load(model: Any, weights: Mapping[str, Array]) -> None:
    """Set the weights, whose layouts are Keras's own."""
    model.set_weights([weights[f"{i}.{name}"] for i in (0, 2, 5, 6) for name in ("weight", "bias")])


def training(case: Training, option: str, weights: Mapping[str, Array]) -> Job:
    x, y = case.data()
    model = _network(option, weights)

    def result() -> Results:
        losses = []
        for start in range(0, CHECKED_STEPS * case.batch, case.batch):
            model.reset_metrics()  # what it returns is a mean since then
            batch = slice(start, start + case.batch)
            losses.append(float(model.train_on_batch(x[batch], y[batch])))
        return {"losses": np.array(losses)}

    def run() -> None:
        model.fit(x, y, batch_size=case.batch, shuffle=True, verbose=0)

    def reset() -> None:
        _load(model, weights)
        for velocity in model.optimizer.momentums:
            velocity.assign(np.zeros(velocity.shape, np.float32))

    return Job(result, run, reset)


def inference(case: Inference, option: str, weights: Mapping[str, Array]) -> Job:
    x = case.data()
    model = _network(option, weights)
    if option == "function":
        import tensorflow as tf

        images, function = tf.constant(x), tf.function(lambda x: model(x, training=False))
        return Job(lambda: {"logits": function(images).numpy()}, lambda: function(images))

    def run() -> Array:
        logits: Array = model.predict_on_batch(x)
        return logits

    return Job(lambda: {"logits": run()}, run)


def convolution(case: Convolution, option: str, weights: Mapping[str, Array]) -> Job | None:
    if case.stride > 1 and case.padding:
        return None  # "SAME" means other pads there
    import tensorflow as tf

    arrays = case.data()
    depthwise = case.groups == case.channels > 1
    if depthwise:  # filters (R, S, C, 1)
        arrays = arrays[0], arrays[1].transpose(0, 1, 3, 2), arrays[2]
    x, w, dy = map(tf.constant, arrays)
    strides = (1, case.stride, case.stride, 1)
    padding = "SAME" if case.padding else "VALID"
    convolve = tf.nn.depthwise_conv2d if depthwise else tf.nn.conv2d

    def forward() -> Any:
        return {"y": convolve(x, w, strides, padding)}

    def backward() -> Any:
        with tf.GradientTape() as tape:
            tape.watch((x, w))
            y = convolve(x, w, strides, padding)
        if case.direction == "input gradient":
            return {"dx": tape.gradient(y, x, output_gradients=dy)}
        dw = tape.gradient(y, w, output_gradients=dy)
        dw = tf.transpose(dw, (0, 1, 3, 2)) if depthwise else dw
        return {"dw": dw, "db": tf.reduce_sum(dy, (0, 1, 2))}

    run = tf.function(forward if case.direction == "forward" else backward)
    return Job(lambda: {name: tensor.numpy() for name, tensor in run().items()}, run)
