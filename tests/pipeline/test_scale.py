"""What benchmarks/scale.py makes runs, in small, and its exponents are those of what grows."""

from __future__ import annotations

import re

import pytest

from benchmarks import scale

SIZES = [10, 20, 40]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([3 + n for n in SIZES], "1.00"),
        ([3 + n**2 / 10 for n in SIZES], "2.00"),
        ([3 + n**0.5 for n in SIZES], "0.50"),
        ([3.0, 3.1, 3.0], "constant"),
        ([3.0, 3.05, 4.0], "too small to tell"),
    ],
)
def test_what_a_command_takes_to_start_is_no_part_of_the_exponent(values: list[float], told: str) -> None:
    assert scale.exponent(SIZES, values, scale.NOISE) == told


def test_sizes_that_give_no_exponent_are_refused() -> None:
    assert scale.exponent(SIZES[:2], [1.0, 2.0], scale.NOISE) == "-"
    with pytest.raises(ValueError, match=r"sizes \[10, 20, 50\]: each has to be as many times the one before"):
        scale.exponent([10, 20, 50], [1.0, 2.0, 3.0], scale.NOISE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("axis", "size"),
    [
        ("cells", 5),
        *(
            pytest.param(axis, size, marks=pytest.mark.exhaustive)
            for axis, size in {"rows": 60, "long": 60, "classes": 5, "modalities": 3, "seeds": 2}.items()
        ),
    ],
)
def test_a_small_size_is_measured(axis: str, size: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert scale.main(["--only", axis, "--sizes", str(size)]) == 0
    rows = re.findall(rf"^(\w[a-z ]*?) +{size} +([\d.]+) +(\d+)$", capsys.readouterr().out, re.MULTILINE)
    assert [name for name, _, _ in rows] == [
        " ".join(words[: 2 if words[0] == "data" else 1]) for words in scale.AXES[axis].commands
    ]
    assert all(float(seconds) > 0.1 and int(mib) > 20 for _, seconds, mib in rows)
