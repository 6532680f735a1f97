"""What a tuple goes through, and how tuples with one modality of another row are made: from features, or from inputs.

Shapes: b rows of this rank, B rows of the global batch, K modalities, R draws of foreign rows per modality, H width of
the late fusion's first layer, D width of the fused embedding.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig, Modality
from mmcontrast.data.inputs import unit_pixels
from mmcontrast.errors import ConfigError
from mmcontrast.losses.rows import unit_rows, upcast
from mmcontrast.methods.base import EVERYTHING, Presence, Progress
from mmcontrast.models.conv import running_statistics_kept
from mmcontrast.models.encoders import build_encoders
from mmcontrast.models.heads import mlp

JOINT = "joint"
# what an encoder takes for zero, by kind of modality: image encoders centre pixels of [0, 1] at one half
ABSENT = {"vector": 0.0, "image": 0.5}


class View(NamedTuple):
    """One view of a batch.

    Attributes:
        inputs: modality -> (b, ...), augmented. kept: the modalities it has; what the others hold is not looked at.
        progress: how rows of all ranks come together. presence: what single rows lack, as if it were not kept.
    """

    inputs: Mapping[str, Tensor]
    kept: Collection[str]
    progress: Progress
    presence: Presence = EVERYTHING


class SumFusion(nn.Module):
    """[u_1, ..., u_K] -> Linear - ReLU - ... - Linear, without any normalisation over the batch.

    Batch statistics would tell intact tuples from disturbed ones. The first layer is a sum of one term per modality, so
    that a tuple with one modality of another row needs only a sum of terms that are there already, and then the rest.
    width: d. hidden: hidden widths; [] = one linear layer. out: D.
    """

    def __init__(self, modalities: Sequence[str], width: int, hidden: Sequence[int], out: int) -> None:
        super().__init__()
        first, *rest = [*hidden, out]
        # modules of their own rather than slices of one weight: ZeRO 3 brings a weight in when its module is called
        layers = {m: nn.Linear(width, first, bias=k == 0) for k, m in enumerate(modalities)}
        self.first = nn.ModuleDict(layers)
        std = (2 / (len(modalities) * width + first)) ** 0.5  # Xavier-normal of the whole layer
        for layer in layers.values():
            nn.init.normal_(layer.weight, std=std)
        nn.init.zeros_(layers[modalities[0]].bias)
        self.rest = nn.Sequential(nn.ReLU(), mlp([first, *rest])) if rest else nn.Identity()

    def terms(self, encodings: Mapping[str, Tensor]) -> list[Tensor]:
        """K tensors (B, H) whose sum is the first layer's output; the first one carries the bias."""
        return [layer(encodings[m]) for m, layer in self.first.items()]

    def finish(self, sum_BH: Tensor) -> Tensor:
        """(B, D) from the first layer's output."""
        z_BD: Tensor = self.rest(sum_BH)
        return z_BD

    def forward(self, encodings: Mapping[str, Tensor]) -> Tensor:
        """(B, D) from K encodings (B, d)."""
        return self.finish(add(self.terms(encodings)))


def add(terms: Iterable[Tensor]) -> Tensor:
    """Sum of tensors of one shape."""
    return torch.stack(list(terms)).sum(0)


