"""Scaling is fitted on the rows it is given, and a constant feature never explodes."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from mmcontrast.data.scaling import Farthest
from tests.scalers import fit

RNG = np.random.default_rng(0)
TRAIN, TEST = RNG.normal(3, 7, (40, 5)), RNG.normal(3, 7, (10, 5))


@pytest.mark.parametrize(("scaling", "reference"), [("minmax", MinMaxScaler()), ("standard", StandardScaler())])
def test_as_a_well_known_library_does_it(scaling: str, reference: MinMaxScaler | StandardScaler) -> None:
    scaler = fit(TRAIN, scaling)
    reference.fit(TRAIN)
    np.testing.assert_allclose(scaler(TEST), reference.transform(TEST), rtol=1e-12)
    assert not scaler.constant_d.any()


def test_none_leaves_the_numbers_alone() -> None:
    np.testing.assert_array_equal(fit(TRAIN, "none")(TEST), TEST)


@pytest.mark.parametrize("scaling", ["minmax", "standard"])
@pytest.mark.parametrize("value", [0.0, 0.1, -3.7, 1e8 + 0.1])
def test_a_constant_feature_is_shifted_and_not_divided(scaling: str, value: float) -> None:
    train = TRAIN.copy()
    train[:, 2] = value
    scaler = fit(train, scaling)
    assert scaler.constant_d.tolist() == [False, False, True, False, False]
    assert (scaler(train)[:, 2] == 0).all()
    test = TEST.copy()
    test[:, 2] = value + 2
    np.testing.assert_allclose(scaler(test)[:, 2], 2)


def test_one_row_is_all_constant() -> None:
    scaler = fit(TRAIN[:1], "standard")
    assert scaler.constant_d.all()
    assert (scaler(TRAIN[:1]) == 0).all()


@pytest.mark.parametrize(("value", "far"), [(1e6, True), (-3e9, True), (1e3, False), (np.nan, False)])
def test_one_value_far_from_all_others_is_seen_in_any_batch(value: float, far: bool) -> None:
    values = np.stack([np.arange(12.0) / 12, np.eye(12)[0], np.full(12, np.nan)], axis=1)  # rare is not far
    values[7, 0] = value
    for rows in (1, 5, 12):
        found = Farthest(3)
        for start in range(0, 12, rows):
            found.add(values[start : start + rows])
        assert found.alone_d.tolist() == [far, False, False]
    values[2, 0] = value
    found = Farthest(3)
    found.add(values)
    assert not found.alone_d.any(), "two values are not alone"
