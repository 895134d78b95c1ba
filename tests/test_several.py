"""Models with several inputs and outputs, served and trained: arrays in lists, a loss an output."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from several import branched, data, directly, inputs, squares, trained

import fastcnn
from fastcnn import nn


def costs(outputs: Any, y: Any, weights: Any) -> tuple[float, float]:
    """What the losses are by their definitions: means over samples that have these weights."""
    logits, numbers = outputs
    shifted = logits - logits.max(axis=1, keepdims=True)
    each = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(y[0])), y[0]]
    squares = ((numbers - y[1]) ** 2).mean(axis=1)
    return np.average(each, weights=weights), np.average(squares, weights=weights)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_goes_along_the_gradient_of_the_weighted_sum(weighted: bool, backend: Any) -> None:
    """By central differences of the definition; the second output's gradient reaches the first."""
    model, (x, y) = branched(3, np.float64), data(6)
    weights = np.array([1.0, 0.0, 2.0, 1.0, 0.5, 3.0]) if weighted else None
    before = {name: array.copy() for name, array in model.state_dict().items()}

    def cost() -> float:
        first, second = costs(directly(model, *x, fastcnn.reference), y, weights)
        return 0.5 * first + 2.0 * second

    expected = {}
    rng = np.random.default_rng(0)
    for name, parameter in model.parameters().items():
        flat, h = parameter.data.reshape(-1), 1e-5
        for at in rng.choice(flat.size, min(flat.size, 6), replace=False):
            middle = flat[at]
            sides = []
            for flat[at] in (middle - h, middle + h):
                sides.append(cost())
            flat[at] = middle
            expected[name, at] = (sides[1] - sides[0]) / (2 * h)
    trainer = trained(backend, model, optimizer=fastcnn.optim.SGD(0.125))
    loss = cost()
    history = trainer.fit(x, y, batch_size=6, sample_weight=weights, verbose=False)
    assert history["step_loss"] == pytest.approx([loss], rel=1e-9)
    for (name, at), slope in expected.items():
        moved = model.state_dict()[name].reshape(-1)[at] - before[name].reshape(-1)[at]
        assert moved == pytest.approx(-0.125 * slope, rel=1e-5, abs=1e-8), name


