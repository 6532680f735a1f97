"""Everything in `params/`: models, checks and merging. Imports no torch, so the workflow starts fast."""

# ruff: noqa: F401 (what other packages import of this one)
from mmcontrast.config.base import validate
from mmcontrast.config.datasets import Dataset, LocalSource, Modality, PublishedSplit, RandomSplit, Source
from mmcontrast.config.experiments import Arms, CellRef, Experiment, Information, Suite
from mmcontrast.config.files import read_yaml
from mmcontrast.config.grid import Grid
from mmcontrast.config.merging import CellConfig, merge
from mmcontrast.config.methods import BASE_VARIANT, Method, NotRun, Overrides, Published, Recipe, Tuning
from mmcontrast.config.objective import Objective
from mmcontrast.config.training import (
    Engine,
    Lora,
    Model,
    Optimizer,
    Pretrained,
    Schedule,
    Selection,
    SequenceModel,
    Stage,
)
from mmcontrast.methods.registry import OBJECTIVES
