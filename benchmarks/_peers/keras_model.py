"""Keras 3 on TensorFlow, or on JAX or PyTorch where that is missing (or KERAS_BACKEND says so).

Keras has no convolution of its own: where it runs on TensorFlow, TensorFlow's is measured.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks import _networks
from benchmarks._cases import MOMENTUM, Convolution, Inference, Training
from benchmarks._networks import NETWORKS, walk
from benchmarks._peers import Job, Results
from fastcnn import nn
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
    if kind not in ("training", "inference"):
        return {}
    call = "Model.fit" if kind == "training" else "Model.predict_on_batch"
    if BACKEND != "tensorflow":
        return {"auto": f"{call}, jit_compile='auto'"}
    names = {"graph": f"{call}, jit_compile=False", "xla": f"{call}, jit_compile=True"}
    if kind == "inference":
        names["function"] = "tf.function(model)"
    return names


class _Twin:
    """A Keras model with fastcnn's layers and weights."""

    def __init__(self, name: str, option: str) -> None:
        self._source = _networks.model(name)
        self._layers: list[tuple[Any, nn.Module]] = []
        x = keras.Input(NETWORKS[name].input_shape)
        self.model: Any = keras.Model(x, self._chain(self._source, x))
        self.model.compile(
            optimizer=keras.optimizers.SGD(NETWORKS[name].learning_rate, momentum=MOMENTUM),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile={"graph": False, "xla": True}.get(option, "auto"),
        )
        self.load()

    def load(self) -> None:
        """Set the weights, whose layouts are Keras's own but for depthwise filters."""
        for twin, layer in self._layers:
            arrays = [variable.data for variable in layer.variables().values()]
            if isinstance(layer, nn.DepthwiseConv2D):
                arrays[0] = arrays[0].transpose(0, 1, 3, 2)
            twin.set_weights(arrays)

    def _chain(self, part: nn.Module, x: Any) -> Any:
        for _, layer in walk(part):
            if isinstance(layer, nn.Residual):
                other = x if layer.shortcut is None else self._chain(layer.shortcut, x)
                x = self._chain(layer.body, x) + other
                continue
            if getattr(layer, "padding", 0):  # "same" means other pads where there are strides
                x = keras.layers.ZeroPadding2D(layer.padding)(x)  # type: ignore[attr-defined]
            twin = _layer(layer)
            x = twin(x)
            self._layers.append((twin, layer))
        return x


def _layer(layer: nn.Module) -> Any:
    layers = keras.layers
    if isinstance(layer, nn.Conv2D):
        kernel, strides = layer.kernel_size, layer.stride
        return layers.Conv2D(layer.filters, kernel, strides, use_bias=layer.use_bias)
    if isinstance(layer, nn.DepthwiseConv2D):
        return layers.DepthwiseConv2D(layer.kernel_size, layer.stride, use_bias=layer.use_bias)
    if isinstance(layer, nn.BatchNorm):
        return layers.BatchNormalization(momentum=layer.momentum, epsilon=layer.epsilon)
    if isinstance(layer, nn.Dense):
        return layers.Dense(layer.units)
    if isinstance(layer, nn.MaxPool2D):  # behind a ReLU: padding of zeros is as good as of -inf
        return layers.MaxPooling2D(layer.pool_size, layer.stride)
    others = {
        nn.GlobalAvgPool2D: layers.GlobalAveragePooling2D,
        nn.ReLU: layers.ReLU,
        nn.Flatten: layers.Flatten,
    }
    return others[type(layer)]()


def training(case: Training, option: str) -> Job | None:
    if NETWORKS[case.network].epoch == 1:
        return None  # minutes of compilation
    x, y = case.data()
    twin = _Twin(case.network, option)
    model = twin.model

    def result() -> Results:
        losses = []
        for batch in case.checked:
            model.reset_metrics()  # what it returns is a mean since then
            losses.append(float(model.train_on_batch(x[batch], y[batch])))
        return {"losses": np.array(losses)}

    def run() -> None:
        model.fit(x, y, batch_size=case.batch, shuffle=True, verbose=0)

    def reset() -> None:
        twin.load()
        for velocity in model.optimizer.momentums:
            velocity.assign(np.zeros(velocity.shape, np.float32))

    return Job(result, run, reset)


def inference(case: Inference, option: str) -> Job:
    x = case.data()
    model = _Twin(case.network, option).model
    if option == "function":
        import tensorflow as tf

        images, function = tf.constant(x), tf.function(lambda x: model(x, training=False))
        return Job(lambda: {"logits": function(images).numpy()}, lambda: function(images))

    def run() -> Array:
        logits: Array = model.predict_on_batch(x)
        return logits

    return Job(lambda: {"logits": run()}, run)


def convolution(case: Convolution, option: str) -> Job | None:
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
