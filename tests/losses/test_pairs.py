from __future__ import annotations

import pytest

from mmcontrast.errors import ContrastError
from mmcontrast.losses.rows import modality_pairs


@pytest.mark.parametrize(
    ("modalities", "pairing", "expected"),
    [
        ("ab", "ring", ["ab", "ba"]),
        ("ab", "all", ["ab", "ba"]),
        ("abc", "ring", ["ab", "bc", "ca"]),
        ("abc", "all", ["ab", "ac", "ba", "bc", "ca", "cb"]),
        ("abcd", "ring", ["ab", "bc", "cd", "da"]),
    ],
)
def test_pairs(modalities, pairing, expected):
    assert modality_pairs(list(modalities), pairing) == [tuple(pair) for pair in expected]


def test_one_modality_has_nothing_to_be_contrasted_with():
    with pytest.raises(ContrastError, match=r"at least two.*'mrna'"):
        modality_pairs(["mrna"], "ring")


def test_an_unknown_pairing_is_refused():
    with pytest.raises(ContrastError, match="known: all, ring"):
        modality_pairs(["a", "b"], "star")
