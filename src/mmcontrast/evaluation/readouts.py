"""Readouts: which embedding of a cell is scored beside its own, and what those scores are called.

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
    """The readout that lacks a modality."""
    return WITHOUT + modality


def column(readout: str) -> str:
    """Its column in embeddings.parquet."""
    return f"{COLUMN}@{readout}" if readout else COLUMN


def readouts_of(columns: Iterable[str]) -> list[str]:
    """The readouts that a file's columns hold, the own one first."""
    return [OWN, *(c.removeprefix(f"{COLUMN}@") for c in columns if c.startswith(f"{COLUMN}@"))]


def fitted_on(readout: str) -> str:
    """The readout whose train split the probe of this one is fitted on."""
    return OWN if readout.startswith(WITHOUT) else readout


def metric_name(metric: str, task: str = "", readout: str = OWN, labels: int | None = None) -> str:
    """E.g. acc, shared/acc@encoders, or acc:5, which is of a probe fitted on 5 labels per class."""
    return (f"{task}/" if task else "") + metric + (f"@{readout}" if readout else "") + (f":{labels}" if labels else "")


def parse_metric_name(name: str) -> tuple[str, str, str, int | None]:
    """metric, task, readout and labels per class (None: all), which `metric_name` makes the name of."""
    name, _, labels = name.partition(":")
    name, _, readout = name.partition("@")
    task, _, metric = name.rpartition("/")
    return metric, task, readout, int(labels) if labels else None
