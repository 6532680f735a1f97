from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from mmcontrast.config import validate
from mmcontrast.errors import ConfigError, TrainingError
from mmcontrast.methods.base import Batch, build_method
from mmcontrast.methods.tuple_infonce.negatives import derangement
from mmcontrast.methods.tuple_infonce.objective import TupleInfoNCEObjective
from tests.grids import grid_of

B, K = 6, 3
STILL = {"vector": []}


def make(make_cell, make_batch, n=B, n_modalities=K, **objective):
    """A method in float64 whose views are the inputs themselves unless told otherwise, and a batch for it."""
    cell = make_cell("tuple_infonce", n_modalities=n_modalities, **{"augmentations": STILL, **objective})
    torch.manual_seed(0)
    return build_method(cell).double(), make_batch(cell, n, torch.float64)


def weights_of(alpha, form, rows, copies):
    """w_k as the definition has it: alpha_k counts negatives (ratio), or is the weight."""
    per_anchor = copies * {"all": B, "own": 1, "others": B - 1}[rows]
    scale = {"weight": 1, "ratio": (B - 1) / per_anchor}[form]
    return [a * scale for a in alpha]


def loss_by_tuples(method, batch, seed, weights, rows, copies, tau, detach):
    """The loss row by row from tuples put together at the inputs, each through the whole network."""

    def fused(x):
        return F.normalize(method.embed(Batch(x, batch.labels)), dim=-1)

    def keys(x):
        return fused(x).detach() if detach else fused(x)

    generator = torch.Generator().manual_seed(seed)
    anchor, positive = fused(batch.inputs), keys(batch.inputs)
    disturbed = {}
    for name in method.modalities:
        disturbed[name] = []
        for _ in range(copies):
            source = derangement(B, generator)
            disturbed[name].append(keys({m: x[source] if m == name else x for m, x in batch.inputs.items()}))
    losses = []
    for i in range(B):
        own = (anchor[i] @ positive[i] / tau).exp()
        total = own + sum((anchor[i] @ positive[j] / tau).exp() for j in range(B) if j != i)
        for weight, draws in zip(weights, disturbed.values(), strict=True):
            for key in draws:
                for j in range(B):
                    if rows == "all" or (rows == "own") == (i == j):
                        total = total + weight * (anchor[i] @ key[j] / tau).exp()
        losses.append(total.log() - own.log())
    return torch.stack(losses).mean()


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"alpha": 0.0, "naive": True},
        {"rows": "own", "form": "weight"},
        {"rows": "others", "copies": 2},
        {"alpha": {"mrna": 0.5, "methylation": 0.0, "mirna": 3.0}, "detach_keys": False},
        {"fusion_hidden": [], "copies": 3, "detach_keys": False},
    ],
    ids=str,
)
def test_loss_and_gradient_are_those_of_tuples_built_from_the_inputs(make_cell, make_batch, make_progress, change):
    objective = {"alpha": 1.0, "form": "ratio", "rows": "all", "copies": 1, "tau": 0.2, "detach_keys": True, **change}
    method, batch = make(make_cell, make_batch, **objective)
    alpha = objective["alpha"]
    alpha = list(alpha.values()) if isinstance(alpha, dict) else [alpha] * K
    weights = weights_of(alpha, objective["form"], objective["rows"], objective["copies"])
    expected = loss_by_tuples(
        method, batch, 5, weights, objective["rows"], objective["copies"], objective["tau"], objective["detach_keys"]
    )
    loss = method(batch, make_progress("pretrain", seed=5))["loss"]
    torch.testing.assert_close(loss, expected)
    parameters = list(method.parameters())
    torch.testing.assert_close(torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters))


