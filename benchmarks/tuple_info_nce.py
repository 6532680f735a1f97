"""Cost of TupleInfoNCE beside naive tuple contrast: step time, peak memory, and the Gram form beside building tuples.

    python benchmarks/tuple_info_nce.py [--repeats 20] [--modalities 3 6] [--batches 64 256 1024] [--device cpu]

A step is forward, backward and a fused Adam step of late fusion at the default widths: K encoders (256 -> 256 -> 256),
then an MLP on the concatenated features (K * 256 -> 256 -> 128) whose first layer is a sum of one term per modality;
both views are encoded with gradient. The kinds of step take turns and the best time of each counts (CPU time on a CPU),
which is what a busy machine disturbs least. Memory on a CPU is what autograd keeps for the backward pass, on CUDA the
peak of the step.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcontrast.methods.tuple_infonce.loss import Block, own_row_logits, tuple_info_nce, weighted_cross_entropy
from mmcontrast.methods.tuple_infonce.negatives import derangement

INPUT, HIDDEN, FEATURE, WIDTH = 256, 256, 256, 128
TAU = 0.1


class LateFusion(nn.Module):
    """One encoder a modality, then an MLP on the concatenated features, its first layer kept as a term per modality."""

    def __init__(self, modalities: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(
            nn.Sequential(nn.Linear(INPUT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, FEATURE)) for _ in range(modalities)
        )
        self.first = nn.ModuleList(nn.Linear(FEATURE, HIDDEN, bias=k == 0) for k in range(modalities))
        self.out = nn.Linear(HIDDEN, WIDTH)

    def features(self, xs: list[Tensor]) -> list[Tensor]:
        return [encode(x) for encode, x in zip(self.encoders, xs, strict=True)]

    def terms(self, features: list[Tensor]) -> list[Tensor]:
        return [layer(h) for layer, h in zip(self.first, features, strict=True)]

    def top(self, z: Tensor) -> Tensor:
        return F.normalize(self.out(F.relu(z)), dim=1)


def tuple_batch(features: Sequence[Tensor], sources: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The intact tuples and every disturbed one as one batch, by indexing the features."""
    n, device = len(features[0]), features[0].device
    own_B = torch.arange(n, device=device)
    out = []
    for m, feature in enumerate(features):
        index = [own_B]
        for k, draws in enumerate(sources):
            index += [draw_B.to(device) if k == m else own_B for draw_B in draws]
        out.append(feature.index_select(0, torch.cat(index)))
    return out


def sum_of(terms: list[Tensor]) -> Tensor:
    return torch.stack(terms).sum(0)


def naive(net: LateFusion, views: list[list[Tensor]], generator: torch.Generator) -> Tensor:
    """Tuples against tuples."""
    a, b = (net.top(sum_of(net.terms(net.features(v)))) for v in views)
    return tuple_info_nce(a, b, [], [], TAU)


def swapped(net: LateFusion, views: list[list[Tensor]], generator: torch.Generator) -> Tensor:
    """Disturbed tuples from swapped terms of the first layer: the output layer alone runs K times more."""
    anchor = net.top(sum_of(net.terms(net.features(views[0]))))
    terms = net.terms(net.features(views[1]))
    fused = sum_of(terms)
    foreign = [term.index_select(0, derangement(len(fused), generator).to(fused.device)) for term in terms]
    rows = net.top(torch.cat([fused, *(fused - own + other for own, other in zip(terms, foreign, strict=True))]))
    positive, *disturbed = rows.split(len(fused))
    return tuple_info_nce(anchor, positive, disturbed, [1.0] * len(terms), TAU)


def indexed(net: LateFusion, views: list[list[Tensor]], generator: torch.Generator) -> Tensor:
    """Disturbed tuples by indexing features: the whole fusion MLP runs K times more."""
    anchor = net.top(sum_of(net.terms(net.features(views[0]))))
    features = net.features(views[1])
    sources = [[derangement(len(anchor), generator)] for _ in features]
    rows = net.top(sum_of(net.terms(tuple_batch(features, sources))))
    positive, *disturbed = rows.split(len(anchor))
    return tuple_info_nce(anchor, positive, disturbed, [1.0] * len(features), TAU)


