"""Cells and batches small enough to train in a test, for every method and variant that params/ knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from mmcontrast.config import CellConfig, Grid, Method, Modality, Model
from mmcontrast.methods.base import Batch, Progress
from tests.grids import grid_of

GRID = grid_of("smoke")
# not every method has had its learning rate chosen on pictures
UNTUNED = Grid(GRID.root, "smoke", untuned=True)


def told_apart(name: str, spec: Method, variant: str) -> bool:
    """Is it the base, or more than the base with another batch size, learning rate or number of epochs?

    An alpha by modality names those of one dataset, which is not the one used here. What a shared recipe changes are
    sizes. Pretrained encoders are of images and texts, which the set used here has not;
    tests/training/test_pretrained_encoder_cell.py trains them on their own kind of data.
    """
    base = GRID.cell("synthetic", name)
    if base.finetune is None and base.pretrain is not None and base.pretrain.epochs == 0:
        return False  # raw inputs: nothing is trained, see test_raw.py
    if variant == "base":
        return True
    if spec.variants[variant].recipe is not None:
        return False
    if isinstance(spec.variants[variant].objective.get("alpha"), dict):
        return False
    if spec.variants[variant].objective.get("modality") not in (None, *base.modalities):
        return False  # of sets with other modalities
    cell = GRID.cell("synthetic", name, variant)
    if cell.model.pretrained:
        return False
    return (cell.objective, cell.model, cell.stages) != (base.objective, base.model, base.stages)


VARIANTS = [
    (name, variant)
    for name, spec in GRID.methods.items()
    for variant in ("base", *spec.variants)
    if told_apart(name, spec, variant)
]
SPARE = {"extra": Modality(kind="vector", shape=[7])}


def form(name: str, variant: str) -> str:
    """What the code of a variant depends on: which numbers are 0, and every word, but for what only training sees."""

    def rough(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: rough(v) for k, v in value.items() if k not in ("search", "augmentations", "schedule_fraction")}
        return bool(value) if isinstance(value, int | float) else value

    cell = GRID.cell("synthetic", name, variant)
    objective = {} if variant.startswith(("probe_", "released_probe")) else rough(cell.objective)
    return repr((cell.implementation, objective, cell.model.fusion and cell.model.fusion.kind, cell.stages))


# one variant of each form
FORMS = list({form(*v): v for v in reversed(VARIANTS)}.values())[::-1]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `variant` runs for every (method, variant) in params/methods, `formed` for one a form."""
    for name, chosen in (("variant", VARIANTS), ("formed", FORMS)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, chosen, ids=["/".join(v) for v in chosen])


def small(model: Model) -> Model:
    """The suite shrinks encoders; what only some methods have is shrunk here."""
    fusion = model.fusion and model.fusion.model_copy(update={"width": 32, "heads": 4})
    return model.model_copy(update={"fusion": fusion, "projection": model.projection and [32, 32, 24]})


@pytest.fixture(scope="session")
def forms() -> list[tuple[str, str]]:
    return FORMS


@pytest.fixture(scope="session")
def variants() -> list[tuple[str, str]]:
    return VARIANTS


@pytest.fixture(scope="session")
def make_cell() -> Callable[..., CellConfig]:
    """make_cell(method, variant, n_modalities, **objective): a cell of the synthetic set with M modalities."""

    def make(method: str, variant: str = "base", n_modalities: int = 3, **objective: Any) -> CellConfig:
        cell = GRID.cell("synthetic", method, variant)
        narrow = {key: 32 for key in cell.objective if key == "critic_hidden"}
        # a variant that names a modality keeps it when modalities are cut
        named = cell.objective.get("modality")
        known = sorted((cell.modalities | SPARE).items(), key=lambda item: item[0] != named)
        return cell.model_copy(
            update={
                "modalities": dict(known[:n_modalities]),
                "objective": cell.objective | narrow | objective,
                "model": small(cell.model),
            }
        )

    return make


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    """make_batch(cell, n): instances with a latent code all modalities share, around well separated class centres."""

    def make(cell: CellConfig, n: int = 12, dtype: torch.dtype = torch.float32) -> Batch:
        g = torch.Generator().manual_seed(0)
        labels = torch.arange(n) % len(cell.classes)
        latent = torch.randn(n, 3, generator=g)
        inputs = {}
        for name, modality in cell.modalities.items():
            centres = 2 * torch.randn(len(cell.classes), *modality.shape, generator=g)
            inputs[name] = (centres[labels] + latent @ torch.randn(3, *modality.shape, generator=g)).to(dtype)
        return Batch(inputs, labels)

    return make


@pytest.fixture(scope="session")
def lacking() -> Callable[..., Batch]:
    """lacking(batch, [(number of a modality, rows)], garbage): these rows taken away, and something in their place."""

    def take(batch: Batch, pattern: Sequence[tuple[int, Sequence[int]]], garbage: float = 0.0) -> Batch:
        names, inputs, present = list(batch.inputs), dict(batch.inputs), {}
        for k, rows in pattern:
            has = torch.ones(len(batch.labels), dtype=torch.bool)
            has[list(rows)] = False
            inputs[names[k]] = inputs[names[k]].clone()
            inputs[names[k]][~has], present[names[k]] = garbage, has
        return replace(batch, inputs=inputs, present=present)

    return take


@pytest.fixture(scope="session")
def make_image_cell() -> Callable[..., CellConfig]:
    """make_image_cell(method, variant, **objective): a cell of small Trifeature, its pictures half as large."""

    def make(method: str, variant: str = "base", **objective: Any) -> CellConfig:
        cell = UNTUNED.cell("trifeature_mid", method, variant)
        image = Modality(kind="image", shape=[3, 16, 16])
        model = small(cell.model.model_copy(update={"image": "small_conv"}))
        return cell.model_copy(
            update={
                "modalities": dict.fromkeys(cell.modalities, image),
                "objective": cell.objective | objective,
                "model": model,
            }
        )

    return make


@pytest.fixture(scope="session")
def make_image_batch() -> Callable[..., Batch]:
    """make_image_batch(cell, n): pictures in [0, 1] with a bright quarter that the class decides; uint8 by default."""

    def make(cell: CellConfig, n: int = 12, dtype: torch.dtype = torch.uint8) -> Batch:
        g = torch.Generator().manual_seed(0)
        labels = torch.arange(n) % len(cell.classes)
        inputs = {}
        for name, modality in cell.modalities.items():
            x = 0.5 * torch.rand(n, *modality.shape, generator=g, dtype=torch.float64)
            half = modality.shape[1] // 2
            for i, label in enumerate(labels.tolist()):
                row, column = half * (label // 2 % 2), half * (label % 2)
                x[i, :, row : row + half, column : column + half] += 0.5
            inputs[name] = (255 * x).to(dtype) if dtype == torch.uint8 else x.to(dtype)
        return Batch(inputs, labels)

    return make


@pytest.fixture(scope="session")
def make_progress() -> Callable[..., Progress]:
    """make_progress(stage, epoch, seed): a point in a stage of 10 epochs, its generator freshly seeded."""

    def make(stage: str = "finetune", epoch: int = 0, seed: int = 0) -> Progress:
        return Progress(stage=stage, epoch=epoch, epochs=10, generator=torch.Generator().manual_seed(seed))  # type: ignore[arg-type]

    return make