def test_both_views_are_noisy_and_drawn_apart(make_cell, make_batch, make_progress):
    noisy = {"vector": [{"name": "noise", "std": 0.5}]}
    method, batch = make(make_cell, make_batch, augmentations=noisy)
    still, _ = make(make_cell, make_batch)
    progress = make_progress("pretrain", seed=1)
    terms = method(batch, progress)
    assert still(batch, make_progress("pretrain"))["positive_similarity"] == pytest.approx(1)
    assert terms["positive_similarity"] < 0.999
    again = method(batch, progress)
    assert again["positive_similarity"] != terms["positive_similarity"]


def test_naive_contrast_measures_disturbed_tuples_but_does_not_learn_from_them(make_cell, make_batch, make_progress):
    method, batch = make(make_cell, make_batch, alpha=0.0, naive=True)
    terms = method(batch, make_progress("pretrain"))
    for name in method.modalities:
        assert terms[f"own_similarity_{name}"] < terms["positive_similarity"]
        assert terms[f"share_{name}"] == 0
    z = F.normalize(method.embed(batch), dim=-1)
    torch.testing.assert_close(terms["loss"], F.cross_entropy(z @ z.detach().T / 0.07, torch.arange(B)))


def test_a_modality_that_the_encoder_ignores_keeps_the_loss_up(make_cell, make_batch, make_progress):
    """Its own-row disturbed tuple equals the positive, so that the loss is at least log(1 + w)."""
    method, batch = make(
        make_cell, make_batch, rows="own", form="weight", alpha={"mrna": 0, "methylation": 2, "mirna": 0}
    )
    with torch.no_grad():
        method.fusion.first["methylation"].weight.zero_()
    terms = method(batch, make_progress("pretrain"))
    torch.testing.assert_close(terms["own_similarity_methylation"], terms["positive_similarity"])
    assert terms["loss"] >= math.log(3) - 1e-12


def test_the_embedding_is_the_fusion_of_the_clean_tuple_as_wide_as_asked_and_not_normalised(make_cell, make_batch):
    method, batch = make(
        make_cell, make_batch, augmentations={"vector": [{"name": "noise", "std": 9.0}]}, fusion_width=5
    )
    z = method.embed(batch)
    encodings = {m: method.encoders[m](x) for m, x in batch.inputs.items()}
    torch.testing.assert_close(z, method.fusion(encodings))
    assert z.shape == (B, 5)
    assert not torch.allclose(z.norm(dim=-1), torch.ones(B, dtype=z.dtype))
    assert method.logits(batch) is None


def test_a_dropped_step_contrasts_one_modality_with_the_others(make_cell, make_batch, make_progress):
    """By hand: the anchor is of one modality alone, keys are of the rest, disturbed in what they have."""
    method, batch = make(make_cell, make_batch, dropping=0.999999)
    generator = torch.Generator().manual_seed(5)
    torch.rand((), generator=generator)
    chosen = method.modalities[int(torch.randint(K, (), generator=generator))]
    rest = [m for m in method.modalities if m != chosen]
    anchor = F.normalize(method.fuse(batch.inputs, [chosen]), dim=-1)
    blocks = [anchor @ F.normalize(method.fuse(batch.inputs, rest), dim=-1).T]
    for name in method.modalities:
        source = derangement(B, generator)
        if name in rest:
            swapped = {m: x[source] if m == name else x for m, x in batch.inputs.items()}
            blocks.append(anchor @ F.normalize(method.fuse(swapped, rest), dim=-1).T + 0.07 * math.log((B - 1) / B))
    expected = F.cross_entropy(torch.cat(blocks, dim=1) / 0.07, torch.arange(B))
    terms = method(batch, make_progress("pretrain", seed=5))
    assert terms.keys() == {"loss", "crossmodal"}
    torch.testing.assert_close(terms["loss"], expected)