def all_replacements(gram: bool) -> Callable[[Tensor, Tensor, list[Tensor]], Tensor]:
    """Loss with every own-row replacement under sum fusion, from Gram matrices or from the tuples themselves."""

    def built(anchor: Tensor, fused: Tensor, terms: list[Tensor]) -> list[Tensor]:
        own = torch.eye(len(anchor), dtype=torch.bool, device=anchor.device)
        out = []
        for term in terms:
            tuples = F.normalize((fused - term)[:, None] + term[None], dim=-1)
            out.append((torch.einsum("id,ijd->ij", anchor, tuples) / TAU).masked_fill(own, -1e30))
        return out

    def loss(anchor: Tensor, fused: Tensor, terms: list[Tensor]) -> Tensor:
        logits = own_row_logits(anchor, fused, terms, TAU) if gram else built(anchor, fused, terms)
        naive_logits = anchor @ F.normalize(fused, dim=1).T / TAU
        own = torch.eye(len(anchor), dtype=torch.bool, device=anchor.device)
        blocks = [Block("naive", naive_logits.masked_fill(own, -1e30), 1.0)]
        blocks += [Block(f"disturbed_{k}", x, 1.0) for k, x in enumerate(logits)]
        return weighted_cross_entropy(naive_logits.diagonal(), blocks).loss

    return loss


def measure(
    steps: Mapping[str, Callable[[], Tensor]], repeats: int, device: str, update: Callable[[], object] = lambda: None
) -> dict[str, tuple[float, float]]:
    """name -> (best milliseconds, memory in MiB) of forward, backward and update."""
    # CPU time: on a shared machine the wall clock measures the neighbours too
    clock = time.perf_counter if device == "cuda" else time.process_time
    times: dict[str, list[float]] = {name: [] for name in steps}
    memory = {name: _memory(step, device) for name, step in steps.items()}
    for _ in range(repeats):
        for name, step in steps.items():
            _wait(device)
            start = clock()
            step().backward()
            update()
            _wait(device)
            times[name].append(1e3 * (clock() - start))
    return {name: (min(times[name]), memory[name]) for name in steps}


def _memory(step: Callable[[], Tensor], device: str) -> float:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step().backward()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        loss = step()
    loss.backward()
    return sum(kept.values()) / 2**20


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--modalities", type=int, nargs="+", default=[3, 6])
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 128, 256, 512, 1024])
    parser.add_argument("--gram-batches", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {args.device}, {torch.get_num_threads()} threads, {args.repeats} repeats")
    print("\nlate fusion, step (forward + backward); ratios are to naive tuple contrast")
    print(" K     B |  naive ms |  swapped  indexed | naive MiB |  swapped  indexed")
    for k in args.modalities:
        for batch in args.batches:
            late_fusion_row(k, batch, args.repeats, args.device)
    print("\nall B * (B - 1) own-row replacements a modality, sum fusion, width 128")
    print(" K     B |   Gram ms  built ms  ratio |  Gram MiB  built MiB  ratio")
    for k in args.modalities:
        for batch in args.gram_batches:
            gram_row(k, batch, args.repeats, args.device)


def late_fusion_row(k: int, batch: int, repeats: int, device: str) -> None:
    torch.manual_seed(0)
    net = LateFusion(k).to(device)
    views = [[torch.randn(batch, INPUT, device=device) for _ in range(k)] for _ in range(2)]
    generator = torch.Generator().manual_seed(0)
    kinds = {"naive": naive, "swapped": swapped, "indexed": indexed}
    steps = {name: partial(f, net, views, generator) for name, f in kinds.items()}
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    out = measure(steps, repeats, device, optimizer.step)
    (t, m), (ts, ms), (ti, mi) = out["naive"], out["swapped"], out["indexed"]
    print(
        f"{k:2} {batch:5} | {t:9.2f} | {ts / t:8.2f} {ti / t:8.2f} | {m:9.2f} | {ms / m:8.2f} {mi / m:8.2f}", flush=True
    )


def gram_row(k: int, batch: int, repeats: int, device: str) -> None:
    g = torch.Generator().manual_seed(0)
    terms = [torch.randn(batch, WIDTH, generator=g).to(device).requires_grad_() for _ in range(k)]
    anchor = F.normalize(torch.randn(batch, WIDTH, generator=g), dim=1).to(device)
    kinds = {"gram": all_replacements(True), "built": all_replacements(False)}
    steps = {name: partial(f, anchor, sum_of(terms).detach(), terms) for name, f in kinds.items()}
    losses = [step().item() for step in steps.values()]
    if abs(losses[0] - losses[1]) > 1e-4:
        raise SystemExit(f"the two forms disagree: {losses}")
    out = measure(steps, max(3, repeats // 4), device)
    (t, m), (tb, mb) = out["gram"], out["built"]
    print(f"{k:2} {batch:5} | {t:9.2f} {tb:9.2f} {tb / t:6.1f} | {m:9.2f} {mb:10.2f} {mb / m:6.1f}", flush=True)


if __name__ == "__main__":
    main()
