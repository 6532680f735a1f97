"""`mmcontrast.losses`: every loss from one place, plain argument names, one scalar with a gradient."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mmcontrast.losses as public
from mmcontrast.losses.mixing import mix_targets
from mmcontrast.losses.rows import unit_rows
from tests.fresh import loaded

# modules of what losses are made of
HELPERS = {"mixing", "rows"}
B, D, TAU = 6, 4, 0.2
IDS = torch.arange(B) // 2
PAIRS = [("a", "b"), ("b", "a")]
TARGETS = mix_targets(torch.linspace(0.1, 0.9, B), torch.arange(B).roll(1))

# (two leaves of (B, D)) -> what the loss returns
CALLS: dict[str, Callable[[Any, Tensor, Tensor], Any]] = {
    "barlow_twins": lambda f, a, b: f(a, b),
    "bidirectional_cross_entropy": lambda f, a, b: f(a @ b.T, TARGETS, TARGETS.T),
    "cloob": lambda f, a, b: f(a, b, TAU),
    "club_bound": lambda f, a, b: f(a @ b.T),
    "club_critic_loss": lambda f, a, b: f({"cross_club": a @ b.T, "conditional_club": b @ a.T}),
    "cmc": lambda f, a, b: f([a, b, a + b], TAU),
    "comm_loss": lambda f, a, b: f([a, b, a + b], [b, a, a - b], TAU, weights=[1, 1, 2]),
    "comm_paper_loss": lambda f, a, b: f(a + b, a - b, [a, b], TAU),
    "comm_paper_terms": lambda f, a, b: f(a + b, a - b, [a, b], TAU),
    "comm_terms": lambda f, a, b: f([a, b, a + b], [b, a, a - b], TAU),
    "confu_loss": lambda f, a, b: f({"a": a, "b": b, "c": a + b}, {("a", "b"): a * b, ("b", "c"): a - b}, TAU),
    "cyclic_consistency": lambda f, a, b: f(a, b),
    "decur_loss": lambda f, a, b: f([a, b], [b, a], 2),
    "directed_info_nce": lambda f, a, b: f(a, b, TAU),
    "disentangled_shared_loss": lambda f, a, b: f([a, b], TAU),
    "disentangled_specific_loss": lambda f, a, b: f([[a, b], [b, a]], [[a * b, a], [b, a - b]], TAU),
    "every_own_row_loss": lambda f, a, b: f(unit_rows(a), a + b, {"a": a, "b": b}, [1.0, 0.5], TAU),
    "every_own_row_terms": lambda f, a, b: f(unit_rows(a), a + b, {"a": a, "b": b}, [1.0, 0.5], TAU),
    "factorcl_loss": lambda f, a, b: f(dict.fromkeys(SCORES, a @ b.T)),
    "factorcl_terms": lambda f, a, b: f(dict.fromkeys(SCORES, a @ b.T)),
    "gmc_loss": lambda f, a, b: f(a + b, [a, b], TAU),
    "gram_loss": lambda f, a, b: f([a, b, a + b], TAU),
    "infinite_masking": lambda f, a, b: f(a, [b, a + b], TAU),
    "infmasking_loss": lambda f, a, b: f([[a, b, a + b], [b, a, a - b]], [[a], [b]], TAU),
    "info_nce": lambda f, a, b: f(a, b, TAU),
    "info_nce_bound": lambda f, a, b: f(a @ b.T),
    "label_binary_cross_entropy": lambda f, a, b: f(a * b, labels=(torch.arange(B * D).view(B, D) % 3 == 0).float()),
    "label_cross_entropy": lambda f, a, b: f(a * b, labels=torch.arange(B) % D),
    "label_squared_error": lambda f, a, b: f(a * b, labels=torch.arange(B * D).view(B, D) / D),
    "m3co": lambda f, a, b: f({"a": a, "b": b}, {"a": b, "b": a}, {"a": TARGETS, "b": TARGETS}, PAIRS, TAU),
    "m3co_pair": lambda f, a, b: f(a, b, TARGETS, TAU),
    "mil_nce": lambda f, a, b: f(a, b, IDS, IDS, tau=TAU),
    "mixed_label_loss": lambda f, a, b: f(a * b, torch.arange(B) % D, partner_labels=IDS, weight=0.3),
    "multifold_loss": lambda f, a, b: f(unit_rows(a), unit_rows(b), IDS, IDS, tau=TAU),
    "multifold_pairs_loss": lambda f, a, b: f({"a": unit_rows(a), "b": unit_rows(b)}, {"a": IDS, "b": IDS}),
    "multifold_pairs_terms": lambda f, a, b: f({"a": unit_rows(a), "b": unit_rows(b)}, {"a": IDS, "b": IDS}),
    "multifold_terms": lambda f, a, b: f(unit_rows(a), unit_rows(b), IDS, IDS),
    "multisclip": lambda f, a, b: f({"a": a, "b": b}, PAIRS, TAU),
    "multisclip_pair": lambda f, a, b: f(a, b, TAU),
    "nt_xent": lambda f, a, b: f(a, b, TAU),
    "orthogonality": lambda f, a, b: f(a, b),
    "paired_info_nce": lambda f, a, b: f({"a": a, "b": b}, PAIRS, TAU),
    "self_contrast": lambda f, a, b: f([a, b], [b, a], TAU),
    "siglip": lambda f, a, b: f(unit_rows(a), unit_rows(b), IDS, IDS, scale=10.0, bias=-10.0),
    "soft_cross_entropy": lambda f, a, b: f(a @ b.T, TARGETS),
    "supcon": lambda f, a, b: f([a, b], labels=IDS),
    "supcon_rows": lambda f, a, b: f(torch.cat([a, b]), IDS.repeat(2)),
    "symile_loss": lambda f, a, b: f([a, b, a + b], TAU),
    "tuple_info_nce": lambda f, a, b: f(unit_rows(a), unit_rows(b), [unit_rows(a + b)], [1.0], TAU, scenes=IDS),
    "tuple_info_nce_terms": lambda f, a, b: f(unit_rows(a), unit_rows(b), [unit_rows(a + b)], [1.0], TAU),
    "weighted_nt_xent": lambda f, a, b: f({"a": unit_rows(a), "b": unit_rows(b)}, {"a->b": 0.25, "b->a": 0.75}),
}
SCORES = ("cross", "self1", "self2", "conditional", "cross_club", "conditional_club")


def leaves() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(B, D, generator=generator).requires_grad_() for _ in range(2)]


def defined() -> set[str]:
    """Functions that return one tensor, or the terms of one that does, in the files of losses."""
    package = Path(public.__file__).parents[1]
    shared = [f"losses.{p.stem}" for p in package.glob("losses/[!_]*.py") if p.stem not in HELPERS]
    papers = [f"methods.{p.parent.name}.{p.stem}" for p in package.glob("methods/*/loss*.py")]
    found = set()
    for module in (*shared, *papers):
        for name, function in inspect.getmembers(importlib.import_module(f"mmcontrast.{module}"), inspect.isfunction):
            own = function.__module__ == f"mmcontrast.{module}" and not name.startswith("_")
            if own and (name.endswith("_terms") or function.__annotations__["return"] in (Tensor, "Tensor")):
                found.add(name)
    return found


def test_the_public_list_is_what_the_modules_define() -> None:
    assert defined() == set(public.__all__) == set(CALLS)
    assert dir(public) == public.__all__
    with pytest.raises(AttributeError, match="no attribute nonesuch"):
        _ = public.nonesuch


@pytest.mark.parametrize("name", public.__all__)
def test_a_stranger_calls_it(name: str) -> None:
    loss = getattr(public, name)
    a, b = leaves()
    out = CALLS[name](loss, a, b)
    if name.endswith("_terms"):
        out = out["loss"] if isinstance(out, dict) else out.loss
    assert isinstance(out, Tensor)
    assert out.shape == ()
    assert out.isfinite()
    out.backward()
    assert sum(float(z.grad.abs().sum()) for z in (a, b) if z.grad is not None) > 0
    scalar = name.removesuffix("_terms")
    if scalar != name:
        scalar = next(n for n in (f"{scalar}_loss", scalar) if n in CALLS)
        other = CALLS[name](lambda *args, **options: getattr(public, scalar)(*args, **options), *leaves())
        assert torch.equal(out, other)


@pytest.mark.parametrize("name", public.__all__)
def test_its_arguments_have_plain_names_and_its_docstring_says_what_it_is(name: str) -> None:
    loss = getattr(public, name)
    assert not [p for p in inspect.signature(loss).parameters if p != p.lower()]
    assert inspect.getdoc(loss)


def test_importing_the_namespace_imports_no_torch() -> None:
    assert "torch" not in loaded("import mmcontrast.losses")


def test_the_losses_need_torch_alone() -> None:
    used = loaded("import mmcontrast.losses as losses; [getattr(losses, name) for name in losses.__all__]")
    assert used - loaded("import torch") - sys.stdlib_module_names == {"mmcontrast"}


def test_the_example_of_the_namespace_runs() -> None:
    """The three lines of its docstring."""
    lines = [line.strip() for line in inspect.getdoc(public).splitlines() if line.startswith("    ")]  # type: ignore[union-attr]
    image, text = leaves()
    exec("\n".join(lines), {"image_embeddings": image, "text_embeddings": text})
    assert image.grad is not None
