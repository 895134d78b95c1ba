"""Cross-entropy of a row of logits at each pixel, and of labels that are ignored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_close, assert_same_bits

C = 5
SHAPE = (3, 4, 6, C)
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "smoothed": {"label_smoothing": 0.2},
    "weighted": {
        "class_weights": np.array([1, 2, 0.5, 0, 3]),
        "sample_weights": np.array([1, 0.25, 2]),
    },
}
OPTIONS["everything"] = OPTIONS["smoothed"] | OPTIONS["weighted"]


def drawn(rng: Any, dtype: Any, name: str, label: int) -> tuple[Any, Any, dict[str, Any]]:
    logits = (3 * rng.standard_normal(SHAPE)).astype(dtype)
    labels = rng.integers(0, C, SHAPE[:-1])
    labels[rng.random(labels.shape) < 0.3] = label
    given = {k: v.astype(dtype) if k.endswith("s") else v for k, v in OPTIONS[name].items()}
    return logits, labels, given


def both(backend: Any, logits: Any, labels: Any, **options: Any) -> tuple[Any, Any, Any]:
    loss, probabilities = backend.softmax_cross_entropy(logits, labels, **options)
    gradient = backend.softmax_cross_entropy_backward(1.5, probabilities, labels, **options)
    return loss, probabilities, gradient


@pytest.mark.parametrize("label", [255, -100, 2, 2**40])
@pytest.mark.parametrize("name", OPTIONS)
def test_the_places_that_count_are_all_there_is(
    name: str, label: int, backend: Any, dtype: Any, rng: Any
) -> None:
    """An image's pixels are so many images, and those that are ignored are none."""
    logits, labels, options = drawn(rng, dtype, name, label)
    keep = labels != label
    found = both(backend, logits, labels, **options, ignore_label=label)
    weights = options.pop("sample_weights", np.ones(3, dtype))
    each = np.broadcast_to(weights[:, None, None], labels.shape)[keep]
    expected = both(backend, logits[keep], labels[keep], **options, sample_weights=each)
    assert found[0] == pytest.approx(expected[0], rel=1e-6 if dtype == np.float32 else 1e-14)
    assert_close(found[1][keep], expected[1])
    assert_close(found[2][keep], expected[2])
    assert found[1].shape == found[2].shape == SHAPE
    assert not found[2][~keep].any()


@pytest.mark.parametrize("name", OPTIONS)
def test_without_any_that_is_ignored(name: str, backend: Any, dtype: Any, rng: Any) -> None:
    """The same bits as without the option, and as of rows."""
    logits, labels, options = drawn(rng, dtype, name, 1)
    plain = both(backend, logits, labels, **options)
    ignoring = both(backend, logits, labels, **options, ignore_label=77)
    assert ignoring[0] == pytest.approx(plain[0], rel=1e-14)
    assert_close(ignoring[2], plain[2])
    if "sample_weights" not in options:
        rows = both(backend, logits.reshape(-1, C), labels.ravel(), **options)
        assert_same_bits(rows[:1], plain[:1])
        assert_same_bits([r.reshape(SHAPE) for r in rows[1:]], list(plain[1:]))


def test_labels_of_any_integers(backend: Any, rng: Any) -> None:
    logits, labels, _ = drawn(rng, np.float64, "plain", 100)
    expected = both(backend, logits, labels, ignore_label=100)
    for kind in (np.uint8, np.int8, np.int32, np.uint64, ">i2"):
        found = both(backend, logits, labels.astype(kind), ignore_label=np.int16(100))
        assert_same_bits(found, expected)
    found = both(backend, logits, np.asfortranarray(labels), ignore_label=100)
    assert_same_bits(found, expected)


def test_probabilities_of_pixels(backend: Any, dtype: Any, rng: Any) -> None:
    logits, labels, options = drawn(rng, dtype, "everything", 1)
    one_hot = np.eye(C, dtype=dtype)[labels]
    found = both(backend, logits, one_hot, **options)
    expected = both(backend, logits, labels, **options)
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    assert_close(found[2], expected[2])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_where_nothing_counts_the_loss_is_nothing(
    smoothing: float, backend: Any, dtype: Any, rng: Any
) -> None:
    logits, labels, _ = drawn(rng, dtype, "plain", 255)
    nothing = np.full_like(labels, 255)
    zeros = np.zeros(C, dtype)
    for given, options in ((nothing, {}), (labels, {"class_weights": zeros})):
        loss, _, gradient = both(
            backend, logits, given, **options, ignore_label=255, label_smoothing=smoothing
        )
        assert loss == 0
        assert not gradient.any()


def test_errors(backend: Any) -> None:
    logits, labels = np.zeros(SHAPE, np.float32), np.zeros(SHAPE[:-1], int)
    call = backend.softmax_cross_entropy
    labels[1, 2, 3] = 9
    with pytest.raises(ValueError, match=r"labels: expected integers from 0 to 4, got 9 at .*1, 2"):
        call(logits, labels, ignore_label=255)
    assert call(logits, labels, ignore_label=9)[0] == pytest.approx(np.log(C))
    for wrong in (labels[:2], labels[..., None, None], labels[0], labels.ravel()):
        with pytest.raises(ValueError, match="softmax_cross_entropy: labels: expected"):
            call(logits, wrong)
    with pytest.raises(ValueError, match="ignore_label: expected None with probabilities, got 3"):
        call(logits, logits, ignore_label=3)
    for value, error in (
        (2.0, TypeError),
        (True, TypeError),
        ("255", TypeError),
        (2**63, ValueError),
    ):
        with pytest.raises(error, match="ignore_label: expected an integer"):
            call(logits, labels, ignore_label=value)
    with pytest.raises(ValueError, match="sample_weights: expected"):
        call(logits, labels, ignore_label=9, sample_weights=np.ones(SHAPE[:-1], np.float32))


# ---------------------------------------------------------------------- PyTorch's
@pytest.mark.parametrize("label", [255, -100, 2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_torch(label: int, weighted: bool, smoothing: float, backend: Any, rng: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no outside judge")
    logits, labels, _ = drawn(rng, np.float64, "plain", label)
    weights = rng.uniform(0.1, 3, C) if weighted else None
    leaf = torch.tensor(logits, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(
        leaf.permute(0, 3, 1, 2),
        torch.tensor(labels),
        weight=None if weights is None else torch.tensor(weights),
        ignore_index=label,
        label_smoothing=smoothing,
    )
    (1.5 * loss).backward()
    options = {"class_weights": weights, "label_smoothing": smoothing, "ignore_label": label}
    value, _, gradient = both(backend, logits, labels, **options)
    assert value == pytest.approx(loss.item(), rel=1e-12)
    np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=0, atol=1e-14)
