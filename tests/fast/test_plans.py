"""Steps that are planned train to the bits of the same ops called one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from calls import OPS, UPDATED, arguments, each, run
from training import CLASSES, NETWORKS, assert_same, data, ending, relu, train

import fastcnn
from fastcnn import FastBackend, losses, nn, optim
from fastcnn._kernels import _memory
from fastcnn.fast import _plan


@pytest.mark.parametrize("name", NETWORKS)
def test_plans_have_the_bits_of_ops(
    name: str, dtype: Any, fast_backend: Any, op_by_op: Any, planned: list[Any]
) -> None:
    x, y = data()
    expected = op_by_op(fast_backend, NETWORKS[name], x, y, dtype)
    assert not planned
    assert_same(train(fast_backend, NETWORKS[name], x, y, dtype), expected)
    assert len(planned) == 8
    assert len(set(map(id, planned))) == 2, "one a size of batch, in both epochs"


@pytest.mark.parametrize("op", [op for op in OPS if op not in UPDATED])
def test_an_op_that_is_bound_looks_at_numbers_when_it_is_run(
    op: str, dtype: Any, fast_backend: Any
) -> None:
    """What it is bound to are shapes alone: its arrays hold other numbers by then.

    But for what they are divided by: losses with weights are not bound.
    """
    for seed in range(8):
        rng = np.random.default_rng(seed)
        call = {
            k: v for k, v in arguments(op, rng, dtype, fast_backend).items() if "_weights" not in k
        }
        call = {name: each(np.ascontiguousarray, value) for name, value in call.items()}
        binder = _plan._Binder(fast_backend, 2)
        bound = {name: each(np.ones_like, value) for name, value in call.items()}
        results = run(binder, op, bound)
        for name, value in call.items():
            if isinstance(value, list) and isinstance(value[0], np.ndarray):
                for own, numbers in zip(bound[name], value, strict=True):
                    np.copyto(own, numbers)
            elif isinstance(value, np.ndarray):
                np.copyto(bound[name], value)
        returned = [each_call() for each_call in binder.taken()]
        for result, expected in zip(results, run(fast_backend, op, call), strict=True):
            if isinstance(expected, float):
                assert returned[-1] == expected
            elif expected is not None:
                np.testing.assert_array_equal(result, expected)


class Halved(losses.CrossEntropy):
    def __call__(self, prediction: Any, target: Any, backend: Any) -> Any:
        loss, backward = super().__call__(prediction, target, backend)
        return loss / 2, lambda: backward() / 2


LOSSES: dict[str, tuple[Any, Any]] = {
    "smoothed": (lambda: losses.CrossEntropy(label_smoothing=0.1), None),
    "of classes that weigh": (lambda: losses.CrossEntropy(class_weights=[1, 2, 0, 3]), None),
    "of probabilities": (losses.CrossEntropy, lambda y: np.eye(CLASSES)[y] * 0.7 + 0.075),
    "squared": (losses.MeanSquaredError, lambda y: np.eye(CLASSES)[y]),
    "absolute": (losses.MeanAbsoluteError, lambda y: np.eye(CLASSES)[y]),
    "huber": (lambda: losses.Huber(delta=0.3), lambda y: np.eye(CLASSES)[y]),
    "of yes and no": (
        lambda: losses.BinaryCrossEntropy(pos_weight=list(range(CLASSES))),
        lambda y: np.eye(CLASSES)[y],
    ),
    "focal": (losses.Focal, lambda y: np.eye(CLASSES)[y]),
    "of overlaps": (losses.Dice, lambda y: np.eye(CLASSES)[y]),
    "of overlaps of labels": (lambda: losses.Dice("softmax", ignore_label=1), None),
    "that ignores": (lambda: losses.CrossEntropy(ignore_label=1), None),
    "of one's own": (Halved, None),
}


def test_every_loss_is_among_them() -> None:
    assert set(losses.LOSSES.values()) <= {type(make()) for make, _ in LOSSES.values()}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str, fast_backend: Any, op_by_op: Any, planned: list[Any]) -> None:
    make, targets = LOSSES[name]
    x, y = data()
    y = y if targets is None else targets(y)
    options = {"loss": make()}
    expected = op_by_op(fast_backend, NETWORKS["blocks"], x, y, options=options)
    assert_same(train(fast_backend, NETWORKS["blocks"], x, y, options=options), expected)
    assert planned


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": optim.SGD(0.1, clip_norm=0.1)},
        {"optimizer": optim.Adam(clip_norm=0.5)},
        {"optimizer": optim.AdamW(), "schedule": "warmup-cosine"},
    ],
)
def test_optimizers(options: Any, fast_backend: Any, op_by_op: Any, planned: list[Any]) -> None:
    x, y = data()
    expected = op_by_op(fast_backend, NETWORKS["norms"], x, y, options=options)
    assert_same(train(fast_backend, NETWORKS["norms"], x, y, options=options), expected)
    assert planned


def test_a_loss_of_ones_own_may_keep_its_arrays(fast_backend: Any) -> None:
    x, y = data()
    kept: list[Any] = []

    class Keeping(losses.CrossEntropy):
        def __call__(self, prediction: Any, target: Any, backend: Any) -> Any:
            kept.append(target)
            return super().__call__(prediction, target, backend)

    train(fast_backend, NETWORKS["blocks"], x, y, options={"loss": Keeping()}, shuffle=False)
    assert np.concatenate(kept).tolist() == [*y, *y]


@pytest.mark.parametrize("fit", [{"shuffle": False}, {"drop_last": True}, {"batch_size": 1}])
@pytest.mark.parametrize("kind", ["uint8", "float16", "float32", ">f4", "float64"])
def test_batches(kind: str, fit: Any, fast_backend: Any, op_by_op: Any, planned: list[Any]) -> None:
    """Images of any dtype, in any order and number, in C order and not."""
    x, y = data(dtype=np.dtype(kind))
    for images in (x, np.asfortranarray(x), x[:, ::-1], x.view(np.ma.MaskedArray)):
        expected = op_by_op(fast_backend, NETWORKS["blocks"], images, y, **fit)
        del planned[:]
        assert_same(train(fast_backend, NETWORKS["blocks"], images, y, **fit), expected)
        assert planned


def test_threads(fast_backend: Any) -> None:
    x, y = data((28, 28, 1), 100)
    make = ending(relu(32), nn.MaxPool2D(2), relu(64), nn.MaxPool2D(2))
    one, *others = (
        train(FastBackend(fast_backend.isa, threads), make, x, y, batch_size=32)
        for threads in (1, 2, 3, 8)
    )
    for other in others:
        assert_same(other, one)


def test_a_plan_takes_no_more_memory_than_ops(op_by_op: Any) -> None:
    """Results that nobody reads any more lend their memory to later ones."""
    body = nn.Sequential([nn.Conv2D(32, 3, padding=1), nn.Sigmoid(), nn.Conv2D(32, 3, padding=1)])
    network = [nn.Conv2D(32, 1), nn.Residual(body), nn.Tanh(), nn.GlobalAvgPool2D()]
    make = ending(*network[:1], *network[2:3])
    backend = FastBackend(num_threads=1)
    x, y = data((30, 30, 3), 12)
    taken = []
    for how in (op_by_op, train):
        fastcnn.empty_cache()
        before = sum(_memory.statistics())
        how(backend, make, x, y, batch_size=4)
        taken.append(sum(_memory.statistics()) - before)
    assert taken[1] <= 1.2 * taken[0]
