"""JAX: everything in jit, NHWC, with two ways to write a max-pool."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks import _networks
from benchmarks._cases import MOMENTUM, Convolution, Inference, Training
from benchmarks._networks import NETWORKS, walk
from benchmarks._peers import Job, Results
from fastcnn import nn
from fastcnn.backend import Array

LAYOUT = ("NHWC", "HWIO", "NHWC")
Weights = dict[str, jax.Array]


def start(threads: int) -> str:
    limit_threads(threads)
    return f"JAX {jax.__version__}"


def limit_threads(threads: int) -> None:
    """Give this process so many CPUs: XLA has no setting of its own for its threads."""
    if hasattr(os, "sched_setaffinity"):
        cpus = sorted(os.sched_getaffinity(0))
        if threads < len(cpus):  # spread out: neighbours may be two threads of one core
            os.sched_setaffinity(0, cpus[:: len(cpus) // threads][:threads])


def options(kind: str) -> dict[str, str]:
    if kind == "convolution":
        return {"jit": "jit, lax.conv_general_dilated, NHWC"}
    if kind not in ("training", "inference"):
        return {}
    return {
        "reduce_window": "jit, NHWC, max-pool by lax.reduce_window",
        "reshape": "jit, NHWC, max-pool by reshape and max",
    }


def _max_pool(x: jax.Array, layer: nn.MaxPool2D, option: str) -> jax.Array:
    size = layer.pool_size
    if option == "reduce_window" or layer.stride is not None:
        window, strides = (1, size, size, 1), (1, *(layer.stride or size,) * 2, 1)
        pads = ((0, 0), *((layer.padding,) * 2,) * 2, (0, 0))
        return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, pads)
    n, h, w, c = x.shape
    x = x[:, : h // size * size, : w // size * size]
    return x.reshape(n, h // size, size, w // size, size, c).max(axis=(2, 4))


def _logits(
    model: nn.Module, weights: Weights, x: jax.Array, option: str, training: bool
) -> tuple[jax.Array, Weights]:
    """Return the logits, and the running statistics after this batch."""
    running: Weights = {}

    def chain(part: nn.Module, prefix: str, x: jax.Array) -> jax.Array:
        for name, layer in walk(part, prefix):
            x = apply(name, layer, x)
        return x

    def apply(name: str, layer: nn.Module, x: jax.Array) -> jax.Array:
        own = {key: weights[f"{name}.{key}"] for key in layer.variables()}
        if isinstance(layer, nn.Residual):
            other = x
            if layer.shortcut is not None:
                other = chain(layer.shortcut, f"{name}.shortcut", x)
            return chain(layer.body, f"{name}.body", x) + other
        if isinstance(layer, (nn.Conv2D, nn.DepthwiseConv2D)):
            y = lax.conv_general_dilated(
                x,
                own["weight"],
                (layer.stride,) * 2,
                ((layer.padding,) * 2,) * 2,
                dimension_numbers=LAYOUT,
                feature_group_count=x.shape[3] // own["weight"].shape[2],
            )
            return y + own["bias"] if layer.use_bias else y
        if isinstance(layer, nn.BatchNorm):
            mean, variance = own["running_mean"], own["running_variance"]
            if training:
                new, axes = 1 - layer.momentum, tuple(range(x.ndim - 1))
                running[f"{name}.running_mean"] = mean + new * (x.mean(axes) - mean)
                running[f"{name}.running_variance"] = variance + new * (x.var(axes) - variance)
                mean, variance = x.mean(axes), x.var(axes)
            scale = own["gamma"] * lax.rsqrt(variance + layer.epsilon)
            return (x - mean) * scale + own["beta"]
        if isinstance(layer, nn.Dense):
            return x @ own["weight"] + own["bias"]
        if isinstance(layer, nn.MaxPool2D):
            return _max_pool(x, layer, option)
        if isinstance(layer, nn.GlobalAvgPool2D):
            return x.mean(axis=(1, 2))
        return jax.nn.relu(x) if isinstance(layer, nn.ReLU) else x.reshape(len(x), -1)

    return chain(model, "", x), running


@partial(jax.jit, static_argnames=("model", "option"), donate_argnums=(1, 2))
def _step(
    model: nn.Module,
    weights: Weights,
    velocity: Weights,
    x: jax.Array,
    y: jax.Array,
    indices: Array,
    learning_rate: float,
    option: str,
) -> tuple[Weights, Weights, jax.Array]:
    """Take one step on the images at `indices`; return weights, velocity and the loss."""

    def cross_entropy(parameters: Weights) -> tuple[jax.Array, Weights]:
        logits, running = _logits(model, {**weights, **parameters}, x[indices], option, True)
        log_p = jax.nn.log_softmax(logits)
        return -jnp.take_along_axis(log_p, y[indices][:, None], axis=1).mean(), running

    parameters = {name: weights[name] for name in velocity}
    gradient = jax.value_and_grad(cross_entropy, has_aux=True)
    (loss, running), gradients = gradient(parameters)
    velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, gradients)
    parameters = jax.tree.map(lambda w, v: w - learning_rate * v, parameters, velocity)
    return {**weights, **running, **parameters}, velocity, loss


def training(case: Training, option: str) -> Job | None:
    if NETWORKS[case.network].epoch == 1:
        return None  # XLA's gradients of deep networks take minutes on a CPU
    x, y = map(jnp.asarray, case.data())
    model = _networks.model(case.network)
    state: tuple[Weights, Weights]

    def reset() -> None:
        nonlocal state
        weights = {name: jnp.array(array) for name, array in model.state_dict().items()}
        state = weights, {name: jnp.zeros_like(weights[name]) for name in model.parameters()}

    def epoch(order: Array) -> list[float]:
        nonlocal state
        losses = []
        for start in range(0, len(order), case.batch):
            batch = order[start : start + case.batch]
            *state, loss = _step(model, *state, x, y, batch, case.learning_rate, option)
            losses.append(loss)
        return [float(loss) for loss in losses]

    def result() -> Results:
        reset()
        images = np.arange(case.images)
        return {"losses": np.array(epoch(np.concatenate([images[part] for part in case.checked])))}

    reset()
    rng = np.random.default_rng(0)
    return Job(result, lambda: epoch(rng.permutation(case.images)), reset)


def inference(case: Inference, option: str) -> Job:
    x = jnp.asarray(case.data())
    model = _networks.model(case.network)
    weights = {name: jnp.asarray(array) for name, array in model.state_dict().items()}
    logits = jax.jit(lambda weights, x: _logits(model, weights, x, option, False)[0])

    def run() -> jax.Array:
        return logits(weights, x).block_until_ready()

    return Job(lambda: {"logits": np.asarray(run())}, run)


def convolution(case: Convolution, option: str) -> Job:
    x, w, dy = map(jnp.asarray, case.data())
    convolve = partial(
        lax.conv_general_dilated,
        window_strides=(case.stride,) * 2,
        padding=((case.padding,) * 2,) * 2,
        dimension_numbers=LAYOUT,
        feature_group_count=case.groups,
    )

    def forward(x: jax.Array, w: jax.Array, dy: jax.Array) -> dict[str, jax.Array]:
        return {"y": convolve(x, w)}

    def backward(x: jax.Array, w: jax.Array, dy: jax.Array) -> dict[str, jax.Array]:
        dx, dw = jax.vjp(convolve, x, w)[1](dy)  # what is not returned is not computed
        if case.direction == "input gradient":
            return {"dx": dx}
        return {"dw": dw, "db": dy.sum(axis=(0, 1, 2))}

    compute = jax.jit(forward if case.direction == "forward" else backward)

    def run() -> Any:
        return jax.block_until_ready(compute(x, w, dy))

    return Job(lambda: {name: np.asarray(array) for name, array in run().items()}, run)
