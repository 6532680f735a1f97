"""Raw inputs: what is embedded is what came in, and nothing that would be trained is accepted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmcontrast.config import Modality
from mmcontrast.errors import ConfigError
from mmcontrast.methods.base import Batch
from mmcontrast.methods.baselines.untrained import Raw
from mmcontrast.models.sequence import resampled


def with_modalities(cell, **modalities: Modality):
    return cell.model_copy(update={"modalities": modalities})


def test_vectors_and_pixels_stand_side_by_side(make_cell) -> None:
    image, vector = Modality(kind="image", shape=[1, 2, 3]), Modality(kind="vector", shape=[4])
    method = Raw(with_modalities(make_cell("raw"), drawing=image, numbers=vector))
    pixels = torch.arange(12, dtype=torch.uint8).view(2, 1, 2, 3) * 20
    numbers = torch.randn(2, 4)
    embedded = method.embed(Batch({"drawing": pixels, "numbers": numbers}, torch.zeros(2, dtype=torch.int64)))
    torch.testing.assert_close(embedded, torch.cat([pixels.flatten(1) / 255, numbers], dim=1))
    assert method.logits(Batch({}, torch.zeros(0))) is None


def test_a_sequence_is_resampled_over_its_own_steps_alone() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.standard_normal((n, 2)) for n in (1, 2, 5, 9)]
    padded = torch.full((5, 9, 2), torch.nan)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.from_numpy(row)
    found = resampled(padded, steps=4).numpy()
    for i, row in enumerate(rows):
        at = np.linspace(0, len(row) - 1, 4)
        expected = np.stack([np.interp(at, np.arange(len(row)), row[:, d]) for d in range(2)], axis=1)
        np.testing.assert_allclose(found[i], expected, atol=1e-6)
    assert (found[4] == 0).all()


def test_what_has_no_numbers_or_would_be_trained_is_refused(make_cell) -> None:
    cell = make_cell("raw")
    with pytest.raises(ConfigError, match="modality 'words' of dataset 'synthetic' is a text"):
        Raw(with_modalities(cell, words=Modality(kind="text", shape=[])))
    with pytest.raises(ConfigError, match="modality 'many' of dataset 'synthetic' is several observations"):
        Raw(with_modalities(cell, many=Modality(kind="vector", shape=[2], multifold=True)))
    trained = cell.pretrain.model_copy(update={"epochs": 1})
    with pytest.raises(ConfigError, match="nothing is trained here"):
        Raw(cell.model_copy(update={"pretrain": trained}))
