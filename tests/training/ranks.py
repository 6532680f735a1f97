"""Two gloo processes that stay alive for all tests of a folder, because starting one costs seconds."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any

import torch.distributed as dist
import torch.multiprocessing as mp

from mmcontrast import config
from mmcontrast.training import distributed
from mmcontrast.training.distributed import start_world

SECONDS = 120


def stop_world() -> None:
    """Leave the processes of this run; does nothing where none was joined."""
    if distributed._world is None:
        return
    if "deepspeed.comm" in sys.modules and sys.modules["deepspeed.comm"].is_initialized():
        # DeepSpeed keeps a handle of its own, which would outlive the group and be used by the next engine
        sys.modules["deepspeed.comm"].destroy_process_group()
    if dist.is_initialized():
        dist.destroy_process_group()
    distributed._world = None


class Ranks:
    """Calls functions `job(world, *args)` of importable modules on every rank."""

    def __init__(self, size: int) -> None:
        context = mp.get_context("spawn")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.inboxes = [context.Queue() for _ in range(size)]
        self.outbox = context.Queue()
        self.processes = [
            context.Process(target=_serve, args=(rank, size, port, inbox, self.outbox), daemon=True)
            for rank, inbox in enumerate(self.inboxes)
        ]
        for process in self.processes:
            process.start()

    def call(self, job: Callable[..., Any], *args: Any) -> list[Any]:
        """What `job` returned on each rank, plain values and numpy arrays alone; fails where a rank raised."""
        for inbox in self.inboxes:
            inbox.put((job, args))
        answers = dict(self._answer() for _ in self.inboxes)
        errors = [answers[rank][0] for rank in sorted(answers) if answers[rank][0]]
        if errors:
            raise RuntimeError("\n".join(errors))
        return [answers[rank][1] for rank in sorted(answers)]

    def _answer(self) -> tuple[int, tuple[str, Any]]:
        rank, error, value = self.outbox.get(timeout=SECONDS)
        return rank, (error, value)

    def close(self) -> None:
        for inbox in self.inboxes:
            inbox.put(None)
        for process in self.processes:
            process.join(timeout=SECONDS)
            process.close()
        for queue in [*self.inboxes, self.outbox]:
            queue.close()


def _serve(rank: int, size: int, port: int, inbox: Any, outbox: Any) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    world = start_world(config.Engine(ranks=size))
    while (task := inbox.get()) is not None:
        job, args = task
        try:
            outbox.put((rank, "", job(world, *args)))
        except Exception:
            outbox.put((rank, f"rank {rank}: {traceback.format_exc()}", None))
    stop_world()
