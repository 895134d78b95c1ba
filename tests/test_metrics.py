"""Metrics against their formulas, written out as scikit-learn has them; whatever the batch size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import callbacks, losses, metrics, nn
from fastcnn._metric import Answers, Metric
from fastcnn._tally import Tally

Y = np.array([0, 0, 1, 1, 1, 2, 2, 4])
PREDICTED = np.array([0, 1, 1, 1, 2, 2, 0, 4])
LOGITS = np.eye(6)[PREDICTED]  # of six classes: 3 and 5 occur nowhere
KINDS = [getattr(metrics, name) for name in metrics.__all__ if name[0].isupper()]


def measured(metric: Any, prediction: Any, target: Any, **options: Any) -> float:
    made = metrics.get_metric(metric)
    return made.value(made.sums(Answers(np.asarray(prediction), np.asarray(target), **options)))


def test_every_metric_has_a_name() -> None:
    """Each is found by the name that the history has for it, and by that with options."""
    assert {type(metrics.get_metric(name)) for name in metrics.METRICS} == set(KINDS)
    others = ["top_1_accuracy", "top_17_accuracy"]
    others += [f"{of}_{how}" for of in ("precision", "recall", "f1", "mean_iou")
               for how in ("micro", "binary")]  # fmt: skip
    for name in (*metrics.METRICS, *others):
        made = metrics.get_metric(name)
        assert made.name == name
        assert metrics.is_metric_name(name)
        assert metrics.get_metric(made) is made
        assert metrics.rises(name) == metrics.rises(f"val_{name}") == (name not in ("rmse", "mae"))
        for measured_ in (f"{name}_0", f"val_{name}_digit"):
            assert metrics.is_metric_name(measured_.removeprefix("val_"))
            assert metrics.rises(measured_) == metrics.rises(name)
    for name in ("loss", "accurac", "top_0_accuracy", "f1-x", "val_f1"):
        assert not metrics.is_metric_name(name)
    assert not metrics.rises("loss")
    assert not metrics.rises("val_loss_accuracy")


# ---------------------------------------------------------------------- classes
# Of class 0, 1, 2 and 4: right, said, there.
COUNTS = [(1, 2, 2), (2, 3, 3), (1, 2, 2), (1, 1, 1)]


@pytest.mark.parametrize(
    ("name", "score"),
    [
        ("precision", lambda hits, said, there: hits / said),
        ("recall", lambda hits, said, there: hits / there),
        ("f1", lambda hits, said, there: 2 * hits / (said + there)),
        ("mean_iou", lambda hits, said, there: hits / (said + there - hits)),
    ],
)
def test_of_classes(name: str, score: Any) -> None:
    macro = np.mean([score(*each) for each in COUNTS])
    assert measured(name, LOGITS, Y) == pytest.approx(macro, rel=1e-15)
    together = score(*np.sum(COUNTS, axis=0))
    assert measured(f"{name}_micro", LOGITS, Y) == pytest.approx(together, rel=1e-15)
    two, of_two = LOGITS[:, 1:3], (Y == 2).astype(int)
    said = two.argmax(1)
    counts = [np.count_nonzero(x) for x in (said & of_two, said, of_two)]
    assert measured(f"{name}_binary", two, of_two) == pytest.approx(score(*counts), rel=1e-15)


def test_accuracy_and_the_first_of_equals() -> None:
    assert measured("accuracy", LOGITS, Y) == 5 / 8
    assert measured("top_1_accuracy", LOGITS, Y) == 5 / 8
    logits = [[1, 3, 2, 3], [0, 0, 0, 0], [5, 4, 3, 2]]
    for k, right in ((1, [1, 0, 0]), (2, [3, 1, 1]), (3, [2, 2, 2]), (9, [0, 3, 3])):
        assert measured(f"top_{k}_accuracy", logits, right) == 1
        if k < 4:
            assert measured(f"top_{k}_accuracy", logits, [0, k, k]) == 0


def test_next_to_nan_nothing_is_right() -> None:
    logits = np.array([[np.nan, 1, 2], [1, np.nan, 0]])
    assert measured("top_2_accuracy", logits, [0, 0]) == 0.5
    assert measured("top_1_accuracy", logits, [2, 1]) == 0


def test_probabilities_count_with_their_largest() -> None:
    soft = np.eye(6)[Y] * 0.7 + 0.05
    for name in ("accuracy", "top_2_accuracy", "f1", "mean_iou"):
        assert measured(name, LOGITS, soft) == measured(name, LOGITS, Y)


def test_what_is_ignored_is_left_out() -> None:
    keep = np.array([1, 0, 1, 1, 1, 0, 1, 1], bool)
    for label in (255, -100, 3):
        marked = np.where(keep, Y, label)
        for name in metrics.METRICS[:6]:
            expected = measured(name, LOGITS[keep], Y[keep])
            assert measured(name, LOGITS, marked, ignore_label=label) == expected
            images = LOGITS.reshape(2, 2, 2, 6), marked.reshape(2, 2, 2)
            assert measured(name, *images, ignore_label=label) == expected
    nothing = np.full(8, 255)
    for name in metrics.METRICS[:6]:
        assert measured(name, LOGITS, nothing, ignore_label=255) == 0


# ---------------------------------------------------------------------- yes and no
YES = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 0], [1, 0, 1]])
SAID = np.array([[2.0, -1, 0.1], [0.5, -2, -0.1], [-1, -1, -3], [9, -1, 0]])


@pytest.mark.parametrize(
    ("name", "macro", "micro"),
    [
        ("precision", np.mean([2 / 3, 1]), 3 / 4),  # nobody says or has the second
        ("recall", np.mean([2 / 3, 1 / 3]), 3 / 6),
        ("f1", np.mean([4 / 6, 2 / 4]), 6 / 10),
        ("mean_iou", np.mean([2 / 4, 1 / 3]), 3 / 7),
    ],
)
def test_of_yes_and_no(name: str, macro: float, micro: float) -> None:
    for target in (YES, YES * 0.5 + 0.3, YES.astype(bool)):
        assert measured(name, SAID, target, binary=True) == pytest.approx(macro, rel=1e-15)
        for average in ("micro", "binary"):
            found = measured(f"{name}_{average}", SAID, target, binary=True)
            assert found == pytest.approx(micro, rel=1e-15)


def test_accuracy_of_yes_and_no() -> None:
    assert measured("accuracy", SAID, YES, binary=True) == 8 / 12


def test_the_threshold_is_a_probability() -> None:
    for threshold, recall in ((0.5, 3 / 6), (0.9, 1 / 6), (0.45, 5 / 6), (0.01, 1.0)):
        metric = metrics.Recall("micro", threshold=threshold)
        assert measured(metric, SAID, YES, binary=True) == pytest.approx(recall, rel=1e-15)


# ---------------------------------------------------------------------- numbers
def test_of_numbers() -> None:
    a, b = np.array([[1.0, 2], [3, 4]]), np.array([[1.0, 4], [0, 4]])
    assert measured("rmse", a, b) == pytest.approx(np.sqrt(13 / 4), rel=1e-15)
    assert measured("mae", a, b) == 5 / 4
    assert measured("rmse", np.float32([[3e38]]), np.float32([[-3e38]])) == pytest.approx(6e38)


# ---------------------------------------------------------------------- in training
X = np.random.default_rng(0).standard_normal((30, 6, 5, 2)).astype(np.float32)
MASKS = (X[..., 0] > 0).astype(np.uint8) + (X[..., 1] > 0.5)
MASKS[:, :2, :2] = 255
LABELS = MASKS[:, 3, 3].astype(int)


def trainer_of(last: nn.Module, loss: Any, names: Any, backend: Any = "fast") -> fastcnn.Trainer:
    model = nn.Sequential([nn.Conv2D(4, 3, padding="same"), nn.ReLU(), last])
    return fastcnn.Trainer(model, loss=loss, metrics=names, backend=backend, seed=1)


CASES: dict[str, tuple[Any, Any, Any, list[str]]] = {
    "pixels": (
        lambda: nn.Conv2D(3, 1),
        lambda: losses.CrossEntropy(ignore_label=255),
        MASKS,
        ["accuracy", "mean_iou", "f1", "precision_micro", "recall", "top_2_accuracy"],
    ),
    "images": (
        lambda: nn.Sequential([nn.GlobalAvgPool2D(), nn.Dense(3)]),
        losses.CrossEntropy,
        LABELS,
        ["f1", "top_2_accuracy", "accuracy"],
    ),
    "numbers": (lambda: nn.Conv2D(2, 1), losses.MeanSquaredError, X, ["rmse", "mae"]),
}


@pytest.mark.parametrize("name", CASES)
def test_any_batch_size_gives_the_same(name: str, backend: Any) -> None:
    last, loss, y, names = CASES[name]
    trainer = trainer_of(last(), loss(), names, backend)
    history = trainer.fit(X, y, epochs=2, batch_size=16, validation_split=0.2, verbose=False)
    wanted = ["loss", *names]
    assert trainer.measured == (*wanted, *(f"val_{each}" for each in wanted))
    assert all(len(history[each]) == 2 for each in trainer.measured)
    whole = trainer.evaluate(X, y)
    assert list(whole) == wanted
    for size in (1, 7, 30):
        for each, value in trainer.evaluate(X, y, batch_size=size).items():
            # Counts are the same to the bit.
            exact = each not in ("loss", "rmse", "mae")
            assert value == (whole[each] if exact else pytest.approx(whole[each], rel=1e-6))


def test_the_numbers_are_those_of_the_predictions() -> None:
    trainer = trainer_of(*(make() for make in CASES["pixels"][:2]), CASES["pixels"][3])
    trainer.fit(X, MASKS, verbose=False)
    counted = MASKS != 255
    said, true = trainer.predict(X).argmax(-1)[counted], MASKS[counted]
    numbers = trainer.evaluate(X, MASKS)
    assert numbers["accuracy"] == np.mean(said == true)
    both = [(np.sum((said == c) & (true == c)), np.sum((said == c) | (true == c)))
            for c in range(3)]  # fmt: skip
    assert numbers["mean_iou"] == pytest.approx(np.mean([a / b for a, b in both]), rel=1e-15)
    trainer.metrics = None
    assert list(trainer.evaluate(X, MASKS)) == ["loss", "accuracy"]
    trainer.metrics = []
    assert list(trainer.evaluate(X, MASKS)) == ["loss"]


def test_a_metric_is_monitored_and_saved(tmp_path: Any) -> None:
    trainer = trainer_of(nn.Conv2D(2, 1), "mse", ["mae", "rmse"])
    best = callbacks.Checkpoint(tmp_path / "{epoch}-{val_mae:.1f}", monitor="val_mae")
    stop = callbacks.EarlyStopping("mae", patience=9)
    given = {"validation_split": 0.2, "callbacks": [best, stop], "verbose": False}
    trainer.fit(X, X, epochs=2, **given)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir())
    trainer.save_state(tmp_path / "state")
    again = trainer_of(nn.Conv2D(2, 1), "mse", ["mae", "rmse"])
    again.load_state(tmp_path / "state")
    assert again.history == trainer.history
    assert again.history["val_mae"][0] > again.history["val_mae"][1]


@pytest.mark.parametrize(("monitor", "epochs"), [("f1", 3), ("mae", 2)])
def test_what_is_better(monitor: str, epochs: int) -> None:
    best = callbacks._Best(monitor)
    assert [best.improved(value) for value in (1.0, 2.0, 0.5)].count(True) == 2
    assert best._value == (2.0 if epochs == 3 else -0.5)


# ---------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ("f1", TypeError, r'^metrics: expected a list such as \["accuracy", "f1"\], or None, got'),
        (["f2"], ValueError, r'^metrics\[0\]: expected one of "accuracy", .*, got .f2.'),
        (["accuracy", 3], TypeError, r"^metrics\[1\]: expected one of"),
        ([metrics.F1Score], TypeError, r"^metrics\[0\]: expected a metric, got the class F1Score"),
        (["f1", metrics.F1Score()], ValueError, "^metrics: expected each once, got f1 twice"),
        (["rmse"], ValueError, "^metrics: rmse: expected a loss of numbers, as mean_squared"),
    ],
)
def test_what_is_no_metric(given: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        trainer_of(nn.Conv2D(3, 1), "cross_entropy", given)


def test_metrics_that_do_not_go_with_the_loss() -> None:
    with pytest.raises(ValueError, match=r"^metrics: f1: expected a loss of classes"):
        trainer_of(nn.Conv2D(3, 1), "mse", ["f1"])
    trainer = trainer_of(nn.Conv2D(3, 1), "cross_entropy", ["f1"])
    with pytest.raises(ValueError, match=r"^metrics: f1: expected a loss of classes"):
        trainer.loss = "mse"  # type: ignore[assignment]
    assert isinstance(trainer.loss, losses.CrossEntropy)


# ---------------------------------------------------------------------- several outputs
def of_two(names: tuple[str, str] | None = None, **options: Any) -> fastcnn.Trainer:
    x = nn.Input((6, 5, 2))
    h = nn.Conv2D(4, 3, padding="same", activation="relu")(x)
    ends = nn.Conv2D(3, 1)(h), nn.Conv2D(2, 1)(h)
    outputs: Any = list(ends) if names is None else dict(zip(names, ends, strict=True))
    return fastcnn.Trainer(nn.Model(x, outputs), seed=1, dtype=np.float64, **options)


def test_of_several_outputs(tmp_path: Any) -> None:
    kinds = [losses.CrossEntropy(ignore_label=255), losses.Huber()]
    trainer = of_two(loss=kinds, metrics=[["accuracy", "mean_iou"], ["mae"]])
    names = ("loss", "loss_0", "loss_1", "accuracy_0", "mean_iou_0", "mae_1")
    best = callbacks.Checkpoint(tmp_path / "{epoch}-{mean_iou_0:.2f}", monitor="mean_iou_0")
    trainer.fit(X, [MASKS, X], epochs=2, verbose=False, callbacks=[best])
    assert trainer.measured == names
    trainer.save_state(tmp_path / "state")
    again = of_two(loss=kinds, metrics=[["accuracy", "mean_iou"], ["mae"]])
    again.load_state(tmp_path / "state")
    assert again.history == trainer.history
    for size in (7, 30):
        numbers = trainer.evaluate(X, [MASKS, X], batch_size=size)
        assert tuple(numbers) == names
        said, close = trainer.predict(X)
        counted = MASKS != 255
        assert numbers["accuracy_0"] == np.mean(said.argmax(-1)[counted] == MASKS[counted])
        assert numbers["mae_1"] == pytest.approx(np.abs(close - X).mean(), rel=1e-12)
    trainer.metrics = None
    assert tuple(trainer.evaluate(X, [MASKS, X])) == names[:3]


def test_of_outputs_with_names() -> None:
    kinds = {"mask": losses.CrossEntropy(ignore_label=255), "again": "mse"}
    trainer = of_two(("mask", "again"), loss=kinds, metrics={"mask": ["f1"], "again": []})
    numbers = trainer.evaluate(X, {"mask": MASKS, "again": X})
    assert tuple(numbers) == ("loss", "loss_mask", "loss_again", "f1_mask")
    with pytest.raises(ValueError, match=r'^metrics\["again"\]\[0\]: expected one of'):
        trainer.metrics = {"mask": [], "again": ["f3"]}  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r'^metrics\["mask"\]: expected a list such as'):
        trainer.metrics = {"mask": "f1", "again": []}  # type: ignore[assignment]
    stop = callbacks.EarlyStopping("val_f1_mask", patience=1)
    y = {"mask": MASKS, "again": X}
    trainer.fit(X, y, epochs=2, validation_split=0.2, callbacks=[stop], verbose=False)
    assert stop._best._sign == 1


def test_lists_of_metrics_are_as_many_as_losses() -> None:
    for given in (["accuracy"], [["accuracy"]], "f1", [[], [], []]):
        with pytest.raises(ValueError, match=r"^metrics: expected 2 lists, one for each"):
            of_two(loss=["cross_entropy", "mse"], metrics=given)
    with pytest.raises(ValueError, match=r"^metrics: accuracy: expected a loss of classes"):
        of_two(loss=["cross_entropy", "mse"], metrics=[[], ["accuracy"]])
    trainer = of_two(loss=["cross_entropy", "mse"], metrics=[["f1"], []])
    with pytest.raises(ValueError, match=r"^metrics: f1: expected a loss of classes"):
        trainer.loss = ["mse", "mse"]  # type: ignore[assignment]
    one = trainer_of(nn.Conv2D(3, 1), "cross_entropy", ["f1"])
    with pytest.raises(TypeError, match=r"^metrics\[0\]: expected one of"):
        one.metrics = [["f1"]]  # type: ignore[assignment]


def test_before_a_step_is_taken_the_first_target_is_looked_at() -> None:
    trainer = trainer_of(nn.Conv2D(3, 1), "cross_entropy", ["f1_binary"])
    with pytest.raises(ValueError, match="metrics: f1_binary: expected two classes, got 3"):
        trainer.fit(X, np.minimum(MASKS, 2), verbose=False)
    assert trainer.step == 0

    def own(prediction: Any, target: Any) -> Any:
        return 0.0, np.zeros_like(prediction)

    trainer = trainer_of(nn.Conv2D(3, 1), own, ["mae"])
    with pytest.raises(ValueError, match="metrics: mae: expected targets of the output's shape"):
        trainer.fit(X, LABELS, verbose=False)
    assert trainer.step == 0


def test_options() -> None:
    for bad, error in ((0, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match=r"^TopKAccuracy: k: expected"):
            metrics.TopKAccuracy(bad)
    with pytest.raises(ValueError, match=r"^Precision: average: expected one of"):
        metrics.Precision("weighted")
    for threshold in (0.0, 1.0, np.nan):
        with pytest.raises(ValueError, match=r"^MeanIoU: threshold: expected"):
            metrics.MeanIoU(threshold=threshold)
    assert (
        repr(metrics.F1Score("micro", threshold=0.3)) == "F1Score(average='micro', threshold=0.3)"
    )


def test_the_usual_is_accuracy_where_targets_are_classes() -> None:
    assert Tally(losses.CrossEntropy()).names == ("loss", "accuracy")
    assert Tally(losses.MeanSquaredError()).names == ("loss",)
    assert all(issubclass(kind, Metric) for kind in KINDS)
