"""The supervised loss of each kind of label, against loops in plain Python."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from mmcontrast.config.metrics import Kind
from mmcontrast.errors import ContrastError
from mmcontrast.losses.supervised import (
    label_binary_cross_entropy,
    label_cross_entropy,
    label_squared_error,
    target_loss,
)


def draw(rows: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(rows * 10 + width)
    scores = 3 * torch.randn(rows, width, dtype=torch.float64, generator=generator)
    return scores, torch.randn(rows, width, dtype=torch.float64, generator=generator)


def slow_binary(scores: torch.Tensor, labels: torch.Tensor) -> float:
    loss = 0.0
    for s, y in zip(scores.flatten().tolist(), labels.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-s))
        loss -= y * math.log(p) + (1 - y) * math.log(1 - p)
    return loss / scores.numel()


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (2, 3), (7, 5)])
def test_each_equals_its_loop(rows, width):
    scores, numbers = draw(rows, width)
    labels, mixed = (numbers > 0).float(), numbers.sigmoid()
    assert label_binary_cross_entropy(scores, labels).item() == pytest.approx(slow_binary(scores, labels), abs=1e-12)
    assert label_binary_cross_entropy(scores, mixed).item() == pytest.approx(slow_binary(scores, mixed), abs=1e-12)
    squares = [(s - y) ** 2 for s, y in zip(scores.flatten().tolist(), numbers.flatten().tolist(), strict=True)]
    assert label_squared_error(scores, numbers).item() == pytest.approx(sum(squares) / len(squares), abs=1e-12)


def test_gradients_are_those_of_finite_differences():
    scores, numbers = draw(4, 3)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: label_binary_cross_entropy(s, (numbers > 0).double()), scores)
    assert torch.autograd.gradcheck(lambda s: label_squared_error(s, numbers), scores)


def test_large_scores_do_not_overflow_and_halves_are_computed_in_full():
    scores, labels = torch.tensor([[1e4, -1e4]]), torch.tensor([[1.0, 1.0]])
    assert label_binary_cross_entropy(scores, labels).item() == 5000
    half = torch.tensor([[300.0, 300.0]], dtype=torch.bfloat16)
    assert label_squared_error(half, torch.zeros(1, 2)).dtype == torch.float32


@pytest.mark.parametrize("loss", [label_binary_cross_entropy, label_squared_error])
def test_labels_that_would_be_broadcast_are_refused(loss):
    with pytest.raises(ContrastError, match=r"scores are \(4, 3\), labels \(4,\)"):
        loss(torch.zeros(4, 3), torch.zeros(4))
    with pytest.raises(ContrastError, match=r"scores are \(4, 1\), labels \(1, 4\)"):
        loss(torch.zeros(4, 1), torch.zeros(1, 4))


def test_every_kind_of_target_has_its_loss():
    assert {kind: target_loss(kind) for kind in get_args(Kind)} == {
        "classes": label_cross_entropy,
        "multilabel": label_binary_cross_entropy,
        "regression": label_squared_error,
    }
