"""The text encoder does not see padding; views are pooled by instance and group; a momentum copy follows."""

import pytest
import torch

from mmcontrast.config import Modality, Model
from mmcontrast.errors import ConfigError
from mmcontrast.methods.multifold import pool_views
from mmcontrast.models.encoders import ImageVector, follow, frozen_copy
from mmcontrast.models.text import BiGRUEncoder, BiGRUSteps

TEXT = Modality(kind="text", shape=[])
PIECES = {"vocabulary": 20, "tokens": 9, "embedding": 6, "hidden": 5}
MODEL = Model(width=4, encoder_hidden=[], head_hidden=[], text=PIECES)


def test_a_text_has_one_embedding_however_long_it_is_padded():
    torch.manual_seed(0)
    encoder = BiGRUEncoder(TEXT, MODEL)
    pieces = torch.tensor([[3, 4, 0, 0], [5, 6, 7, 8]])
    together = encoder(pieces)
    assert together.shape == (2, 4)
    torch.testing.assert_close(together[:1], encoder(pieces[:1, :2]))
    torch.testing.assert_close(together[:1], encoder(torch.cat([pieces[:1], torch.zeros(1, 9, dtype=torch.long)], 1)))
    assert not torch.allclose(together[:1], encoder(torch.tensor([[4, 3]])))


def test_a_text_of_nothing_gives_zeros_and_no_texts_give_no_rows():
    torch.manual_seed(0)
    encoder, steps = BiGRUEncoder(TEXT, MODEL), BiGRUSteps(TEXT, MODEL)
    pieces = torch.tensor([[3, 4, 0], [0, 0, 0]])
    z = encoder(pieces)
    assert z[1].tolist() == [0] * 4
    z.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters())
    assert encoder(pieces[:0]).shape == (0, 4)
    tokens, padding = steps(pieces)
    assert tokens.shape == (2, 2, steps.width)
    assert padding.tolist() == [[False, False], [True, True]]
    torch.testing.assert_close(steps(pieces[:1, :2])[0], tokens[:1])
    assert [len(part) for part in steps(pieces[:0])] == [0, 0]


def test_a_text_modality_needs_a_text_model_and_an_image_goes_through_one_layer():
    model = Model(width=8, encoder_hidden=[], head_hidden=[])
    for encoder in (BiGRUEncoder, BiGRUSteps):
        with pytest.raises(ConfigError, match=r"model\.text: not given"):
            encoder(TEXT, model)
    image = Modality(kind="image", shape=[3, 32, 32])
    with pytest.raises(ConfigError, match=r"model\.image: not given"):
        ImageVector(image, model)
    encoder = ImageVector(image, model.model_copy(update={"image": "small_conv"}))
    assert encoder(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape == (2, 8)


def test_views_single_fused_and_grouped():
    z = torch.tensor([[1.0, 0], [0, 2], [3, 1], [5, 5], [4, 6]])
    ids = torch.tensor([7, 7, 7, 2, 2])
    assert pool_views(z, ids, 0)[0] is z
    fused, of = pool_views(z, ids, 1)
    assert fused.tolist() == [[3, 2], [5, 6]]
    assert of.tolist() == [7, 2]
    grouped, of = pool_views(z, ids, 2)
    assert grouped.tolist() == [[3, 1], [0, 2], [5, 5], [4, 6]]
    assert of.tolist() == [7, 7, 2, 2]
    assert pool_views(z, ids, 3)[1].tolist() == [7, 7, 7, 2, 2]


def test_pooled_views_pass_gradients_to_the_largest():
    z = torch.tensor([[1.0, 0], [0, 2]], requires_grad=True)
    pool_views(z, torch.tensor([0, 0]), 1)[0].sum().backward()
    assert z.grad.tolist() == [[1, 0], [0, 1]]


def test_a_frozen_copy_computes_the_same_has_no_parameters_and_is_saved():
    torch.manual_seed(0)
    student = torch.nn.ModuleDict({"t": BiGRUEncoder(TEXT, MODEL), "n": torch.nn.BatchNorm1d(4)})
    teacher = frozen_copy(student)
    pieces = torch.tensor([[3, 4, 5]])
    assert torch.equal(teacher["t"](pieces), student["t"](pieces))
    assert list(teacher.parameters()) == []
    assert teacher.state_dict().keys() == student.state_dict().keys()
    with torch.no_grad():
        student["t"].out.weight += 1
        student["t"].gru.weight_hh_l0 += 1
    start = teacher.state_dict()["t.out.weight"].clone()
    follow(teacher, student, 0.75)
    torch.testing.assert_close(teacher["t"].out.weight, start + 0.25)
    before = teacher["t"](pieces)
    follow(teacher, student, 0.0)
    # the recurrent layer computes with the weights that were moved, not with a second list of them
    assert not torch.equal(teacher["t"](pieces), before)
    torch.testing.assert_close(teacher["t"](pieces), student["t"](pieces))
