"""Every method on a device that is not the CPU: no operation mixes devices, and no step copies or waits more than now.

`python benchmarks/device_counts.py --write` counts anew; the goal is 2 copies and less than 1 wait per step.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.training import device_runs, resuming
from tests.training.pretend_device import COPY, NAME, SYNC, DeviceTensor, MixedDevicesError, PretendDevice

BOUNDS = json.loads(Path(__file__).with_name("device_counts.json").read_text(encoding="utf-8"))
# in both precisions in the quick tests: draws and mixes, attends, searches, packs sequences
BOTH = ["synthetic/m3col/base", "synthetic/comm/base", "synthetic/tuple_infonce/searched", "emoji/mxm_clr/base"]
# what draws nothing on the device; CoMM's noise is drawn there, from another generator
ALIKE = ["synthetic/m3col/base", "synthetic/cross/base", "emoji/mxm_clr/base"]


@pytest.fixture(scope="module")
def apart() -> Iterator[Callable[..., Any]]:
    """Calls a function in a process of its own, in which torch knows the device and has not trained before."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield lambda job, *args: pool.submit(job, *args).result()


def checked(found: dict[str, Any], case: str) -> None:
    """What a run on the device must have left."""
    assert all(np.isfinite(w).all() for w in found["weights"].values())
    assert found["embeddings"]
    assert {n: w.tobytes() for n, w in found["resumed"].items()} == {
        n: w.tobytes() for n, w in found["weights"].items()
    }
    assert found["copies"] <= BOUNDS[case]["copies"], found["places"]
    assert found["syncs"] <= BOUNDS[case]["syncs"], found["places"]


@pytest.mark.parametrize(
    "case", [case if case in BOTH else pytest.param(case, marks=pytest.mark.slow) for case in resuming.CASES]
)
def test_a_method_trains_evaluates_embeds_and_resumes_on_the_device(apart, prepared, case):
    checked(apart(device_runs.on_device, str(prepared), case, "fp32"), case)


@pytest.mark.parametrize(
    "case", [case if case in BOTH else pytest.param(case, marks=pytest.mark.slow) for case in resuming.CASES]
)
def test_a_method_does_so_under_autocast(apart, prepared, case):
    checked(apart(device_runs.on_device, str(prepared), case, "bf16"), case)


@pytest.mark.parametrize("case", ALIKE)
def test_the_device_computes_the_terms_of_the_cpu(apart, prepared, case):
    there = apart(device_runs.on_device, str(prepared), case, "fp32")["history"]
    here = apart(device_runs.on_cpu, str(prepared), case, "fp32")
    assert [row[:2] for row in there] == [row[:2] for row in here]
    # other kernels round otherwise, and Adam makes much of a gradient of nearly 0
    assert [row[2] for row in there] == pytest.approx([row[2] for row in here], rel=1e-3, abs=1e-4)


def refusals() -> dict[str, str]:
    """What CUDA would refuse, and what is said."""
    said = {}
    with PretendDevice() as pretended:
        x, weights = torch.ones(3, 2, device=pretended.device), torch.ones(2, 2)
        wrong: dict[str, Callable[[], Any]] = {
            "pointwise": lambda: x + torch.ones(3, 2),
            "product": lambda: x @ weights,
            "joined": lambda: torch.cat([x, torch.ones(1, 2)]),
            "picked": lambda: weights[torch.tensor([0], device=pretended.device)],
            "added to": lambda: torch.ones(()).add_(x.sum()),
            "module": lambda: nn.Linear(2, 2)(x),
            "generator": lambda: torch.rand(2, generator=torch.Generator(), device=pretended.device),
        }
        for name, act in wrong.items():
            try:
                act()
            except MixedDevicesError as e:
                said[name] = str(e)
            else:
                said[name] = "passed"
    return said


def test_operations_that_mix_devices_fail(apart):
    said = apart(refusals)
    assert said["product"] == "aten.mm.default: CPU tensors of shapes [(2, 2)] among tensors on the device"
    assert said["generator"] == "aten.rand.generator: a generator of one device, numbers on another"
    assert "passed" not in said.values()


def counted() -> dict[str, tuple[int, int]]:
    """Copies and waits of single operations."""
    found = {}
    with PretendDevice() as pretended:
        x = torch.arange(6.0, device=pretended.device)
        acts: dict[str, Callable[[], Any]] = {
            "sum": lambda: x.sum(),
            "plus a number": lambda: x + 1,
            "plus a scalar of the CPU": lambda: x + torch.tensor(1.0),
            "made there": lambda: torch.ones(3, device=pretended.device),
            "made from numbers": lambda: torch.tensor([1.0], device=pretended.device),
            "moved": lambda: torch.ones(3).to(pretended.device),
            "moved back": lambda: x.cpu(),
            "float": lambda: float(x[0]),
            "list": lambda: x.tolist(),
            "branch": lambda: bool((x > 1).any()),
            "by mask": lambda: x[x > 1],
            "filled by mask": lambda: x.__setitem__(x > 1, 0.0),
            "by indices of the CPU": lambda: x[torch.tensor([0])],
            "bincount": lambda: torch.bincount(x.long()),
        }
        for name, act in acts.items():
            before = pretended.total(COPY), pretended.total(SYNC)
            act()
            found[name] = pretended.total(COPY) - before[0], pretended.total(SYNC) - before[1]
    return found


def test_copies_and_waits_are_counted(apart):
    assert apart(counted) == {
        "sum": (0, 0),
        "plus a number": (0, 0),
        "plus a scalar of the CPU": (0, 0),
        "made there": (0, 0),
        "made from numbers": (1, 0),
        "moved": (1, 0),
        "moved back": (0, 1),
        "float": (0, 1),
        "list": (0, 1),
        "branch": (0, 1),
        "by mask": (0, 1),
        "filled by mask": (0, 0),
        "by indices of the CPU": (1, 0),
        "bincount": (0, 1),
    }


def types_under_autocast() -> dict[str, str]:
    """Of results of float32 tensors."""
    with PretendDevice() as pretended, torch.autocast(NAME, dtype=torch.bfloat16):
        x = torch.ones(2, 2, device=pretended.device, requires_grad=True)
        product = x @ x
        made = {"product": product, "exp": product.exp(), "joined": torch.cat([product, x]), "sum": product + product}
        made["exp"].sum().backward()
        assert isinstance(x.grad, DeviceTensor)
        return {name: str(t.dtype) for name, t in (made | {"gradient": x.grad}).items()}


def test_autocast_casts_as_that_of_cuda(apart):
    assert apart(types_under_autocast) == {
        "product": "torch.bfloat16",
        "exp": "torch.float32",
        "joined": "torch.float32",
        "sum": "torch.bfloat16",
        "gradient": "torch.float32",
    }
