"""Against loops in plain Python."""

from __future__ import annotations

import math

import pytest
import torch

from mmcontrast.errors import ContrastError
from mmcontrast.losses.supervised import bidirectional_cross_entropy, label_cross_entropy, soft_cross_entropy


def slow_soft_cross_entropy(logits: list[list[float]], targets: list[list[float]]) -> float:
    loss = 0.0
    for scores, row in zip(logits, targets, strict=True):
        log_sum = math.log(sum(math.exp(s) for s in scores))
        loss -= sum(t * (s - log_sum) for s, t in zip(scores, row, strict=True))
    return loss / len(logits)


def matrices(n: int, scale: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    logits = scale * torch.randn(n, n, dtype=torch.float64, generator=generator)
    first, second = torch.rand(2, n, n, dtype=torch.float64, generator=generator)
    return logits, first, second


@pytest.mark.parametrize("n", [1, 2, 5, 16])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_soft_cross_entropy_equals_the_loop(n, scale):
    logits, targets, _ = matrices(n, scale)
    expected = slow_soft_cross_entropy(logits.tolist(), targets.tolist())
    assert soft_cross_entropy(logits, targets).item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("n", [2, 5, 16])
def test_the_second_direction_is_looked_up_by_columns(n):
    logits, rows, columns = matrices(n, 3.0)
    expected = slow_soft_cross_entropy(logits.tolist(), rows.tolist()) / 2
    expected += slow_soft_cross_entropy(logits.T.tolist(), columns.tolist()) / 2
    assert bidirectional_cross_entropy(logits, rows, columns).item() == pytest.approx(expected, abs=1e-10)


def test_large_logits_do_not_overflow():
    logits = torch.tensor([[1e4, -1e4], [0.0, 1e4]])
    assert soft_cross_entropy(logits, torch.eye(2)).item() == 0.0
    assert soft_cross_entropy(logits, 1 - torch.eye(2)).item() == pytest.approx(1.5e4)


@pytest.mark.parametrize(("logits", "targets"), [((3, 3), (2, 2)), ((3, 2), (3, 2)), ((3,), (3,))])
def test_what_is_not_square_is_refused(logits, targets):
    with pytest.raises(ContrastError, match="square"):
        soft_cross_entropy(torch.zeros(logits), torch.zeros(targets))


def test_gradients():
    logits, rows, columns = (m.requires_grad_() for m in matrices(4, 1.0))
    assert torch.autograd.gradcheck(bidirectional_cross_entropy, (logits, rows, columns))


def test_label_cross_entropy_of_even_scores_is_the_log_of_the_number_of_classes():
    scores = torch.zeros(6, 5, dtype=torch.bfloat16)
    loss = label_cross_entropy(scores, torch.arange(6) % 5)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(5))
