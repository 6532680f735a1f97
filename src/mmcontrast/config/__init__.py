"""Everything in `params/`: models, checks and merging. Imports no torch, so the workflow starts fast."""

# ruff: noqa: F401 (what other packages import of this one)
from mmcontrast.config.cells import CellConfig
from mmcontrast.config.datasets import (
    ArchiveSource,
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
from mmcontrast.config.grid import Grid
from mmcontrast.config.merging import merge
from mmcontrast.config.methods import BASE_VARIANT, Method, Overrides
from mmcontrast.config.objective import Objective
from mmcontrast.config.papers import NotRun, Published
from mmcontrast.config.pretrained import Lora, Pretrained
from mmcontrast.config.recipes import Recipe, Tuning
from mmcontrast.config.suites import Suite
from mmcontrast.config.training import (
    Engine,
    Fusion,
    Model,
    Optimizer,
    Schedule,
    Selection,
    SequenceModel,
    Stage,
    TextModel,
)
from mmcontrast.config.validation import validate
from mmcontrast.config.yaml_file import read_yaml
from mmcontrast.methods.registry import OBJECTIVES
