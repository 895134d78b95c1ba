"""JAX: everything in jit, NHWC, with two ways to write a max-pool."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

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

LAYOUT = ("NHWC", "HWIO", "NHWC")


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
    return {
        "reduce_window": "jit, NHWC, max-pool by lax.reduce_window",
        "reshape": "jit, NHWC, max-pool by reshape and max",
    }


def _max_pool(x: jax.Array, option: str) -> jax.Array:
    if option == "reduce_window":
        window = (1, 2, 2, 1)
        return lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")
    n, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))


def _logits(parameters: Mapping[str, jax.Array], x: jax.Array, option: str) -> jax.Array:
    for layer in (0, 2):
        w, b = parameters[f"{layer}.weight"], parameters[f"{layer}.bias"]
        y = lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=LAYOUT)
        x = _max_pool(jax.nn.relu(y + b), option)
    x = x.reshape(len(x), -1)
    x = jax.nn.relu(x @ parameters["5.weight"] + parameters["5.bias"])
    return x @ parameters["6.weight"] + parameters["6.bias"]


@partial(jax.jit, static_argnames="option", donate_argnums=(0, 1))
def _step(
    parameters: dict[str, jax.Array],
    velocity: dict[str, jax.Array],
    x: jax.Array,
    y: jax.Array,
    indices: Array,
    option: str,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array], jax.Array]:
    """Take one step on the images at `indices`; return parameters, velocity and the loss."""

    def cross_entropy(parameters: Mapping[str, jax.Array]) -> jax.Array:
        log_p = jax.nn.log_softmax(_logits(parameters, x[indices], option))
        return -jnp.take_along_axis(log_p, y[indices][:, None], axis=1).mean()

    loss, gradient = jax.value_and_grad(cross_entropy)(parameters)
    velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, gradient)
    parameters = jax.tree.map(lambda w, v: w - LEARNING_RATE * v, parameters, velocity)
    return parameters, velocity, loss


def training(case: Training, option: str, weights: Mapping[str, Array]) -> Job:
    x, y = map(jnp.asarray, case.data())
    state: tuple[dict[str, jax.Array], dict[str, jax.Array]]

    def reset() -> None:
        nonlocal state
        parameters = {name: jnp.array(array) for name, array in weights.items()}
        state = parameters, jax.tree.map(jnp.zeros_like, parameters)

    def epoch(order: Array) -> list[float]:
        nonlocal state
        losses = []
        for start in range(0, len(order), case.batch):
            *state, loss = _step(*state, x, y, order[start : start + case.batch], option)
            losses.append(loss)
        return [float(loss) for loss in losses]

    def result() -> Results:
        reset()
        return {"losses": np.array(epoch(np.arange(CHECKED_STEPS * case.batch)))}

    reset()
    rng = np.random.default_rng(0)
    return Job(result, lambda: epoch(rng.permutation(case.images)), reset)


def inference(case: Inference, option: str, weights: Mapping[str, Array]) -> Job:
    x = jnp.asarray(case.data())
    parameters = {name: jnp.asarray(array) for name, array in weights.items()}
    logits = jax.jit(partial(_logits, option=option))

    def run() -> jax.Array:
        return logits(parameters, x).block_until_ready()

    return Job(lambda: {"logits": np.asarray(run())}, run)


def convolution(case: Convolution, option: str, weights: Mapping[str, Array]) -> Job:
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
