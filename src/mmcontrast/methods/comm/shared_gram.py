"""CoMM's NT-Xent terms from one set of shared similarity blocks, value and gradient in one pass.

Written out, every half of every term is an NT-Xent of its own and needs three N x N products (a.a, a.f, f.f): 6K of
them for K = n + 1 terms. But f.f is the same in all of them, so 4K - 1 distinct blocks do. Two more savings: cosines
are bounded by 1, so a constant shift replaces the row maximum and one exponential serves a block's rows and columns;
and since the loss is a scalar, its gradient is worked out while a block is at hand, so that only a few blocks live at
a time.

Shapes: N instances, D width. a: rows of one unimodal embedding, f, g: the two fused ones.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def can_share(dtype: torch.dtype, tau: float) -> bool:
    """Whether exp((cos - 1) / tau) stays a normal number for every cosine, so that the constant shift is safe."""
    held_in = torch.float64 if dtype == torch.float64 else torch.float32
    return math.exp(-2 / tau) > 1e3 * torch.finfo(held_in).tiny


class SharedGram(torch.autograd.Function):
    """apply(tau, factors, z_1', ..., z_f', z_1'', ..., z_f'') -> (sum_i factor_i * term_i, terms).

    Rows must have unit length. `terms` carries no gradient. Half precision is computed in float32.
    """

    @staticmethod
    def forward(ctx: Any, tau: float, factors: tuple[float, ...], *units_ND: Tensor) -> tuple[Tensor, Tensor]:
        dtype = torch.float64 if units_ND[0].dtype == torch.float64 else torch.float32
        with torch.autocast(units_ND[0].device.type, enabled=False):
            pass_ = _Pass([z.detach().to(dtype) for z in units_ND], tau, factors, gradient=any(ctx.needs_input_grad))
            pass_.run()
        terms = torch.stack(pass_.terms)
        loss = (terms * terms.new_tensor(factors)).sum()
        ctx.mark_non_differentiable(terms)
        ctx.save_for_backward(*[g.to(z.dtype) for g, z in zip(pass_.grads, units_ND, strict=False)])
        return loss, terms

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, grad_terms: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *[grad_loss.to(g.dtype) * g for g in ctx.saved_tensors])


class _Pass:
    """One evaluation: terms, and where asked for the gradient by every input."""

    def __init__(self, units_ND: list[Tensor], tau: float, factors: tuple[float, ...], gradient: bool) -> None:
        k = len(factors)
        self.views = units_ND[:k], units_ND[k:]
        self.units, self.tau, self.factors, self.gradient = units_ND, tau, factors, gradient
        self.n = len(units_ND[0])
        self.terms: list[Tensor] = []
        self.grads = [torch.zeros_like(z) for z in units_ND] if gradient else []

    def run(self) -> None:
        k = len(self.factors)
        fused = [view[-1] for view in self.views]
        within = [self._exp_block(f, f) for f in fused]
        row_sums = [e_NN.sum(dim=1) for e_NN in within]
        row_pull = [torch.zeros_like(s) for s in row_sums]
        for i in range(k - 1):
            halves = []
            for v in (0, 1):
                weight = self.factors[i] / 2
                halves.append(self._half(v * k + i, 1 - v, row_sums[1 - v], row_pull[1 - v], weight))
            self.terms.append((halves[0] + halves[1]) / 2)
        self.terms.append(self._fused_term(row_sums, row_pull))
        if self.gradient:
            for v, f_ND in enumerate(fused):
                self._pull_within(v * k + k - 1, within[v], row_pull[v], f_ND)

    def _exp_block(self, a_ND: Tensor, b_ND: Tensor) -> Tensor:
        """exp((a.b - 1) / tau), the diagonal 0 where a is b: an anchor never sees itself."""
        e_NN = torch.mm(a_ND / self.tau, b_ND.T).sub_(1 / self.tau).exp_()
        if a_ND is b_ND:
            e_NN.fill_diagonal_(0)
        return e_NN

    def _value(self, sum_a_N: Tensor, sum_b_N: Tensor, a_ND: Tensor, b_ND: Tensor) -> Tensor:
        positive = (a_ND * b_ND).sum() / self.tau
        return (sum_a_N.log().sum() + sum_b_N.log().sum() - 2 * positive) / (2 * self.n) + 1 / self.tau

    def _half(self, index: int, v: int, row_sum_N: Tensor, row_pull_N: Tensor, weight: float) -> Tensor:
        """NT-Xent(a, f) for the unimodal embedding at `index` and the fused one of view v."""
        a_ND, f_ND = self.units[index], self.views[v][-1]
        within_NN, cross_NN = self._exp_block(a_ND, a_ND), self._exp_block(a_ND, f_ND)
        sum_a_N = within_NN.sum(dim=1) + cross_NN.sum(dim=1)
        sum_f_N = row_sum_N + cross_NN.sum(dim=0)
        if self.gradient and weight:
            scale = weight / (2 * self.n)
            pull_a_N, pull_f_N = scale / sum_a_N, scale / sum_f_N
            self._pull_within(index, within_NN, pull_a_N, a_ND)
            self._pull_cross(index, v * len(self.factors) + len(self.factors) - 1, cross_NN, pull_a_N, pull_f_N, scale)
            row_pull_N.add_(pull_f_N)
        return self._value(sum_a_N, sum_f_N, a_ND, f_ND)

    def _fused_term(self, row_sums: list[Tensor], row_pull: list[Tensor]) -> Tensor:
        """NT-Xent(f, g): both halves of the released form are this same value."""
        k = len(self.factors)
        f_ND, g_ND = self.views[0][-1], self.views[1][-1]
        cross_NN = self._exp_block(f_ND, g_ND)
        sum_f_N = row_sums[0] + cross_NN.sum(dim=1)
        sum_g_N = row_sums[1] + cross_NN.sum(dim=0)
        if self.gradient and self.factors[-1]:
            scale = self.factors[-1] / (2 * self.n)
            pull_f_N, pull_g_N = scale / sum_f_N, scale / sum_g_N
            self._pull_cross(k - 1, 2 * k - 1, cross_NN, pull_f_N, pull_g_N, scale)
            row_pull[0].add_(pull_f_N)
            row_pull[1].add_(pull_g_N)
        return self._value(sum_f_N, sum_g_N, f_ND, g_ND)

    def _pull_within(self, index: int, e_NN: Tensor, pull_N: Tensor, z_ND: Tensor) -> None:
        """Gradient through z.z: the block is symmetric, so both sides come from one product. Overwrites e_NN."""
        e_NN.mul_(pull_N[:, None] + pull_N[None, :])
        self.grads[index].addmm_(e_NN, z_ND, alpha=1 / self.tau)

    def _pull_cross(
        self, first: int, second: int, e_NN: Tensor, pull_a_N: Tensor, pull_b_N: Tensor, scale: float
    ) -> None:
        """Gradient through a.b: softmax of rows and of columns, less two positives. Overwrites e_NN."""
        e_NN.mul_(pull_a_N[:, None] + pull_b_N[None, :])
        e_NN.diagonal().sub_(2 * scale)
        self.grads[first].addmm_(e_NN, self.units[second], alpha=1 / self.tau)
        self.grads[second].addmm_(e_NN.T, self.units[first], alpha=1 / self.tau)
