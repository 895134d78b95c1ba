"""Options of layers that are set in the midst of an epoch: the next step sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import nn

X = np.random.default_rng(0).normal(size=(12, 6, 6, 2)).astype(np.float32)
Y = np.arange(12) % 3


def network() -> Any:
    pieces = [nn.Clip(-0.5, 2.0), nn.GELU(), nn.HardSigmoid(), nn.LocalResponseNorm()]
    part = nn.Sequential([nn.Conv2D(4, 3), nn.BatchNorm(), nn.LeakyReLU(), nn.ELU(2.0), *pieces])
    return nn.Sequential([nn.Residual(nn.BatchNorm()), part, nn.Flatten(), nn.Dropout(0.5),
                          nn.Dense(3)])  # fmt: skip


SETTINGS: dict[str, tuple[Callable[[Any], Any], str, Any]] = {
    "rate": (lambda model: model[3], "rate", 0.1),
    "momentum": (lambda model: model[0].body, "momentum", 0.1),
    "epsilon": (lambda model: model[1][1], "epsilon", 0.5),
    "running_variance": (lambda model: model[1][1], "running_variance", "biased"),
    "negative_slope": (lambda model: model[1][2], "negative_slope", 0.7),
    "alpha": (lambda model: model[1][3], "alpha", 0.3),
    "low": (lambda model: model[1][4], "low", 0.25),
    "high": (lambda model: model[1][4], "high", 0.5),
    "approximate": (lambda model: model[1][5], "approximate", True),
    "beta": (lambda model: model[1][6], "beta", 0.75),
    "k": (lambda model: model[1][7], "k", 3.0),
}


def trained(change: Any, backend: Any, in_one_epoch: bool) -> dict[str, Any]:
    """Take four steps and change the model after the second, in an epoch or between two."""
    model = network()
    model.build((6, 6, 2))

    def schedule(step: int, total_steps: int) -> float:
        if step == 1 and in_one_epoch:
            change(model)
        return 1.0

    trainer = fastcnn.Trainer(model, backend=backend, schedule=schedule)
    options: Any = {"batch_size": 3, "shuffle": False, "verbose": False}
    if in_one_epoch:
        trainer.fit(X, Y, **options)
    else:
        trainer.fit(X[:6], Y[:6], **options)
        change(model)
        trainer.fit(X[6:], Y[6:], **options)
    return model.state_dict()


@pytest.mark.parametrize(("of", "name", "value"), SETTINGS.values(), ids=SETTINGS)
def test_the_next_step_sees_an_option(of: Any, name: str, value: Any, backend: Any) -> None:
    def change(model: Any) -> None:
        setattr(of(model), name, value)

    found, expected, unchanged = (
        trained(change, backend, True),
        trained(change, backend, False),
        trained(lambda model: None, backend, True),
    )
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array, err_msg=key)
    assert any(not np.array_equal(found[key], array) for key, array in unchanged.items())


def test_every_option_that_may_be_set_is_among_them() -> None:
    kinds = [kind for kind in vars(nn).values() if isinstance(kind, type)]
    names = {name for kind in kinds if issubclass(kind, nn.Module) for name in kind._settings}
    assert names == set(SETTINGS)
