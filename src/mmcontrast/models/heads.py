"""What stands on encoders: the MLP that they and heads share, heads of predictions and of contrasts, the temperature.

Shapes: N training rows, B rows, C classes, labels or quantities, D width in, P width out.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from mmcontrast.config import CellConfig
from mmcontrast.config.metrics import Kind
from mmcontrast.config.objective import TemperatureSpec
from mmcontrast.errors import TrainingError


def mlp(widths: Sequence[int], activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear - activation - ... - Linear through `widths`, nothing after the last layer.

    Weights are Xavier-normal and biases zero, drawn from torch's global generator. Two widths are one linear layer.
    """
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        linear = nn.Linear(fan_in, fan_out)
        nn.init.xavier_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [linear, activation()]
    return nn.Sequential(*layers[:-1])


def classification_head(cell: CellConfig, n_embeddings: int) -> nn.Sequential:
    """(B, n_embeddings * width) -> (B, C): an MLP with the cell's hidden widths, scores without softmax or sigmoid."""
    return mlp([n_embeddings * cell.model.width, *cell.model.head_hidden, len(cell.classes)])


class TargetScale(nn.Module):
    """Mean and spread of the quantities of a regression among the training rows, which travel with the weights.

    Heads learn numbers of mean 0 and variance 1, so that their loss and their learning rate do not depend on units.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, n: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("spread", torch.ones(n))

    def fit(self, labels: Tensor) -> None:
        """From (N, C) labels; a quantity that does not vary keeps its unit."""
        spread_C, mean_C = torch.std_mean(labels.double(), dim=0, correction=0)
        self.mean.copy_(mean_C)
        self.spread.copy_(torch.where(spread_C > 0, spread_C, 1))

    def scaled(self, labels: Tensor) -> Tensor:
        """(B, C) as heads learn it."""
        return (labels - self.mean.to(labels)) / self.spread.to(labels)

    def forward(self, scores: Tensor) -> Tensor:
        """(B, C) scores of a head in the units of the data."""
        return scores * self.spread + self.mean


def as_predictions(kind: Kind, scores: Tensor, scale: TargetScale | None) -> Tensor:
    """(B, C) probabilities of classes or of labels, or numbers in the units of the data."""
    if kind == "classes":
        return scores.softmax(-1)
    return scores.sigmoid() if scale is None else scale(scores)


class ProjectionHead(nn.Module):
    """Linear - BN - ReLU - ... - Linear: (B, D) -> (B, P); CoMM's critic is [D, 512, 512, 256].

    Batch statistics are those of the rows given: hand it the gathered global batch, so that any number of ranks
    computes what one would.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths[:-1]):
            layers += [nn.Linear(fan_in, fan_out), nn.BatchNorm1d(fan_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))

    def forward(self, z_BD: Tensor) -> Tensor:
        """Raises TrainingError for a batch of one row in training: it has no variance to normalise by."""
        if self.training and len(z_BD) < 2:
            raise TrainingError(
                "a projection head with batch normalisation was given a batch of one instance; choose a `batch_size` "
                "that leaves no batch of one"
            )
        out_BP: Tensor = self.layers(z_BD)
        return out_BP


class PairCritic(nn.Module):
    """FactorCL's critic: scores f(x_i, y_j) = MLP([x_i, y_j]) of all pairs, (B, B).

    The first layer is linear in each part, so it is taken once a row and once a column rather than once a pair.
    """

    def __init__(self, width_x: int, width_y: int, hidden: int = 512) -> None:
        super().__init__()
        self.from_x, self.from_y = nn.Linear(width_x, hidden), nn.Linear(width_y, hidden, bias=False)
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, x_BD: Tensor, y_BD: Tensor) -> Tensor:
        pairs_BBh = self.from_x(x_BD)[:, None, :] + self.from_y(y_BD)[None, :, :]
        return torch.squeeze(self.rest(pairs_BBh), -1)


class Temperature(nn.Module):
    """tau > 0, fixed or learned as log(1 / tau), at least `smallest` (CLIP clamps its scale at 100)."""

    def __init__(self, spec: TemperatureSpec) -> None:
        super().__init__()
        # one axis, as ZeRO 3 takes no scalar apart
        log_scale = torch.tensor([-math.log(spec.start)])
        self.most = -math.log(spec.smallest)
        if spec.learned:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale, persistent=False)

    def forward(self) -> Tensor:
        return (-self.log_scale.clamp(max=self.most)).exp().squeeze()
