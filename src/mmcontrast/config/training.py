"""Models of what is trained and how: encoders and heads, own and pretrained; stages, the engine, what is held out."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mmcontrast.config.base import Grown, Strict


class Lora(Strict):
    """Low-rank updates of some layers (Hu et al., ICLR 2022); needs the optional extra `lora`."""

    r: int = Field(gt=0, description="Rank of an update.")
    alpha: int = Field(gt=0, description="An update is scaled by alpha / r.")
    dropout: float = Field(ge=0, lt=1, description="Of what goes into an update.")
    target_modules: list[str] = Field(min_length=1, description="Ends of the names of the layers that get one.")


class Pretrained(Strict):
    """A pretrained encoder of texts, pictures or audio; needs the optional extra `encoders`."""

    has_weights: ClassVar[bool] = True

    folder: str | None = Field(default=None, min_length=1, description="As transformers saves it, from the checkout.")
    hub: str | None = Field(
        default=None,
        pattern=r"^[\w.-]+/[\w.-]+$",
        description="owner/name on the hub, downloaded by `mmcontrast data encoders`; a job never downloads.",
    )
    revision: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$", description="Commit of the weights at `hub`.")
    tuning: Literal["full", "frozen", "lora"] = Field(
        default="full", description="frozen = train only a linear layer on top; lora = low-rank updates and that layer."
    )
    pooling: Literal["cls", "mean", "pooler"] | None = Field(
        default=None,
        description="What stands for all tokens: the first, their mean, or the model's own pooled output; null = of a "
        "CLIP its pooled output and projection, of others the mean.",
    )
    tokens: Annotated[int, Field(gt=1)] | None = Field(
        default=None, description="Most tokens of a text; a longer one is cut. null = as many as the model takes."
    )
    attention: Literal["sdpa", "eager"] = Field(
        default="sdpa", description="Which of its two forms of attention, which differ by rounding."
    )
    lr: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Its own learning rate under the stage's schedule; null = that of the stage."
    )
    gradient_checkpointing: bool = Field(default=False, description="Recompute activations: less memory, same result.")
    lora: Lora | None = None

    def _wrong(self) -> Iterator[str]:
        if (self.folder is None) == (self.hub is None):
            yield "give `folder`, or `hub` with its `revision`; one of the two"
        if (self.hub is None) != (self.revision is None):
            yield "`revision` goes with `hub`: the 40 digits of a commit"
        if (self.lora is None) == (self.tuning == "lora"):
            yield "`lora` goes with `tuning: lora`: r, alpha, dropout and target_modules"
        if self.tuning == "frozen" and (self.lr is not None or self.gradient_checkpointing):
            yield "lr, gradient_checkpointing: nothing of a frozen encoder is trained; remove them"


class Exported(Pretrained):
    """One whose weights are among those of the model that it is part of; `folder` has all its other files."""

    has_weights: ClassVar[bool] = False


class Fusion(Strict):
    """What makes one embedding of all modalities' encodings; of a method that fuses before it contrasts."""

    kind: Literal["transformer", "linear"] = Field(
        default="transformer", description="linear = concatenation and one linear layer, an ablation."
    )
    width: int = Field(gt=0, description="Width D of the tokens and of the fused embedding.")
    heads: int = Field(default=8, gt=0, description="Attention heads; must divide the width.")


class TextModel(Strict):
    """Word pieces and the recurrent encoder of a text modality."""

    vocabulary: int = Field(ge=3, description="Most word pieces, padding and unknown included; of training texts.")
    tokens: int = Field(gt=0, description="Word pieces the encoder takes; a longer text is cut, and the log says so.")
    embedding: int = Field(gt=0, description="Width of a word piece's vector.")
    hidden: int = Field(gt=0, description="Width of the state of each of the two directions.")