def test_of_two_modalities_a_dropped_step_has_nothing_left_to_disturb(make_cell, make_batch, make_progress):
    method, batch = make(make_cell, make_batch, n_modalities=2, dropping=0.999999)
    generator = torch.Generator().manual_seed(5)
    torch.rand((), generator=generator)
    chosen = int(torch.randint(2, (), generator=generator))
    anchor, key = (F.normalize(method.fuse(batch.inputs, [method.modalities[m]]), dim=-1) for m in (chosen, 1 - chosen))
    expected = F.cross_entropy(anchor @ key.T / 0.07, torch.arange(B))
    torch.testing.assert_close(method(batch, make_progress("pretrain", seed=5))["loss"], expected)


def test_steps_are_dropped_as_often_as_asked(make_cell, make_batch, make_progress):
    method, batch = make(make_cell, make_batch, dropping=0.25)
    progress = make_progress("pretrain")
    dropped = sum("crossmodal" in method(batch, progress) for _ in range(200))
    assert 30 <= dropped <= 70


def every_replacement(method, batch, tau, weights):
    """The loss row by row, each tuple put together at the inputs."""
    losses = []
    for i in range(B):
        anchor = F.normalize(method.embed(batch), dim=-1)[i]
        score = [(anchor @ F.normalize(method.embed(batch), dim=-1).detach().T / tau).exp()]
        total = score[0].sum()
        for name, weight in weights.items():
            for j in range(B):
                if j != i:
                    mixed = {m: x[[j if m == name else i]] for m, x in batch.inputs.items()}
                    key = F.normalize(method.embed(Batch(mixed, batch.labels[:1])), dim=-1)[0].detach()
                    total = total + weight * (anchor @ key / tau).exp()
        losses.append(total.log() - score[0][i].log())
    return torch.stack(losses).mean()


def test_every_replacement_of_the_own_row_is_met_in_a_linear_fusion(make_cell, make_batch, make_progress):
    alpha = {"mrna": 0.5, "methylation": 0.0, "mirna": 3.0}
    method, batch = make(make_cell, make_batch, rows="every_own", fusion_hidden=[], alpha=alpha, tau=0.2)
    terms = method(batch, make_progress("pretrain"))
    expected = every_replacement(method, batch, 0.2, alpha)
    torch.testing.assert_close(terms["loss"], expected)
    parameters = list(method.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(terms["loss"], parameters), torch.autograd.grad(expected, parameters)
    )
    assert terms["own_similarity_mrna"] < terms["positive_similarity"]


def test_every_replacement_of_a_part_of_the_tuple(make_cell, make_batch, make_progress):
    method, batch = make(make_cell, make_batch, rows="every_own", fusion_hidden=[], dropping=0.999999)
    terms = method(batch, make_progress("pretrain", seed=5))
    assert terms.keys() == {"loss", "crossmodal"}
    assert terms["loss"] > math.log(2)


def test_a_strength_scales_noise_and_what_is_settled(make_cell, make_batch, make_progress):
    noisy = {"vector": [{"name": "noise", "std": 0.5}, {"name": "drop", "share": 0.5}]}
    method, batch = make(make_cell, make_batch, augmentations=noisy)
    louder, _ = make(
        make_cell, make_batch, augmentations={"vector": [{"name": "noise", "std": 1.0}, noisy["vector"][1]]}
    )
    method.train_at([1.0] * K, 2.0)
    progress = make_progress
    assert torch.equal(method(batch, progress("pretrain"))["loss"], louder(batch, progress("pretrain"))["loss"])
    queries = method.crossmodal(batch, torch.Generator().manual_seed(0), 2.0)[0]
    assert torch.equal(queries[0], louder.crossmodal(batch, torch.Generator().manual_seed(0))[0][0])
    settled = method.settled([2.0, 0.0, 1.0], 2.0)
    assert settled["augmentations"] == louder.objective.augmentations
    assert settled["alpha"] == dict(zip(method.modalities, [2.0, 0.0, 1.0], strict=True))


