"""Augmentations: what each does to an image whose answer is known, draws, ranks, refusals."""

from __future__ import annotations

import colorsys
import math

import pytest
import torch

from mmcontrast.config.augmentations import AUGMENTATIONS, parse_augmentations
from mmcontrast.data.augment import Augmenter
from mmcontrast.errors import ConfigError, DataError

SHAPES = {"image": (6, 3, 12, 16), "vector": (6, 9), "sequence": (6, 7, 4), "text": (6, 5)}


def augmenter(kind: str, *entries: dict) -> Augmenter:
    return Augmenter(kind, parse_augmentations(entries, kind, "here"))


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(kind: str) -> torch.Tensor:
    return torch.rand(SHAPES[kind], generator=gen(9))


ALL = [(kind, name) for kind, known in AUGMENTATIONS.items() for name in known]


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_each_changes_something_and_never_its_input(kind: str, name: str) -> None:
    x = batch(kind)
    before = x.clone()
    out = augmenter(kind, {"name": name, "p": 1.0})(x, gen())
    assert out.shape == x.shape
    assert torch.isfinite(out).all()
    assert torch.equal(x, before)
    changed = (out != x).flatten(1).any(dim=1)
    assert changed.float().mean() > 0.5


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_same_generator_same_bits(kind: str, name: str) -> None:
    a, b, c = (augmenter(kind, {"name": name})(batch(kind), gen(s)) for s in (1, 1, 2))
    assert torch.equal(a.nan_to_num(9.0), b.nan_to_num(9.0))
    assert not torch.equal(a.nan_to_num(9.0), c.nan_to_num(9.0))


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_probability_zero_is_identity(kind: str, name: str) -> None:
    x = batch(kind)
    torch.testing.assert_close(augmenter(kind, {"name": name, "p": 0.0})(x, gen()), x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_two_ranks_draw_what_one_would(kind: str) -> None:
    x = batch(kind)
    steps = augmenter(kind, *({"name": name} for name in AUGMENTATIONS[kind] if name != "contrast"))
    whole = steps(x, gen())
    parts = [steps(x[rows], gen(), rows, len(x)) for rows in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-6, atol=1e-6, equal_nan=True)


def test_half_the_instances_are_changed() -> None:
    x = torch.zeros(2000, 3)
    out = augmenter("vector", {"name": "noise", "p": 0.5})(x, gen())
    assert (out != 0).any(dim=1).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_no_augmentation_is_identity_and_bytes_become_fractions() -> None:
    x = batch("image")
    assert torch.equal(augmenter("image")(x, gen()), x)
    as_bytes = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    torch.testing.assert_close(augmenter("image")(as_bytes, gen()).flatten(), torch.tensor([0.0, 0.2, 1.0]))


def ramp(height: int = 32, width: int = 48) -> torch.Tensor:
    """(1, 3, H, W) whose first channel is x and second y, in pixels from the centre."""
    y, x = torch.meshgrid(torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij")
    return torch.stack([x, y, torch.zeros_like(x)])[None]


def middle(x: torch.Tensor) -> torch.Tensor:
    return x[:, :2, 10:22, 18:30]


def test_rotation_turns_pixels_rigidly() -> None:
    x = ramp().expand(20, -1, -1, -1)
    out = middle(augmenter("image", {"name": "rotation", "degrees": 30})(x, gen()))
    torch.testing.assert_close(out.norm(dim=1), middle(x).norm(dim=1), rtol=0, atol=1e-3)
    angle = torch.atan2(out[:, 1], out[:, 0]) - torch.atan2(middle(x)[:, 1], middle(x)[:, 0])
    angle = torch.atan2(angle.sin(), angle.cos()).flatten(1)
    assert (angle.amax(1) - angle.amin(1)).max() < 1e-3
    assert angle.abs().max() <= math.radians(30) + 1e-3
    assert angle.abs().max() > math.radians(15)


def test_shift_moves_by_a_share_of_the_side() -> None:
    x = ramp().expand(50, -1, -1, -1)
    moved = middle(augmenter("image", {"name": "shift", "amount": 0.1})(x, gen())) - middle(x)
    assert (moved.flatten(2).amax(2) - moved.flatten(2).amin(2)).max() < 1e-3
    assert moved[:, 0].abs().max().item() == pytest.approx(4.8, abs=0.4)
    assert moved[:, 1].abs().max().item() == pytest.approx(3.2, abs=0.3)


def test_crop_covers_the_asked_area_within_the_image() -> None:
    x = ramp().expand(200, -1, -1, -1)
    out = augmenter("image", {"name": "crop", "scale": [0.3, 0.6]})(x, gen())
    step_x = (out[:, 0, 16, 30] - out[:, 0, 16, 18]) / 12
    step_y = (out[:, 1, 22, 24] - out[:, 1, 10, 24]) / 12
    area = step_x * step_y
    assert 0.3 - 1e-3 <= area.min() < 0.35
    assert 0.55 < area.max() <= 0.6 + 1e-3
    ratio = (48 * step_x) / (32 * step_y)
    assert 0.74 < ratio.min() < 0.85
    assert 1.2 < ratio.max() < 1.34


def test_flip_mirrors() -> None:
    x = batch("image")
    out = augmenter("image", {"name": "flip", "p": 1.0})(x, gen())
    torch.testing.assert_close(out, x.flip(3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["shift", "rotation"])
def test_what_comes_in_from_outside_is_the_fill_or_the_border(name: str) -> None:
    """A square on grey that touches the rim: the border's pixels smear it, the background does not."""
    x = torch.full((64, 3, 16, 16), 0.5)
    x[:, :, 4:12, :4] = 1
    more = {"shift": {"amount": 0.3}, "rotation": {"degrees": 45}}[name]
    smeared, filled = (augmenter("image", {"name": name, **more, **fill})(x, gen()) for fill in ({}, {"fill": 0.5}))
    ink = (x > 0.75).sum() / len(x)
    grown, kept = ((one > 0.75).flatten(1).sum(1) for one in (smeared, filled))
    assert grown.max() > 1.3 * ink
    assert kept.max() <= 1.1 * ink
    assert (filled >= 0.5 - 1e-6).all()
    # what crops do besides takes nothing from it
    both = augmenter(
        "image", {"name": name, **more, "fill": 0.5}, {"name": "crop", "scale": [1.0, 1.0], "ratio": [1.0, 1.0]}
    )
    torch.testing.assert_close(both(x, gen()), filled)


def test_neighbouring_maps_are_composed_in_order() -> None:
    x = torch.rand(4, 3, 40, 40, generator=gen(3))
    x = torch.nn.functional.avg_pool2d(x, 9, 1, 4)  # smooth, so that one and two resamplings agree
    names = [{"name": "shift", "amount": 0.1}, {"name": "rotation", "degrees": 40}]
    together = augmenter("image", *names)(x, gen())
    g = gen()
    apart = augmenter("image", names[1])(augmenter("image", names[0])(x, g), g)
    torch.testing.assert_close(together[..., 14:26, 14:26], apart[..., 14:26, 14:26], rtol=0, atol=0.02)


def test_brightness_contrast_and_greyscale() -> None:
    x = 0.4 + 0.1 * batch("image")
    ratio = augmenter("image", {"name": "brightness", "amount": 0.2})(x, gen()) / x
    assert (ratio.flatten(1).amax(1) - ratio.flatten(1).amin(1)).max() < 1e-5
    assert ratio.min() >= 0.8
    assert ratio.max() <= 1.2
    grey = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    out = augmenter("image", {"name": "contrast", "amount": 0.2})(x, gen())
    mean = (x * grey).sum(1).mean(dim=(1, 2))
    torch.testing.assert_close((out * grey).sum(1).mean(dim=(1, 2)), mean, rtol=0, atol=1e-5)
    plain = augmenter("image", {"name": "greyscale", "p": 1.0})(x, gen())
    torch.testing.assert_close(plain, (x * grey).sum(1, keepdim=True).expand_as(x))


def test_hue_is_that_of_hsv() -> None:
    x = batch("image")
    only_hue = {"name": "jitter", "p": 1.0, "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0.3}
    out = augmenter("image", only_hue)(x, gen())
    turns = []
    for i in range(len(x)):
        before, after = (colorsys.rgb_to_hsv(*z[i, :, 3, 5].tolist()) for z in (x, out))
        assert after[1:] == pytest.approx(before[1:], abs=1e-4)
        turns.append((after[0] - before[0] + 0.5) % 1 - 0.5)
        again = colorsys.rgb_to_hsv(*x[i, :, 7, 2].tolist())
        want = colorsys.hsv_to_rgb((again[0] + turns[-1]) % 1, *again[1:])
        assert out[i, :, 7, 2].tolist() == pytest.approx(want, abs=1e-4)
    assert max(abs(t) for t in turns) <= 0.3
    assert max(turns) - min(turns) > 0.05


def test_blur_is_a_gaussian() -> None:
    x = torch.zeros(1, 3, 31, 31)
    x[0, :, 15, 15] = 1
    out = augmenter("image", {"name": "blur", "p": 1.0, "sigma": [1.5, 1.5]})(x, gen())[0, 0]
    assert out.sum().item() == pytest.approx(1, abs=1e-5)
    assert (out[15, 17] / out[15, 15]).item() == pytest.approx(math.exp(-4 / (2 * 1.5**2)), abs=1e-5)
    assert (out[16, 16] / out[15, 15]).item() == pytest.approx(math.exp(-2 / (2 * 1.5**2)), abs=1e-5)


def test_dropping() -> None:
    x = torch.ones(3000, 20)
    share = (augmenter("vector", {"name": "drop", "share": 0.8})(x, gen()) == 0).float().mean(dim=1)
    assert share.mean().item() == pytest.approx(0.4, abs=0.02)
    steps = torch.ones(3000, 10, 4)
    out = augmenter("sequence", {"name": "drop_steps", "share": 0.8})(steps, gen())
    dropped = (out == 0).all(dim=2)
    assert torch.equal(dropped, (out == 0).any(dim=2))
    assert dropped.sum(dim=1).max() == 8
    assert dropped.float().mean().item() == pytest.approx(0.4, abs=0.02)
    assert dropped.float().mean(dim=0).std() < 0.02


@pytest.mark.parametrize(
    ("kind", "entries", "message"),
    [
        ("image", [{"name": "rotaton"}], r"here\[0\]: no augmentation 'rotaton' for image .*did you mean 'rotation'"),
        ("vector", [{"name": "noise"}, {"name": "crop"}], r"here\[1\]: no augmentation 'crop' for vector"),
        ("image", [{"name": "crop", "scal": [0.1, 1]}], "scal: .*did you mean 'scale'"),
        ("image", [{"name": "crop", "scale": [0.9, 0.1]}], "must rise"),
        ("image", [{"name": "shift", "amount": -1}], "amount: .*greater than 0"),
        ("image", ["crop"], "give `name`"),
        (
            "text",
            [{"name": "noise"}],
            r"here\[0\]: there is no augmentation of a text, and 'noise' is given; give \[\]",
        ),
        ("sound", [], "kind 'sound' has no augmentations"),
    ],
)
def test_refusals(kind: str, entries: list, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_augmentations(entries, kind, "here")


def test_a_batch_of_another_kind() -> None:
    with pytest.raises(DataError, match="'image' has 4 axes, not 2"):
        augmenter("image")(torch.ones(2, 3), gen())
    with pytest.raises(DataError, match="has 1 channels"):
        augmenter("image", {"name": "greyscale"})(torch.ones(2, 1, 4, 4), gen())


LENGTHS = torch.tensor([7, 4, 1, 0, 7, 2])


def padded() -> torch.Tensor:
    """(6, 7, 4) of 1, 2, 3, ... in time, NaN after each row's own number of steps, one row without any."""
    x = (1.0 + torch.arange(7.0))[None, :, None].expand(6, 7, 4).clone()
    return x.masked_fill((torch.arange(7) >= LENGTHS[:, None])[:, :, None], torch.nan)


@pytest.mark.parametrize("name", ["noise", "drop_steps"])
def test_padding_stays_and_only_steps_are_changed(name: str) -> None:
    x = padded()
    for seed in range(20):
        out = augmenter("sequence", {"name": name})(x, gen(seed))
        assert torch.equal(out.isnan(), x.isnan())
        changed = (out != x) & ~x.isnan()
        assert changed.any()
        if name == "drop_steps":
            assert (changed.all(dim=2).sum(dim=1) <= (0.8 * LENGTHS).round()).all()


def test_steps_of_a_row_do_not_depend_on_its_padding() -> None:
    short = padded()[:, :2]
    rows = torch.tensor([2, 3, 5])
    for seed in range(5):
        out = augmenter("sequence", {"name": "drop_steps"})(short, gen(seed))[rows]
        assert torch.equal(out.isnan().all(dim=2), out.isnan().any(dim=2))
        assert ((~out.isnan()).any(dim=2).sum(dim=1) <= LENGTHS[rows]).all()


def test_texts_stay_as_they_are() -> None:
    pieces = torch.tensor([[5, 2, 0], [4, -1, -1]])
    assert torch.equal(augmenter("text")(pieces, gen()), pieces)
