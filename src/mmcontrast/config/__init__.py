"""Everything in `params/`: models, checks and merging. Imports no torch, so the workflow starts fast."""

from mmcontrast.config.budgets import Budget, Tuning
from mmcontrast.config.cells import CellConfig
from mmcontrast.config.datasets import (
    Dataset,
    LocalSource,
    Modality,
    NpmSource,
    PublishedSplit,
    RandomSplit,
    RemoteSource,
    Source,
    UrlSource,
    WheelSource,
)
from mmcontrast.config.experiments import Arms, CellRef, Experiment, Information, Paper, Published
from mmcontrast.config.load import BASE_VARIANT, Study, merge, validate
from mmcontrast.config.methods import Method, Overrides, Variant
from mmcontrast.config.objectives import OBJECTIVES, Objective
from mmcontrast.config.profiles import Profile
from mmcontrast.config.training import Engine, Fusion, Model, Optimizer, PretrainedCLIP, Schedule, Selection, Stage
from mmcontrast.config.yaml_file import read_yaml

__all__ = [
    "BASE_VARIANT",
    "OBJECTIVES",
    "Arms",
    "Budget",
    "CellConfig",
    "CellRef",
    "Dataset",
    "Engine",
    "Experiment",
    "Fusion",
    "Information",
    "LocalSource",
    "Method",
    "Modality",
    "Model",
    "NpmSource",
    "Objective",
    "Optimizer",
    "Overrides",
    "Paper",
    "PretrainedCLIP",
    "Profile",
    "Published",
    "PublishedSplit",
    "RandomSplit",
    "RemoteSource",
    "Schedule",
    "Selection",
    "Source",
    "Stage",
    "Study",
    "Tuning",
    "UrlSource",
    "Variant",
    "WheelSource",
    "merge",
    "read_yaml",
    "validate",
]