def test_crossmodal_queries_are_augmented_and_candidates_are_not(make_cell, make_batch):
    noisy = {"vector": [{"name": "noise", "std": 0.5}]}
    method, batch = make(make_cell, make_batch, augmentations=noisy)
    queries, candidates = method.crossmodal(batch, torch.Generator().manual_seed(0))
    again, same = method.crossmodal(batch, torch.Generator().manual_seed(1))
    for i, m in enumerate(method.modalities):
        rest = [o for o in method.modalities if o != m]
        torch.testing.assert_close(candidates[i], F.normalize(method.fuse(batch.inputs, rest), dim=-1))
        torch.testing.assert_close(same[i], candidates[i])
        clean = F.normalize(method.fuse(batch.inputs, [m]), dim=-1)
        assert not torch.allclose(queries[i], clean)
        assert not torch.allclose(queries[i], again[i])


def test_what_is_scored_beside_the_embedding(make_cell, make_batch):
    method, batch = make(make_cell, make_batch)
    views = method.embeddings(batch)
    assert list(views) == ["", "encoders", *(f"without_{m}" for m in method.modalities)]
    torch.testing.assert_close(views[""], method.embed(batch))
    torch.testing.assert_close(views["encoders"], torch.cat(list(method.encode(batch.inputs).values()), dim=-1))
    for m in method.modalities:
        changed = {o: torch.randn_like(x) if o == m else x for o, x in batch.inputs.items()}
        torch.testing.assert_close(
            method.embeddings(Batch(changed, batch.labels))[f"without_{m}"], views[f"without_{m}"]
        )
        assert not torch.allclose(views[f"without_{m}"], views[""])


def test_a_batch_of_one_row_has_no_other_to_borrow_from(make_cell, make_batch, make_progress):
    method, batch = make(make_cell, make_batch, n=1)
    with pytest.raises(TrainingError, match="this batch has 1 row; choose a `batch_size` that leaves no batch of one"):
        method(batch, make_progress("pretrain"))


def test_one_modality_is_refused(make_cell):
    with pytest.raises(
        ConfigError, match=r"params/datasets/synthetic\.yaml: modalities: .*at least two.*there is mrna"
    ):
        build_method(make_cell("tuple_infonce", n_modalities=1))


def test_a_constant_modality_is_refused_unless_nothing_is_disturbed(make_cell, make_batch):
    method, batch = make(make_cell, make_batch)
    method.check_data(batch.inputs)
    constant = {**batch.inputs, "mirna": batch.inputs["mirna"][:1].expand(B, -1)}
    with pytest.raises(TrainingError, match="modality 'mirna' is the same in all 6 training rows"):
        method.check_data(constant)
    naive, _ = make(make_cell, make_batch, alpha=0.0, naive=True)
    naive.check_data(constant)


def test_finetuning_is_refused(make_cell):
    cell = make_cell("tuple_infonce")
    with pytest.raises(ConfigError, match="finetune: this method has no classifier"):
        build_method(cell.model_copy(update={"finetune": cell.pretrain}))


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (
            {"alpha": {"mrna": 1.0}},
            "alpha: nothing for methylation, mirna; give a number for each modality, 0 for none",
        ),
        ({"alpha": {"mrna": 1, "methylation": 1, "mirnas": 1}}, "alpha: no modality 'mirnas'; did you mean 'mirna'"),
        ({"augmentations": {}}, "augmentations: nothing for 'vector'"),
    ],
)
def test_an_objective_that_does_not_fit_the_dataset(make_cell, objective, message):
    with pytest.raises(ConfigError, match=r"params/methods/tuple_infonce\.yaml .*: objective\." + message):
        build_method(make_cell("tuple_infonce", **objective))


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"alpha": -0.5}, r"objective.alpha: the amount is -0\.5, and must be finite and at least 0"),
        ({"alpha": {"a": 1, "b": -1}}, "objective.alpha: the amount of 'b' is -1, and must"),
        ({"alpha": math.inf}, "the amount is inf"),
        ({"alpha": 0}, "alpha is 0 for every modality, which is naive tuple contrast; say `naive: true`"),
        ({"alpha": {"a": 0, "b": 0}}, "alpha is 0 for every modality"),
        ({"alpha": 1, "naive": True}, "naive: true has no disturbed negatives, and alpha is 1.0; set alpha to 0"),
        ({"tau": 0}, "objective.tau"),
        ({"copies": 0}, "objective.copies"),
        ({"rows": "mine"}, "objective.rows"),
        ({"alhpa": 1}, "did you mean 'alpha'"),
        ({"rows": "every_own"}, "every_own comes from products of a linear fusion; set fusion_hidden to"),
        ({"rows": "every_own", "fusion_hidden": [], "copies": 2}, "every_own draws no rows"),
        (
            {"search": {"kind": "grid", "values": [0, 1], "steps": 1, "beta": {"rounds": 1}}},
            "search.beta: scales noise, and there is none",
        ),
    ],
)
def test_an_objective_that_makes_no_sense(objective, message):
    given = {"augmentations": STILL, "fusion_hidden": [4], "fusion_width": 4, **objective}
    with pytest.raises(ConfigError, match=message):
        validate(TupleInfoNCEObjective, given, "file", prefix="objective")


