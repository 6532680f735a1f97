"""The processes that train one cell together: how they start, and how rows travel between them.

Shapes: B rows of the global batch, b rows of this rank, `...` any further axes.

Every rank computes the loss of the whole batch from gathered rows, so that negatives, permutations and means are those
of one process. The gradient of `World.gather` is therefore the sum over ranks, and the engines average parameter
gradients over ranks: together exactly the gradient of one process, for parameters before and after the gather alike.

SIGTERM, as a cluster sends it before its time limit, ends training at the next step.
"""

import os
import signal
import threading
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor

from mmcontrast.config import Engine
from mmcontrast.errors import ConfigError, TrainingError

# of an exchange within a step, and of waiting for what one rank does alone, such as writing; torchrun ends all where
# one has died
TIMEOUT, PATIENCE = timedelta(minutes=10), timedelta(days=7)


class _GatherRows(torch.autograd.Function):
    """All ranks' rows in rank order; the gradient is summed over ranks, then cut to this rank's rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rank: int, size: int) -> Tensor:
        here = torch.tensor([x.shape[0]], device=x.device)
        counts = [torch.empty_like(here) for _ in range(size)]
        dist.all_gather(counts, here)
        rows = [int(n) for n in counts]
        ctx.start, ctx.rows = sum(rows[:rank]), rows[rank]
        padded = x.new_zeros(max(rows), *x.shape[1:])
        padded[: rows[rank]] = x
        parts = [torch.empty_like(padded) for _ in rows]
        dist.all_gather(parts, padded)
        return torch.cat([part[:n] for part, n in zip(parts, rows, strict=True)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        # summed in at least fp32, so that more ranks do not mean less precision
        total = grad.to(torch.promote_types(grad.dtype, torch.float32), copy=True).contiguous()
        dist.all_reduce(total)
        return total[ctx.start : ctx.start + ctx.rows].to(grad.dtype), None, None


@dataclass(frozen=True)
class World:
    """The ranks of this run, seen from one of them.

    Attributes:
        rank: 0 .. size - 1. Rank 0 writes what is written once. device: where this rank's tensors live.
        waiting: the same ranks, with PATIENCE; None = a world of one.
    """

    rank: int
    size: int
    device: torch.device
    waiting: dist.ProcessGroup | None = None

    def gather(self, x: Tensor) -> Tensor:
        """Rows of this rank (b, ...) -> rows of all ranks (B, ...) in rank order, with gradient summed over ranks.

        Shards may be uneven. Every rank must call it, in the same order. The identity in a world of one.
        """
        if self.size == 1:
            return x
        gathered: Tensor = _GatherRows.apply(x.contiguous(), self.rank, self.size)
        return gathered

    def rows(self, n: int) -> slice:
        """The contiguous shard of a global batch of n rows that is this rank's; shards differ by at most one row.

        Raises TrainingError: fewer rows than ranks.
        """
        if n < self.size:
            raise TrainingError(
                f"a batch of {n} rows cannot be shared by {self.size} ranks; give each at least one: "
                f"a larger batch_size, or engine.ranks of at most {n}"
            )
        base, extra = divmod(n, self.size)
        start = self.rank * base + min(self.rank, extra)
        return slice(start, start + base + (self.rank < extra))

    def barrier(self) -> None:
        """Wait for all ranks, however long one works alone."""
        if self.size > 1:
            dist.barrier(group=self.waiting)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on some rank; the same answer on every rank, which all must call it."""
        if self.size == 1:
            return flag
        seen = torch.tensor([int(flag)], device=self.device)
        dist.all_reduce(seen, op=dist.ReduceOp.MAX)
        return bool(seen.item())

    def broadcast_object(self, obj: Any) -> Any:
        """Rank 0's object, on every rank, as patient as `barrier`. Only within a run: it is pickled on the way."""
        if self.size == 1:
            return obj
        box = [obj]
        dist.broadcast_object_list(box, src=0, group=self.waiting)
        return box[0]

    def gather_objects(self, obj: Any) -> list[Any]:
        """Every rank's object in rank order, on every rank. Pickled on the way, as above."""
        if self.size == 1:
            return [obj]
        out: list[Any] = [None] * self.size
        dist.all_gather_object(out, obj, group=self.waiting)
        return out


_world: World | None = None


def start_world(engine: Engine) -> World:
    """Join the processes of this run; calling it again returns the same world.

    One process meets itself in its memory (no port is opened); under torchrun the ranks meet as its environment says.
    Raises ConfigError: CUDA is asked for and absent, or the number of processes is not engine.ranks.
    """
    global _world
    torch.set_num_threads(engine.threads)
    device = _device(engine)
    if _world is not None:
        if _world.device.type != device.type or _world.size != engine.ranks:
            raise ConfigError(
                f"this process already runs as 1 of {_world.size} on {_world.device.type}; "
                f"it cannot also be 1 of {engine.ranks} on {device.type}"
            )
        return _world
    launched = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    size = int(os.environ["WORLD_SIZE"]) if launched else 1
    if size != engine.ranks:
        raise ConfigError(
            f"engine.ranks: {engine.ranks}, but the number of processes started is {size}; start them with "
            f"`torchrun --standalone --nproc_per_node {engine.ranks} -m mmcontrast ...`, or set engine.ranks: {size}"
            + ("; where nothing was started so, unset RANK and WORLD_SIZE" if launched else "")
        )
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    if size > 1:
        dist.init_process_group(backend, init_method="env://", timeout=TIMEOUT)
        _world = World(dist.get_rank(), size, device, dist.new_group(timeout=PATIENCE, backend="gloo"))
    else:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
        _world = World(0, 1, device)
    return _world


def _device(engine: Engine) -> torch.device:
    """This rank's device."""
    if engine.device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError(
            f"engine.device: cuda is asked for, but torch {torch.__version__} finds no CUDA device here; set "
            "engine.device: cpu in the suite, or run on a machine with a GPU and a CUDA build of torch"
        )
    local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= count:
        raise ConfigError(
            f"engine.ranks: local rank {local} has no GPU of its own, {count} found; ask for at most {count} ranks"
        )
    return torch.device("cuda", local)


class StopRequest:
    """A context in which SIGTERM only sets a flag; the loop asks for it after each step and saves.

    Outside the main thread, where no handler can be installed, nothing is ever requested.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *raised: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def agreed(self, world: World) -> bool:
        """Whether any rank was asked, as all ranks see it; every rank must call it after the same step."""
        return world.any(self.requested)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