class SequenceModel(Strict):
    """Encoder of a sequence modality."""

    kind: Literal["conv", "gru", "transformer"] = Field(
        description="What is read: conv = every place along the sequence; gru = its last state; transformer = the mean "
        "step."
    )
    width: int = Field(gt=0, description="Width of a step: of the last convolution, a GRU's state, or a token.")
    steps: int | None = Field(default=None, gt=0, description="Of a conv: equal distances it reads a sequence at.")
    layers: int = Field(default=1, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Between layers, in training.")
    heads: int = Field(default=1, gt=0, description="Attention heads of a transformer; must divide the width.")
    hidden: int | None = Field(default=None, gt=0, description="Hidden width of a transformer's layer; null = 4 width.")

    def _wrong(self) -> Iterator[str]:
        if self.width % self.heads:
            yield f"heads: {self.heads} must divide the width {self.width}"
        if self.kind == "gru" and self.layers == 1 and self.dropout:
            yield "dropout: acts between the layers of a GRU, and there is one; set it to 0"
        if (self.kind == "conv") != (self.steps is not None):
            yield "steps: give it with kind conv, e.g. 64, and with no other kind"
        if self.kind == "conv" and self.dropout:
            yield "dropout: a conv has none; set it to 0"
        if self.kind == "conv" and self.width % 2 ** (self.layers - 1):
            yield f"width: doubles from layer to layer, so give a multiple of {2 ** (self.layers - 1)}"


class Model(Grown):
    """Encoders and heads, the same for every method that is compared."""

    LATER = ("image_flat", "sequence", "pretrained", "image_weights")

    width: int = Field(gt=0, description="Width d of each modality's embedding.")
    encoder_hidden: list[Annotated[int, Field(gt=0)]] = Field(description="Of a vector encoder; [] = one linear layer.")
    image: Literal["small_conv", "alexnet", "resnet18"] | None = Field(
        default=None, description="Encoder of image modalities; null = none, an error where a dataset has images."
    )
    head_hidden: list[Annotated[int, Field(gt=0)]] = Field(description="Hidden widths of a classification head.")
    image_flat: bool = Field(default=False, description="Read an image from all of its feature map, not from its mean.")
    projection: list[Annotated[int, Field(gt=0)]] = Field(
        default=[], description="Widths of a contrastive head's layers, the output last; [] = a method without one."
    )
    fusion: Fusion | None = Field(default=None, description="Only of methods that fuse; null = there is none.")
    text: TextModel | None = Field(default=None, description="Encoder of a text modality; null = there is none.")
    sequence: SequenceModel | None = Field(default=None, description="Encoder of sequences; null: a dataset has none.")
    image_weights: str | None = Field(
        default=None,
        min_length=1,
        description="safetensors file, from the checkout, that `image` starts from; names as torchvision has them.",
    )
    pretrained: dict[str, Pretrained] = Field(default={}, description="Modality or kind -> its pretrained encoder.")

    def _wrong(self) -> Iterator[str]:
        if self.image_weights is not None and self.image is None:
            yield "image_weights: weights of `image`, which is not given"


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

    def _wrong(self) -> Iterator[str]:
        if (self.by == "caption") != (self.anchor is not None):
            yield "`anchor` names a modality where sampling is by caption, and only there"
        if self.by == "caption" and self.per_instance != 1:
            yield "per_instance: by caption, a row has one observation of each modality"


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

    def _wrong(self) -> Iterator[str]:
        if self.batch_size != "full" and self.batch_size < 2:
            yield f"batch_size: {self.batch_size} leaves nothing to contrast; give at least 2, or `full`"


class Engine(Grown):
    """What carries out a step. Not part of a method: it must not change a result."""

    LATER = ("workers",)

    backend: Literal["deepspeed", "torch"] = "deepspeed"
    zero_stage: Literal[0, 1, 2, 3] = Field(default=0, description="DeepSpeed ZeRO stage.")
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["cpu", "cuda"] = "cpu"
    ranks: int = Field(default=1, ge=1, description="Processes a cell is trained by; above 1 it starts torchrun.")
    threads: int = Field(default=1, ge=1, description="CPU threads of one rank.")
    workers: int = Field(default=0, ge=0, description="Processes of a rank that decode pictures ahead; 0 = none.")

    def _wrong(self) -> Iterator[str]:
        if self.backend == "torch" and self.zero_stage != 0:
            yield "zero_stage needs backend: deepspeed"


class Selection(Strict):
    """How much of train is held out, by the run's seed, where a dataset publishes no validation split."""

    holdout: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="Stratified share of train; 0 = train on all of it, and no `selected` score exists.",
    )
