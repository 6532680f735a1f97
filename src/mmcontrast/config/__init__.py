"""Everything in `params/`: models, checks and merging. Imports no torch, so the workflow starts fast."""

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
from mmcontrast.config.experiments import Arms, CellRef, Experiment, Information
from mmcontrast.config.files import ParamFiles
from mmcontrast.config.grid import Grid
from mmcontrast.config.merging import merge
from mmcontrast.config.methods import BASE_VARIANT, Method, Overrides, Variant
from mmcontrast.config.objective import Objective
from mmcontrast.config.papers import NotRun, Paper, Published, PublishedTable
from mmcontrast.config.recipes import Recipe, Tuning
from mmcontrast.config.suites import Suite
from mmcontrast.config.training import Engine, Fusion, Model, Optimizer, PretrainedCLIP, Schedule, Selection, Stage
from mmcontrast.config.validation import validate
from mmcontrast.config.yaml_file import read_yaml
from mmcontrast.methods.registry import OBJECTIVES

__all__ = [
    "BASE_VARIANT",
    "OBJECTIVES",
    "Arms",
    "CellConfig",
    "CellRef",
    "Dataset",
    "Engine",
    "Experiment",
    "Fusion",
    "Grid",
    "Information",
    "LocalSource",
    "Method",
    "Modality",
    "Model",
    "NotRun",
    "NpmSource",
    "Objective",
    "Optimizer",
    "Overrides",
    "Paper",
    "ParamFiles",
    "PretrainedCLIP",
    "Published",
    "PublishedSplit",
    "PublishedTable",
    "RandomSplit",
    "Recipe",
    "RemoteSource",
    "Schedule",
    "Selection",
    "Source",
    "Stage",
    "Suite",
    "Tuning",
    "UrlSource",
    "Variant",
    "WheelSource",
    "merge",
    "read_yaml",
    "validate",
]
