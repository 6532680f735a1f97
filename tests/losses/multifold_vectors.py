"""Two instances of two images and three captions, and the values that loss terms must have on them.

The values come from a separate NumPy script in float64 (tau 0.1, tau_soft 0.2).
"""

import torch
import torch.nn.functional as F

A = F.normalize(torch.tensor([[3, 0, 1, 0], [2, 1, 0, 0], [0, 2, 1, 1], [0, 3, 0, -1]], dtype=torch.float64), dim=1)
B = F.normalize(
    torch.tensor(
        [[2, 0, 1, 1], [3, 1, 0, -1], [1, 0, 2, 0], [0, 1, 1, 2], [-1, 3, 0, 0], [1, 2, 0, 0]], dtype=torch.float64
    ),
    dim=1,
)
IDS_A = torch.tensor([0, 0, 1, 1])
IDS_B = torch.tensor([0, 0, 0, 1, 1, 1])
SIX = {"abs": 6e-7}
TEN = {"abs": 6e-11}
