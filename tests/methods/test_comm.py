"""CoMM's wiring: which embeddings meet in which form, what is augmented, what is left out, and its refusals.

The losses themselves are held against vectors in tests/losses/test_comm.py.
"""

from __future__ import annotations

import pytest
import torch

from mmcontrast.config import Modality
from mmcontrast.config.training import Fusion
from mmcontrast.errors import ConfigError, ContrastError, TrainingError
from mmcontrast.losses.supervised import supcon
from mmcontrast.methods.base import Batch, build_method
from mmcontrast.methods.comm.fusion import pooled
from mmcontrast.methods.comm.loss import _written_out, directed_info_nce
from mmcontrast.methods.self_supervised import augmented

TAU = 0.2


@pytest.fixture
def built(make_cell, make_batch):
    """built(variant, n_modalities, **objective): (method, batch), from the same first weights each time."""

    def build(variant="base", n_modalities=3, **objective):
        cell = make_cell("comm", variant, n_modalities, tau=TAU, **objective)
        torch.manual_seed(0)
        return build_method(cell), make_batch(cell)

    return build


def both_views(method, batch, progress):
    return [augmented(method.augmenters, batch, progress) for _ in range(2)]


def head_of(method, inputs, kept):
    """Head of the fused embedding of the modalities at `kept`, each embedding in a call of its own."""
    names = [method.modalities[i] for i in kept]
    tokens = [method.converters[m](method.encoders[m](inputs[m])) for m in names]
    return method.head(method.fusion(tokens)[0])


@pytest.mark.parametrize("n_modalities", [2, 3])
def test_released_form_by_hand(built, make_progress, n_modalities):
    method, batch = built(n_modalities=n_modalities)
    terms = method(batch, make_progress("pretrain"))
    every = list(range(n_modalities))
    views = [
        [head_of(method, view, kept) for kept in [*([i] for i in every), every]]
        for view in both_views(method, batch, make_progress("pretrain"))
    ]
    expected = _written_out(*views, TAU)
    names = [*(f"unimodal_{m}" for m in method.modalities), "fused"]
    assert list(terms) == ["loss", *names]
    torch.testing.assert_close(torch.stack([terms[n] for n in names]), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms["loss"], expected.mean(), rtol=1e-4, atol=1e-5)


def test_paper_form_by_hand(built, make_progress):
    method, batch = built("paper_form", 2)
    terms = method(batch, make_progress("pretrain"))
    first, second = (head_of(method, view, [0, 1]) for view in both_views(method, batch, make_progress("pretrain")))
    fused = directed_info_nce(first, second, TAU)
    alone = [head_of(method, batch.inputs, [i]) for i in (0, 1)]
    single = [(directed_info_nce(z, first, TAU) + directed_info_nce(z, second, TAU)) / 2 for z in alone]
    expected = {"fused": fused} | {f"unimodal_{m}": s for m, s in zip(method.modalities, single, strict=True)}
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms["loss"], sum(expected.values()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("ablation", "counted"), [("unimodal_terms_only", "unimodal"), ("fused_only", "fused"), ("base", "")]
)
def test_term_weights_leave_terms_out_of_the_loss_and_in_the_log(built, make_progress, ablation, counted):
    method, batch = built(ablation)
    terms = method(batch, make_progress("pretrain"))
    loss = terms.pop("loss")
    assert len(terms) == 4
    expected = sum(t for name, t in terms.items() if name.startswith(counted)) / 4
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)


def test_without_augmentation_both_views_are_the_input(built, make_progress):
    method, batch = built("no_augmentation")
    for view in both_views(method, batch, make_progress("pretrain")):
        assert all(torch.equal(view[m], batch.inputs[m]) for m in method.modalities)
    progress = make_progress("pretrain")
    state = progress.generator.get_state()
    method(batch, progress)
    assert torch.equal(progress.generator.get_state(), state)


def test_the_two_views_differ(built, make_progress):
    method, batch = built()
    first, second = both_views(method, batch, make_progress("pretrain"))
    assert all(not torch.equal(first[m], second[m]) for m in method.modalities)


def test_embedding_is_the_fused_one_of_the_input_without_head(built):
    method, batch = built()
    tokens = [method.converters[m](method.encoders[m](batch.inputs[m])) for m in method.modalities]
    torch.testing.assert_close(method.embed(batch), method.fusion(tokens)[0])
    assert method.embed(batch).shape == (12, method.cell.model.fusion.width)


