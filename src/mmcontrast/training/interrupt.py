"""Being asked to stop: SIGTERM, as a cluster sends it before its time limit, ends training at the next step."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self

from mmcontrast.training.distributed import World


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