def test_the_variants_of_the_params_file_are_what_their_names_say():
    grid = grid_of("tuple")
    base = grid.cell("weak_modality", "tuple_infonce").objective
    changed = {
        variant: {
            k: v for k, v in grid.cell("weak_modality", "tuple_infonce", variant).objective.items() if v != base[k]
        }
        for variant, given in grid.methods["tuple_infonce"].variants.items()
        if given.recipe is None
    }
    naive, trials = {"alpha": 0.0, "naive": True}, {"kind": "reinforce", "rounds": 6, "trials": 4, "steps": 40}
    searches = {variant: spec.pop("search") for variant, spec in changed.items() if "search" in spec}
    assert {k: searches["searched"][k] for k in trials} == trials
    assert searches["searched_undropped"] == searches["searched"] | {"dropping": 0.0}
    assert searches["searched_both"].pop("beta")["rounds"] == 6
    assert searches["searched_both"] == {k: v for k, v in searches["searched"].items() if k != "beta"}
    assert searches["grid"]["values"] == [0.0, 0.25, 0.5, 1.0, 2.0, 4.0]
    by_modality = {"by_modality": {"alpha": {"strong": 1.0, "middle": 1.0, "weak": 1.0}}}
    for m in ("strong", "middle", "weak"):
        uniform = {"strong": 1.0, "middle": 1.0, "weak": 1.0}
        for name, value in (("0_25", 0.25), ("0_5", 0.5), ("2", 2.0), ("4", 4.0)):
            by_modality[f"by_modality_{m}_{name}"] = {"alpha": uniform | {m: value}}
        by_modality[f"without_{m}"] = {"alpha": uniform | {m: 0.0}}
        by_modality[f"{m}_alone"] = {"alpha": dict.fromkeys(uniform, 0.0) | {m: 1.0}}
    assert changed == by_modality | {
        "naive": naive,
        "early": {"fusion": "early"},
        "naive_early": naive | {"fusion": "early"},
        "dropping": naive | {"dropping": 0.5},
        "naive_batch_32": naive,
        "naive_batch_512": naive,
        "batch_32": {},
        "batch_512": {},
        "searched": {},
        "searched_undropped": {},
        "searched_both": {},
        "linear": {"fusion_hidden": []},
        "every_own_row": {"fusion_hidden": [], "rows": "every_own"},
        "grid": {},
        "copies_2": {"copies": 2},
        "copies_4": {"copies": 4},
        "own_rows": {"rows": "own", "form": "weight"},
        "other_rows": {"rows": "others"},
        "attached_keys": {"detach_keys": False},
        "alpha_0_25": {"alpha": 0.25},
        "alpha_0_5": {"alpha": 0.5},
        "alpha_2": {"alpha": 2.0},
        "alpha_4": {"alpha": 4.0},
    }