def test_what_the_encoders_give_is_scored_too_but_not_of_what_learns_from_labels(built):
    method, batch = built()
    scored = method.embeddings(batch)
    assert list(scored) == ["", "encoders", *(f"without_{m}" for m in method.modalities)]
    torch.testing.assert_close(scored[""], method.embed(batch))
    z = torch.cat([method.encoders[m](batch.inputs[m]) for m in method.modalities], dim=1)
    torch.testing.assert_close(scored["encoders"], z)
    method.cell = method.cell.model_copy(update={"pretrain": None})
    assert list(method.embeddings(batch)) == [""]


def test_maps_and_steps_are_averaged_and_padding_is_not_counted():
    steps = torch.tensor([[[1.0], [3.0], [9.0]], [[5.0], [7.0], [9.0]]])
    padding = torch.tensor([[False, False, True], [True, True, True]])
    torch.testing.assert_close(pooled((steps, padding)), torch.tensor([[2.0], [0.0]]))
    torch.testing.assert_close(pooled((steps, None)), steps.mean(1))
    maps = torch.arange(24.0).view(2, 3, 2, 2)
    torch.testing.assert_close(pooled(maps), maps.flatten(2).mean(2))
    vectors = torch.arange(6.0).view(2, 3)
    torch.testing.assert_close(pooled(vectors), vectors)


def test_the_encoders_run_twice_a_step(built, make_progress):
    method, batch = built()
    calls = dict.fromkeys(method.modalities, 0)

    def count(name):
        def hook(*_):
            calls[name] += 1

        return hook

    for m, encoder in method.encoders.items():
        encoder.register_forward_hook(count(m))
    method(batch, make_progress("pretrain"))
    assert set(calls.values()) == {2}


def test_linear_fusion_maps_encodings_without_tokens(built):
    method, batch = built("linear_fusion")
    assert not method.converters
    z = torch.cat([method.encoders[m](batch.inputs[m]) for m in method.modalities], dim=1)
    torch.testing.assert_close(method.embed(batch), method.fusion.together(z))


def test_a_batch_of_one_is_refused(built, make_progress):
    method, batch = built()
    one = Batch({m: x[:1] for m, x in batch.inputs.items()}, batch.labels[:1])
    with pytest.raises(TrainingError, match="batch of one instance"):
        method(one, make_progress("pretrain"))


def test_one_modality_is_refused(make_cell):
    with pytest.raises(ContrastError, match="at least two modalities"):
        build_method(make_cell("comm", n_modalities=1))


def changed(cell, **model):
    return cell.model_copy(update={"model": cell.model.model_copy(update=model)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: changed(c, fusion=None), r"params/methods/comm\.yaml .*model\.fusion"),
        (lambda c: changed(c, projection=[]), r"params/methods/comm\.yaml .*model\.projection"),
        (lambda c: changed(c, fusion=Fusion(width=10, heads=4)), "4 heads must divide the width 10"),
        (
            lambda c: c.model_copy(update={"objective": c.objective | {"augmentations": {}}}),
            r"objective\.augmentations: nothing for 'vector'",
        ),
        (
            lambda c: c.model_copy(update={"modalities": c.modalities | {"x": Modality(kind="text", shape=[])}}),
            "modality 'x': model.text: not given",
        ),
    ],
    ids=["fusion", "projection", "heads", "augmentations", "kind"],
)
def test_refusals_name_the_file_and_key(make_cell, change, words):
    with pytest.raises(ConfigError, match=words):
        build_method(change(make_cell("comm")))


def test_fine_tuning_is_supervised_contrast_of_two_fused_views_without_the_head(built, make_progress):
    method, batch = built("fine_tuned")
    progress = make_progress("finetune")
    terms = method(batch, progress)
    views = [method.fuse(view, method.masks[-1:])[0] for view in both_views(method, batch, make_progress("finetune"))]
    torch.testing.assert_close(terms["loss"], supcon(views, batch.labels, method.objective.tau_supervised))
    terms["loss"].backward()
    assert all(p.grad is None for p in method.head.parameters())
    assert all(p.grad is not None for p in method.fusion.parameters())
    relabelled = Batch(batch.inputs, batch.labels.sort().values)
    assert method(relabelled, make_progress("finetune"))["loss"] != terms["loss"]


def test_a_fine_tuned_cell_is_scored_by_a_probe(make_cell):
    cell = make_cell("comm", "fine_tuned")
    assert (cell.stages, cell.scored_by) == (["pretrain", "finetune"], "probe")
    assert make_cell("joint_fusion").scored_by == "classifier"
