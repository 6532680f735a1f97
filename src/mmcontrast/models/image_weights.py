"""Weights of torchvision's image encoders for our own of the same layers and names."""

from pathlib import Path

from torch import nn

from mmcontrast.errors import DataError
from mmcontrast.exported import read_weights
from mmcontrast.models.conv import ImageEncoder

# of a classifier, which our encoders have not
NOT_OURS = ("fc.", "classifier.")
# that of torchvision's training, of pictures in [0, 1]
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_image_weights(encoder: ImageEncoder, file: str) -> None:
    """Let the encoder start from a safetensors file, but for weights of a classifier, and normalise as it did.

    Raises DataError: the file is missing or damaged, or lacks a weight, or has others or of other shapes.
    """
    found = {k: v for k, v in read_weights(Path(file)).items() if not k.startswith(NOT_OURS)}
    own = encoder.state_dict()
    wanted = {name for name in own if not name.endswith("num_batches_tracked")}
    name = type(encoder).__name__
    if absent := sorted(wanted - set(found)):
        raise DataError(f"{file}: {len(absent)} weights of {name} are not there, such as {absent[0]}")
    if more := sorted(set(found) - set(own)):
        raise DataError(f"{file}: {len(more)} weights that {name} has no place for, such as {more[0]}")
    for key, value in found.items():
        if value.shape != own[key].shape:
            raise DataError(f"{file}: {key} has shape {list(value.shape)}, and {name} takes {list(own[key].shape)}")
    encoder.load_state_dict(found, strict=False)
    normalise_pictures(encoder)


def normalise_pictures(network: nn.Module) -> None:
    """Let the image encoders in a network take pictures as torchvision's weights are used to."""
    for part in network.modules():
        if isinstance(part, ImageEncoder):
            part.normal = MEAN, SPREAD
