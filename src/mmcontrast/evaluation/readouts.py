"""Readouts: which embedding of a cell is scored beside its own, and what those scores are called.

encoders: the encoders' outputs one after another: one definition for all methods, whatever stands behind the encoders.
without_<modality>: the own embedding with a modality taken out, for the probe that was fitted on the whole embedding:
what is lost is what the embedding had from that modality.
"""

from __future__ import annotations

from collections.abc import Iterable

from mmcontrast.config.metrics import metric_name, parse_metric_name

__all__ = ["ENCODERS", "OWN", "column", "fitted_on", "metric_name", "parse_metric_name", "readouts_of", "without"]

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