class LateNetwork(nn.Module):
    """Every modality has its encoder and is encoded once a view; disturbed tuples are put together from the terms of
    the fusion's first layer. An absent modality's encoding is zeros, as in the released code.
    """

    def __init__(self, encoders: nn.ModuleDict, fusion: SumFusion) -> None:
        super().__init__()
        self.modalities, self.encoders, self.fusion = list(encoders), encoders, fusion

    def fuse(self, inputs: Mapping[str, Tensor], kept: Collection[str], presence: Presence = EVERYTHING) -> Tensor:
        """(b, D), not normalised, of the kept modalities alone; the others, and what a row lacks, are zeros."""
        z_bD: Tensor = self.fusion(self._encodings(inputs, kept, presence))
        return z_bD

    def encode(self, inputs: Mapping[str, Tensor], presence: Presence = EVERYTHING) -> Tensor:
        """(b, width) outputs of the encoders, one after another."""
        return torch.cat(list(presence.encode(self.encoders, inputs).values()), dim=-1)

    def anchors(self, view: View) -> Tensor:
        """(B, D) of unit norm, gathered."""
        return self._unit(add(self.terms(view).values()))

    def terms(self, view: View) -> dict[str, Tensor]:
        """modality -> (B, H), gathered; their sum is the output of the fusion's first layer."""
        terms = self.fusion.terms(self._encodings(view.inputs, view.kept, view.presence))
        return {m: view.progress.gather(term_bH) for m, term_bH in zip(self.modalities, terms, strict=True)}

    def keys(
        self, view: View, sources: Mapping[str, Sequence[Tensor]], learned: Collection[str]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Unit-norm intact tuples (B, D), and modality -> (R * B, D) tuples disturbed in it, gathered.

        sources: modality -> R index tensors (B,) into the global batch: where row j takes that modality from. learned:
        modalities whose disturbed tuples get a gradient, where there is any; the others are measured.
        """
        terms = self.terms(view)
        sum_BH = add(terms.values())
        swapped, disturbed = {}, {}
        for m, draws in sources.items():
            term_BH, rest_BH = terms[m], sum_BH - terms[m]
            # index_select: the backward pass of term_BH[draw_B] is several times slower on a CPU
            swapped[m] = torch.cat([rest_BH + term_BH.index_select(0, draw_B.to(term_BH.device)) for draw_B in draws])
        for m, swapped_SH in swapped.items():
            with torch.set_grad_enabled(torch.is_grad_enabled() and m in learned):
                disturbed[m] = self._unit(swapped_SH)
        return self._unit(sum_BH), disturbed

    def _encodings(self, inputs: Mapping[str, Tensor], kept: Collection[str], presence: Presence) -> dict[str, Tensor]:
        """modality -> (b, d)."""
        out = {m: presence.encode_one(m, self.encoders[m], inputs[m]) for m in self.modalities if m in kept}
        some_bd = next(iter(out.values()))
        return {m: out[m] if m in out else torch.zeros_like(some_bd) for m in self.modalities}

    def _unit(self, sum_BH: Tensor) -> Tensor:
        return unit_rows(upcast(self.fusion.finish(sum_BH)))


class EarlyNetwork(nn.Module):
    """As LateNetwork, of one encoder of all modalities side by side, then an MLP; disturbed tuples are made of inputs.

    An absent modality is zeros to the encoder: 0 in a vector, mid-grey in an image.

    Cost of a step with R draws for each of K modalities: 2 + K R passes of the whole network, where naive tuple
    contrast that measures nothing has 2; all but the anchors' without gradient where keys are detached. Late fusion
    has 2 passes of the encoders whatever K and R.

    Keys with a gradient go through as one batch, so that batch statistics cannot tell intact tuples from disturbed
    ones; what is only measured is a batch of its own, so that it changes nothing that is trained. The running
    statistics that evaluation uses are those of the anchors, which are all intact.
    """

    def __init__(self, modalities: Sequence[str], encoders: nn.ModuleDict, head: nn.Module) -> None:
        super().__init__()
        self.modalities, self.encoders, self.head = list(modalities), encoders, head

    def fuse(self, inputs: Mapping[str, Tensor], kept: Collection[str], presence: Presence = EVERYTHING) -> Tensor:
        return self._embedded(self._seen(inputs, kept, presence))

    def encode(self, inputs: Mapping[str, Tensor], presence: Presence = EVERYTHING) -> Tensor:
        seen = self._seen(inputs, self.modalities, presence)
        z_bd: Tensor = self.encoders[JOINT](torch.cat(list(seen.values()), dim=1))
        return z_bd

    def anchors(self, view: View) -> Tensor:
        return view.progress.gather(unit_rows(upcast(self.fuse(view.inputs, view.kept, view.presence))))

    def keys(
        self, view: View, sources: Mapping[str, Sequence[Tensor]], learned: Collection[str]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        intact = self._seen(view.inputs, view.kept, view.presence)
        everyones = {m: view.progress.gather(intact[m]) for m, draws in sources.items() if draws}

        def disturbed(m: str) -> list[dict[str, Tensor]]:
            rows = [draw_B[view.progress.rows].to(everyones[m].device) for draw_B in sources[m]]
            return [{**intact, m: everyones[m].index_select(0, row_b)} for row_b in rows]

        trained = [m for m in sources if m in learned]
        measured = [m for m in sources if m not in learned]
        with running_statistics_kept(self):
            positive_BD, *keys = self._units([intact, *(x for m in trained for x in disturbed(m))], view.progress)
            if measured:
                with torch.no_grad():
                    keys += self._units([x for m in measured for x in disturbed(m)], view.progress)
        out = {}
        for m in [*trained, *measured]:
            out[m], keys = torch.cat(keys[: len(sources[m])]), keys[len(sources[m]) :]
        return positive_BD, {m: out[m] for m in sources}

    def _units(self, tuples: Sequence[Mapping[str, Tensor]], progress: Progress) -> list[Tensor]:
        """A (B, D) of unit norm for each of some versions of this rank's tuples, all in one pass."""
        n, b = len(tuples), len(next(iter(tuples[0].values())))
        joined = {m: torch.cat([x[m] for x in tuples]) for m in self.modalities}
        unit_nbD = unit_rows(upcast(self._embedded(joined))).view(n, b, -1)
        return list(progress.gather(unit_nbD.transpose(0, 1)).unbind(1))

    def _embedded(self, inputs: Mapping[str, Tensor]) -> Tensor:
        z_bD: Tensor = self.head(self.encoders[JOINT](torch.cat(list(inputs.values()), dim=1)))
        return z_bD

    def _seen(self, inputs: Mapping[str, Tensor], kept: Collection[str], presence: Presence) -> dict[str, Tensor]:
        """modality -> (b, C, ...) float; what is not kept, or lacking, is zero to the encoder."""
        out = {}
        for m in self.modalities:
            x = unit_pixels(inputs[m])
            absent = ABSENT["image" if x.ndim == 4 else "vector"]
            out[m] = presence.blank(m, x, absent) if m in kept else torch.full_like(x, absent)
        return out


TupleNetwork = LateNetwork | EarlyNetwork


def joint_encoder(cell: CellConfig) -> nn.ModuleDict:
    """The one encoder of early fusion, of what all modalities are together: a vector [S], or an image [S, H, W].

    Raises ConfigError: they are not all vectors, nor all images of one height and width, or have no encoder.
    """
    kinds = {spec.kind for spec in cell.modalities.values()}
    sizes = {tuple(spec.shape[1:]) for spec in cell.modalities.values()}
    if len(kinds) > 1 or len(sizes) > 1 or not kinds <= set(ABSENT):
        found = ", ".join(f"{name} {spec.kind} {spec.shape}" for name, spec in cell.modalities.items())
        raise ConfigError(
            f"params/methods/{cell.method}.yaml ({cell.name}): objective.fusion: early puts modalities side by side, "
            "which takes vectors alone, or images alone, all of one height and width; params/datasets/"
            f"{cell.dataset}.yaml: modalities says {found}. Use fusion: late, or prepare images of one size"
        )
    channels = sum(spec.shape[0] for spec in cell.modalities.values())
    joint = Modality(kind=kinds.pop(), shape=[channels, *sizes.pop()])
    return build_encoders(cell.model_copy(update={"modalities": {JOINT: joint}}), [JOINT])
