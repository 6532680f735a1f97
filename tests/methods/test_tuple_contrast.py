"""Symile, GRAM and TRIANGLE as methods: of which rows and modalities their losses are, what is scored, refusals."""

from __future__ import annotations

import pytest
import torch

from mmcontrast.config import Modality
from mmcontrast.errors import ConfigError
from mmcontrast.losses.tuples import gram_loss, symile_loss
from mmcontrast.methods.base import build_method
from mmcontrast.methods.baselines.objectives import TupleContrastObjective

KEPT = [i for i in range(12) if i not in (0, 5, 8)]
WHOLE = "a triangle is of three modalities, every combination for Symile of at most three, and dataset 'synthetic' has"


@pytest.fixture
def setting(make_cell, make_batch, make_progress, lacking):
    """setting(method, **objective): the method, a batch in which three rows lack something, and its loss."""

    def make(name, **objective):
        cell = make_cell(name, **objective)
        method, batch = build_method(cell), lacking(make_batch(cell), [(1, (0, 5)), (2, (0, 8))])
        z = [method.heads[m](method.encoders[m](batch.inputs[m][KEPT])) for m in method.modalities]
        return method, batch, z, method(batch, make_progress("pretrain"))["loss"]

    return make


def test_symile_is_of_rows_that_have_everything_and_its_product_is_scored(setting):
    method, batch, z, loss = setting("symile", negatives="all")
    torch.testing.assert_close(loss, symile_loss(z, 0.07) * 9 / 12)
    views = method.embeddings(batch)
    a, b, c = (torch.nn.functional.normalize(x) for x in z)
    torch.testing.assert_close(views["product"][KEPT], a * b * c)
    assert (views["product"][[0, 5, 8]] == 0).all()


@pytest.mark.parametrize("form", ["volume", "triangle"])
def test_gram_has_one_anchor_or_each_in_turn(setting, make_cell, form):
    loss = "gram" if form == "volume" else form
    second = list(make_cell("gram").modalities)[1]
    for anchor, k in ((None, None), (second, 1)):
        _, _, z, found = setting("gram", loss=loss, anchor=anchor)
        torch.testing.assert_close(found, gram_loss(z, 0.07, k, form=form) * 9 / 12)
    with pytest.raises(ConfigError, match=r"objective.anchor: dataset 'synthetic': no modality 'x'; known: "):
        build_method(make_cell("gram", anchor="x"))


def test_the_triangle_without_its_root(setting):
    _, _, z, found = setting("gram", loss="triangle", compat={"without_root": True})
    torch.testing.assert_close(found, gram_loss(z, 0.07, form="triangle", root=False) * 9 / 12)


def test_numbers_of_modalities(make_cell):
    with pytest.raises(ConfigError, match=rf"gram.yaml.*objective: {WHOLE} 2; give loss: gram, or negatives: drawn"):
        build_method(make_cell("gram", n_modalities=2, loss="triangle"))
    cell = make_cell("symile", negatives="all")
    four = {**cell.modalities, "fourth": Modality(kind="vector", shape=[3])}
    cell = cell.model_copy(update={"modalities": four})
    with pytest.raises(ConfigError, match=rf"symile.yaml.*objective: {WHOLE} 4"):
        build_method(cell)
    build_method(cell.model_copy(update={"objective": cell.objective | {"negatives": "drawn"}}))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loss": "gram", "negatives": "all"}, "negatives: of loss symile alone, and the loss is gram"),
        ({"loss": "symile", "anchor": "a"}, "anchor: of loss gram and triangle alone, and the loss is symile"),
        ({"loss": "symile", "smoothing": 0.2}, "smoothing: of loss gram and triangle alone"),
        ({"loss": "gram", "compat": {"without_root": True}}, "compat.without_root: of loss triangle alone"),
        ({"loss": "gram", "compat": {"plain_permutations": True}}, "compat.plain_permutations: of loss symile alone"),
    ],
)
def test_values_of_another_loss(given, message):
    with pytest.raises(ValueError, match=message):
        TupleContrastObjective(**given)
