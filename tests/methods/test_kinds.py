"""Texts and sequences in every method and variant, with rows that lack them, or a refusal that says what to do."""

from __future__ import annotations

import pytest
import torch

from mmcontrast.config import Modality, SequenceModel
from mmcontrast.config.training import TextModel
from mmcontrast.errors import ConfigError
from mmcontrast.methods.base import Batch, build_method

N, STEPS, WORDS = 12, 6, 5
MODALITIES = {
    "vector": Modality(kind="vector", shape=[4]),
    "pen": Modality(kind="sequence", shape=[STEPS, 3]),
    "caption": Modality(kind="text", shape=[]),
}
INPUTS_ARE_MIXED = ("mixup/base", "m3col/input_mixing")
SIDE_BY_SIDE = ("tuple_infonce/early", "tuple_infonce/naive_early")


@pytest.fixture
def cell(formed, make_cell):
    base = make_cell(*formed)
    running = {"kind": "gru"}
    if base.model.fusion and formed[0] != "tuple_infonce":
        running = {"kind": "transformer", "heads": 2}
    sequence = running if formed[1] == "base" else {"kind": "conv", "layers": 2, "steps": 8}
    changed = {
        "text": TextModel(vocabulary=20, tokens=WORDS, embedding=6, hidden=5),
        "sequence": SequenceModel(width=8, **sequence),
    }
    objective = dict(base.objective)
    if "augmentations" in objective:
        steps = [{"name": "noise", "std": 0.05}, {"name": "drop_steps", "share": 0.4}]
        objective["augmentations"] = {**objective["augmentations"], "sequence": steps, "text": []}
    if objective.get("modality") is not None:
        objective["modality"] = "pen"
    if objective.get("directions"):
        objective["directions"] = {"vector->pen": 0.5, "pen->caption": 0.25}
    return base.model_copy(
        update={"modalities": MODALITIES, "model": base.model.model_copy(update=changed), "objective": objective}
    )


def batch_of(cell, garbage: bool = False, longer: int = 0) -> Batch:
    """Rows of different length; some lack the sequence, some the text. longer: further padding, of both."""
    g = torch.Generator().manual_seed(0)
    pen = torch.randn(N, STEPS, 3, generator=g)
    words = torch.randint(1, 20, (N, WORDS), generator=g)
    steps, length = 1 + torch.arange(N) % STEPS, 1 + torch.arange(N) % WORDS
    pen = pen.masked_fill((torch.arange(STEPS) >= steps[:, None])[:, :, None], torch.nan)
    words = words.masked_fill(torch.arange(WORDS) >= length[:, None], 0)
    pen = torch.cat([pen, torch.full((N, longer, 3), torch.nan)], dim=1)
    words = torch.cat([words, torch.zeros(N, longer, dtype=torch.int64)], dim=1)
    has = {"pen": torch.arange(N) % 3 > 0, "caption": torch.arange(N) % 4 != 1}
    pen[~has["pen"]] = 7.0 if garbage else torch.nan
    words[~has["caption"]] = 3 if garbage else 0
    inputs = {"vector": torch.randn(N, 4, generator=g), "pen": pen, "caption": words}
    return Batch(inputs, torch.arange(N) % len(cell.classes), present=has)


def outputs(method, batch, progress):
    """Terms and gradients of a step, and what is scored."""
    method.zero_grad()
    terms = method(batch, progress)
    terms["loss"].backward()
    gradients = {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
    method.eval()
    with torch.no_grad():
        scored = {**method.embeddings(batch), "logits": method.logits(batch)}
    method.train()
    return terms, gradients, {name: z for name, z in scored.items() if z is not None}


def build(cell):
    torch.manual_seed(0)
    return build_method(cell)


def test_texts_and_sequences(formed, cell, make_progress):
    if "/".join(formed) in INPUTS_ARE_MIXED:
        with pytest.raises(
            ConfigError, match=r"modality 'pen' holds sequences, and this method mixes inputs.*embedding"
        ):
            build(cell)
        return
    if "/".join(formed) in SIDE_BY_SIDE:
        with pytest.raises(ConfigError, match=r"fusion: early puts modalities side by side.*Use fusion: late"):
            build(cell)
        return
    batch, garbage = batch_of(cell), batch_of(cell, garbage=True)
    for stage in cell.stages:
        ours = outputs(build(cell), batch, make_progress(stage))
        for part in ours:
            assert all(x.isfinite().all() for x in part.values())
        for mine, other in zip(ours, outputs(build(cell), garbage, make_progress(stage)), strict=True):
            assert mine.keys() == other.keys()
            assert all(torch.equal(other[name], x) for name, x in mine.items())
        reached = {name.split(".")[1] for name, g in ours[1].items() if name.startswith("encoders.") and g.any()}
        # a step that drops modalities trains the one that is left
        assert reached == set(build(cell).encoders) or formed == ("tuple_infonce", "dropping")


def test_an_embedding_does_not_depend_on_the_rows_beside_it(formed, cell):
    if "/".join(formed) in (*INPUTS_ARE_MIXED, *SIDE_BY_SIDE):
        return  # refused
    method = build(cell).eval()
    with torch.no_grad():
        z, padded = method.embed(batch_of(cell)), method.embed(batch_of(cell, longer=3))
        torch.testing.assert_close(padded, z, rtol=1e-4, atol=1e-5)
        order = torch.arange(N).roll(5)
        batch = batch_of(cell)
        rolled = Batch(
            {m: x[order] for m, x in batch.inputs.items()},
            batch.labels[order],
            present={m: has[order] for m, has in batch.present.items()},
        )
        torch.testing.assert_close(method.embed(rolled), z[order], rtol=1e-4, atol=1e-5)
