"""What the scores of a head say, of each kind of target."""

from __future__ import annotations

import torch

from mmcontrast.models.heads import TargetScale, as_predictions


def test_numbers_are_learned_scaled_and_given_back_in_their_units() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randn(50, 3, generator=generator) * torch.tensor([1e-3, 1.0, 1e3]) + torch.tensor([0.0, 5.0, 1e4])
    scale = TargetScale(3)
    scale.fit(labels)
    scaled = scale.scaled(labels)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled.std(0, correction=0), torch.ones(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(as_predictions("regression", scaled, scale), labels)
    assert set(scale.state_dict()) == {"mean", "spread"}


def test_a_quantity_that_does_not_vary_keeps_its_unit() -> None:
    scale = TargetScale(2)
    scale.fit(torch.tensor([[7.0, 0.0], [7.0, 2.0]]))
    torch.testing.assert_close(scale.scaled(torch.tensor([[9.0, 1.0]])), torch.tensor([[2.0, 0.0]]))


def test_probabilities_of_classes_sum_to_one_and_those_of_labels_stand_alone() -> None:
    scores = torch.tensor([[0.0, 2.0], [-1e4, 1e4]])
    torch.testing.assert_close(as_predictions("classes", scores, None).sum(-1), torch.ones(2))
    torch.testing.assert_close(as_predictions("multilabel", scores, None), scores.sigmoid())
