"""What of a cell is scored beside its own embedding, and how those scores are called.

encoders: the encoders' outputs one after another: one definition for all methods, whatever stands behind the encoders.
without_<modality>: the own embedding with a modality taken out, for the probe that was fitted on the whole embedding:
what is lost is what the embedding had from that modality.
"""

from __future__ import annotations

from collections.abc import Iterable

OWN = ""
ENCODERS = "encoders"
WITHOUT = "without_"
COLUMN = "embedding"


def without(modality: str) -> str:
    """The view that lacks a modality."""
    return WITHOUT + modality


def column(view: str) -> str:
    """Its column in embeddings.parquet."""
    return f"{COLUMN}@{view}" if view else COLUMN


def views_of(columns: Iterable[str]) -> list[str]:
    """The views that a file's columns hold, the own one first."""
    return [OWN, *(c.removeprefix(f"{COLUMN}@") for c in columns if c.startswith(f"{COLUMN}@"))]


def fitted_on(view: str) -> str:
    """The view whose train split the probe of this one is fitted on."""
    return OWN if view.startswith(WITHOUT) else view


def metric_name(metric: str, task: str = "", view: str = OWN) -> str:
    """E.g. acc, shared/acc, shared/acc@encoders."""
    return (f"{task}/" if task else "") + metric + (f"@{view}" if view else "")
