"""Labels of every kind in every method that reads them: several at once, numbers, or a refusal that says what to do."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmcontrast.errors import ConfigError
from mmcontrast.losses.supervised import target_loss
from mmcontrast.methods.base import Batch, build_method
from mmcontrast.methods.baselines.supervised import mean_prediction

KINDS = ("multilabel", "regression")
N = 12


def labels(kind: str, n_classes: int) -> torch.Tensor:
    x = torch.randn(N, n_classes, generator=torch.Generator().manual_seed(5))
    return (x > 0).float() if kind == "multilabel" else x


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def setting(kind, make_cell, make_batch, lacking):
    """setting(method, variant, missing): a cell with labels of the kind, and its batch."""

    def build(method, variant="base", missing=False):
        cell = make_cell(method, variant).model_copy(update={"target": kind})
        batch = make_batch(cell, N)
        batch = Batch(batch.inputs, labels(kind, len(cell.classes)))
        return cell, lacking(batch, [(1, (0, 5, 6, 11)), (2, (1, 2, 8, 9))]) if missing else batch

    return build


@pytest.mark.parametrize("missing", [False, True], ids=["whole", "lacking"])
def test_every_method_takes_them_or_refuses_clearly(formed, kind, setting, make_progress, missing):
    cell, batch = setting(*formed, missing)
    if cell.implementation == "supcon" or formed == ("comm", "fine_tuned"):
        with pytest.raises(ConfigError, match=rf"contrasts rows by their class, and .* target: {kind}; .*joint_fusion"):
            build_method(cell)
        return
    torch.manual_seed(0)
    method = build_method(cell)
    for stage in cell.stages:
        method.zero_grad()
        terms = method(batch, make_progress(stage))
        terms["loss"].backward()
        assert all(t.isfinite() and t.shape == () and t.dtype == torch.float32 for t in terms.values())
        assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())
        torch.manual_seed(0)
        other = build_method(cell)(
            Batch(batch.inputs, batch.labels.flip(0), present=batch.present), make_progress(stage)
        )
        assert (other["loss"] == terms["loss"]) == (stage == "pretrain")
    scores = method.eval().logits(batch)
    assert scores is None or (scores.shape == batch.labels.shape and scores.isfinite().all())


@pytest.mark.parametrize("name", ["concat", "joint_fusion"])
def test_the_loss_is_that_of_the_kind(name, kind, setting, make_progress):
    cell, batch = setting(name)
    torch.manual_seed(0)
    method = build_method(cell)
    loss = method(batch, make_progress())["loss"]
    scores = method.logits(batch)
    expected = {"multilabel": F.binary_cross_entropy_with_logits, "regression": F.mse_loss}[kind]
    torch.testing.assert_close(loss, expected(scores, batch.labels))


def test_a_unimodal_head_learns_from_the_rows_that_have_the_modality(kind, setting, make_progress):
    cell, batch = setting("unimodal", missing=True)
    method = build_method(cell)
    terms = method(batch, make_progress())
    for m in cell.modalities:
        has = batch.present.get(m, torch.ones(N, dtype=torch.bool))
        scores = method.heads[m](method.encoders[m](batch.inputs[m][has]))
        expected = has.float().mean() * target_loss(kind)(scores, batch.labels[has])
        torch.testing.assert_close(terms[f"unimodal_{m}"], expected)


def test_late_fusion_averages_what_each_says():
    a, b = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))
    has = torch.tensor([True, False, True, False])
    many = mean_prediction("multilabel", [a, b])
    torch.testing.assert_close(many.sigmoid(), (a.sigmoid() + b.sigmoid()) / 2)
    torch.testing.assert_close(mean_prediction("regression", [a, b]), (a + b) / 2)
    some = mean_prediction("regression", [a, b], [has, None])
    torch.testing.assert_close(some, torch.where(has[:, None], (a + b) / 2, b))
    none = torch.zeros(4, dtype=torch.bool)
    for kind in ("classes", *KINDS):
        assert torch.equal(mean_prediction(kind, [a, b], [none, none]), torch.zeros(4, 3))


def test_mixed_numbers_have_the_gradient_of_the_mixture():
    from mmcontrast.losses.supervised import mixed_label_loss

    scores, own, other = torch.randn(3, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for kind in KINDS:
        x = scores.clone().requires_grad_()
        mixed_label_loss(x, own.sigmoid(), other.sigmoid(), 0.3, target_loss(kind)).backward()
        y = scores.clone().requires_grad_()
        target_loss(kind)(y, 0.3 * own.sigmoid() + 0.7 * other.sigmoid()).backward()
        torch.testing.assert_close(x.grad, y.grad)