@pytest.mark.parametrize(
    "losses",
    [
        ["cross_entropy", "mse"],
        [fastcnn.losses.CrossEntropy(label_smoothing=0.1, class_weights="balanced"), "mse"],
        ("cross_entropy", squares),
    ],
    ids=["names", "balanced", "function"],
)
@pytest.mark.parametrize("shuffle", [False, True])
def test_backends_agree(losses: Any, shuffle: bool, fast_backend: Any) -> None:
    x, y = data(22)
    options = {"epochs": 2, "batch_size": 8, "shuffle": shuffle, "validation_data": data(5, seed=1)}
    fast, slow = (trained(each, loss=losses) for each in (fast_backend, fastcnn.reference))
    histories = [trainer.fit(x, y, verbose=False, **options) for trainer in (fast, slow)]
    assert histories[0].keys() == histories[1].keys()
    for name, values in histories[0].items():
        np.testing.assert_allclose(values, histories[1][name], rtol=2e-5, err_msg=name)
    for one, other in zip(fast.predict(x), slow.predict(x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert fast.evaluate(x, y) == pytest.approx(slow.evaluate(x, y), rel=2e-5)


@pytest.mark.parametrize("batch_size", [4, 64])
def test_evaluation_is_over_all_samples(batch_size: int, backend: Any) -> None:
    """Class weights count in one loss alone: each has a mean of its own."""
    model, (x, y) = branched(), data(13)
    table, weights = np.array([1.0, 4.0, 0.25]), np.linspace(0.1, 2, 13)
    loss = [fastcnn.losses.CrossEntropy(class_weights=table), "mse"]
    found = trained(backend, model, loss=loss).evaluate(
        x, y, batch_size=batch_size, sample_weight=weights
    )
    outputs = directly(model, *x, fastcnn.reference)
    first, _ = costs(outputs, y, weights * table[y[0]])
    _, second = costs(outputs, y, weights)
    expected = {"loss": 0.5 * first + 2.0 * second, "loss_0": first, "loss_1": second}
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_history_has_each_loss(backend: Any) -> None:
    x, y = data(10)
    trainer = trained(backend)
    history = trainer.fit(x, y, epochs=2, batch_size=4, validation_split=0.3, verbose=False)
    names = ("loss", "loss_0", "loss_1")
    assert trainer.measured == (*names, *(f"val_{name}" for name in names))
    assert "val_loss_1" in repr(history)
    for prefix in ("", "val_"):
        sums = [0.5 * a + 2 * b for a, b in zip(*(history[f"{prefix}loss_{at}"] for at in (0, 1)),
                                                strict=True)]  # fmt: skip
        assert history[f"{prefix}loss"] == pytest.approx(sums, rel=1e-12)
        assert len(sums) == 2
    assert history["accuracy"] == history["val_accuracy"] == []
    assert all(type(value) is float for values in history.values() for value in values)


@pytest.mark.parametrize("options", [{}, {"validation_split": 0.25}, {"shuffle": False}], ids=str)
def test_samples_stay_together(options: Any) -> None:
    """All that belongs to a sample carries its number; a loss sees what came together."""
    count, seen = 20, set[float]()
    places = np.arange(count, dtype=np.float32)[:, None]
    a, b = nn.Input((1,)), nn.Input((1,))
    model = nn.Model([a, b], [nn.concat([a, b]), nn.Dense(1)(b)])

    def same(prediction: Any, target: Any) -> tuple[float, Any]:
        np.testing.assert_array_equal(prediction, np.repeat(target, 2, axis=1))
        seen.update(target[:, 0])
        return 0.0, np.zeros_like(prediction)

    trainer = fastcnn.Trainer(model, loss=[same, squares], seed=1)
    trainer.fit([places, places.copy()], (places, places), batch_size=8, verbose=False, **options)
    assert seen == set(range(count))


def test_bytes_are_divided_by_255_in_every_input_and_target(backend: Any) -> None:
    """An autoencoder with a second input."""
    (images, numbers), _ = data(9)
    a, b = nn.Input((8, 8, 1)), nn.Input((4,))
    model = nn.Model([a, b], [nn.Conv2D(1, 3, padding="same")(a), nn.Dense(2)(b)])
    y = numbers[:, :2]
    histories = []
    for scaled in (images, images / np.float32(255)):
        trainer = fastcnn.Trainer(copy.deepcopy(model), loss=["mse", "mse"], backend=backend)
        histories.append(trainer.fit([scaled, numbers], [scaled, y], batch_size=4, verbose=False))
    assert histories[0] == histories[1]


def test_training_resumes_to_the_same_bits(tmp_path: Any, backend: Any) -> None:
    x, y = data(10)
    options: Any = {"batch_size": 4, "validation_split": 0.3, "verbose": False}
    whole = trained(backend, optimizer="adam")
    whole.fit(x, y, epochs=3, **options)
    first = trained(backend, optimizer="adam")
    first.fit(x, y, epochs=1, **options)
    first.save_state(tmp_path / "state")
    for model in (branched(9), branched(None)):
        again = trained(backend, model, optimizer="adam")
        again.load_state(tmp_path / "state")
        again.fit(x, y, epochs=2, **options)
        assert again.history == whole.history
        for name, array in whole.model.state_dict().items():
            np.testing.assert_array_equal(again.model.state_dict()[name], array)


def test_copies_of_a_trainer_go_on_alike() -> None:
    x, y = data(10)
    trainer = trained("fast")
    trainer.fit(x, y, verbose=False)
    twins = [copy.deepcopy(trainer), pickle.loads(pickle.dumps(trainer)), trainer]
    histories = [twin.fit(x, y, verbose=False) for twin in twins]
    assert histories[0] == histories[1] == histories[2]


def test_an_unbuilt_model_is_built_by_the_first_data(backend: Any) -> None:
    x, y = data(6)
    trainer = trained(backend, branched(None), seed=4)
    assert [each.shape for each in trainer.predict(x)] == [(6, 3), (6, 2)]
    for one, other in zip(
        trainer.predict(x), fastcnn.Predictor(branched(4), backend)(*x), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    trainer.evaluate(x, y)


@pytest.mark.parametrize("batch_size", [2, 5, 128])
def test_predictions_are_lists(batch_size: int, backend: Any) -> None:
    x, _ = data(5)
    trainer = trained(backend)
    found: Any = trainer.predict(x, batch_size=batch_size)
    assert isinstance(found, list)
    for one, other in zip(found, directly(trainer.model, *x, fastcnn.reference), strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="predict_proba: expected a model with one output, got"):
        trainer.predict_proba(x)
    for one, other in zip(trainer.predictor()(*x), found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_loss_of_weight_zero_moves_nothing(backend: Any) -> None:
    x, y = data(8)
    trainer = trained(backend, loss_weights=[1.0, 0.0])
    last: Any = trainer.model.layers[-1]
    before = last.weight.data.copy()
    trainer.fit(x, y, verbose=False)
    np.testing.assert_array_equal(last.weight.data, before)
    trainer.loss_weights = None
    trainer.fit(x, y, verbose=False)
    assert not np.array_equal(last.weight.data, before)
    assert trainer.history["loss"][1] == pytest.approx(
        trainer.history["loss_0"][1] + trainer.history["loss_1"][1]
    )


def test_one_output_twice_counts_twice(backend: Any) -> None:
    numbers, y = inputs(8)[1], np.arange(8) % 3
    once, twice = (nn.Input((4,)) for _ in range(2))
    layer = nn.Dense(3)
    first = nn.Model(once, layer(once))
    first.build()
    layer = copy.deepcopy(layer)
    result = layer(twice)
    second = nn.Model(twice, [result, result])
    second.build()
    fastcnn.Trainer(first, backend=backend).fit(numbers, y, verbose=False)
    trained(backend, second, loss=["cross_entropy"] * 2, loss_weights=[0.75, 0.25]).fit(
        numbers, [y, y], verbose=False
    )
    for name, array in first.state_dict().items():
        np.testing.assert_allclose(second.state_dict()[name], array, rtol=1e-5, atol=1e-7)


def test_one_input_and_several_outputs_inside_a_sequential(backend: Any) -> None:
    images, y = inputs(7)[0], [np.arange(7) % 3, np.arange(7) % 2]
    x = nn.Input((72,))
    heads = nn.Model(x, [nn.Dense(3)(x), nn.Dense(2)(x)])
    model = nn.Sequential([nn.Conv2D(2, 3), nn.Flatten(), heads])
    trainer = trained(backend, model, loss=["cross_entropy"] * 2)
    trainer.fit(images, y, batch_size=4, verbose=False)
    assert [each.shape for each in trainer.predict(images)] == [(7, 3), (7, 2)]


def test_what_looks_like_bytes_is_named() -> None:
    images, numbers = inputs(3)
    with pytest.warns(UserWarning, match=r"^x\[0\]: floats up to 2\d\d are taken as they are"):
        trained("fast").predict([images.astype(np.float32), numbers])


@pytest.mark.parametrize("seed", [0, None], ids=["built", "unbuilt"])
def test_an_input_of_another_shape_is_named(seed: Any) -> None:
    (images, numbers), _ = data(3)
    with pytest.raises(ValueError, match=r"^x\[1\]: expected a batch of shape \(n, 4\), got"):
        trained("fast", branched(seed)).predict([images, numbers[:, :3]])


def test_files_keep_several_inputs_and_outputs(tmp_path: Any) -> None:
    model, given = branched(), inputs(3)
    model.save(tmp_path / "model.safetensors")
    again = fastcnn.load(tmp_path / "model.safetensors")
    for one, other in zip(
        fastcnn.Predictor(again)(*given), fastcnn.Predictor(model)(*given), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_a_program_has_one_loss_and_a_gradient_for_each_output() -> None:
    model = branched()
    with pytest.raises(ValueError, match=r"^program: loss: expected a model of one output"):
        model.program(loss="mse")
    program = model.program(2, gradients=True)
    assert program.inputs == ("x0", "x1", *(f"d({name})" for name in program.outputs))
    assert set(program.gradients) == set(model.parameters())


def test_a_loss_may_keep_what_it_sees() -> None:
    """The arrays of a step are its own, where somebody else's loss looks at them."""
    kept: list[tuple[Any, Any]] = []

    def keeping(prediction: Any, target: Any) -> tuple[float, Any]:
        kept.extend((array, array.copy()) for array in (prediction, target))
        return squares(prediction, target)

    trained("fast", loss=["cross_entropy", keeping]).fit(*data(12), batch_size=4, verbose=False)
    assert len(kept) == 6
    for array, then in kept:
        np.testing.assert_array_equal(array, then)


def test_losses_may_be_set_between_epochs(backend: Any) -> None:
    """What is set in a callback is as if the trainer had been made with it."""

    class Other(fastcnn.callbacks.Callback):
        def on_epoch_end(self, trainer: fastcnn.Trainer) -> None:
            trainer.loss = ["cross_entropy", squares]
            trainer.loss_weights = [1.0, 0.25]

    x, y = data(8)
    histories = []
    for options in ({"epochs": 2, "callbacks": [Other()]}, {"epochs": 1}):
        trainer = trained(backend)
        trainer.fit(x, y, verbose=False, **options)
        if trainer.epoch == 1:
            trainer.loss, trainer.loss_weights = ["cross_entropy", squares], [1.0, 0.25]
            trainer.fit(x, y, verbose=False)
        histories.append(trainer.history)
    assert histories[0] == histories[1]
    sums = [histories[0][f"loss_{at}"][1] for at in (0, 1)]
    assert histories[0]["loss"][1] == pytest.approx(sums[0] + 0.25 * sums[1], rel=1e-12)


def test_the_number_of_threads_changes_no_bit() -> None:
    x, y = data(40)
    histories = []
    for threads in (1, 2, 5):
        trainer = trained(fastcnn.FastBackend(num_threads=threads))
        histories.append(trainer.fit(x, y, epochs=2, batch_size=16, verbose=False))
    assert histories[0] == histories[1] == histories[2]
