"""PyTorch as the judge of losses of distances, of yes and no, and of overlaps, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no outside judge")
F = torch.nn.functional

SHAPE = (4, 3, 5, 6)


def judge(loss: Any, backend: Any, op: str, x: Any, target: Any, **options: Any) -> None:
    """Compare a loss and its gradient with those of `loss` of a tensor."""
    leaf = torch.tensor(x, requires_grad=True)
    expected = loss(leaf)
    (1.5 * expected).backward()
    result = getattr(backend, op)(x, target, **options)
    found, saved = result if isinstance(result, tuple) else (result, x)
    assert found == pytest.approx(expected.item(), rel=1e-12, abs=1e-300)
    gradient = getattr(backend, f"{op}_backward")(1.5, saved, target, **options)
    np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-12, atol=1e-15)


def logits_and_targets(rng: Any) -> tuple[Any, Any]:
    target = rng.random(SHAPE)
    return 4 * rng.standard_normal(SHAPE), np.where(target < 0.5, target.round(), target)


@pytest.mark.parametrize("delta", [None, 0.25, 1.0, 3.0])
def test_distances(delta: float | None, backend: Any, rng: Any) -> None:
    """Without a delta, L1."""
    x, t = 2 * rng.standard_normal((2, *SHAPE))
    x[0, 0, 0] = t[0, 0, 0]  # where they meet
    there = torch.tensor(t)
    if delta is None:
        judge(lambda leaf: F.l1_loss(leaf, there), backend, "mean_absolute_error", x, t)
    else:
        judge(lambda leaf: F.huber_loss(leaf, there, delta=delta), backend, "huber", x, t,
              delta=delta)  # fmt: skip


@pytest.mark.parametrize("weight", [None, 2.5, (0.5, 0.0, 1.0, 2.0, 3.0, 10.0)], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_cross_entropy(weight: Any, weighted: bool, backend: Any, rng: Any) -> None:
    x, t = logits_and_targets(rng)
    of_samples = rng.uniform(0, 2, len(x)) if weighted else None
    options = {"pos_weight": None if weight is None else torch.tensor(weight, dtype=torch.float64)}

    def loss(leaf: Any) -> Any:
        each = F.binary_cross_entropy_with_logits(
            leaf, torch.tensor(t), reduction="none", **options
        ).mean(dim=(1, 2, 3))
        if of_samples is None:
            return each.mean()
        weights = torch.tensor(of_samples)
        return (each * weights).sum() / weights.sum()

    judge(loss, backend, "binary_cross_entropy", x, t, pos_weight=weight, sample_weights=of_samples)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (None, 2.0), (0.8, 0.5), (0.5, 0.0)])
def test_focal(alpha: float | None, gamma: float, backend: Any, rng: Any) -> None:
    """The formula of the paper, in PyTorch's words."""
    x, t = logits_and_targets(rng)

    def loss(leaf: Any) -> Any:
        there = torch.tensor(t)
        p = torch.sigmoid(leaf)
        cost = F.binary_cross_entropy_with_logits(leaf, there, reduction="none")
        cost = cost * (1 - (p * there + (1 - p) * (1 - there))) ** gamma
        if alpha is not None:
            cost = cost * (alpha * there + (1 - alpha) * (1 - there))
        return cost.mean()

    judge(loss, backend, "focal", x, t, alpha=alpha, gamma=gamma)


def dice_in_torch(p: Any, t: Any, smooth: float) -> Any:
    axes = tuple(range(1, p.ndim - 1))
    both, all_ = (p * t).sum(axes), (p + t).sum(axes)
    return (1 - (2 * both + smooth) / (all_ + smooth)).mean()


@pytest.mark.parametrize("smooth", [1.0, 1e-3])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_dice(activation: str, smooth: float, backend: Any, rng: Any) -> None:
    x, t = logits_and_targets(rng)

    def loss(leaf: Any) -> Any:
        p = torch.sigmoid(leaf) if activation == "sigmoid" else torch.softmax(leaf, -1)
        return dice_in_torch(p, torch.tensor(t), smooth)

    judge(loss, backend, "dice", x, t, activation=activation, smooth=smooth)


def test_dice_of_labels(backend: Any, rng: Any) -> None:
    x, labels = 2 * rng.standard_normal(SHAPE), rng.integers(-1, 6, SHAPE[:-1])

    def loss(leaf: Any) -> Any:
        counted = torch.tensor(labels >= 0)[..., None]
        t = F.one_hot(torch.tensor(labels).clamp(min=0), 6) * counted
        return dice_in_torch(torch.softmax(leaf, -1) * counted, t, 1.0)

    judge(loss, backend, "dice", x, labels, activation="softmax", ignore_label=-1)
