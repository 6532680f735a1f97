from __future__ import annotations

import pytest
import torch

from mmcontrast.config import Modality
from mmcontrast.errors import ConfigError
from mmcontrast.models.encoders import ENCODERS, build_encoders
from mmcontrast.models.heads import classification_head
from tests.grids import grid_of

GRID = grid_of("paper")
CELL = GRID.cell("synthetic", "m3col")


@pytest.mark.parametrize(
    ("dataset", "encoders", "unimodal_heads", "fusion"),
    [("rosmap", 3_606_000, 3_009_006, 3_003_002), ("mogonet_brca", 3_696_384, 1_783_311, 1_774_085)],
)
def test_parameter_counts_of_the_papers_omics_models(dataset, encoders, unimodal_heads, fusion):
    cell = GRID.cell(dataset, "m3col")
    parts = [build_encoders(cell, cell.modalities), classification_head(cell, 1), classification_head(cell, 3)]
    counts = [sum(p.numel() for p in part.parameters()) for part in parts]
    assert counts == [encoders, unimodal_heads // 3, fusion]


def test_an_encoder_for_each_named_modality_in_the_given_order():
    encoders = build_encoders(CELL, ["mirna", "mrna"])
    assert list(encoders) == ["mirna", "mrna"]
    assert encoders["mirna"](torch.zeros(5, 12)).shape == (5, CELL.model.width)


def test_a_head_takes_concatenated_embeddings():
    head = classification_head(CELL, 3)
    assert head(torch.zeros(4, 3 * CELL.model.width)).shape == (4, len(CELL.classes))


def test_a_kind_without_an_encoder_is_named_with_its_file():
    cell = CELL.model_copy(update={"modalities": {"scan": Modality(kind="sequence", shape=[9, 8])}})
    with pytest.raises(ConfigError, match=r"datasets/synthetic\.yaml: modalities\.scan: kind: .*'sequence'.*vector"):
        build_encoders(cell, ["scan"], {"vector": ENCODERS["vector"]})
    with pytest.raises(ConfigError, match=r"modality 'scan': model\.sequence: not given"):
        build_encoders(cell, ["scan"])


@pytest.mark.parametrize("name", ["rna.seq", "type"])
def test_a_name_that_cannot_name_a_module_is_refused(name):
    cell = CELL.model_copy(update={"modalities": {name: CELL.modalities["mrna"]}})
    with pytest.raises(ConfigError, match=f"modalities.{name}: this name is not possible"):
        build_encoders(cell, [name])
